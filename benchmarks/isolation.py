"""What isolation costs: one fold of 150 rows, worker to checked predictions, with and without the restrictions."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from runner import Finished, FoldOutcome, FoldTask, Limits, Slot, SplitOutcome, SplitTask, Zygote

from . import data, peers
from .figures import Figure
from .scratch import scratch_folder

LIMITS = Limits(
    wall_time=60, memory=2_000_000_000, processes=256, log=1_000_000, log_kept=64_000, disk=100_000_000,
    predictions=10_000_000,
)  # fmt: skip
LOGISTIC = """from sklearn.linear_model import LogisticRegression


class Classifier:
    def fit(self, X, y):
        self.clf = LogisticRegression(max_iter=1000).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
"""


def measure(quick: bool) -> Iterator[Figure]:
    repeats, scripts = (20, 3) if quick else (60, 6)
    with scratch_folder() as folder, ExitStack() as stack:
        peers.write_inputs(folder, LOGISTIC)
        zygotes = {name: stack.enter_context(running(folder / name, layers)) for name, layers in LAYERS.items()}
        slots = {name: stack.enter_context(closing(Slot(zygote.new_slot()))) for name, zygote in zygotes.items()}
        task = fold_task(slots["restricted"], folder)
        seconds: dict[str, list[float]] = {name: [] for name in [*slots, "script"]}
        for i in range(repeats):
            for name, slot in slots.items():
                seconds[name].append(time_of(slot, task))
            if i % (repeats // scripts) == 0:
                seconds["script"].append(peers.time_of_script(folder))
    ms = {name: [1000 * value for value in values] for name, values in seconds.items()}
    name = f"150-row fold, worker to predictions, isolation {zygotes['restricted'].isolation}"
    yield Figure(name, "ms", ms["restricted"], "the same without restrictions", ms["open"], ("at most over", 5))
    yield Figure(name, "ms", ms["restricted"], goal=("at most", 60))
    yield Figure(name, "ms", ms["restricted"], "a fresh python", ms["script"], ("ratio at most", 1 / 20))


LAYERS: dict[str, list[str] | None] = {"restricted": None, "open": []}


@contextmanager
def running(scratch: Path, layers: list[str] | None) -> Iterator[Zygote]:
    zygote = Zygote(sys.executable, scratch, layers=layers)
    zygote.start()
    try:
        yield zygote
    finally:
        zygote.stop()


def time_of(slot: Slot, task: FoldTask) -> float:
    """Run the task; return its seconds."""
    start = time.perf_counter()
    outcome = run(slot, task)
    seconds = time.perf_counter() - start
    if outcome.state != "TESTED":
        raise RuntimeError(f"the fold ended in {outcome.cause}: {outcome.log_messages}")
    return seconds


def run(slot: Slot, task: FoldTask | SplitTask) -> FoldOutcome | SplitOutcome:
    slot.start(task)
    while not isinstance(event := slot.receive(), Finished):
        pass
    return event.outcome


def fold_task(slot: Slot, folder: Path) -> FoldTask:
    """Split iris; return the task of a fold of it."""
    with (folder / "iris.csv").open("rb") as csv:
        split = run(
            slot,
            SplitTask(
                "split", {"iris.csv": csv}, "target", ["classifier"], data.HELD_OUT_TEST, data.RANDOM_STATE, LIMITS
            ),
        )
    for name in ("X_train", "X_test"):
        (folder / name).write_bytes(getattr(split, name).read())
    train_is, _ = data.iris_fold()
    submission = folder / "submission"
    submission.mkdir()
    (submission / "classifier.py").write_text(LOGISTIC)
    return FoldTask(
        "fold", ["classifier"], submission, folder / "X_train", folder / "X_test", split.n_train, split.n_test,
        train_is, split.y_train[train_is], split.classes, LIMITS,
    )  # fmt: skip
