"""The hostile suite: each submission of strangers ends as it must, and the next fold finds nothing of it.

One folder of `submissions/` and one row each, run at every level of isolation that the machine gives, by a stand-in of
the worker (hostile_worker.py) that holds credentials and labels and listens on sockets.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import sandbox
from servers import DIES_WITH_PARENT

ROOT = os.geteuid() == 0
WORKER = Path(__file__).with_name("hostile_worker.py")
DEADLINE = 120  # seconds for one submission
GRACE = 5  # seconds from a limit to the told end, on a busy machine; the processes are dead within one

LEVELS = ("root", "ordinary", "dyno", "older", "bare")
OF_A_LEVEL = {"older": "partial", "bare": "none"}  # the others are strong
RESTRICTED = ("root", "ordinary", "dyno")  # where a fold restricts itself
EVERYWHERE = ("root", "ordinary", "bare")  # for what supervision stops: "dyno" has fewer layers than the first two
BOTH_ENDS = ("root", "bare")  # for what no layer has a part in


@dataclass(frozen=True)
class Row:
    """A submission and its end: `ends` are (cause, last sentence), any one of them; TESTED without a cause."""

    submission: str
    ends: tuple[tuple[str | None, str], ...]
    levels: Collection[str] = EVERYWHERE
    limits: Mapping[str, float] = field(default_factory=dict)
    data: str = "iris"
    neighbour: str | None = None
    log: str | None = None  # the whole log, where it is told


def fine(submission: str, log: str | None = "", **options: Any) -> Row:
    return Row(submission, ((None, ""),), log=log, **options)


def ends(submission: str, *cause_and_sentence: str | None, **options: Any) -> Row:
    pairs = tuple(zip(cause_and_sentence[::2], cause_and_sentence[1::2], strict=True))
    return Row(submission, pairs, **options)


def timeout(submission: str, *others: str, wall_time: float = 1.0, **options: Any) -> Row:
    sentence = f"Killed after {wall_time:g} s, the wall-clock limit, while training."
    return ends(submission, "timeout", sentence, *others, limits={"wall_time": wall_time}, **options)


def little(submission: str, **options: Any) -> Row:
    """Fill what the kernel keeps for a fold of little memory."""
    options = {"levels": ("root", "ordinary"), "limits": {"memory": 150_000_000}, **options}
    return ends(submission, *LITTLE_MEMORY, **options)


def bad(submission: str, sentence: str) -> Row:
    return ends(submission, "bad_predictions", sentence, levels=BOTH_ENDS)


def harmless(submission: str) -> Row:
    return fine(submission, levels=BOTH_ENDS)


def kind(submission: str, what: str) -> Row:
    return bad(submission, f"The predictions are {what}, expected an array of numbers.")


MEMORY = ("memory", "Killed at 600 MB of memory, the limit, while training.")
LITTLE_MEMORY = ("memory", "Killed at 150 MB of memory, the limit, while training.")
OUT_OF_MEMORY = ("memory", "Out of memory while training: the limit is 600 MB.")
WHEN_PREDICTING = ("memory", "Out of memory while predicting the training rows: the limit is 600 MB.")
KILLED_WHEN_PREDICTING = ("memory", "Killed at 600 MB of memory, the limit, while predicting the training rows.")
DISK = ("output", "Killed at 20 MB of files, the limit, while training.")
FILES = ("output", "Killed at 20000 files, the limit, while training.")
FILES_LATER = (  # they are counted after a while
    "output", "Killed at 20000 files, the limit, while predicting the training rows.",
    "output", "Killed at 20000 files, the limit, while predicting the test rows.",
)  # fmt: skip
CRASHED = ("crashed", "Ended with exit status 0 without a result, while training.")

ROWS = [
    # processes and time
    timeout("forks_without_end", *MEMORY),
    timeout("forks_in_new_sessions", *MEMORY),
    ends(
        "starts_threads_without_end", "train_error", "Failed while training: RuntimeError: can't start new thread",
        levels=RESTRICTED,
    ),
    timeout("hands_on_without_end", levels=BOTH_ENDS),
    timeout("wakes_what_is_stopped", *MEMORY),
    timeout("loops_in_c"),
    timeout("swallows_every_exception"),
    timeout("ignores_signals"),
    timeout("stops_itself"),
    timeout("execs_another_program"),
    timeout("kills_all_at_once", levels=RESTRICTED),
    ends(
        "burns_cpu_time", "timeout", "Killed after 0.5 s of CPU time, the limit, while training.",
        limits={"cpu_time": 0.5},
    ),
    ends(
        "burns_cpu_time_in_threads", "timeout", "Killed after 0.5 s of CPU time, the limit, while training.",
        limits={"cpu_time": 0.5},
    ),
    timeout("wakes_without_end", *MEMORY, levels=RESTRICTED),
    ends(
        "burns_cpu_time_in_children_that_nobody_waits_for", "timeout",
        "Killed after 0.5 s of CPU time, the limit, while training.", limits={"cpu_time": 0.5}, levels=BOTH_ENDS,
    ),
    ends(
        "burns_cpu_time_in_short_lives", "timeout", "Killed after 0.5 s of CPU time, the limit, while training.",
        limits={"cpu_time": 0.5}, levels=BOTH_ENDS,
    ),
    fine("never_ends_its_thread"),
    fine("leaves_daemons_behind", levels=("root", "ordinary")),
    fine("leaves_daemons_behind", levels=("bare",), limits={"memory": 2_000_000_000}),  # what is shared is not seen
    fine("looks_like_one_of_ours"),
    fine("looks_for_its_supervisor", levels=("root", "ordinary")),
    fine("names_its_processes_oddly"),
    fine("holds_the_log_open", log=None),
    # memory
    ends("fills_memory", *OUT_OF_MEMORY, *MEMORY),
    ends("fills_memory_by_private_maps", *OUT_OF_MEMORY, *MEMORY),
    ends("fills_memory_by_shared_maps", *MEMORY),
    ends("fills_memory_by_shared_maps_that_it_leaves", *MEMORY, levels=("root",)),
    ends("fills_memory_by_page_tables", *MEMORY, levels=BOTH_ENDS),
    ends("hides_page_tables", *MEMORY, levels=BOTH_ENDS),
    little("fills_memory_by_records_of_maps"),
    little("fills_memory_by_buffers_of_proc"),
    little("fills_memory_by_buffers_of_sys"),
    little("fills_memory_by_what_locks_tell"),
    little("fills_memory_by_open_folders"),
    little("fills_memory_by_locks_of_pipes"),
    little("fills_memory_behind_what_many_share", levels=("root",)),
    ends("fills_memory_from_process_to_process", *MEMORY, levels=("root",)),
    little("fills_memory_by_watches"),
    little("fills_memory_by_locks"),
    little("fills_memory_by_chains_of_maps"),
    little("fills_memory_by_maps_of_open_files"),
    little("fills_memory_by_shared_maps_behind_a_dead_main_thread", levels=("root",)),
    ends("fills_memory_by_sockets", *MEMORY, levels=("root", "ordinary")),
    ends("fills_memory_by_children", *MEMORY),
    ends("fills_memory_by_maps_of_children", *MEMORY),
    ends("holds_up_looks_at_its_memory", *MEMORY, levels=("root", "ordinary")),
    ends("has_a_dead_main_thread", *MEMORY),
    ends(
        "fills_shared_memory", "train_error", "Failed while training: OSError: [Errno 28] No space left on device",
        levels=("root", "ordinary"),
    ),
    little("holds_memory_in_young_processes"),
    ends(
        "fills_memory_by_memfd", "train_error", "Failed while training: OSError: [Errno 38] Function not implemented",
        levels=RESTRICTED,
    ),
    ends(
        "fills_memory_by_policies", "train_error",
        "Failed while training: PermissionError: [Errno 1] Operation not permitted", levels=RESTRICTED,
    ),
    ends("fills_memory_beside_shared_memory", *MEMORY, levels=("root", "ordinary")),
    ends(
        "fills_memory_by_pipes", "train_error", "Failed while training: OSError: [Errno 38] Function not implemented",
        levels=RESTRICTED,
    ),
    ends(
        "fills_memory_by_sent_files", "train_error",
        "Failed while training: OSError: [Errno 38] Function not implemented", levels=RESTRICTED,
    ),
    fine("fills_memory_by_its_input_files", levels=RESTRICTED),
    ends(
        "sends_descriptors_without_end", "train_error",
        "Failed while training: PermissionError: [Errno 1] Operation not permitted", levels=RESTRICTED,
    ),
    # log and files
    ends("floods_log", "output", "Killed after 1 MB of output, the limit, while training."),
    ends("floods_log_without_newlines", "output", "Killed after 1 MB of output, the limit, while training."),
    ends("fills_disk", *DISK),
    ends(
        "writes_through_to_the_disk", "train_error",
        "Failed while training: OSError: [Errno 22] Invalid argument: 'slow'", levels=RESTRICTED,
    ),
    ends("fills_disk_by_its_result", *DISK, limits={"predictions": 1_000_000}),
    ends("fills_disk_by_running_programs", *DISK, levels=("root", "ordinary")),
    ends("fills_disk_in_folders_that_move", *DISK),
    ends("leaves_folders_above_what_is_open", *FILES, *DISK, levels=("root", "ordinary")),
    ends("fills_inodes", *FILES),
    ends("fills_disk_by_removed_files", *DISK, levels=("root", "ordinary")),
    ends("fills_disk_behind_a_dead_main_thread", *DISK, levels=("root", "ordinary")),
    ends("fills_disk_by_maps_of_removed_files", *DISK, levels=("root",)),
    ends("fills_disk_by_removed_folders", *DISK, levels=("root", "ordinary")),
    ends("fills_disk_below_vanishing_files", *DISK, levels=BOTH_ENDS),
    ends("fills_disk_in_a_folder_that_nobody_lists", *DISK, *FILES),
    ends("fills_disk_far_below", *DISK, *FILES),
    ends(
        "opens_descriptors_without_end", "train_error", "Failed while training: OSError: [Errno 24] Too many open files"
    ),
    timeout("opens_descriptors_in_many_processes", *MEMORY, levels=BOTH_ENDS),
    ends("leaves_odd_files", None, "", *FILES),  # a closed folder counts as too many, where it is seen in time
    ends("leaves_deep_folders", *FILES, *FILES_LATER, None, "", limits={"wall_time": 10}),
    ends("makes_folders_closed_to_itself", None, "", *FILES),
    fine("removes_its_folders"),
    fine("moves_its_folder", levels=("bare",)),
    fine("puts_a_link_in_the_place_of_its_folder"),
    fine("makes_files_while_it_is_wiped"),
    fine("leaves_files_everywhere", levels=RESTRICTED),
    # ends
    ends("exits_at_import", "crashed", "Ended with exit status 0 without a result, while importing the submission."),
    ends(
        "raises_system_exit_at_import", "import_error", "Failed while importing the submission: SystemExit: 0"
    ),
    ends(
        "raises_keyboard_interrupt_at_import", "import_error",
        "Failed while importing the submission: KeyboardInterrupt",
    ),
    ends("calls_os_exit", *CRASHED),
    ends("calls_sys_exit", "train_error", "Failed while training: SystemExit: 0"),
    ends("raises_keyboard_interrupt", "train_error", "Failed while training: KeyboardInterrupt"),
    ends(
        "exits_when_predicting", "crashed",
        "Ended with exit status 0 without a result, while predicting the training rows.",
    ),
    ends(
        "raises_system_exit_when_predicting", "validation_error",
        "Failed while predicting the training rows: SystemExit: 0",
    ),
    ends(
        "raises_keyboard_interrupt_when_predicting", "validation_error",
        "Failed while predicting the training rows: KeyboardInterrupt",
    ),
    ends("aborts", "crashed", "Ended by signal 6 (SIGABRT) without a result, while training."),
    ends("segfaults", "crashed", "Ended by signal 11 (SIGSEGV) without a result, while training."),
    ends("overflows_the_c_stack", "crashed", "Ended by signal 11 (SIGSEGV) without a result, while training."),
    ends("recurses", "train_error", "Failed while training: RecursionError: maximum recursion depth exceeded"),
    ends(
        "exception_cannot_be_printed", "train_error",
        "Failed while training: classifier.Unprintable: <exception str() failed>",
    ),
    ends(
        "raises_an_exception_of_1_gb",
        "train_error",
        "Failed while training: classifier.Huge: <exception str() failed>",
        *MEMORY,
    ),
    ends("raises_a_long_exception", "train_error", f"Failed while training: ValueError: {'x' * 488}"),
    ends(
        "raises_an_exception_that_no_database_holds",
        "train_error",
        "Failed while training: ValueError: \N{REPLACEMENT CHARACTER} ?",
    ),
    ends(
        "raises_an_exception_with_a_hostile_class",
        "train_error",
        "Failed while training: <unknown>.Nameless: <exception str() failed>",
    ),
    # predictions of every wrong kind
    bad(
        "predicts_four_dimensions",
        "The predictions of the training rows have the shape (120, 3, 1, 1), expected (120, 3).",
    ),
    bad("predicts_one_dimension", "The predictions of the training rows have the shape (120,), expected (120, 3)."),
    bad("predicts_one_number", "The predictions of the training rows have the shape (), expected (120, 3)."),
    bad("predicts_no_rows", "The predictions of the training rows have the shape (0, 3), expected (120, 3)."),
    bad("predicts_infinity", "The predictions of the training rows are not finite: inf in row 7, column 2."),
    bad("predicts_overflow", "The predictions of the training rows are not finite: inf in row 0, column 0."),
    bad(
        "predicts_overflow_and_has_it_raised",
        "The predictions of the training rows are not finite: inf in row 0, column 0.",
    ),
    bad(
        "predicts_huge_integers",
        "The predictions hold a number that is too large, expected numbers that a float64 holds.",
    ),
    bad("predicts_nan", "The predictions of the training rows are not finite: nan in row 0, column 0."),
    ends(
        "predicts_lazily_and_fails", "validation_error",
        "Failed while predicting the training rows: ValueError: nothing was computed", levels=BOTH_ENDS,
    ),
    kind("predicts_datetimes", "of type datetime64[s]"),
    kind("predicts_timedeltas", "of type timedelta64[s]"),
    kind("predicts_structures", "of type [('p', '<f8')]"),
    kind("predicts_bytes", "of type |S8"),
    kind("predicts_a_generator", "a generator"),
    kind("predicts_a_dictionary", "a dict"),
    kind("predicts_sparse", "a sparse matrix"),
    kind("predicts_masked_values", "masked in places"),
    kind("predicts_text", "of type <U1"),
    kind("predicts_complex", "of type complex128"),
    ends("predicts_a_gigantic_view", *WHEN_PREDICTING, *KILLED_WHEN_PREDICTING),
    ends("predicts_a_sequence_without_end", *WHEN_PREDICTING, *KILLED_WHEN_PREDICTING),
    ends(
        "predicts_more_than_the_limit",
        "output",
        "The predictions do not fit into 10 MB, the limit, while predicting the training rows.",
        levels=RESTRICTED,
    ),
    ends(
        "allows_itself_no_files", "validation_error",
        "Failed while predicting the training rows: OSError: [Errno 27] File too large", levels=BOTH_ENDS,
    ),
    harmless("predicts_with_a_hostile_subclass"),
    harmless("predicts_integers"),
    harmless("predicts_booleans"),
    harmless("predicts_single_precision"),
    harmless("predicts_half_precision"),
    harmless("predicts_long_doubles"),
    harmless("predicts_big_endian"),
    harmless("predicts_lists_of_ints"),
    harmless("predicts_in_fortran_order"),
    harmless("predicts_with_strides"),
    harmless("predicts_read_only_views"),
    harmless("predicts_a_frame"),
    harmless("keeps_state_between_predictions"),
    # the way of the results
    fine("forges_garbage"),
    fine("forges_a_fault_of_ours"),
    ends("forges_a_fault_in_the_first_phase", "train_error", "Failed while training: x"),
    ends("forges_a_fault_of_its_data_set", "train_error", "Failed while training: x", levels=BOTH_ENDS),
    bad("forges_an_empty_sentence", "The predictions are no array of numbers."),
    bad("forges_a_sentence_that_no_database_holds", "\N{REPLACEMENT CHARACTER} ?"),
    ends(
        "forges_facts_of_great_depth", "crashed",
        "Ended with exit status 0 without a result, while predicting the training rows.",
    ),
    bad("forges_a_shape", "The predictions of the training rows have no shape, expected (120, 3)."),
    bad("forges_results_without_any", "The predictions of the training rows are incomplete."),
    fine("changes_the_flags_of_its_result", levels=BOTH_ENDS),
    ends("forges_its_start", *MEMORY, levels=("bare",)),
    timeout("floods_marks"),
    timeout("floods_marks_without_newlines"),
    ends("closes_its_descriptors", *CRASHED),
    ends("leaves_answers_unread", *CRASHED),
    ends("writes_to_every_descriptor", *CRASHED, levels=RESTRICTED),
    ends("patches_json", *CRASHED),
    ends("patches_everything", "crashed", "Ended with exit status 1 without a result, while training."),
    fine("hides_modules"),
    fine("leaves_state_in_modules"),
    # labels, credentials, others
    fine("looks_for_labels", data="marked"),
    ends(
        "tells_its_labels", "validation_error",
        "Failed while predicting the training rows: ValueError: secret-of-an-earlier-fold-1234", data="marked",
    ),
    fine("looks_for_earlier_folds", levels=LEVELS),
    fine("reads_environment", levels=RESTRICTED),
    fine("reads_memory_of_others", levels=RESTRICTED),
    fine("reads_files_of_others", levels=RESTRICTED),
    fine("changes_files_of_others", levels=RESTRICTED),
    fine("attacks_its_neighbour", levels=RESTRICTED, neighbour="waits_as_a_neighbour"),
    fine("kills_every_process", levels=RESTRICTED),
    fine("stops_its_supervisor", levels=(*RESTRICTED, "older")),
    fine("stops_the_next_fold", levels=("older",), limits={"memory": 2_000_000_000}),  # as the next one has
    fine("asks_what_others_have_read", levels=RESTRICTED),
    fine("reaches_the_network", levels=RESTRICTED),
    fine("seeks_privileges", levels=RESTRICTED),
    # honest
    fine("starts_many_short_programs", levels=BOTH_ENDS),
    fine("starts_programs_beside_large_memory", limits={"memory": 300_000_000}),
    fine("starts_a_program_that_begins_slowly", levels=("root", "ordinary")),
    fine("leaves_programs_to_nobody", levels=("root", "ordinary"), limits={"processes": 256}),  # reaped at each look
    fine("handles_files_by_programs", levels=RESTRICTED, log="told\n"),
    fine("hands_files_to_others", levels=RESTRICTED),
    fine("runs_python_by_its_name", levels=RESTRICTED),
    fine("forks_a_pool", levels=("root", "ordinary"), limits={"memory": 300_000_000}),
    fine("needs_parallel_workers", levels=("root", "ordinary"), limits={"wall_time": 60, "memory": 4_000_000_000}),
]  # fmt: skip


class Worker:
    """A stand-in of the worker at one level, in a process of its own."""

    def __init__(self, level: str, folder: Path) -> None:
        folder.chmod(0o711)
        self._process = subprocess.Popen(
            [*DIES_WITH_PARENT, sys.executable, str(WORKER), level, str(folder)],
            env=os.environ | {"PYTHONPATH": str(WORKER.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.isolation = self._answer()["isolation"]

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self) -> dict[str, Any]:
        line = self._answers.get(timeout=DEADLINE)
        assert line, "the worker has ended"
        return json.loads(line)

    def run(self, row: Row) -> dict[str, Any]:
        request = {
            "submission": row.submission, "data": row.data, "limits": dict(row.limits), "neighbour": row.neighbour
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Kill it; its zygote ends with it, and the slots and folds with that."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    """The workers that have been started, by level: one serves all rows of its level, until it is lost."""
    started: dict[str, Worker] = {}
    yield started
    for worker in started.values():
        worker.stop()


@pytest.fixture
def worker(request: pytest.FixtureRequest, workers: dict[str, Worker], tmp_path: Path) -> Worker:
    level = request.param
    if level not in workers or workers[level].ended():
        workers[level] = Worker(level, tmp_path)
    return workers[level]


def cases() -> list[Any]:
    """Return (level, row) in an order that lets one worker serve all rows of a level."""
    levels = LEVELS if ROOT else [level for level in LEVELS if level != "root"]
    levels = levels if sandbox.LINUX else ["bare"]
    return [
        pytest.param(level, row, id=f"{level}-{row.submission}")
        for level in levels
        for row in ROWS
        if level in row.levels
    ]


@pytest.mark.parametrize(("worker", "row"), cases(), indirect=["worker"])
def test_a_hostile_submission_hurts_its_own_fold_alone(worker: Worker, row: Row) -> None:
    answer = worker.run(row)
    log = answer["log"]
    end = (answer["cause"], log.splitlines()[-1] if answer["cause"] and log else "")
    assert end in row.ends, log
    assert answer["state"] == ("TESTED" if answer["cause"] is None else "ERROR")
    if row.log is not None:
        assert log == row.log
    if answer["cause"] == "timeout":
        assert answer["seconds"] < min(row.limits.values()) + GRACE
    assert answer["left"] == []
    assert answer["processes"] == []
    assert answer["next_is_right"]
    assert answer["worker_alive"]
    assert answer["neighbour"] == (["cancelled"] if row.neighbour else [])


@pytest.mark.parametrize(
    ("worker", "level"),
    [pytest.param(level, OF_A_LEVEL.get(level, "strong"), id=level) for level in LEVELS if level != "root" or ROOT],
    indirect=["worker"],
)  # fmt: skip
@pytest.mark.skipif(not sandbox.LINUX, reason="needs Linux")
def test_level_is_told(worker: Worker, level: str) -> None:
    assert worker.isolation == level
