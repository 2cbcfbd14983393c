import mmap
import multiprocessing
import multiprocessing.reduction
import os
import tempfile

import numpy as np

SIZE = 3_000_000  # bytes


class Tensor:
    """As PyTorch's: a map of a file without a name."""

    def __init__(self, file):
        self.file = file
        self.memory = mmap.mmap(file, SIZE)

    def __reduce__(self):
        return rebuild, (multiprocessing.reduction.DupFd(self.file),)


def rebuild(handed):
    return Tensor(handed.detach())


def make(number, queue):
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(SIZE)
        tensor = Tensor(os.dup(file.fileno()))
    tensor.memory[:] = bytes([number]) * SIZE
    queue.put((number, tensor))


class Classifier:
    def fit(self, X, y):
        queue = multiprocessing.Queue()
        makers = [multiprocessing.Process(target=make, args=(number, queue)) for number in range(1, 4)]
        for maker in makers:
            maker.start()
        for _ in makers:
            number, tensor = queue.get()
            assert tensor.memory[:] == bytes([number]) * SIZE
            tensor.memory[0] = 0
        for maker in makers:
            maker.join()

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
