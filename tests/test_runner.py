"""The runner on real submissions: the same bits as plain scikit-learn, every end named, nothing left behind."""

import importlib.util
import io
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import users
from sklearn import datasets
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from threadpoolctl import threadpool_limits

from runner import (
    Event,
    Finished,
    FoldOutcome,
    FoldTask,
    Limits,
    Log,
    Progress,
    Slot,
    SlotLost,
    SplitOutcome,
    SplitTask,
    Zygote,
    host,
    wire,
)  # fmt: skip
from runner.task import End, conclude
from servers import wait_until

SUBMISSIONS = Path(__file__).parent / "submissions"
LIMITS = Limits(
    wall_time=60, memory=2_000_000_000, processes=256, log=10_000_000, log_kept=64_000, disk=100_000_000,
    predictions=10_000_000,
)  # fmt: skip


def with_limits(**changes: float) -> Limits:
    return Limits(**{**vars(LIMITS), **changes})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def zygote(scratch: Path) -> Iterator[Zygote]:
    zygote = Zygote(sys.executable, scratch, environ=os.environ, first_uid=users.user(0))
    zygote.start()
    yield zygote
    zygote.stop()


@pytest.fixture(scope="module")
def slot(zygote: Zygote) -> Iterator[Slot]:
    slot = Slot(zygote.new_slot())
    yield slot
    slot.close()


def run(slot: Slot, task: FoldTask | SplitTask) -> tuple[FoldOutcome | SplitOutcome, list[Event]]:
    """Run a task; return its outcome and the events before it."""
    slot.start(task)
    events = []
    while not isinstance(event := slot.receive(timeout=120), Finished):
        assert event is not None, "the slot said nothing for two minutes"
        events.append(event)
    return event.outcome, events


class Data:
    """A data set, split by the runner, with its features where a worker would keep them."""

    def __init__(
        self, slot: Slot, folder: Path, frame: pd.DataFrame, workflow_elements: list[str], target_column: str = "target"
    ) -> None:
        self.frame, self.workflow_elements, self.target_column = frame, workflow_elements, target_column
        csv = io.BytesIO(frame.to_csv(index=False).encode())
        with (folder / "posted.csv").open("w+b") as file:
            file.write(csv.getvalue())
            file.seek(0)
            task = SplitTask("split", {"data.csv": file}, target_column, workflow_elements, 0.2, 42, LIMITS)
            self.split, _events = run(slot, task)
        assert self.split.cause is None, self.split.log_messages
        self.X_train, self.X_test = folder / "X_train", folder / "X_test"
        self.X_train.write_bytes(self.split.X_train.read())
        self.X_test.write_bytes(self.split.X_test.read())
        self.csv = csv

    def task(self, submission: str, train_is: np.ndarray, limits: Limits = LIMITS) -> FoldTask:
        return FoldTask(
            "fold 1", self.workflow_elements, SUBMISSIONS / submission, self.X_train, self.X_test, self.split.n_train,
            self.split.n_test, train_is, self.split.y_train[train_is], self.split.classes, limits,
        )  # fmt: skip


@pytest.fixture(scope="module")
def iris(slot: Slot, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(slot, tmp_path_factory.mktemp("iris"), datasets.load_iris(as_frame=True).frame, ["classifier"])


def with_text_labels() -> pd.DataFrame:
    bunch = datasets.load_iris(as_frame=True)
    return bunch.frame.assign(target=bunch.target_names[bunch.target])


def with_text_features() -> pd.DataFrame:
    words = ["cross", "validation", "fold", "forest", "ridge", "boost"]
    rng = np.random.RandomState(3)
    rows = [(" ".join(rng.choice(words, size=5)), bool(rng.randint(2))) for _ in range(120)]
    return pd.DataFrame(rows, columns=["text", "target"])


def of(load: Callable[..., Any]) -> Callable[[], pd.DataFrame]:
    return lambda: load(as_frame=True).frame


def plain_scikit_learn(
    frame: pd.DataFrame, workflow_elements: list[str], submission: str, train_is: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Do what a fold does with nothing of datarun, and return both predictions."""
    modules = {}
    for name in workflow_elements:
        spec = importlib.util.spec_from_file_location(name, SUBMISSIONS / submission / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    y = frame["target"].to_numpy()
    X = frame.drop(columns="target")
    train, test = train_test_split(np.arange(len(frame)), test_size=0.2, random_state=42)
    np.random.seed(0)
    if "feature_extractor" in modules:
        X_train, X_test, X_fold, y_fold = X.iloc[train], X.iloc[test], X.iloc[train[train_is]], y[train[train_is]]
        extractor = modules["feature_extractor"].FeatureExtractor()
        extractor.fit(X_fold, y_fold)
        X_train, X_test, X_fold = map(extractor.transform, (X_train, X_test, X_fold))
    else:
        X = X.to_numpy()
        X_train, X_test, X_fold, y_fold = X[train], X[test], X[train][train_is], y[train][train_is]
    if "regressor" in modules:
        reg = modules["regressor"].Regressor()
        reg.fit(X_fold, y_fold)
        return reg.predict(X_train), reg.predict(X_test)
    clf = modules["classifier"].Classifier()
    if "calibrator" not in modules:
        clf.fit(X_fold, y_fold)
        return clf.predict_proba(X_train), clf.predict_proba(X_test)
    split = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)
    [(fit_is, calibration_is)] = split.split(X_fold, y_fold)
    clf.fit(X_fold[fit_is], y_fold[fit_is])
    calibrator = modules["calibrator"].Calibrator()
    calibrator.fit(clf.predict_proba(X_fold[calibration_is]), y_fold[calibration_is])
    return tuple(calibrator.predict_proba(clf.predict_proba(X)) for X in (X_train, X_test))


@pytest.mark.parametrize(
    ("load", "elements", "submission"),
    [
        (of(datasets.load_iris), "classifier", "forest"),
        (with_text_labels, "classifier", "logistic_regression"),
        (of(datasets.load_wine), "classifier", "logistic_regression"),
        (of(datasets.load_digits), "classifier", "forest"),
        (of(datasets.load_breast_cancer), "classifier", "logistic_regression"),
        (of(datasets.load_breast_cancer), "feature_extractor classifier", "scaled_and_calibrated"),
        (of(datasets.load_breast_cancer), "feature_extractor classifier calibrator", "scaled_and_calibrated"),
        (of(datasets.load_wine), "feature_extractor classifier calibrator", "scaled_and_calibrated"),
        (with_text_labels, "feature_extractor classifier calibrator", "scaled_and_calibrated"),
        (of(datasets.load_iris), "classifier calibrator", "scaled_and_calibrated"),
        (with_text_features, "feature_extractor classifier", "sparse_text"),
        (of(datasets.load_diabetes), "regressor", "ridge"),
        (of(datasets.load_diabetes), "regressor", "boosting"),
        (of(datasets.load_diabetes), "feature_extractor regressor", "scaled_ridge"),
    ],
)
def test_predictions_equal_plain_scikit_learn_to_the_last_bit(
    slot: Slot, tmp_path: Path, load: Callable[[], pd.DataFrame], elements: str, submission: str
) -> None:
    data = Data(slot, tmp_path, load(), elements.split())
    train_is = np.random.RandomState(1).choice(data.split.n_train, size=data.split.n_train * 2 // 3)  # a bootstrap
    outcome, _events = run(slot, data.task(submission, train_is))
    assert (outcome.state, outcome.cause, outcome.log_messages) == ("TESTED", None, "")
    with threadpool_limits(1):
        frame = pd.read_csv(data.csv)
        full_train_predictions, test_predictions = plain_scikit_learn(frame, elements.split(), submission, train_is)
    np.testing.assert_array_equal(outcome.full_train_predictions, full_train_predictions)
    np.testing.assert_array_equal(outcome.test_predictions, test_predictions)


def test_a_fold_tells_its_states_times_and_memory(slot: Slot, iris: Data) -> None:
    outcome, events = run(slot, iris.task("forest", np.arange(100)))
    assert [event.state for event in events if isinstance(event, Progress)] == ["TRAINED", "VALIDATED"]
    measures = outcome.measures
    assert events[0].measures.train_time == measures.train_time > 0
    assert min(measures.validation_time, measures.test_time, measures.train_cpu_time, measures.test_cpu_time) > 0
    assert measures.train_cpu_time < 2 * measures.train_time + 0.05
    assert 30_000 < measures.train_memory < 1_000_000  # kB
    assert 30_000 < measures.test_memory < 1_000_000


def test_a_class_that_the_fold_lacks_gets_a_column_of_zeros(slot: Slot, iris: Data) -> None:
    without_1 = np.flatnonzero(iris.split.y_train != 1)
    outcome, _events = run(slot, iris.task("forest", without_1))
    assert outcome.test_predictions.shape == (30, 3)
    assert not outcome.test_predictions[:, 1].any()
    np.testing.assert_allclose(outcome.test_predictions.sum(axis=1), 1)


def test_further_files_of_a_submission_lie_beside_it(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("imports_sibling", np.arange(100)))
    assert (outcome.state, outcome.log_messages) == ("TESTED", "")


def test_text_goes_to_the_log(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("prints_and_warns", np.arange(100)))
    assert outcome.state == "TESTED"
    assert outcome.log_messages == (
        "to standard output é\N{REPLACEMENT CHARACTER}\n"
        "to standard error\n"
        "classifier.py:13: UserWarning: a warning\n"
        '  warnings.warn("a warning")\n'
        "WARNING:root:a log record\n"
    )


SMALL = with_limits(wall_time=3, memory=600_000_000, log=1_000_000, disk=20_000_000)

# folder, workflow elements, cause, last sentence of the log
BAD = [
    ("syntax_error", "import_error", "Failed while importing the submission: SyntaxError: expected ':'"),
    (
        "missing_package",
        "import_error",
        "Failed while importing the submission: ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    ),
    (
        "missing_class",
        "train_error",
        "Failed while training: AttributeError: module 'classifier' has no attribute 'Classifier'",
    ),
    (
        "forgets_self",
        "train_error",
        "Failed while training: TypeError: Classifier.fit() takes 2 positional arguments but 3 were given",
    ),
    ("fails_when_fitting", "train_error", "Failed while training: ValueError: 90 rows are not enough"),
    (
        "begins_with_an_empty_line",
        "train_error",
        "Failed while training: LookupError: Resource stopwords not found.",
    ),
    (
        "looks_for_another_machine",
        "train_error",
        "Failed while training: RuntimeError: no data (a fold has no network)",
    ),
    (
        "fails_when_predicting",
        "validation_error",
        "Failed while predicting the training rows: ZeroDivisionError: division by zero",
    ),
    ("recurses", "train_error", "Failed while training: RecursionError: maximum recursion depth exceeded"),
    ("calls_sys_exit", "train_error", "Failed while training: SystemExit: 0"),
    ("raises_keyboard_interrupt", "train_error", "Failed while training: KeyboardInterrupt"),
    (
        "exception_cannot_be_printed",
        "train_error",
        "Failed while training: classifier.Unprintable: <exception str() failed>",
    ),
    ("calls_os_exit", "crashed", "Ended with exit status 0 without a result, while training."),
    ("aborts", "crashed", "Ended by signal 6 (SIGABRT) without a result, while training."),
    ("sleeps_past_limit", "timeout", "Killed after 3 s, the wall-clock limit, while training."),
    ("loops_past_limit", "timeout", "Killed after 3 s, the wall-clock limit, while training."),
    ("stops_itself", "timeout", "Killed after 3 s, the wall-clock limit, while training."),
    ("floods_log", "output", "Killed after 1 MB of output, the limit, while training."),
    ("fills_disk", "output", "Killed at 20 MB of files, the limit, while training."),
    ("fills_memory", "memory", "Out of memory while training: the limit is 600 MB."),
    (
        "wrong_shape",
        "bad_predictions",
        "The predictions of the training rows have the shape (120, 4), expected (120, 3).",
    ),
    (
        "too_few_rows",
        "bad_predictions",
        "The predictions of the training rows have the shape (119, 3), expected (120, 3).",
    ),
    (
        "predicts_nan",
        "bad_predictions",
        "The predictions of the training rows are not finite: nan in row 0, column 0.",
    ),
    ("predicts_text", "bad_predictions", "The predictions are of type <U1, expected an array of numbers."),
    ("predicts_objects", "bad_predictions", "The predictions are of type object, expected an array of numbers."),
    ("predicts_complex", "bad_predictions", "The predictions are of type complex128, expected an array of numbers."),
    ("predicts_nothing", "bad_predictions", "The predictions are a NoneType, expected an array of numbers."),
    ("predicts_sparse", "bad_predictions", "The predictions are a sparse matrix, expected an array of numbers."),
    (
        "predicts_ragged",
        "bad_predictions",
        "The predictions are rows of different lengths, expected an array of numbers.",
    ),
]


@pytest.mark.parametrize(("submission", "cause", "sentence"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_submission_ends_with_its_cause(
    slot: Slot, iris: Data, submission: str, cause: str, sentence: str
) -> None:
    limits = SMALL if cause == "timeout" else with_limits(**{**vars(SMALL), "wall_time": 60})  # for a busy machine
    outcome, _events = run(slot, iris.task(submission, np.arange(90), limits))
    assert (outcome.state, outcome.cause) == ("ERROR", cause)
    assert outcome.log_messages.splitlines()[-1] == sentence
    assert outcome.full_train_predictions is None
    assert outcome.test_predictions is None
    assert len(outcome.log_messages) < 2 * LIMITS.log_kept


def test_a_process_that_ends_before_it_sees_the_submission_is_a_fault_of_ours() -> None:
    assert conclude(End("exit", "load", -9)) == (
        "infrastructure", "Ended by signal 9 (SIGKILL) without a result, while loading the data.",
    )  # fmt: skip
    assert conclude(End("exit", "import", -9))[0] == "crashed"


def test_a_fold_without_the_time_to_load_its_data_is_not_the_submissions_fault(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("forest", np.arange(90), with_limits(wall_time=1e-6)))
    assert (outcome.cause, outcome.log_messages) == (
        "infrastructure", "Killed after 1e-06 s, the wall-clock limit, while loading the data.",
    )  # fmt: skip


@pytest.mark.parametrize("submission", ["forest", "changes_the_flags_of_its_result"])
def test_predictions_beyond_the_limit_are_refused(slot: Slot, iris: Data, submission: str) -> None:
    """The second writes them itself, and says that it is done."""
    outcome, _events = run(slot, iris.task(submission, np.arange(90), with_limits(predictions=3000)))
    assert (outcome.state, outcome.cause) == ("ERROR", "output")
    expected = "The predictions do not fit into 0.003 MB, the limit, while predicting the test rows."
    assert outcome.log_messages.splitlines()[-1] == expected


def test_forged_predictions_of_more_rows_than_memory_holds_are_incomplete(slot: Slot, iris: Data) -> None:
    task = replace(iris.task("forges_gigantic_predictions", np.arange(90)), n_test=2**39)
    outcome, _events = run(slot, task)
    assert (outcome.cause, outcome.log_messages) == (
        "bad_predictions", "The predictions of the test rows are incomplete."
    )  # fmt: skip


@pytest.mark.parametrize(
    "submission",
    ["predicts_lists_of_ints", "predicts_big_endian", "predicts_numbers_as_objects", "never_ends_its_thread"],
)
def test_an_odd_submission_is_tested(slot: Slot, iris: Data, submission: str) -> None:
    outcome, _events = run(slot, iris.task(submission, np.arange(90), SMALL))
    assert (outcome.state, outcome.log_messages) == ("TESTED", "")
    assert outcome.test_predictions.dtype == np.dtype("<f8")


def test_a_call_that_a_submission_refuses_shows_what_was_called(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("forgets_self", np.arange(90)))
    assert outcome.log_messages == (
        "Traceback (most recent call last):\n"
        '  File "classifier.py", line 2, in fit\n'
        "    def fit(X, y):\n"
        "TypeError: Classifier.fit() takes 2 positional arguments but 3 were given\n"
        "Failed while training: TypeError: Classifier.fit() takes 2 positional arguments but 3 were given"
    )


def test_a_traceback_begins_in_the_submission_and_shows_no_path_of_the_machine(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("fails_when_fitting", np.arange(90)))
    assert outcome.log_messages == (
        "Traceback (most recent call last):\n"
        '  File "classifier.py", line 3, in fit\n'
        '    raise ValueError(f"{len(X)} rows are not enough")\n'
        "ValueError: 90 rows are not enough\n"
        "Failed while training: ValueError: 90 rows are not enough"
    )


def test_daemons_of_a_fold_are_dead_when_it_ends(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("leaves_daemons_behind", np.arange(90)))
    assert outcome.state == "TESTED"
    wait_until(lambda: fold_processes() == [], 10, "the folds' processes are gone")


def slot_processes() -> set[psutil.Process]:
    """Return the processes of all slots: the children of the zygote."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {slot for child in living if "runner.zygote" in child.cmdline() for slot in child.children()}


def fold_processes() -> list[psutil.Process]:
    """Return the processes of all folds, each in a session of its own, but for the youngest: it waits for its work."""
    found = []
    for slot in slot_processes():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # that of a task that is over
            others = [p for p in slot.children(recursive=True) if os.getsid(p.pid) != os.getsid(slot.pid)]
            found += sorted(others, key=psutil.Process.create_time)[:-1]
    return found


@pytest.fixture
def second_slot(zygote: Zygote) -> Iterator[tuple[Slot, psutil.Process]]:
    """A slot of the test's own, and its process."""
    others = slot_processes()
    slot = Slot(zygote.new_slot())
    deadline = time.monotonic() + 30
    while not (process := slot_processes() - others):
        assert time.monotonic() < deadline
    yield slot, process.pop()
    slot.close()


def test_one_result_counts_where_a_submission_forks_and_both_return(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("forks_and_returns_twice", np.arange(90)))
    assert outcome.state == "TESTED", outcome
    assert set(outcome.full_train_predictions.flat) == {1 / 8}
    assert set(outcome.test_predictions.flat) == {2 / 8}


def test_the_next_fold_is_right_after_a_bad_one_and_scratch_is_empty(slot: Slot, iris: Data, scratch: Path) -> None:
    first, _events = run(slot, iris.task("forest", np.arange(90)))
    run(slot, iris.task("fills_disk", np.arange(90), SMALL))
    second, _events = run(slot, iris.task("forest", np.arange(90)))
    np.testing.assert_array_equal(first.test_predictions, second.test_predictions)
    assert [path for path in scratch.iterdir() if not path.name.startswith("slot-")] == []
    wait_until(
        lambda: not files_in(scratch.glob("slot-*[0-9]")), 10, "the folders of those who wait for work are empty"
    )


def files_in(folders: Iterable[Path]) -> list[str]:
    return [name for folder in folders for _folder, _folders, files in os.walk(folder) for name in files]


def test_a_running_fold_can_be_stopped(slot: Slot, iris: Data) -> None:
    slot.start(iris.task("sleeps_past_limit", np.arange(90)))
    slot.stop("cancelled")
    event = slot.receive(timeout=60)
    assert isinstance(event, Finished)
    assert (event.outcome.state, event.outcome.cause) == ("ERROR", "cancelled")
    wait_until(lambda: fold_processes() == [], 10, "the folds' processes are gone")


def start_flood(slot: Slot, iris: Data) -> None:
    """Start a fold that never ends, and return once it runs."""
    slot.start(iris.task("floods_log", np.arange(90), with_limits(log=10**12)))
    while not isinstance(slot.receive(timeout=60), Log):
        pass


def supervisor_of(stem: psutil.Process) -> psutil.Process:
    """The first that a stem has forked."""
    return min(stem.children(), key=psutil.Process.create_time)


@pytest.mark.parametrize("victim", ["stem", "supervisor"])
def test_a_slot_that_is_killed_is_lost_and_its_fold_dies_with_it(
    second_slot: tuple[Slot, psutil.Process], iris: Data, victim: str
) -> None:
    slot, stem = second_slot
    start_flood(slot, iris)
    processes = [stem, *stem.children(recursive=True)]
    (stem if victim == "stem" else supervisor_of(stem)).kill()
    with pytest.raises(SlotLost):
        while slot.receive(timeout=60):
            pass
    _gone, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_slot_that_stands_still_when_it_is_to_take_a_large_task_is_lost(
    second_slot: tuple[Slot, psutil.Process], iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, stem = second_slot
    run(slot, iris.task("logistic_regression", np.arange(90)))
    supervisor_of(stem).suspend()
    monkeypatch.setattr(host, "HANDOVER", 0.1)
    task = iris.task("logistic_regression", np.arange(90))
    with pytest.raises(SlotLost):
        slot.start(replace(task, classes=[f"a class of a long name, the {i}." for i in range(10_000)]))


def test_a_slot_that_stands_still_in_the_middle_of_a_message_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "HANDOVER", 0.1)
    ours, theirs = socket.socketpair()
    with theirs, closing(Slot(ours)) as slot:
        theirs.sendall(wire.pack({"log": "line\n" * 100})[:-1])
        with pytest.raises(SlotLost):
            slot.receive(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what a process that is not dumpable has open")
def test_a_supervisor_keeps_nothing_of_its_tasks_open(second_slot: tuple[Slot, psutil.Process], iris: Data) -> None:
    slot, stem = second_slot
    submissions = ["logistic_regression", "calls_sys_exit"] * 20 + ["forks_without_end"]
    before = {}
    for submission in submissions:
        run(slot, iris.task(submission, np.arange(90), with_limits(wall_time=2)))
        for process in (stem, supervisor_of(stem)):
            before.setdefault(process, process.num_fds())
    for process, number in before.items():
        assert process.num_fds() < number + len(submissions) / 2


def test_a_fold_dies_with_its_worker(second_slot: tuple[Slot, psutil.Process], iris: Data) -> None:
    slot, process = second_slot
    start_flood(slot, iris)
    processes = [process, *process.children(recursive=True)]
    slot.close()
    _gone, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_slot_ends_with_its_worker_though_its_supervisor_stands_still(
    second_slot: tuple[Slot, psutil.Process], iris: Data, scratch: Path
) -> None:
    slot, stem = second_slot
    start_flood(slot, iris)
    [folder] = {Path(process.cwd()).parent for process in stem.children() if process.cwd().endswith("submission")}
    processes = [stem, *stem.children(recursive=True)]
    supervisor_of(stem).suspend()
    slot.close()
    _gone, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []
    assert not folder.exists()


def test_a_slot_that_cannot_be_forked_yet_is_forked_later(
    iris: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the machine has no room for another, the zygote goes on, and all slots that there are."""
    zygote = Zygote(sys.executable, tmp_path, environ=os.environ, first_uid=users.user(0))
    zygote.start()
    lock = tmp_path / "slot-0.lock"
    lock.mkdir()  # stands for any error of the system
    slot = Slot(zygote.new_slot())
    said = ""
    while "no slot yet: " not in said:
        said += capfd.readouterr().err
        assert zygote.poll() is None
    lock.rmdir()
    outcome, _events = run(slot, iris.task("logistic_regression", np.arange(90)))
    assert outcome.state == "TESTED"
    slot.close()
    zygote.stop()


def test_an_interpreter_without_the_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="cannot run submissions"):
        Zygote("/bin/false", tmp_path).start()


def test_a_split_follows_train_test_split(slot: Slot, tmp_path: Path) -> None:
    data = Data(slot, tmp_path, datasets.load_iris(as_frame=True).frame, ["classifier"])
    train, test = train_test_split(np.arange(150), test_size=0.2, random_state=42)
    np.testing.assert_array_equal(data.split.split_is, np.concatenate([train, test]))
    np.testing.assert_array_equal(data.split.y_train, data.frame["target"].to_numpy()[train])
    assert (data.split.n_train, data.split.n_test, data.split.classes) == (120, 30, [0, 1, 2])


@pytest.mark.parametrize(
    ("csv", "sentence"),
    [
        (b"", "The CSV cannot be read: No columns to parse from file"),
        (b"a,b\n1,2\n3,4\n", "The CSV has no column 'target'."),
        (b"a,target\n1,x\n2,\n3,y\n4,\n", "2 labels are missing; the first is in row 1."),
        (
            b"a,target\n1,x\n",
            "The 1 rows cannot be split: With n_samples=1, test_size=0.2 and train_size=None, the resulting train "
            "set will be empty. Adjust any of the aforementioned parameters.",
        ),
    ],
)
def test_a_csv_that_cannot_be_split_is_a_data_error(slot: Slot, tmp_path: Path, csv: bytes, sentence: str) -> None:
    with (tmp_path / "data.csv").open("w+b") as file:
        file.write(csv)
        file.seek(0)
        outcome, _events = run(slot, SplitTask("split", {"data.csv": file}, "target", ["classifier"], 0.2, 42, LIMITS))
    assert outcome.cause == "data_error"
    assert outcome.log_messages.endswith(sentence)


def test_an_outcome_of_a_fold_is_complete(slot: Slot, iris: Data) -> None:
    outcome, _events = run(slot, iris.task("forest", np.arange(90)))
    assert isinstance(outcome, FoldOutcome)
    assert outcome.full_train_predictions.shape == (120, 3)
    assert outcome.test_predictions.shape == (30, 3)
