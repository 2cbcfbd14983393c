"""Workflow elements, kinds of tables and kinds of labels, each against plain scikit-learn on the same rows."""

import gzip
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import users
from sklearn import datasets
from sklearn.model_selection import train_test_split
from test_runner import LIMITS, SUBMISSIONS, run
from threadpoolctl import threadpool_limits

from runner import FoldOutcome, FoldTask, Slot, SplitOutcome, SplitTask, Zygote


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    zygote = Zygote(sys.executable, tmp_path_factory.mktemp("scratch"), environ=os.environ, first_uid=users.user(0))
    zygote.start()
    slot = Slot(zygote.new_slot())
    yield slot
    slot.close()
    zygote.stop()


def split(slot: Slot, folder: Path, name: str, content: bytes, target_column: str, elements: str) -> SplitOutcome:
    (folder / name).write_bytes(content)
    with (folder / name).open("rb") as file:
        outcome, _events = run(slot, SplitTask("split", {name: file}, target_column, elements.split(), 0.2, 42, LIMITS))
    return outcome


class Data:
    """A table, split by the runner and by plain pandas."""

    def __init__(self, slot: Slot, folder: Path, frame: pd.DataFrame, elements: str, target_column: str) -> None:
        self.elements = elements.split()
        text = frame.to_csv(index=False).encode()
        self.split = split(slot, folder, "data.csv", text, target_column, elements)
        assert self.split.cause is None, self.split.log_messages
        self._features = [folder / "X_train", folder / "X_test"]
        for path, file in zip(self._features, (self.split.X_train, self.split.X_test), strict=True):
            path.write_bytes(file.read())
        self._slot = slot
        read = pd.read_csv(folder / "data.csv")
        targets = target_column.split(",")
        y = read[targets if len(targets) > 1 else target_column].to_numpy()
        X = read.drop(columns=targets)
        train, test = train_test_split(np.arange(len(read)), test_size=0.2, random_state=42)
        self.X_train, self.X_test, self.y_train = X.iloc[train], X.iloc[test], y[train]

    def fold(self, submission: str, train_is: np.ndarray) -> FoldOutcome:
        task = FoldTask(
            "fold 1", self.elements, SUBMISSIONS / submission, *self._features, self.split.n_train, self.split.n_test,
            train_is, self.split.y_train[train_is], self.split.classes, LIMITS,
        )  # fmt: skip
        outcome, _events = run(self._slot, task)
        return outcome


def module(submission: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SUBMISSIONS / submission / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def assert_tested(outcome: FoldOutcome, full_train_predictions: Any, test_predictions: Any) -> None:
    assert (outcome.state, outcome.log_messages) == ("TESTED", "")
    np.testing.assert_array_equal(outcome.full_train_predictions, full_train_predictions)
    np.testing.assert_array_equal(outcome.test_predictions, test_predictions)


def mixed_frame() -> pd.DataFrame:
    """Return numbers with gaps, words, and labels that are booleans."""
    rng = np.random.RandomState(4)
    age = np.where(rng.rand(200) < 0.1, np.nan, rng.uniform(1, 80, 200))
    return pd.DataFrame({"age": age, "port": rng.choice(["C", "Q", "S"], 200), "survived": rng.rand(200) < 0.4})


def test_an_estimator_that_is_a_classifier_predicts_probabilities_of_frames(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, mixed_frame(), "estimator", "survived")
    assert data.split.classes == [False, True]
    train_is = np.arange(30, 150)
    with threadpool_limits(1):
        estimator = module("estimator_pipeline", "estimator").get_estimator()
        estimator.fit(data.X_train.iloc[train_is], data.y_train[train_is])
        assert_tested(
            data.fold("estimator_pipeline", train_is),
            estimator.predict_proba(data.X_train),
            estimator.predict_proba(data.X_test),
        )


@pytest.mark.parametrize(("dtype", "classes"), [(float, None), (int, list)])
def test_an_estimator_that_is_a_regressor_predicts_values(
    slot: Slot, tmp_path: Path, dtype: type, classes: type | None
) -> None:
    frame = datasets.load_diabetes(as_frame=True).frame
    frame["target"] = frame["target"].astype(dtype) + (0.5 if dtype is float else 0)
    data = Data(slot, tmp_path, frame, "estimator", "target")
    assert (data.split.classes is None) == (classes is None)
    train_is = np.arange(200)
    with threadpool_limits(1):
        reg = module("estimator_ridge", "estimator").get_estimator()
        reg.fit(data.X_train.iloc[train_is], data.y_train[train_is])
        assert_tested(data.fold("estimator_ridge", train_is), reg.predict(data.X_train), reg.predict(data.X_test))


def test_a_classifier_without_probabilities_fails_as_in_scikit_learn(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, datasets.load_iris(as_frame=True).frame, "estimator", "target")
    outcome = data.fold("estimator_without_probabilities", np.arange(100))
    assert (outcome.state, outcome.cause) == ("ERROR", "validation_error")
    assert outcome.log_messages.splitlines()[-1] == (
        "Failed while predicting the training rows: AttributeError: 'LinearSVC' object has no attribute 'predict_proba'"
    )


def files_of(log: str) -> list[str]:
    """Return the files that a log's tracebacks name, in order."""
    return [line.split('"')[1] for line in log.splitlines() if line.startswith('  File "')]


def test_a_traceback_of_several_errors_begins_in_the_submission(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, mixed_frame(), "feature_extractor classifier", "survived")
    outcome = data.fold("wrong_column", np.arange(100))
    assert outcome.log_messages.startswith("KeyError: 'no such column'\n")
    assert "The above exception was the direct cause of the following exception" in outcome.log_messages
    assert files_of(outcome.log_messages)[0] == "feature_extractor.py"


def test_a_traceback_without_a_line_of_the_submission_begins_in_scikit_learn(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, mixed_frame().drop(columns="port"), "estimator", "survived")
    outcome = data.fold("estimator_without_an_imputer", np.arange(100))
    assert (outcome.state, outcome.cause) == ("ERROR", "train_error")
    files = files_of(outcome.log_messages)
    assert files[0].startswith("sklearn/")
    assert not any(file.startswith(("/", "<")) or "runner" in file for file in files)
    assert "sklearn/linear_model/_logistic.py" in files
    assert outcome.log_messages.splitlines()[-1] == "Failed while training: ValueError: Input X contains NaN."


@pytest.mark.parametrize(("kind", "shape"), [("classifier", (30, 3)), ("regressor", (30,))])
def test_an_estimator_of_an_own_class_predicts_what_it_can(
    slot: Slot, tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    data = Data(slot, tmp_path, datasets.load_iris(as_frame=True).frame, "estimator", "target")
    outcome = data.fold(f"estimator_of_an_own_class_{kind}", np.arange(100))
    assert (outcome.state, outcome.log_messages) == ("TESTED", "")
    assert outcome.test_predictions.shape == shape


@pytest.mark.parametrize(
    ("kind", "what"), [("a_class", "the class LogisticRegression"), ("nothing", "a NoneType")], ids=["class", "nothing"]
)
def test_a_function_that_returns_no_estimator_hears_what_it_returned(
    slot: Slot, tmp_path: Path, kind: str, what: str
) -> None:
    data = Data(slot, tmp_path, datasets.load_iris(as_frame=True).frame, "estimator", "target")
    outcome = data.fold(f"estimator_that_is_{kind}", np.arange(100))
    sentence = f"TypeError: get_estimator() returned {what}, expected an object with a method fit"
    assert (outcome.cause, outcome.log_messages.splitlines()[-1]) == (
        "train_error",
        f"Failed while training: {sentence}",
    )


def test_an_estimator_whose_shape_is_wrong_hears_both_that_are_right(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, datasets.load_iris(as_frame=True).frame, "estimator", "target")
    outcome = data.fold("estimator_with_a_wrong_shape", np.arange(100))
    assert (outcome.cause, outcome.log_messages) == (
        "bad_predictions",
        "The predictions of the training rows have the shape (120, 7), expected (120, 3) or (120,).",
    )


def test_transformers_of_any_name_follow_one_another(slot: Slot, tmp_path: Path) -> None:
    frame = datasets.load_iris(as_frame=True).frame
    frame.iloc[::7, 1] = np.nan
    data = Data(slot, tmp_path, frame, "imputing_transformer scaling_transformer classifier", "target")
    train_is = np.arange(100)
    with threadpool_limits(1):
        X_fold, y_fold = data.X_train.iloc[train_is], data.y_train[train_is]
        X = [X_fold, data.X_train, data.X_test]
        for name in ("imputing_transformer", "scaling_transformer"):
            transformer = module("two_transformers", name).Transformer()
            transformer.fit(X[0], y_fold)
            X = [transformer.transform(part) for part in X]
        clf = module("two_transformers", "classifier").Classifier()
        clf.fit(X[0], y_fold)
        assert_tested(data.fold("two_transformers", train_is), clf.predict_proba(X[1]), clf.predict_proba(X[2]))


def test_several_targets_are_predicted_by_a_regressor(slot: Slot, tmp_path: Path) -> None:
    frame = datasets.load_linnerud(as_frame=True).frame
    data = Data(slot, tmp_path, frame, "regressor", "Weight,Waist,Pulse")
    assert data.split.y_train.shape == (16, 3)
    train_is = np.arange(12)
    with threadpool_limits(1):
        reg = module("multi_ridge", "regressor").Regressor()
        reg.fit(data.X_train.to_numpy()[train_is], data.y_train[train_is])
        full_train, test = reg.predict(data.X_train.to_numpy()), reg.predict(data.X_test.to_numpy())
    assert_tested(data.fold("multi_ridge", train_is), full_train, test)
    assert test.shape == (4, 3)


def test_several_targets_of_a_classifier_lie_side_by_side(slot: Slot, tmp_path: Path) -> None:
    frame = datasets.load_iris(as_frame=True).frame
    frame["species"] = np.array(["setosa", "versicolor", "virginica"])[frame.pop("target")]
    frame["long"] = np.where(frame.pop("petal length (cm)") > 4, "yes", "no")
    data = Data(slot, tmp_path, frame, "classifier", "species,long")
    assert data.split.classes == [["setosa", "versicolor", "virginica"], ["no", "yes"]]
    without_setosa = np.flatnonzero(data.y_train[:, 0] != "setosa")
    with threadpool_limits(1):
        clf = module("multi_forest", "classifier").Classifier()
        clf.fit(data.X_train.to_numpy()[without_setosa], data.y_train[without_setosa])
        species, long = clf.predict_proba(data.X_test.to_numpy())
    outcome = data.fold("multi_forest", without_setosa)
    assert outcome.full_train_predictions.shape == (120, 5)
    np.testing.assert_array_equal(outcome.test_predictions, np.hstack([np.zeros((30, 1)), species, long]))


TABLE = "a,target\n" + "\n".join(f"{i},{i % 2}" for i in range(20)) + "\n"


@pytest.mark.parametrize("name", ["data.csv", "DATA.CSV", "data.csv.gz", "data.tsv", "data.tsv.gz"])
def test_the_end_of_a_table_s_name_says_how_to_read_it(slot: Slot, tmp_path: Path, name: str) -> None:
    content = (TABLE.replace(",", "\t") if ".tsv" in name else TABLE).encode()
    content = gzip.compress(content) if name.endswith(".gz") else content
    outcome = split(slot, tmp_path, name, content, "target", "classifier")
    assert (outcome.cause, outcome.n_train, outcome.classes) == (None, 16, [0, 1])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (TABLE.encode(), "The CSV cannot be read: Not a gzipped file (b'a,')"),
        (gzip.compress(TABLE.encode())[:-9], "The CSV cannot be read: Compressed file ended before the end-of-stream"),
    ],
    ids=["not compressed", "cut"],
)
def test_a_compressed_table_that_is_none_is_a_data_error(
    slot: Slot, tmp_path: Path, content: bytes, sentence: str
) -> None:
    outcome = split(slot, tmp_path, "data.csv.gz", content, "target", "classifier")
    assert outcome.cause == "data_error"
    assert sentence in outcome.log_messages.splitlines()[-1]


def test_a_target_whose_name_has_a_comma_is_one_target(slot: Slot, tmp_path: Path) -> None:
    outcome = split(slot, tmp_path, "data.tsv", b"a\tx,y\n1\t2\n3\t4\n5\t6\n", "x,y", "regressor")
    assert (outcome.cause, outcome.y_train.shape) == (None, (2,))


def test_names_of_targets_may_hold_commas(slot: Slot, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        np.arange(50.0).reshape(10, 5), columns=["a", "g (C18)", "Colon, rectum, anus (C18-21)", "b", "c,d"]
    )
    targets = "g (C18),Colon, rectum, anus (C18-21), b"
    outcome = split(slot, tmp_path, "data.csv", frame.to_csv(index=False).encode(), targets, "regressor")
    assert (outcome.cause, outcome.y_train.shape) == (None, (8, 3))
    np.testing.assert_array_equal(outcome.y_train % 5, [[1, 2, 3]] * 8)


def test_a_target_that_is_no_column_is_named(slot: Slot, tmp_path: Path) -> None:
    outcome = split(slot, tmp_path, "data.csv", TABLE.encode(), "target, b, c", "regressor")
    assert outcome.cause == "data_error"
    assert outcome.log_messages.endswith("The CSV has no column 'b', 'c'.")


def test_too_many_classes_are_a_data_error(slot: Slot, tmp_path: Path) -> None:
    table = "a,target\n" + "\n".join(f"{i},{i}" for i in range(13_000)) + "\n"
    outcome = split(slot, tmp_path, "data.csv", table.encode(), "target", "classifier")
    assert (outcome.cause, outcome.log_messages) == (
        "data_error",
        "The split cannot be used: the labels have 10400 classes, and more than 10000 are not predicted.",
    )
    assert split(slot, tmp_path, "data.csv", table.encode(), "target", "estimator").classes is None
