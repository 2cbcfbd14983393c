import errno
import fcntl
import math
import mmap
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restricted import ROOT, SETUPS, SLOT, Bench, in_setup, needs_every_layer, needs_linux, needs_root

from runner import look, sandbox
from runner.host import OVERSEE
from runner.sandbox import leftovers, process, seccomp
from runner.sandbox.system import prctl, syscall

pytestmark = needs_linux
CHECKOUT = Path(sandbox.__file__).parents[2]
MB = 1024**2
PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS = 3, 39


# What an honest submission needs


def threads_of_joblib() -> None:
    from joblib import Parallel, delayed

    assert Parallel(n_jobs=2, prefer="threads")(delayed(abs)(-i) for i in range(50)) == list(range(50))


def processes_of_loky() -> None:
    """Memory maps, and a grid search on all cores: by the same processes, which take seconds to start."""
    import numpy as np
    from joblib import Parallel, delayed
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    rows = np.ones(500_000)
    assert Parallel(n_jobs=-1)(delayed(np.sum)(rows) for _ in range(4)) == [500_000.0] * 4
    X = np.random.default_rng(0).normal(size=(200, 3))
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=3, n_jobs=-1).fit(X, X[:, 0] > 0)
    assert search.best_score_ > 0.9


def estimators_with_openmp() -> None:
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    X = np.random.default_rng(0).normal(size=(2000, 5))
    y = X[:, 0] > 0
    assert HistGradientBoostingClassifier(max_iter=10).fit(X, y).score(X, y) > 0.9
    assert RandomForestClassifier(20, n_jobs=-1).fit(X, y).score(X, y) > 0.9
    assert len(KMeans(3, n_init=1).fit(X).cluster_centers_) == 3


def pool_of_processes() -> None:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))


def queues_locks_and_shared_memory() -> None:
    import multiprocessing
    from multiprocessing.shared_memory import SharedMemory

    context = multiprocessing.get_context("fork")
    queue, lock, array = context.Queue(), context.Lock(), context.Array("d", 10)
    with lock:
        array[3] = 7.0
    worker = context.Process(target=lambda: queue.put(array[3]))
    worker.start()
    assert queue.get(timeout=20) == 7.0
    worker.join()
    memory = SharedMemory(create=True, size=4096)
    memory.buf[0] = 1
    memory.close()
    memory.unlink()


def files_and_memory_maps() -> None:
    import shutil
    import sqlite3
    import tempfile
    import zipfile

    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.dat")
        np.memmap(path, dtype="float64", mode="w+", shape=(1000,))[:] = 2.0
        assert np.memmap(path, dtype="float64", mode="r").sum() == 2000.0
        shutil.copytree(folder, folder + "/copy")
        shutil.copy2(path, path.with_name("again"))
        path.with_name("again").touch()
        path.with_name("new").touch()
        assert path.with_name("new").exists()
        path.rename(Path(folder, "copy", "moved"))
        with zipfile.ZipFile(Path(folder, "rows.zip"), "w") as archive:
            archive.write(Path(folder, "copy", "moved"))
        with sqlite3.connect(Path(folder, "rows.sqlite")) as connection:
            connection.execute("create table rows (x)")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")


def imports_that_come_late() -> None:
    import asyncio
    import logging
    import ssl  # noqa: F401
    import warnings

    import sklearn.manifold
    import sklearn.mixture  # noqa: F401

    async def nothing() -> int:
        await asyncio.sleep(0)
        return 1

    assert asyncio.run(nothing()) == 1
    warnings.warn("harmless", stacklevel=1)
    logging.getLogger().warning("harmless")


def the_interpreter_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import numpy; print(numpy.ones(3).sum())"], capture_output=True, text=True
    )
    assert done.stdout == "3.0\n", done.stderr


def facts_about_the_machine() -> None:
    import platform

    import psutil

    assert platform.platform()
    assert psutil.virtual_memory().total
    assert psutil.Process().memory_info().rss
    assert os.sched_getaffinity(0)


HONEST: list[Callable[[], None]] = [
    threads_of_joblib, processes_of_loky, estimators_with_openmp, pool_of_processes, queues_locks_and_shared_memory,
    files_and_memory_maps, imports_that_come_late, the_interpreter_again, facts_about_the_machine,
]  # fmt: skip


def run_honest(bench: Bench, layers: list[str]) -> dict[str, Any]:
    import joblib  # noqa: F401
    import sklearn.ensemble  # noqa: F401  but nothing is computed here: OpenMP would hang in the children

    def left() -> list[str]:
        user = os.getuid() if bench.uid is None else bench.uid
        return [path.name for path in leftovers.owned(Path("/dev/shm"), user) if path.stat().st_ctime >= began]

    began = time.time()
    limits = {"cpu": 60, "memory": 4096 * MB, "processes": 256, "file_size": 1024 * MB}
    results = {function.__name__: bench.restricted(function, layers, **limits) for function in HONEST}
    sandbox.sweep_shared_memory(began, math.inf) if bench.uid is None else sandbox.sweep_user(bench.uid)
    return {name: result["error"] or result["status"] for name, result in results.items()} | {"left": left()}


@pytest.mark.parametrize(
    ("setup", "layers"),
    [
        pytest.param("root", "all", marks=needs_root),
        ("ordinary", "all"),
        ("ordinary", "no namespaces"),
    ],
)
def test_honest_needs_are_met(setup: str, layers: str, tmp_path: Path) -> None:
    names = {
        "all": list(sandbox.LAYERS),
        "no namespaces": [name for name in sandbox.LAYERS if name not in ("network", "shm", "traces")],
    }
    assert in_setup(setup, tmp_path, run_honest, names[layers]) == {"left": []} | {
        function.__name__: 0 for function in HONEST
    }


# What is forbidden fails with an error

TABLES = [seccomp.REFUSED, seccomp.ABSENT, seccomp.UNSUPPORTED, seccomp.PRETENDED]


def errors_of_forbidden_calls(bench: Bench) -> dict[str, Any]:
    column, _audit = seccomp.ARCHITECTURES[os.uname().machine]

    def attempt() -> dict[str, str]:
        errors = {}
        for table in TABLES:
            for name, row in table.items():
                if row[column] is not None:
                    errors[name] = error_of(lambda number=row[column]: syscall(number, -1, 0, 0, 0, 0, 0))
        return errors

    return bench.restricted(attempt)


def error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""


@pytest.mark.parametrize("setup", SETUPS)
def test_refused_calls_fail_and_do_not_kill(setup: str, tmp_path: Path) -> None:
    result = in_setup(setup, tmp_path, errors_of_forbidden_calls)
    column, _audit = seccomp.ARCHITECTURES[os.uname().machine]
    assert result["value"] == {
        name: error
        for table, error in zip(TABLES, ("EPERM", "ENOSYS", "ENOTSUP", ""), strict=True)
        for name, row in table.items()
        if row[column] is not None
    }
    assert result["status"] == 0


def errors_by_argument(bench: Bench) -> dict[str, Any]:
    def attempt() -> dict[str, str]:
        stream, file = socket.socketpair(), os.open(os.__file__, os.O_RDONLY)
        new_user, parent = 0x10000000, 0x8000
        x32, unknown = 0x40000000 + 39, 457
        return {
            "datagram pair": error_of(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
            "pair of another family": error_of(lambda: socket.socketpair(30)),
            "clone into a namespace": error_of(lambda: syscall(clone, new_user | signal.SIGCHLD, 0, 0, 0, 0)),
            "clone as a sibling": error_of(lambda: syscall(clone, parent | signal.SIGCHLD, 0, 0, 0, 0)),
            "limits of another": error_of(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU)),
            "niceness of its own": error_of(lambda: os.nice(1)),
            "niceness of the user": error_of(lambda: os.setpriority(os.PRIO_USER, 0, 5)),
            "own limits": error_of(lambda: resource.getrlimit(resource.RLIMIT_CPU)),
            "owner of a descriptor": error_of(lambda: fcntl.fcntl(stream[0], 8, os.getppid())),
            "owner by ioctl": error_of(lambda: fcntl.ioctl(stream[0], 0x8901, os.getppid().to_bytes(4, "little"))),
            "type into a terminal": error_of(lambda: fcntl.ioctl(0, 0x5412, b"x")),
            "flags of a file": error_of(lambda: fcntl.ioctl(0, 0x40086602, bytes(8))),
            "lease": error_of(lambda: fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK)),
            "notice of changes": error_of(lambda: fcntl.fcntl(0, fcntl.F_NOTIFY, fcntl.DN_ACCESS)),
            "size of a pipe": error_of(lambda: fcntl.fcntl(0, 1031, 1 << 20)),
            "another filter": error_of(lambda: prctl(22, 2, 0)),
            "memory open to others": error_of(lambda: prctl(4, 1)),
            "name of a thread": error_of(lambda: prctl(15, 0)),
            "descriptors of a thread's own": error_of(lambda: syscall(clone, 0x10900, 0, 0, 0, 0)),
            "descriptors of its own": error_of(lambda: syscall(close_range, 900, 900, 2)),
            "closed descriptors": error_of(lambda: syscall(close_range, 900, 900, 0)),
            "x32": error_of(lambda: syscall(x32)),
            "unknown": error_of(lambda: syscall(unknown, 0, 0, 0, 0)),
            "flags of a descriptor": error_of(lambda: fcntl.fcntl(stream[0], fcntl.F_GETFL)),
            "read": error_of(lambda: os.preadv(file, [bytearray(1)], 0)),
            "read without waiting": error_of(lambda: os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)),
            "copy": error_of(lambda: shutil.copyfile(os.__file__, "copy.py")),
            "pages that are set aside": error_of(lambda: mmap.mmap(-1, 1 << 21, mmap.MAP_PRIVATE | 0x40020)),
            "pages": error_of(lambda: mmap.mmap(-1, 1 << 21, mmap.MAP_PRIVATE | 0x20)),
            "out of band": error_of(lambda: stream[0].send(b"x", socket.MSG_OOB)),
        }

    column, _audit = seccomp.ARCHITECTURES[os.uname().machine]
    clone, close_range = (seccomp.CHECKED[name][0][column] for name in ("clone", "close_range"))
    return bench.restricted(attempt)


def test_calls_are_told_apart_by_their_arguments(tmp_path: Path) -> None:
    assert in_setup("ordinary", tmp_path, errors_by_argument)["value"] == {
        "datagram pair": "EPERM",
        "pair of another family": "EPERM",
        "clone into a namespace": "EPERM",
        "clone as a sibling": "EPERM",
        "limits of another": "EPERM",
        "niceness of its own": "",
        "niceness of the user": "EPERM",
        "own limits": "",
        "owner of a descriptor": "EPERM",
        "owner by ioctl": "EPERM",
        "type into a terminal": "EPERM",
        "flags of a file": "EPERM",
        "lease": "EPERM",
        "notice of changes": "EPERM",
        "size of a pipe": "EPERM",
        "another filter": "EPERM",
        "memory open to others": "EPERM",
        "name of a thread": "EFAULT",  # it was tried
        "descriptors of a thread's own": "EPERM",
        "descriptors of its own": "EPERM",
        "closed descriptors": "",
        "x32": "ENOSYS",
        "unknown": "ENOSYS",
        "flags of a descriptor": "",
        "read": "",
        "read without waiting": "ENOTSUP",
        "copy": "",
        "pages that are set aside": "EINVAL",
        "pages": "",
        "out of band": "ENOTSUP",
    }


def signals_to_protected_processes(bench: Bench) -> dict[str, Any]:
    """Without Landlock and under the same user, the filter keeps signals from the processes that it is told."""
    look.start_threads()
    us, *others = sorted(sandbox.threads(os.getpid()))
    prepared = sandbox.protecting(bench.prepared, [us, *others])

    def attempt() -> dict[str, Any]:
        return {
            "process": error_of(lambda: os.kill(us, 0)),
            "threads": [error_of(lambda thread=thread: os.kill(thread, 0)) for thread in others],
            "group": error_of(lambda: os.kill(-us, 0)),
            "all": error_of(lambda: os.kill(-1, 0)),
            "itself": error_of(lambda: os.kill(os.getpid(), 0)),
        }

    return Bench(bench.scratch, None, prepared).restricted(attempt, ["seccomp"])


def test_filter_keeps_signals_from_protected_processes(tmp_path: Path) -> None:
    result = in_setup("ordinary", tmp_path, signals_to_protected_processes)
    threads = ["EPERM"] * look.MOST_AT_ONCE
    assert result["value"] == {"process": "EPERM", "threads": threads, "group": "EPERM", "all": "EPERM", "itself": ""}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_fits_into_one_program(machine: str) -> None:
    code = seccomp.program(range(1000, 2000), machine=machine)
    assert code is not None
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096


def verdict(code: bytes, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Run a filter as the kernel would: the instructions of networking/filter that ours are made of."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("HBBI", code))
    accumulator = place = 0
    while True:
        operation, if_true, if_false, value = program[place]
        place += 1
        match operation:
            case seccomp.LOAD:
                [accumulator] = struct.unpack_from("=I", data, value)
            case seccomp.AND:
                accumulator &= value
            case seccomp.JUMP:
                place += value
            case seccomp.JUMP_IF_EQUAL:
                place += if_true if accumulator == value else if_false
            case seccomp.JUMP_IF_AT_LEAST:
                place += if_true if accumulator >= value else if_false
            case seccomp.RETURN:
                return value


BY_ARGUMENT = {  # arguments that a checked call is allowed with, and refused with
    "clone": ([(17,), (0x3D0F00,), (0x4111,)], [(0x10900,), (0x3D0D00,), (0x10000011,), (0x8011,), (18,)]),
    "close_range": ([(3, 9, 0), (3, 9, 4)], [(3, 9, 2), (3, 9, 6)]),
    "socketpair": ([(1, 1), (1, 0x80805)], [(1, 2), (16, 1)]),
    "preadv2": ([(3, 0, 1, 5)], [(3, 0, 1, 5, 0, 8), (3, 0, 1, 5, 0, 0x80)]),
    "pwritev2": ([(3, 0, 1, 5)], [(3, 0, 1, 5, 0, 2)]),
    "mmap": ([(0, 4096, 3, 0x22), (0, 4096, 1, 2, 3)], [(0, 1 << 21, 3, 0x40022), (0, 1 << 21, 3, 0x54040021)]),
    "madvise": ([(4096, 4096, 4), (4096, 4096, 14)], [(4096, 4096, 20), (4096, 4096, 21)]),
    "sendto": ([(3, 4096, 1, 0), (3, 4096, 1, 0x4000)], [(3, 4096, 1, 1), (3, 4096, 1, 0x4001)]),
    "setpriority": ([(0, 0, 5)], [(0, 1, 5), (2, 0, 5)]),
    "setrlimit": ([(7, 4096)], [(4, 4096)]),
    "prlimit64": ([(0, 7), (0, 7, 4096), (0, 4, 0, 4096)], [(1, 7), (0, 4, 4096), (0, 4, 1 << 32)]),
    "open": ([(4096, 0x241)], [(4096, 0x101241), (4096, 0x1241)]),
    "openat": ([(-100 % 2**64, 4096, 0x241)], [(3, 4096, 0x101241), (3, 4096, 0x1241)]),
    "fcntl": (
        [(0, 1), (0, 1030, 3), (0, 4, 0xC00), (0, 5, 0x14000)],
        [(0, 8), (0, 37), (0, 1024), (0, 1031)],
    ),
    "ioctl": ([(0, 0x5401), (0, 0x5421)], [(0, 0x5412), (0, 0x40086602), (0, 0x8901)]),
    "utimensat": ([(0, 1, 0x7FFC00001000), (3, 0, 0)], [(0, 1, 0)]),
    "prctl": ([(15,), (38, 1), (1, 9)], [(4, 1), (22, 2), (29, 1), (35,), (0x53564D41,), (1, 18)]),
}
O_DIRECT, O_DIRECTORY = {"x86_64": 0x4000, "aarch64": 0x10000}, {"x86_64": 0x10000, "aarch64": 0x4000}  # asm/fcntl.h
WITH_FLAGS = {"open": (4096,), "openat": (3, 4096), "fcntl": (3, 4)}  # F_SETFL
UNLIKE_OTHERS = {  # results of what is refused
    **dict.fromkeys(("preadv2", "pwritev2", "sendto"), seccomp.fail(errno.EOPNOTSUPP)),
    **dict.fromkeys(("open", "openat", "mmap"), seccomp.fail(errno.EINVAL)),
    "madvise": seccomp.fail(0),
}
OF_EVERY_PROGRAM = {"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "exit_group": (231, 94), "futex": (202, 98)}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_decides_as_its_tables_say(machine: str) -> None:
    """On every architecture, whatever this machine is."""
    column, audit = seccomp.ARCHITECTURES[machine]
    code = seccomp.program([1000], machine=machine)
    for table, result in seccomp.TABLES:
        for name, row in table.items():
            if row[column] is not None:
                assert verdict(code, audit, row[column]) == result, name
    refused = seccomp.fail(errno.EPERM)
    checked = seccomp.CHECKED | seccomp.PRETENDED_IF
    assert BY_ARGUMENT.keys() == checked.keys()
    for name, results in BY_ARGUMENT.items():
        if (number := checked[name][0][column]) is None:
            continue
        accepted = seccomp.fail(0) if name in seccomp.PRETENDED_IF else seccomp.ALLOW
        for result, calls in zip((accepted, UNLIKE_OTHERS.get(name, refused)), results, strict=True):
            for arguments in calls:
                assert verdict(code, audit, number, arguments) == result, (name, arguments)
    for name, arguments in WITH_FLAGS.items():
        if (number := checked[name][0][column]) is not None:
            flags = O_DIRECT[machine], O_DIRECTORY[machine]
            results = [verdict(code, audit, number, (*arguments, flag)) for flag in flags]
            assert results == [seccomp.fail(errno.EINVAL), seccomp.ALLOW], name
            truncating = [verdict(code, audit, number, (*arguments, access | os.O_TRUNC)) for access in range(4)]
            of_open = [refused, seccomp.ALLOW, seccomp.ALLOW, refused]  # 3: neither to read nor to write
            assert truncating == ([seccomp.ALLOW] * 4 if name == "fcntl" else of_open), name
    for row in seccomp.KILL:
        minus = 2**64
        assert [verdict(code, audit, row[column], (pid,)) for pid in (999, 1000, minus - 1000, minus - 1)] == [
            seccomp.ALLOW, refused, refused, refused,
        ]  # fmt: skip
    for name, row in OF_EVERY_PROGRAM.items():
        assert verdict(code, audit, row[column]) == seccomp.ALLOW, name
    absent = seccomp.fail(errno.ENOSYS)
    assert verdict(code, 0x40000003, 0) == absent  # of another architecture, here 32-bit x86
    assert verdict(code, audit, seccomp.FIRST_UNKNOWN) == absent
    assert verdict(code, audit, 0x40000000) == absent


def test_unknown_architecture_has_no_filter() -> None:
    assert seccomp.program(machine="riscv64") is None


# Files


def reach_of_files(bench: Bench) -> dict[str, Any]:
    beside = bench.scratch.parent / "beside"
    beside.write_text("x")

    def attempt() -> dict[str, Any]:
        Path("own").write_text("x")
        Path("link").symlink_to(beside)
        paths = [
            beside,
            Path("link"),
            Path("/etc/shadow"),
            Path("/etc/hostname"),
            CHECKOUT / "config.py",
            Path("/dev/kmsg"),
        ]
        return {
            "mode": Path("own").stat().st_mode & 0o777
            == (Path("own").chmod(0o777), Path("own").stat().st_mode)[1] & 0o777,
            "reads": [str(path) for path in paths if not error_of(path.read_bytes)],
            "writes": [
                folder
                for folder in (
                    "/tmp",
                    "/var/tmp",
                    sys.prefix,
                    sys.base_prefix,
                    "/dev",
                    "/proc/self",
                    str(beside.parent),
                )
                if not error_of(lambda folder=folder: Path(folder, "left").write_text("x"))
            ],
            "program": error_of(lambda: subprocess.run(["/usr/bin/env", "true"], check=True)),
            "privileges": prctl(PR_GET_NO_NEW_PRIVS),
            "dumpable": prctl(PR_GET_DUMPABLE),
        }

    return bench.restricted(attempt)["value"]


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_only_the_scratch_folder_is_written_and_only_what_is_granted_is_read(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, reach_of_files) == {
        "mode": True, "reads": [], "writes": [], "program": "", "privileges": 1, "dumpable": 0,
    }  # fmt: skip


def times_of_access(bench: Bench) -> dict[str, float]:
    """Return when a file was read last, by its own account, after a read with and without read-only mounts."""
    beside = bench.scratch.parent / "beside"
    beside.write_text("x")

    def read(layers: list[str]) -> float:
        os.utime(beside, (1, 1))
        assert bench.restricted(beside.read_text, layers)["value"] == "x"
        return beside.stat().st_atime

    without = [name for name in sandbox.LAYERS if not name.startswith("landlock")]  # nor could it read it
    return {"with": read(without), "without": read([name for name in without if name != "traces"])}


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_what_a_fold_reads_keeps_its_time_of_access(setup: str, tmp_path: Path) -> None:
    accessed = in_setup(setup, tmp_path, times_of_access)
    assert accessed["with"] == 1
    if not os.statvfs(tmp_path).f_flag & os.ST_NOATIME:
        assert accessed["without"] > 1


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_counters_that_can_be_set_are_hidden(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, counters) == {}


def counters(bench: Bench) -> dict[str, str]:
    """Return what is told of memory, all of it and each node, and of locks."""
    nodes = [f"sys/devices/system/node/node*/{name}" for name in ("vmstat", "numastat")]
    patterns = ["proc/vmstat", "proc/zoneinfo", "proc/locks", *nodes]
    files = [path for pattern in patterns for path in Path("/").glob(pattern)]
    return bench.restricted(lambda: {str(path): text for path in files if (text := path.read_text())})["value"]


def sessions_of_children(bench: Bench) -> bool:
    def attempt() -> bool:
        ours = os.getsid(0)
        if (pid := os.fork()) == 0:
            os.setsid()
            os._exit(os.getsid(0) != ours)
        return os.waitpid(pid, 0)[1] == 0

    return bench.restricted(attempt)["value"]


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_a_fold_stays_in_one_session_whatever_it_asks_for(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, sessions_of_children)


def errors_on_older_landlock(bench: Bench) -> list[list[str]]:
    """Empty a file of the same user beside the folder, by each way, where Landlock knows of none: before ABI 3."""
    victim, own = bench.scratch.with_name("victim"), bench.scratch / "own"
    victim.write_text("not empty")

    def attempt() -> list[str]:
        own.write_text("not empty")
        own.open("w").close()
        errors = [error_of(lambda flags=flags: os.open(victim, flags | os.O_TRUNC)) for flags in range(4)]
        return [error_of(lambda: os.truncate(victim, 0)), *errors, victim.stat().st_size, own.stat().st_size]

    older = (replace(bench.prepared, landlock=abi, namespaces=frozenset()) for abi in (1, 2))
    return [Bench(bench.scratch, None, prepared).restricted(attempt)["value"] for prepared in older]


@needs_every_layer
def test_no_file_beyond_its_folder_is_emptied_on_an_older_kernel(tmp_path: Path) -> None:
    errors = ["EPERM", "EPERM", "EACCES", "EACCES", "EPERM", 9, 0]
    assert in_setup("ordinary", tmp_path, errors_on_older_landlock) == [errors, errors]


def reads_beside_what_is_hidden(bench: Bench) -> dict[str, Any]:
    hidden = Path(os.__file__).with_name("json")
    prepared = sandbox.prepare(hidden=[hidden], uid=bench.uid)

    def attempt() -> list[str]:
        files = [hidden / "__init__.py", hidden.with_name("csv.py"), hidden.with_name("email") / "__init__.py"]
        return [error_of(file.read_bytes) for file in files]

    return Bench(bench.scratch, bench.uid, prepared).restricted(attempt)["value"]


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_what_is_hidden_is_read_by_no_fold_wherever_it_lies(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, reads_beside_what_is_hidden) == ["EACCES", "", ""]


def test_of_a_folder_that_hides_something_the_rest_is_granted(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b" / "home"
    for folder in (home, tmp_path / "a" / "b" / "c", tmp_path / "d"):
        folder.mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "e").write_text("")
    granted = sandbox.without(tmp_path, {home.resolve()})
    assert sorted(granted) == [tmp_path / "a" / "b" / "c", tmp_path / "d", tmp_path / "e"]
    assert list(sandbox.without(home / "venv", {home.resolve()})) == [home / "venv"]
    assert list(sandbox.without(home, {home.resolve()})) == []


def test_folder_of_the_checkout_is_not_granted() -> None:
    granted = sandbox.readable_paths()
    assert CHECKOUT / "runner" in granted
    assert granted == [path for path in granted if path.resolve() not in [CHECKOUT, *CHECKOUT.parents]]


# Limits


def hit_limits(bench: Bench) -> dict[str, Any]:
    def memory() -> str:
        try:
            bytearray(512 * MB)
        except MemoryError:
            return "MemoryError"
        return ""

    def descriptors() -> str:
        return error_of(lambda: [os.dup(0) for _ in range(200)])

    def processes() -> str:
        def fork() -> None:
            if os.fork() == 0:
                signal.pause()

        failed = error_of(lambda: [fork() for _ in range(60)])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(0, signal.SIGTERM)
        return failed

    def burn() -> None:
        while True:
            pass

    return {
        "memory": bench.restricted(memory, memory=256 * MB)["value"],
        "file": bench.restricted(lambda: error_of(lambda: Path("big").write_bytes(bytes(2 * MB))), file_size=MB)[
            "value"
        ],
        "descriptors": bench.restricted(descriptors, open_files=100)["value"],
        "processes": bench.restricted(processes, processes=30)["value"],
        "shared memory": bench.restricted(
            lambda: error_of(lambda: Path("/dev/shm/big").write_bytes(bytes(2 * MB))), shared_memory=MB
        )["value"],
        "core": bench.restricted(lambda: resource.getrlimit(resource.RLIMIT_CORE))["value"],
        "out of memory": bench.restricted(lambda: Path("/proc/self/oom_score_adj").read_text().strip())["value"],
        "cpu": bench.restricted(burn, cpu=0)["status"],
        "left": [path.name for path in Path("/dev/shm").iterdir() if path.name == "big"],
    }


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_limits_hold(setup: str, tmp_path: Path) -> None:
    limits = in_setup(setup, tmp_path, hit_limits)
    if setup == "root_keeps_user":  # RLIMIT_NPROC does not count root's processes
        assert limits.pop("processes") == ""
        limits["processes"] = "EAGAIN"
    assert limits == {
        "memory": "MemoryError",
        "file": "EFBIG",
        "descriptors": "EMFILE",
        "processes": "EAGAIN",
        "shared memory": "ENOSPC",
        "core": [1, 1],
        "out of memory": "1000",
        "cpu": -signal.SIGXCPU,
        "left": [],
    }


# Systems that lack it all


def run_without_linux(bench: Bench) -> dict[str, Any]:
    sandbox.LINUX = False
    sandbox.system.libc = sandbox.process.libc = object()
    return Bench(bench.scratch, None, sandbox.prepare()).restricted(lambda: "ran", processes=64)


def test_fold_runs_where_the_system_has_none_of_these_calls(tmp_path: Path) -> None:
    result = in_setup("ordinary", tmp_path, run_without_linux)
    assert (result["value"], result["applied"]) == ("ran", ["limits"])
    assert sandbox.level(result["applied"]) == "none"


# The parent's end


def outlive_the_parent(bench: Bench) -> bool:
    """Kill the parent of a restricted child, and return whether the child is gone within the deadline."""
    alive, alive_end = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            sandbox.restrict(sandbox.Policy(bench.scratch, uid=bench.uid), bench.prepared)
            os.write(alive_end, b"x")
        signal.pause()
    os.close(alive_end)
    assert os.read(alive, 1) == b"x"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return os.read(alive, 1) == b""  # nobody holds the other end


@pytest.mark.parametrize("setup", SETUPS)
def test_child_ends_with_its_parent(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, outlive_the_parent) is True


# An ordinary user's supervisors, which may look into folds


def capabilities_of_a_program(bench: Bench) -> dict[str, dict[str, int]]:
    """Return the capabilities of a program that is started as the zygote is, where that is allowed and refused."""
    command = [sys.executable, "-P", "-S", "-c", OVERSEE, str(CHECKOUT / "runner"), "/bin/cat", "/proc/self/status"]

    def capabilities() -> dict[str, int]:
        status = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {
            name: int(value, 16)
            for name, value in (line.split(":\t") for line in status.splitlines())
            if name in ("CapPrm", "CapEff", "CapAmb")
        }

    layers = {"allowed": [], "refused": ["seccomp"]}
    return {case: bench.restricted(capabilities, layers[case])["value"] for case in layers}


@needs_every_layer
def test_zygote_gets_one_capability_where_it_can_be_had(tmp_path: Path) -> None:
    traces = 1 << process.CAP_SYS_PTRACE
    assert in_setup("ordinary", tmp_path, capabilities_of_a_program) == {
        "allowed": {"CapPrm": traces, "CapEff": traces, "CapAmb": traces},
        "refused": {"CapPrm": 0, "CapEff": 0, "CapAmb": 0},
    }


# Ways to an interpreter below closed folders


def opened_way(bench: Bench) -> dict[str, Any]:
    closed = bench.scratch.parent / "closed"
    for name in ("python", "home", "secret"):
        (closed / name).mkdir(parents=True)
        (closed / name / "file").write_text(name)
    closed.chmod(0o700)
    (closed / "home").chmod(0o777)
    opened = sandbox.open_ways([closed / "python"], [closed / "home"])

    def attempt() -> dict[str, str]:
        os.setresuid(SLOT, SLOT, SLOT)
        return {
            "read": error_of((closed / "python" / "file").read_text),
            "write": error_of(lambda: (closed / "python" / "new").write_text("x")),
            "scratch": error_of(lambda: (closed / "home" / "new").write_text("x")),
            "hidden": error_of((closed / "secret" / "file").read_text),
        }

    return bench.restricted(attempt, []) | {"opened": opened}


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_ways_are_opened_and_the_rest_is_hidden(tmp_path: Path) -> None:
    result = in_setup("root", tmp_path, opened_way)
    assert result["opened"] is True
    assert result["value"] == {"read": "", "write": "EROFS", "scratch": "", "hidden": "ENOENT"}
    assert (tmp_path / "closed" / "secret" / "file").read_text() == "secret"
    assert (tmp_path / "closed" / "home" / "new").read_text() == "x"


# Shared memory where folds have none of their own


def shared_file(name: str) -> Path:
    path = Path(f"/dev/shm/datarun-test-{os.getpid()}-{name}")
    path.write_text("x")
    return path


def test_sweep_takes_what_ended_folds_left_and_nothing_else() -> None:
    before = shared_file("before")
    since = before.stat().st_ctime + 0.02
    while time.time() < since + 0.05:
        left = shared_file("left")
    open_still = shared_file("open").open()
    until = time.time() + leftovers.SLACK
    while time.time() < until + 0.05:
        used = shared_file("used")
    try:
        sandbox.sweep_shared_memory(since, until)
        assert [path.exists() for path in (before, left, Path(open_still.name), used)] == [True, False, True, True]
        open_still.close()
        sandbox.sweep_shared_memory(since, float("inf"))
        assert [path.exists() for path in (before, Path(open_still.name), used)] == [True, False, False]
    finally:
        for path in (before, left, Path(open_still.name), used):
            path.unlink(missing_ok=True)


def test_sweep_meets_files_that_vanish() -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            shared_file("brief").unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert [sandbox.sweep_shared_memory(math.inf, math.inf) for _ in range(500)] == [0] * 500
    finally:
        ended.set()
        thread.join()


def test_sweep_refuses_our_own_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SHARED_FOLDERS", (tmp_path,))  # what would go if it did not
    with pytest.raises(ValueError, match="is ours"):
        leftovers.sweep_user(os.getuid())


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_sweep_takes_all_of_a_slots_user() -> None:
    theirs, ours = shared_file("theirs"), shared_file("ours")
    folder = Path(f"/tmp/datarun-test-{os.getpid()}")
    (folder / "below").mkdir(parents=True)
    for path in (theirs, folder):
        os.chown(path, SLOT + 7, SLOT + 7)
    assert sandbox.sweep_user(SLOT + 7) == 2
    assert [path.exists() for path in (theirs, folder, ours)] == [False, False, True]
    ours.unlink()


def test_a_missing_layer_lowers_the_level() -> None:
    names = set(sandbox.LAYERS)
    assert sandbox.level(names) == "strong"
    assert sandbox.level(names - {"uid"}) == "strong"
    assert sandbox.level(names - {"uid", "landlock_scope"}) == "partial"
    assert sandbox.level(names - {"seccomp"}) == "partial"
    assert sandbox.level(names - {"landlock"}) == "strong"  # all else is read-only
    assert sandbox.level(names - {"landlock", "traces"}) == "partial"
    assert sandbox.level(names - {"landlock", "uid"}) == "none"
    assert sandbox.level(()) == "none"
