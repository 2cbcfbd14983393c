"""Data sets with a Python file of their own, through the runner: good ones, faulty ones, and what a fold may see."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import custom_data
import numpy as np
import pytest
import users
from test_runner import LIMITS, SUBMISSIONS, run, with_limits
from threadpoolctl import threadpool_limits

from runner import FoldOutcome, FoldTask, Limits, Slot, SplitOutcome, SplitTask, Zygote
from runner.features import write_features
from runner.posted import stored_names


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    zygote = Zygote(sys.executable, tmp_path_factory.mktemp("scratch"), environ=os.environ, first_uid=users.user(0))
    zygote.start()
    slot = Slot(zygote.new_slot())
    yield slot
    slot.close()
    zygote.stop()


def split(
    slot: Slot, folder: Path, files: dict[str, bytes], workflow_elements: list[str], limits: Limits = LIMITS
) -> SplitOutcome:
    """Post the files and have their own Python file split them."""
    (folder / "posted").mkdir()
    opened = {}
    for name, content in files.items():
        (folder / "posted" / name).write_bytes(content)
        opened[name] = (folder / "posted" / name).open("rb")
    task = SplitTask("split", opened, "target", workflow_elements, None, None, limits)
    outcome, _events = run(slot, task)
    for file in opened.values():
        file.close()
    return outcome


class Data:
    """A custom data set, split, with what a worker would keep of it."""

    def __init__(self, slot: Slot, folder: Path, files: dict[str, bytes], workflow_elements: str) -> None:
        self.elements = workflow_elements.split()
        self.split = split(slot, folder, files, self.elements)
        assert self.split.cause is None, self.split.log_messages
        self.X_train, self.X_test = folder / "X_train", folder / "X_test"
        self.X_train.write_bytes(self.split.X_train.read())
        self.X_test.write_bytes(self.split.X_test.read())
        self.specific = None
        if self.split.specific_needed:
            self.specific = folder / "specific"
            self.specific.mkdir()
            for name, content in files.items():
                if name.endswith(".py"):
                    (self.specific / name).write_bytes(content)
        self._slot = slot

    def fold(self, submission: Path, train_is: Any, limits: Limits = LIMITS) -> FoldOutcome:
        train_is = np.asarray(train_is)
        task = FoldTask(
            "fold 1", self.elements, submission, self.X_train, self.X_test, self.split.n_train, self.split.n_test,
            train_is, self.split.y_train[train_is], self.split.classes, limits, True, self.specific,
            self.split.specific_fault,
        )  # fmt: skip
        outcome, _events = run(self._slot, task)
        return outcome


class Plain:
    """A data set's own functions, called with nothing of datarun."""

    def __init__(self, folder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.syspath_prepend(str(SUBMISSIONS))
        [name] = {"specific", "load_digits", "air_passengers"} & {Path(name).stem for name in files}
        monkeypatch.delitem(sys.modules, name, raising=False)
        self.module = import_module(name)
        self.module.prepare_data(str(folder))
        self.X_train, self.y_train = self.module.get_train_data(str(folder))
        self.X_test, self.y_test = self.module.get_test_data(str(folder))


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plain]:
    (tmp_path / "plain").mkdir()
    return lambda name: Plain(tmp_path / "plain", custom_data.files_of(name), monkeypatch)


def submitted(submission: str, name: str) -> Any:
    return import_module(f"{submission}.{name}")


def assert_equal(outcome: FoldOutcome, full_train_predictions: np.ndarray, test_predictions: np.ndarray) -> None:
    assert (outcome.state, outcome.log_messages) == ("TESTED", "")
    np.testing.assert_array_equal(outcome.full_train_predictions, full_train_predictions)
    np.testing.assert_array_equal(outcome.test_predictions, test_predictions)


def test_images_come_from_a_python_file_of_any_name(slot: Slot, tmp_path: Path, plain: Callable[[str], Plain]) -> None:
    data = Data(slot, tmp_path, custom_data.files_of("digits"), "classifier")
    assert (data.split.n_train, data.split.n_test, data.split.split_is) == (300, 100, None)
    assert data.split.classes == ["eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"]
    assert (data.split.specific_needed, data.split.specific_fault) == (False, None)
    train_is = np.arange(200)
    expected = plain("digits")
    np.testing.assert_array_equal(data.split.y_train, expected.y_train)
    with threadpool_limits(1):
        clf = submitted("images_forest", "classifier").Classifier()
        clf.fit(expected.X_train[train_is], expected.y_train[train_is].astype(object))
        assert_equal(
            data.fold(SUBMISSIONS / "images_forest", train_is),
            clf.predict_proba(expected.X_train),
            clf.predict_proba(expected.X_test),
        )


def test_a_time_series_comes_as_objects_of_the_organisers_class(
    slot: Slot, tmp_path: Path, plain: Callable[[str], Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(slot, tmp_path, custom_data.files_of("air_passengers"), "feature_extractor regressor")
    assert (data.split.n_train, data.split.n_test, data.split.classes) == (108, 24, None)
    assert (data.split.specific_needed, data.split.specific_fault) == (True, None)
    expected = plain("air_passengers")
    monkeypatch.chdir(SUBMISSIONS / "passengers_ridge")
    train_is = np.arange(80)
    with threadpool_limits(1):
        extractor = submitted("passengers_ridge", "feature_extractor").FeatureExtractor()
        reg = submitted("passengers_ridge", "regressor").Regressor()
        X_fold = extractor.transform(expected.X_train[:80])
        reg.fit(X_fold, expected.y_train.to_numpy()[:80])
        assert_equal(
            data.fold(SUBMISSIONS / "passengers_ridge", train_is),
            reg.predict(extractor.transform(expected.X_train)),
            reg.predict(extractor.transform(expected.X_test)),
        )


def test_the_variable_stars_of_2016_train_and_test_by_their_own_functions(
    slot: Slot, tmp_path: Path, plain: Callable[[str], Plain]
) -> None:
    data = Data(slot, tmp_path, custom_data.files_of("variable_stars"), "feature_extractor classifier calibrator")
    assert (data.split.n_train, data.split.n_test) == (63, 27)
    assert data.split.classes == ["cepheid", "eclipsing", "mira"]
    assert (data.split.specific_needed, data.split.specific_fault, data.split.log_messages) == (True, None, "")
    train_is = np.random.RandomState(3).permutation(63)[:50]
    expected = plain("variable_stars")
    with threadpool_limits(1):
        y = np.array(expected.y_train, dtype=object)
        trained = expected.module.train_submission("stars_calibrated", expected.X_train, y, train_is)
        assert_equal(
            data.fold(SUBMISSIONS / "stars_calibrated", train_is),
            expected.module.test_submission(trained, expected.X_train, range(63)),
            expected.module.test_submission(trained, expected.X_test, range(27)),
        )


SPECIFIC = """
import numpy as np

def prepare_data(raw_data_path):
    pass

def get_train_data(raw_data_path):
    return np.arange(40.0).reshape(20, 2), np.arange(20) % 2

def get_test_data(raw_data_path):
    return np.arange(10.0).reshape(5, 2), None
"""
TRAINS = """
from importlib import import_module

def train_submission(module_path, X, y, train_is):
    classifier = import_module('.classifier', module_path)
    clf = classifier.Classifier()
    clf.fit(X[train_is], y[train_is])
    return clf

def test_submission(trained_model, X, test_is):
    return trained_model.predict_proba(X[test_is])
"""

# what is changed in the file above, and the log of the split
FAULTS = {
    "syntax": (
        ("    pass", "    pass)"),
        "  File \"specific.py\", line 5\n    pass)\n        ^\nSyntaxError: unmatched ')'\n"
        "Failed while importing specific.py, the data set's own file: SyntaxError: unmatched ')'",
    ),
    "missing package": (
        ("import numpy", "import nunpy"),
        'Traceback (most recent call last):\n  File "specific.py", line 2, in <module>\n    import nunpy as np\n'
        "ModuleNotFoundError: No module named 'nunpy'\n"
        "Failed while importing specific.py, the data set's own file: ModuleNotFoundError: No module named 'nunpy'",
    ),
    "missing function": (
        ("def prepare_data", "def prepare"),
        "Failed while importing specific.py, the data set's own file: it defines no prepare_data; expected are "
        "prepare_data, get_train_data, get_test_data.",
    ),
    "one of two": (
        ("import numpy as np", "import numpy as np\n\ndef test_submission(trained_model, X, test_is): pass"),
        "Failed while importing specific.py, the data set's own file: it defines one of train_submission and "
        "test_submission, expected both or none.",
    ),
    "exception": (
        ("    pass", "    open(raw_data_path + '/train.csv')"),
        '  File "specific.py", line 5, in prepare_data\n'
        "    open(raw_data_path + '/train.csv')\n"
        "FileNotFoundError: [Errno 2] No such file or directory: 'train.csv'\n"
        "Failed while running prepare_data: FileNotFoundError: [Errno 2] No such file or directory: 'train.csv'",
    ),
    "arguments": (
        ("get_test_data(raw_data_path)", "get_test_data()"),
        "Failed while importing specific.py, the data set's own file: get_test_data cannot take 1 arguments: too many "
        "positional arguments.",
    ),
    "exit": (("    pass", "    exit(0)"), "Failed while running prepare_data: SystemExit: 0"),
    "crash": (
        ("    pass", "    import os; os._exit(3)"),
        "Ended with exit status 3 without a result, while running prepare_data.",
    ),
    "no pair": (
        ("reshape(5, 2), None", "reshape(5, 2)"),
        "Failed while running get_test_data: it returned a value of type ndarray, expected the pair (X, y).",
    ),
    "lengths": (
        ("np.arange(20) % 2", "np.arange(19) % 2"),
        "Failed while running get_train_data: its X has 20 rows and its y has 19.",
    ),
    "no rows": (("np.arange(10.0).reshape(5, 2)", "[]"), "Failed while running get_test_data: its X has no rows."),
    "not countable": (
        ("np.arange(10.0).reshape(5, 2)", "3"),
        "Failed while running get_test_data: the rows of its X, of type int, cannot be counted; expected X.shape and "
        "X[array of rows], or len(X) and X[i].",
    ),
    "columns": (
        ("np.arange(10.0).reshape(5, 2)", "{'a': [1, 2]}"),
        "Failed while running get_test_data: rows cannot be selected from its X, of type dict; expected X.shape and "
        "X[array of rows], or len(X) and X[i]. KeyError: 0",
    ),
    "rows": (
        ("np.arange(10.0).reshape(5, 2)", "type('Grid', (), {'shape': (5, 2), '__getitem__': lambda X, rows: X})()"),
        "Failed while running get_test_data: its X, of type Grid, gives 5 rows for one; expected X.shape and X[array "
        "of rows], or len(X) and X[i].",
    ),
    "missing labels": (
        ("np.arange(20) % 2", "['a', None] * 10"),
        "Failed while running get_train_data: 10 labels are missing; the first is in row 1.",
    ),
    "mixed labels": (
        ("np.arange(20) % 2", "['a', 1] * 10"),
        "Failed while running get_train_data: The labels are of type object, expected numbers, booleans or text, "
        "not a mixture.",
    ),
    "labels of labels": (
        ("np.arange(20) % 2", "np.zeros((20, 2, 2))"),
        "Failed while running get_train_data: The labels have 3 dimensions, expected one, or two for several targets.",
    ),
    "network": (
        ("    pass", "    import socket; socket.create_connection(('127.0.0.1', 9))"),
        "Failed while running prepare_data: PermissionError: [Errno 1] Operation not permitted",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_organisers_file_is_a_data_error_of_the_split(slot: Slot, tmp_path: Path, fault: str) -> None:
    (old, new), log = FAULTS[fault]
    outcome = split(slot, tmp_path, {"my data.py": SPECIFIC.replace(old, new).encode()}, ["classifier"])
    assert outcome.cause == "data_error"
    assert outcome.log_messages.endswith(log)
    assert outcome.y_train is None


def test_a_traceback_begins_in_the_organisers_file(slot: Slot, tmp_path: Path) -> None:
    source = SPECIFIC.replace("import numpy", "import helper\nimport numpy").replace("    pass", "    helper.divide(1)")
    files = {"specific.py": source.encode(), "helper.py": b"def divide(x):\n    return x / 0\n"}
    assert split(slot, tmp_path, files, ["classifier"]).log_messages == (
        "Traceback (most recent call last):\n"
        '  File "specific.py", line 6, in prepare_data\n'
        "    helper.divide(1)\n"
        '  File "helper.py", line 2, in divide\n'
        "    return x / 0\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
        "Failed while running prepare_data: ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("sources", "stored"),
    [
        ({"my data.py": SPECIFIC}, {"my data.py": "specific.py"}),
        ({"a.py": "", "b.py": SPECIFIC, "c.csv": ""}, {"a.py": "a.py", "b.py": "specific.py", "c.csv": "c.csv"}),
        ({"a.py": SPECIFIC, "specific.py": SPECIFIC}, {"a.py": "a.py", "specific.py": "specific.py"}),
        ({"a.py": SPECIFIC, "specific.py": ""}, {"a.py": "specific.py", "specific.py": "a.py"}),
        ({"a.py": "def get_data(", "b.py": "def get_train_data("}, {"a.py": "a.py", "b.py": "specific.py"}),
        ({"a.csv": ""}, {"a.csv": "a.csv"}),
    ],
)
def test_the_file_that_defines_the_functions_is_stored_as_specific(
    sources: dict[str, str], stored: dict[str, str]
) -> None:
    assert stored_names({name: io.BytesIO(source.encode()) for name, source in sources.items()}) == stored


def test_a_prepare_data_without_end_is_stopped(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": SPECIFIC.replace("pass", "while True: pass").encode()}
    outcome = split(slot, tmp_path, files, ["classifier"], with_limits(wall_time=2))
    assert outcome.cause == "data_error"
    assert outcome.log_messages == "Killed after 2 s, the wall-clock limit, while running prepare_data."


def test_labels_of_several_targets_stay_numbers(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": SPECIFIC.replace("np.arange(20) % 2", "np.arange(60.0).reshape(20, 3)").encode()}
    outcome = split(slot, tmp_path, files, ["regressor"])
    np.testing.assert_array_equal(outcome.y_train, np.arange(60.0).reshape(20, 3))
    assert outcome.classes is None


def test_labels_of_long_numbers_are_told_as_others(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": SPECIFIC.replace("np.arange(20) % 2", "np.arange(20, dtype=np.longdouble) % 2").encode()}
    assert repr(split(slot, tmp_path, files, ["classifier"]).classes) == "[0.0, 1.0]"


CUSTOM_FOLDS = [  # submission, state, last line of the log
    ("forest", "TESTED", None),
    ("syntax_error", "import_error", "Failed while importing the submission: SyntaxError: expected ':'"),
    (
        "forgets_self",
        "train_error",
        "Failed while training: TypeError: Classifier.fit() takes 2 positional arguments but 3 were given",
    ),
    ("fails_when_fitting", "train_error", "Failed while training: ValueError: 12 rows are not enough"),
    (
        "wrong_shape",
        "bad_predictions",
        "The predictions of the training rows have the shape (20, 3), expected (20, 2).",
    ),
]


@pytest.mark.parametrize(("submission", "end", "sentence"), CUSTOM_FOLDS, ids=[row[0] for row in CUSTOM_FOLDS])
def test_a_submission_s_fault_stays_its_own_under_the_organisers_functions(
    slot: Slot, tmp_path: Path, submission: str, end: str, sentence: str | None
) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + TRAINS).encode()}, "classifier")
    assert data.split.specific_fault is None
    outcome = data.fold(SUBMISSIONS / submission, np.arange(12))
    assert (outcome.cause or outcome.state) == end
    assert (outcome.log_messages.splitlines() or [None])[-1] == sentence


def test_a_call_that_a_submission_refuses_shows_who_called_and_what_was_called(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + TRAINS).encode()}, "classifier")
    assert data.fold(SUBMISSIONS / "forgets_self", np.arange(12)).log_messages.startswith(
        "Traceback (most recent call last):\n"
        '  File "specific.py", line 18, in train_submission\n'
        "    clf.fit(X[train_is], y[train_is])\n"
        '  File "classifier.py", line 2, in fit\n'
        "    def fit(X, y):\n"
        "TypeError: Classifier.fit() takes 2 positional arguments but 3 were given\n"
    )


KINDS = {  # what the file returns; its type for `fit`, where rows were taken, and for `predict_proba`
    "array": ("np.eye(20)", "ndarray", "ndarray"),
    "images": ("np.ones((20, 4, 4), dtype='uint8')", "ndarray", "ndarray"),
    "sparse": ("scipy.sparse.coo_matrix(np.eye(20))", "csr_matrix", "coo_matrix"),
    "frame": ("pd.DataFrame(np.eye(20), index=list('abcdefghijklmnopqrst'))", "DataFrame", "DataFrame"),
    "series": ("pd.Series(list('abcdefghijklmnopqrst'), index=range(20, 0, -1))", "Series", "Series"),
    "list": ("[{'a': i} for i in range(20)]", "list", "list"),
    "tuple": ("tuple(str(i) for i in range(20))", "list", "tuple"),
    "own": ("Rows(range(20))", "list", "Rows"),
    "own, of several arrays": ("Grids(temperature=np.ones((20, 3, 4)), month=np.arange(20))", "Grids", "Grids"),
}
OWN_CLASS = """
import pandas as pd
import scipy.sparse

class Rows:
    def __init__(self, rows):
        self.rows = list(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]

class Grids:
    def __init__(self, **fields):
        self.fields = fields

    @property
    def shape(self):
        return len(self.fields["month"]), len(self.fields)

    def __getitem__(self, rows):
        return Grids(**{name: field[rows] for name, field in self.fields.items()})
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "own_functions",
    ["", TRAINS.replace("X[train_is]", "X").replace("X[test_is]", "X")],
    ids=["elements", "own functions"],
)
def test_features_of_any_kind_reach_the_submission_as_they_are(
    slot: Slot, tmp_path: Path, kind: str, own_functions: str
) -> None:
    made, fitted, predicted = KINDS[kind]
    source = SPECIFIC.replace("np.arange(40.0).reshape(20, 2)", made).replace("np.arange(10.0).reshape(5, 2)", made)
    files = {"specific.py": (OWN_CLASS + source + own_functions).encode()}
    data = Data(slot, tmp_path, files, "classifier")
    assert data.split.specific_fault is None
    outcome = data.fold(SUBMISSIONS / "tells_what_it_gets", [3, 5, 4, 4])
    assert (outcome.state, outcome.log_messages) == (
        "TESTED",
        f"fit {fitted} 4\n" + 2 * f"predict_proba {predicted} 20\n",
    )


def test_files_may_be_larger_than_what_a_fold_may_write(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": SPECIFIC.encode(), "large.bin": bytes(30_000_000)}
    assert (
        split(slot, tmp_path, files, ["classifier"], with_limits(disk=1_000_000, predictions=1_000_000)).cause is None
    )


FORGED = """
import json, os, stat

def prepare_data(raw_data_path):
    claims = [{"mark": name} for name in ("prepare_data", "get_train_data", "get_test_data")]
    claims += [{"mark": "split", "n_train": 7, "n_test": N_TEST}, {"mark": "trial"}, {"mark": "done"}]
    for is_ours, write in ((is_memory, write_labels), (is_socket, claim_all)):
        for fd in range(3, 64):
            try:
                if is_ours(fd):
                    write(fd, claims)
            except OSError:
                pass

def is_memory(fd):
    return "memfd" in os.readlink(f"/proc/self/fd/{fd}")

def write_labels(fd, claims):
    os.write(fd, b"\\x93NUMPY\\x01\\0" + len(HEADER).to_bytes(2, "little") + HEADER + LABELS)

def is_socket(fd):
    return stat.S_ISSOCK(os.fstat(fd).st_mode)

def claim_all(fd, claims):
    for claim in claims:
        os.write(fd, json.dumps(claim).encode() + b"\\n")
        os.read(fd, 1)

get_train_data = get_test_data = prepare_data
"""


def header_of(descr: object) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': (7,)}}"


@pytest.mark.parametrize(
    ("n_test", "header", "labels", "why"),
    [
        ([3], "", b"", "int() argument must be a string, a bytes-like object or a real number, not 'list'."),
        (0, "", b"", "0 test rows."),
        (2**31, "", b"", "2147483648 test rows."),
        (3, "{", b"", "labels with a header that cannot be read."),
        (3, 9000 * "-" + "1", b"", "labels with a header that cannot be read."),
        (3, "{'descr': '<f8', 'fortran_order': False, 'shape': (7,)}", b"", "labels of shape (7,) in 0 bytes."),
        (3, "{'descr': '|O', 'fortran_order': False, 'shape': (7,)}", b"", "labels of type object."),
        (
            3,
            "{'descr': [('a', '<f8'), ('b', '|O')], 'fortran_order': False, 'shape': (7,)}",
            b"",
            "labels of type [('a', '<f8'), ('b', 'O')].",
        ),
        (
            3,
            "{'descr': [('a', [('b', '<f8')])], 'fortran_order': False, 'shape': (7,)}",
            b"",
            "labels of type [('a', [('b', '<f8')])].",
        ),
        (3, header_of("<f8"), np.array([1, 2, np.nan, 1, 2, 1, 2]).tobytes(), "labels that are missing or infinite."),
        (
            3,
            header_of(">f4"),
            np.array([1, 2, -np.inf, 1, 2, 1, 2], ">f4").tobytes(),
            "labels that are missing or infinite.",
        ),
        (3, header_of(np.longdouble().dtype.str), bytes(7 * 16), "labels of type float128."),
        (3, header_of("<U1"), 7 * b"\xff\xff\xff\x7f", "labels of text that is no Unicode."),
        (3, header_of(">U1"), 6 * b"\0\0\0a" + b"\0\x11\0\0", "labels of text that is no Unicode."),
        (3, header_of("<U2"), 7 * b"a\0\0\0\xff\xdf\0\0", "labels of text that is no Unicode."),
        (
            3,
            header_of([("a", "<U1"), ("b", "<f8")]),
            7 * (b"a\0\0\0" + np.array(np.nan).tobytes()),
            "labels that are missing or infinite.",
        ),
        (
            3,
            header_of([("a", "<f8"), ("b", "<U1")]),
            7 * (np.array(1.0).tobytes() + b"\xff\xff\xff\x7f"),
            "labels of text that is no Unicode.",
        ),
    ],
)
def test_what_the_organisers_file_forges_is_a_data_error(
    slot: Slot, tmp_path: Path, n_test: object, header: str, labels: bytes, why: str
) -> None:
    forged = f"N_TEST, HEADER, LABELS = {n_test!r}, {header.encode()!r}, {labels!r}\n{FORGED}"
    outcome = split(slot, tmp_path, {"specific.py": forged.encode()}, ["classifier"])
    assert (outcome.cause, outcome.log_messages) == ("data_error", f"The split cannot be used: {why}")


class Runs:
    """Features that run a line of Python when they are read."""

    def __init__(self, line: str) -> None:
        self._line = line

    def __reduce__(self) -> tuple:
        return exec, (self._line,)


FORGED_FEATURES = {  # what X_train, or X_test, is replaced by, and how each fold ends
    "of another number": ("X_train", np.eye(5), "Failed while {}: X_train has 5 rows, and the split told of 20."),
    "of another number, held out": (
        "X_test",
        np.eye(20),
        "Failed while {}: X_test has 20 rows, and the split told of 5.",
    ),
    "without rows": ("X_train", 3, "Failed while {}: TypeError: object of type 'int' has no len()."),
    "that raise": ("X_train", Runs("1 / 0"), "Failed while {}: ZeroDivisionError: division by zero."),
    "that exit": ("X_test", Runs("import os; os._exit(1)"), "Ended with exit status 1 without a result, while {}."),
    "without end": ("X_test", Runs("while True: pass"), "Killed after 2 s, the wall-clock limit, while {}."),
    "of no form": ("X_train", b"garbage", "Failed while {}: ValueError: not a features file."),
}


@pytest.mark.parametrize("own_functions", ["", TRAINS], ids=["elements", "own functions"])
@pytest.mark.parametrize("forged", FORGED_FEATURES)
def test_features_that_the_organisers_file_forges_are_a_data_error_of_the_fold(
    slot: Slot, tmp_path: Path, own_functions: str, forged: str
) -> None:
    part, features, sentence = FORGED_FEATURES[forged]
    limits = with_limits(wall_time=2) if forged == "without end" else LIMITS
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + own_functions).encode()}, "classifier")
    with getattr(data, part).open("wb") as file:
        file.write(features) if isinstance(features, bytes) else write_features(features, file)
    outcome = data.fold(SUBMISSIONS / "forest", np.arange(12), limits)
    assert outcome.cause == "data_error"
    assert outcome.log_messages.splitlines()[-1] == (
        sentence.format("loading the features that specific.py made")
        + " This is a fault of the data set's own file: the submission need not change."
    )


HOARDS = """
import time

forge = prepare_data

def prepare_data(raw_data_path):
    for fd in filter(is_hoard, range(3, 64)):
        for _ in range(N_MEGABYTES):
            os.write(fd, bytes(1_000_000))
    THEN

def is_hoard(fd):
    try:
        return is_memory(fd) if LABELS_HOARD else is_nameless(fd) and not is_memory(fd)
    except OSError:
        return False

def is_nameless(fd):
    return os.readlink(f"/proc/self/fd/{fd}").endswith("(deleted)")
"""


@pytest.mark.parametrize("then", ["time.sleep(30)", "forge(raw_data_path)"], ids=["waits", "is done"])
@pytest.mark.parametrize(
    ("where", "n_megabytes", "sentence"),
    [
        ("labels", 200, "Killed at 150 MB of memory, the limit, while "),
        ("features", 150, "Killed at 250 MB of files, the limit, while "),
    ],
)
def test_what_a_split_writes_where_its_labels_and_features_go_counts(
    slot: Slot, tmp_path: Path, where: str, n_megabytes: int, sentence: str, then: str
) -> None:
    source = f"N_TEST, HEADER, LABELS = 3, b'', b''\nN_MEGABYTES, LABELS_HOARD = {n_megabytes}, {where == 'labels'}\n"
    source += FORGED + HOARDS.replace("THEN", then)
    limits = with_limits(memory=150_000_000, disk=250_000_000, wall_time=20)
    outcome = split(slot, tmp_path, {"specific.py": source.encode()}, ["classifier"], limits)
    assert (outcome.cause, outcome.log_messages[: len(sentence)]) == ("data_error", sentence)


TRYING = "trying specific.py as a fold does, without the data's other files"
READS_WHEN_IMPORTED = "table = open(__file__.replace('specific.py', 'table.csv')).read()\n"


def test_data_read_when_the_file_is_imported_are_missing_in_folds_and_at_the_split(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": (READS_WHEN_IMPORTED + SPECIFIC + TRAINS).encode(), "table.csv": b"1"}
    outcome = split(slot, tmp_path, files, ["classifier"])
    assert outcome.cause == "data_error"
    assert outcome.log_messages.splitlines()[-1] == (
        f"Failed while {TRYING}: FileNotFoundError: [Errno 2] No such file or directory: 'table.csv'"
    )


def test_data_read_when_the_file_is_imported_are_there_for_the_split_alone(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": (READS_WHEN_IMPORTED + SPECIFIC).encode(), "table.csv": b"1"}
    data = Data(slot, tmp_path, files, "classifier")
    assert not data.split.specific_needed
    assert data.fold(SUBMISSIONS / "forest", np.arange(12)).state == "TESTED"


CERTAIN = {  # what is changed in train_submission and test_submission, and the end of the split's log
    "name": (
        ("clf.fit", "model.fit"),
        '  File "specific.py", line 18, in train_submission\n    model.fit(X[train_is], y[train_is])\n    ^^^^^\n'
        "NameError: name 'model' is not defined\n"
        f"Failed while {TRYING}: NameError: name 'model' is not defined",
    ),
    "package": (
        ("    clf.fit", "    import nunpy\n    clf.fit"),
        f"Failed while {TRYING}: ModuleNotFoundError: No module named 'nunpy'",
    ),
    "function of a package": (
        ("trained_model.predict_proba(X[test_is])", "np.uniq(trained_model.predict_proba(X[test_is]))"),
        f"Failed while {TRYING}: AttributeError: module 'numpy' has no attribute 'uniq'",
    ),
    "rows of the data": (
        ("    classifier = import_module", "    X = X.loc[train_is]\n    classifier = import_module"),
        '  File "specific.py", line 16, in train_submission\n    X = X.loc[train_is]\n        ^^^^^\n'
        "AttributeError: 'numpy.ndarray' object has no attribute 'loc'\n"
        f"Failed while {TRYING}: AttributeError: 'numpy.ndarray' object has no attribute 'loc'",
    ),
    "nothing": (
        ("return trained_model", "trained_model"),
        f"Failed while {TRYING}: test_submission does not pass on predictions. The predictions are a NoneType, "
        "expected an array of numbers.",
    ),
    "labels": (
        ("y[train_is]", "y[train_is][1:]"),
        '  File "specific.py", line 18, in train_submission\n    clf.fit(X[train_is], y[train_is][1:])\n'
        "ValueError: 20 rows came with 19 labels\n"
        f"Failed while {TRYING}: ValueError: 20 rows came with 19 labels",
    ),
    "rows": (
        ("X[test_is])", "X[test_is])[:3]"),
        "The split cannot be used: test_submission made predictions of the shape (3, 2), expected (20, 2).",
    ),
    "columns": (
        ("X[test_is])", "X[test_is])[:, 1]"),
        "The split cannot be used: test_submission made predictions of the shape (20,), expected (20, 2).",
    ),
}


@pytest.mark.parametrize("fault", CERTAIN)
def test_a_fault_that_no_submission_can_cause_ends_the_split(slot: Slot, tmp_path: Path, fault: str) -> None:
    (old, new), log = CERTAIN[fault]
    files = {"specific.py": (SPECIFIC + TRAINS.replace(old, new)).encode()}
    outcome = split(slot, tmp_path, files, ["classifier"])
    assert outcome.cause == "data_error"
    assert outcome.log_messages.endswith(log)
    assert "organiser.py" not in outcome.log_messages


def test_a_submission_is_imported_without_its_package_too(slot: Slot, tmp_path: Path) -> None:
    files = {"specific.py": (SPECIFIC + TRAINS.replace("'.classifier'", "'classifier'")).encode()}
    data = Data(slot, tmp_path, files, "classifier")
    assert (data.split.specific_fault, data.split.log_messages) == (None, "")
    assert data.fold(SUBMISSIONS / "forest", np.arange(12)).state == "TESTED"


CLUSTERS = """
from importlib import import_module

def train_submission(module_path, X, y, train_is):
    clusterer = import_module('.clusterer', module_path).Clusterer()
    clusterer.fit(X[train_is], y[train_is])
    return clusterer

def test_submission(trained_model, X, test_is):
    return np.column_stack([X[test_is], trained_model.distances(X[test_is])])
"""


def test_files_of_a_submission_have_any_name_where_the_data_set_trains_it(
    slot: Slot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + CLUSTERS).encode()}, "clusterer")
    assert (data.split.classes, data.split.specific_fault, data.split.log_messages) == (None, None, "")
    outcome = data.fold(SUBMISSIONS / "clusters_hits", np.arange(12))
    monkeypatch.syspath_prepend(str(SUBMISSIONS))
    X = np.arange(40.0).reshape(20, 2)
    clusterer = submitted("clusters_hits", "clusterer").Clusterer()
    clusterer.fit(X[:12], np.arange(12) % 2)
    assert_equal(outcome, *(np.column_stack([part, clusterer.distances(part)]) for part in (X, X[:5])))
    outcome = data.fold(SUBMISSIONS / "clusters_hits_without_fit", np.arange(12))
    assert (outcome.cause, outcome.log_messages.splitlines()[-1]) == (
        "train_error",
        "Failed while training: AttributeError: 'Clusterer' object has no attribute 'fit'. No line of the submission "
        "takes part: it came up where the data set's own file used it.",
    )


CERTAIN_UNDER_ANY = {  # what is changed in train_submission and test_submission, and the end of the split's log
    "name": (
        ("trained_model.distances", "model.distances"),
        f"Failed while {TRYING}: NameError: name 'model' is not defined",
    ),
    "package": (
        ("    clusterer.fit", "    import nunpy\n    clusterer.fit"),
        f"Failed while {TRYING}: ModuleNotFoundError: No module named 'nunpy'",
    ),
    "function of a package": (
        ("np.column_stack", "np.columns_stack"),
        f"Failed while {TRYING}: AttributeError: module 'numpy' has no attribute 'columns_stack'",
    ),
    "the labels": (
        ("    clusterer = import_module", "    y = y['track']\n    clusterer = import_module"),
        "  File \"specific.py\", line 16, in train_submission\n    y = y['track']\n        ~^^^^^^^^^\n"
        "IndexError: only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) ",
    ),
}


@pytest.mark.parametrize("fault", CERTAIN_UNDER_ANY)
def test_a_fault_that_no_submission_of_any_kind_can_cause_ends_the_split(
    slot: Slot, tmp_path: Path, fault: str
) -> None:
    (old, new), log = CERTAIN_UNDER_ANY[fault]
    files = {"specific.py": (SPECIFIC + CLUSTERS.replace(old, new)).encode()}
    outcome = split(slot, tmp_path, files, ["clusterer"])
    assert outcome.cause == "data_error"
    assert log in outcome.log_messages
    assert "trial.py" not in outcome.log_messages


def test_a_fault_under_elements_of_any_name_shows_at_the_split_and_is_never_the_submission_s(
    slot: Slot, tmp_path: Path
) -> None:
    broken = CLUSTERS.replace("trained_model.distances(X[test_is])", "trained_model.distances(X.no_such_method())")
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + broken).encode()}, "clusterer")
    assert data.split.specific_fault == "AttributeError in specific.py, line 21"
    assert data.split.log_messages.startswith('Traceback (most recent call last):\n  File "specific.py", line 21, in')
    assert "has no attribute 'no_such_method'\nThis was a trial of train_submission" in data.split.log_messages
    outcome = data.fold(SUBMISSIONS / "clusters_hits", np.arange(12))
    assert outcome.cause == "data_error"
    assert outcome.log_messages.splitlines()[-1] == (
        "Failed while predicting the training rows: AttributeError: 'numpy.ndarray' object has no attribute "
        "'no_such_method'. This is a fault of the data set's own file: the submission need not change."
    )
    outcome = data.fold(SUBMISSIONS / "clusters_hits_without_fit", np.arange(12))
    assert outcome.cause == "train_error"
    assert outcome.log_messages.endswith("it came up where the data set's own file used it.")


MIXED = """
from importlib import import_module

def train_submission(module_path, X, y, train_is):
    names, concentrations = y[train_is, 0], y[train_is, 1].astype(float)
    assert set(map(type, names)) == {str}
    clf = import_module('.classifier', module_path).Classifier()
    clf.fit(X[train_is], names)
    reg = import_module('.regressor', module_path).Regressor()
    reg.fit(X[train_is], concentrations)
    return clf, reg

def test_submission(trained_model, X, test_is):
    clf, reg = trained_model
    probabilities = clf.predict_proba(X[test_is])
    for i in range(4):
        assert probabilities[:, i].shape == (len(test_is),)
    return np.column_stack([probabilities, reg.predict(X[test_is])])
"""
TWO_KINDS = "np.column_stack([np.array(list('ABQR') * 5, dtype=object), np.linspace(0.1, 7, 20)])"


@pytest.mark.parametrize("elements", ["classifier regressor", "classifier"])
def test_targets_of_different_kinds_come_to_the_file_s_own_functions_as_it_returned_them(
    slot: Slot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elements: str
) -> None:
    (tmp_path / "both").mkdir()
    for path in (SUBMISSIONS / "forest/classifier.py", SUBMISSIONS / "ridge/regressor.py"):
        (tmp_path / "both" / path.name).write_bytes(path.read_bytes())
    source = SPECIFIC.replace("np.arange(20) % 2", TWO_KINDS) + MIXED
    data = Data(slot, tmp_path, {"specific.py": source.encode()}, elements)
    assert data.split.y_train.dtype.kind == "V" and not data.split.y_train.dtype.hasobject
    assert (data.split.classes, data.split.specific_fault, data.split.log_messages) == (None, None, "")
    monkeypatch.syspath_prepend(str(SUBMISSIONS))
    X, rows = np.arange(40.0).reshape(20, 2), np.arange(16)
    with threadpool_limits(1):
        clf, reg = submitted("forest", "classifier").Classifier(), submitted("ridge", "regressor").Regressor()
        clf.fit(X[rows], np.array(list("ABQR") * 4, dtype=object))
        reg.fit(X[rows], np.linspace(0.1, 7, 20)[rows])
        expected = [np.column_stack([clf.predict_proba(part), reg.predict(part)]) for part in (X, X[:5])]
    assert_equal(data.fold(tmp_path / "both", rows), *expected)


def test_targets_of_different_kinds_need_functions_that_train(slot: Slot, tmp_path: Path) -> None:
    source = SPECIFIC.replace("np.arange(20) % 2", TWO_KINDS)
    outcome = split(slot, tmp_path, {"specific.py": source.encode()}, ["classifier"])
    assert outcome.cause == "data_error"
    assert outcome.log_messages.endswith("expected numbers, booleans or text, not a mixture.")


EXPECTED = {  # what test_submission returns, and so expects of a submission
    "rows": "np.stack([X[:, 0], trained_model.distances(X)], axis=1)",
    "columns": "trained_model.distances(X)[:, 1]",
    "one column": "trained_model.distances(X) * np.ones((1, 1))",
    "numbers of classes": "np.bincount(trained_model.distances(X), minlength=len(X))",
    "an attribute": "np.zeros((len(X), len(trained_model.middles)))",
    "a further method": "np.full(len(X), float(trained_model.score(X).sum()))",
    "predictions": "trained_model.distances(X)",
    "a function": "import_module('clusterer').distances(X, 3)",
    "a condition": "X if trained_model.middles.ndim == 2 else result",
    "an object that is none": "[len(row) for row in trained_model.rows]",
}


@pytest.mark.parametrize("expected", EXPECTED)
def test_what_a_data_set_expects_of_elements_of_any_name_is_no_fault_of_it(
    slot: Slot, tmp_path: Path, expected: str
) -> None:
    source = CLUSTERS[: CLUSTERS.index("np.column_stack")] + EXPECTED[expected] + "\n    result = X\n"
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + source).encode()}, "clusterer")
    assert (data.split.specific_fault, data.split.log_messages) == (None, "")


def test_what_a_data_set_looks_for_in_a_submission_s_package_is_no_certain_fault_of_it(
    slot: Slot, tmp_path: Path
) -> None:
    source = CLUSTERS.replace(
        "    clusterer = ", "    assert list(import_module(module_path).__path__)\n    clusterer = "
    )
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + source).encode()}, "clusterer")
    assert data.fold(SUBMISSIONS / "clusters_hits", np.arange(12)).state == "TESTED"


def test_predictions_that_a_data_set_cannot_use_are_the_submission_s(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + CLUSTERS).encode()}, "clusterer")
    outcome = data.fold(SUBMISSIONS / "clusters_too_few_hits", np.arange(12))
    assert outcome.cause == "validation_error"
    assert "ValueError: all the input array dimensions except for the concatenation axis" in outcome.log_messages
    assert outcome.log_messages.endswith("it came up where the data set's own file used it.")


def test_what_a_submission_lacks_is_no_fault_of_the_data_set_that_wants_more_of_a_classifier(
    slot: Slot, tmp_path: Path
) -> None:
    source = TRAINS.replace("predict_proba", "log_odds")
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + source).encode()}, "classifier")
    assert (data.split.specific_fault, data.split.log_messages) == (None, "")
    outcome = data.fold(SUBMISSIONS / "forest", np.arange(12))
    assert (outcome.cause, outcome.log_messages.splitlines()[-1]) == (
        "validation_error",
        "Failed while predicting the training rows: AttributeError: 'Classifier' object has no attribute 'log_odds'. "
        "No line of the submission takes part: it came up where the data set's own file used it.",
    )


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        ("np.zeros((3, 2))", "(3, 2)"),
        ("np.zeros((20, 2, 2))", "(20, 2, 2)"),
        ("np.zeros((20, 0))", "(20, 0)"),
        ("np.array(3)", "()"),
    ],
)
def test_predictions_of_any_workflow_have_a_row_for_each(slot: Slot, tmp_path: Path, made: str, shape: str) -> None:
    source = SPECIFIC + CLUSTERS[: CLUSTERS.index("np.column_stack")] + made
    data = Data(slot, tmp_path, {"specific.py": source.encode()}, "clusterer")
    outcome = data.fold(SUBMISSIONS / "clusters_hits", np.arange(12))
    expected = f"The predictions of the training rows have the shape {shape}, expected (20,) or (20, any)."
    assert (outcome.cause, outcome.log_messages) == ("bad_predictions", expected)


@pytest.mark.parametrize("elements", ["clusterer", "classifier regressor", "estimator calibrator"])
def test_files_of_any_name_need_functions_that_train_them(slot: Slot, tmp_path: Path, elements: str) -> None:
    outcome = split(slot, tmp_path, {"specific.py": SPECIFIC.encode()}, elements.split())
    assert (outcome.cause, outcome.log_messages) == (
        "data_error",
        "Failed while importing specific.py, the data set's own file: it defines no train_submission and "
        f"test_submission, and '{', '.join(elements.split())}' is no workflow that can run without them.",
    )


BROKEN = TRAINS.replace("X[train_is], y[train_is]", "X[train_is], y[train_is].no_such_method()")


def test_a_fault_of_train_submission_shows_at_the_split_and_is_never_the_submission_s(
    slot: Slot, tmp_path: Path
) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + BROKEN).encode()}, "classifier")
    assert data.split.specific_fault == "AttributeError in specific.py, line 18"
    fault = "AttributeError: 'numpy.ndarray' object has no attribute 'no_such_method'\n"
    assert fault + "This was a trial of train_submission" in data.split.log_messages
    outcome = data.fold(SUBMISSIONS / "forest", np.arange(12))
    assert (outcome.state, outcome.cause) == ("ERROR", "data_error")
    assert 'File "specific.py", line 18, in train_submission' in outcome.log_messages
    assert outcome.log_messages.splitlines()[-1] == (
        "Failed while training: AttributeError: 'numpy.ndarray' object has no attribute 'no_such_method'. "
        "This is a fault of the data set's own file: the submission need not change."
    )
    outcome = data.fold(SUBMISSIONS / "missing_package", np.arange(12))
    assert outcome.cause == "import_error"


def test_where_a_split_of_an_earlier_version_did_not_say_which_fault_it_is_any_of_the_file(
    slot: Slot, tmp_path: Path
) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + BROKEN).encode()}, "classifier")
    for known, cause in (
        ("", "data_error"),
        ("KeyError in specific.py, line 18", "train_error"),
        (None, "train_error"),
    ):
        data.split = replace(data.split, specific_fault=known)
        assert data.fold(SUBMISSIONS / "forest", np.arange(12)).cause == cause


def test_no_submission_can_blame_the_organisers_file_that_works(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, {"specific.py": (SPECIFIC + TRAINS).encode()}, "classifier")
    outcome = data.fold(SUBMISSIONS / "blames_the_data_set", np.arange(12))
    assert (outcome.state, outcome.cause) == ("ERROR", "train_error")


def test_files_of_a_submission_cannot_stand_in_for_the_organisers(slot: Slot, tmp_path: Path) -> None:
    trains = TRAINS.replace("    clf.fit", "    import helper\n    helper.check()\n    clf.fit")
    files = {"specific.py": (SPECIFIC + trains).encode(), "helper.py": b"def check():\n    pass\n"}
    data = Data(slot, tmp_path, files, "classifier")
    assert data.fold(SUBMISSIONS / "shadows_the_data_set", np.arange(12)).state == "TESTED"


SECRET = """
import numpy as np

def prepare_data(raw_data_path):
    labels = np.load(raw_data_path + "/labels.npy")
    np.save(raw_data_path + "/again.npy", labels)

def get_train_data(raw_data_path):
    return [[float(i)] for i in range(400)], np.load(raw_data_path + "/again.npy")[:400]

def get_test_data(raw_data_path):
    return [[float(i)] for i in range(400, 500)], np.load(raw_data_path + "/again.npy")[400:]
"""


TRAINS_REGRESSOR = (
    TRAINS.replace("Classifier", "Regressor")
    .replace("classifier", "regressor")
    .replace("X[train_is]", "X")
    .replace("predict_proba(X[test_is])", "predict(X)")
)
LABELS_BESIDE_NAMES = """
labels_alone = get_train_data

def get_train_data(raw_data_path):
    X, y = labels_alone(raw_data_path)
    return X, [("a", label) for label in y]
"""


@pytest.mark.parametrize(
    "own_functions",
    [
        "",
        TRAINS_REGRESSOR,
        LABELS_BESIDE_NAMES + TRAINS_REGRESSOR.replace("y[train_is]", "y[train_is, 1].astype(float)"),
    ],
    ids=["elements", "own functions", "targets of different kinds"],
)
def test_no_label_of_validation_or_test_rows_is_in_a_custom_fold(
    slot: Slot, tmp_path: Path, own_functions: str
) -> None:
    # recognisable: the row's number stands in each twice, as a number that is written over half of one does not
    labels = (np.arange(500, dtype="<u8") * 0x1_0001 + (0x43D1_7E57 << 32)).view("<f8")
    np.save(tmp_path / "labels.npy", labels)
    files = {"specific.py": (SECRET + own_functions).encode(), "labels.npy": (tmp_path / "labels.npy").read_bytes()}
    data = Data(slot, tmp_path, files, "regressor")
    assert data.split.specific_fault is None, data.split.log_messages
    outcome = data.fold(SUBMISSIONS / "searches_its_memory_for_labels", np.arange(50))
    assert outcome.state == "TESTED", outcome.log_messages
    found = set(map(int, outcome.log_messages.removeprefix("labels of rows ").split()))
    assert found & set(range(500)) == set(range(50))  # anything else is no label, but happens to look like one
