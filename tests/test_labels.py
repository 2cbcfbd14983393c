"""Labels as arrays: their classes, and files of them."""

import numpy as np
import pytest

from runner.labels import classes_of, labels_in_memory

TEXT = np.array(["b", "a", "b", "é"])
LABELS = {
    "few whole numbers": np.array([3, -1, 3, 2]),
    "whole numbers of a byte": np.array([-128, 127, 0, 127], "i1"),
    "whole numbers of another byte order": np.array([3, 1, 3], ">i4"),
    "whole numbers far apart": np.array([2**63 - 1, -(2**63)]),
    "unsigned": np.array([2**64 - 1, 0, 1], "u8"),
    "fractions": np.array([0.5, -0.0, 0.0, 0.5]),
    "booleans": np.array([True, False, True]),
    "text": TEXT,
    "text in memory": labels_in_memory(TEXT),
    "one column": np.array([[2], [1], [2]]),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_classes_are_what_numpy_says(y: np.ndarray) -> None:
    expected = np.unique(y).tolist()
    assert classes_of(y) == expected
    assert list(map(type, classes_of(y))) == list(map(type, expected))


def test_several_targets_have_classes_each() -> None:
    assert classes_of(np.array([[1, 5], [0, 5], [1, 7]])) == [[0, 1], [5, 7]]
    assert classes_of(np.array([["a", 2], ["b", 2]], object)) == [["a", "b"], [2]]
