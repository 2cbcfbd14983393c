import ctypes
import gc
import os
import sys

import numpy as np

FRACTION, FIRST, COUNT = 0.789012, 123456, 300


def labels_in(data, offset=0):
    """Return the labels among the doubles of some memory."""
    values = np.frombuffer(data, dtype="<f8", offset=offset, count=(len(data) - offset) // 8)
    with np.errstate(all="ignore"):
        values = values[(values > FIRST) & (values < FIRST + COUNT)]
        return {int(value) for value in values if abs(value % 1 - FRACTION) < 1e-4}


def texts_in(data):
    """Return the labels written as text in some memory."""
    found, start = set(), 0
    while (start := data.find(b".789012", start + 1)) > 0:
        digits = data[max(start - 6, 0) : start]
        if digits.isdigit() and FIRST <= int(digits) < FIRST + COUNT:
            found.add(int(digits))
    return found


def memory():
    """Yield the readable memory of this process."""
    with open("/proc/self/maps") as file:
        lines = file.read().splitlines()
    for line in lines:
        span, modes, *_rest = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if modes.startswith("r") and "[v" not in line:
            for at in range(start, end, 1 << 20):
                yield ctypes.string_at(at, min(1 << 20, end - at))


class Regressor:
    def fit(self, X, y):
        own = {int(label) for label in y}
        self.found = set()
        frame = sys._getframe()
        while frame := frame.f_back:
            for value in frame.f_locals.values():
                self.look_at(value)
        for thing in gc.get_objects():
            self.look_at(thing)
        for data in memory():
            self.found |= labels_in(data) | labels_in(data, 4) | texts_in(data)
        for pid in ("self", str(os.getppid())):
            for fd in range(64):
                try:
                    with open(f"/proc/{pid}/fd/{fd}", "rb") as file:
                        data = file.read(1 << 24) if os.path.isfile(f"/proc/{pid}/fd/{fd}") else b""
                except OSError:
                    continue
                self.found |= labels_in(data) | texts_in(data)
        if len(own & self.found) < len(own):
            print("cannot even find its own")
        if self.found - own:
            print("found", len(self.found - own), "labels of other rows")

    def look_at(self, thing):
        try:
            if isinstance(thing, np.ndarray) and thing.dtype.kind == "f":
                self.found |= labels_in(thing.tobytes())
        except Exception:
            pass

    def predict(self, X):
        return np.zeros(len(X))
