"""Small data sets of forms that no one CSV has: the files that an organiser would post, as bytes by name."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATA_SETS = Path(__file__).parent / "data_sets"
STAR_TYPES = np.array(["cepheid", "eclipsing", "mira"])[np.arange(90) % 3]
DIGIT_NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def files_of(name: str) -> dict[str, bytes]:
    """Return the files that lie in a data set's folder, with those that are made."""
    made = MADE.get(name, dict)()
    return {path.name: path.read_bytes() for path in sorted((DATA_SETS / name).glob("*.*"))} | made


def digits() -> dict[str, bytes]:
    """Return 400 images of digits, 8 x 8, in one archive of arrays."""
    bunch = load_digits()
    archive = io.BytesIO()
    np.savez(archive, images=bunch.images[:400].astype(np.uint8), labels=bunch.target[:400])
    return {"digits.npz": archive.getvalue()}


def digits_of_test_part() -> np.ndarray:
    """Return the labels that the digits' own file holds out."""
    labels = DIGIT_NAMES[load_digits().target[:400]]
    return train_test_split(labels, test_size=0.25, random_state=1, stratify=labels)[1]


def variable_stars() -> dict[str, bytes]:
    """Return 90 stars of three types: a table of numbers, and light curves of varying length in a second one."""
    rng = np.random.RandomState(2016)
    period = np.choose(np.arange(90) % 3, [5.0, 1.0, 200.0]) * rng.uniform(0.5, 1.5, size=90)
    names = [f"star_{i}" for i in range(90)]
    table = pd.DataFrame({"type": STAR_TYPES, "magnitude": rng.normal(15, 1, 90), "period": period}, index=names)
    curves = []
    for i in range(90):
        times = np.sort(rng.uniform(0, 400, size=rng.randint(20, 60)))
        light = np.sin(2 * np.pi * times / period[i]) * (1 + i % 3) + rng.normal(0, 0.1, len(times))
        curves.append([str(times.round(3).tolist()), str(light.round(3).tolist())])
    varlength = pd.DataFrame(curves, columns=["time_points", "light_points"], index=names)
    return {
        "data.csv": table.to_csv().encode(),
        "data_varlength_features.csv.gz": gzip.compress(varlength.to_csv().encode(), mtime=0),
    }


MADE: dict[str, Callable[[], dict[str, bytes]]] = {"digits": digits, "variable_stars": variable_stars}
