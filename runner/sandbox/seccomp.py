"""seccomp: the system calls that a fold may not make, or only with some arguments.

Follows seccomp(2), the kernel's userspace-api/seccomp_filter and, for the instructions, networking/filter. A refused
call fails with an error that the caller can handle; nothing is killed. The numbers are those of syscall_64.tbl (x86-64)
and asm-generic/unistd.h (arm64); None where an architecture lacks the call.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from .system import PR_SET_SECCOMP, prctl

SECCOMP_MODE_FILTER = 2
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables, AUDIT_ARCH_*

Numbers = dict[str, tuple[int | None, int | None]]

REFUSED: Numbers = {
    # other processes: memory, descriptors, signals, scheduling
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "mbind": (237, 235),  # of shared memory, a policy of each page stays, though no page is there
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    # sockets; those of a pair are made connected and need none of these
    "socket": (41, 198),
    "bind": (49, 200),
    "listen": (50, 201),
    "connect": (42, 203),
    "sendmsg": (46, 211),  # descriptors on their way count for the user, and keep our own from sending any: unix(7)
    "sendmmsg": (307, 269),
    "setsockopt": (54, 208),  # filters are memory of the kernel, and to free many at once can hold it up
    "seccomp": (317, 277),  # so are these
    # what outlives a process, or is shared between processes by a number
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # files by other ways than their path, and what Landlock does not see
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "truncate": (76, 45),  # before Linux 6.2
    "fanotify_init": (300, 262),
    "inotify_add_watch": (254, 27),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "landlock_create_ruleset": (444, 444),  # rules without end are memory that nobody counts
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # the machine, and large parts of the kernel that no fold needs
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "lookup_dcookie": (212, 18),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
ABSENT: Numbers = {  # libraries ask for these and do without
    "clone3": (435, 435),  # its flags lie in memory, where no filter sees them
    "memfd_create": (319, 279),  # memory that no limit of a process counts
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),  # so are huge pages that a byte in a pipe keeps
    "splice": (275, 76),
    "tee": (276, 77),
    "sendfile": (40, 71),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "pidfd_open": (434, 434),
    "openat2": (437, 437),  # its flags lie in memory, too
    "io_setup": (206, 0),  # its rings are memory, too
    "timer_create": (222, 107),  # its signals come while the process stands still, SIGCONT too
    # which files lie in memory tells what earlier folds have read
    "cachestat": (451, 451),
    "mincore": (27, 232),
}
UNSUPPORTED: Numbers = {  # by this file system, as programs take it
    "fallocate": (285, 47),  # beyond RLIMIT_FSIZE; libraries write zeros instead
    "setxattr": (188, 5),  # as of what is pretended; cp -p and others go on without
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
PRETENDED: Numbers = {  # honest code fails if these fail
    # on files of the same owner, they reach beyond Landlock: what they set could be read by later folds
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    # whoever waits for a disk cannot be killed meanwhile
    "sync": (162, 81),
    "syncfs": (306, 267),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "sync_file_range": (277, 84),
    "msync": (26, 227),
    "fadvise64": (221, 223),  # files that one fold drops from memory tell later ones
    "flock": (73, 32),  # its locks stay with a map of the file; to let go of many, one after another, takes minutes
    "setsid": (112, 157),  # each session may have its share of the processor: sched(7), the autogroup feature
}
FIRST_UNKNOWN = 457  # newer calls than those considered here; x32 calls (from 0x40000000 on) too

NEW_NAMESPACE_OR_SIBLING = 0x7E028000  # CLONE_NEW* and CLONE_PARENT
CLONE_FS, CLONE_FILES, CLONE_THREAD = 0x200, 0x400, 0x10000
CLOSE_RANGE_CLOEXEC = 4
AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET = 1, 1, 5
MADV_COLD, MADV_PAGEOUT = 20, 21
MAP_HUGETLB = 0x40000
MSG_OOB = 1
PRIO_PROCESS = 0
RLIMIT_CORE = 4
SIGCHLD, SIGCONT = 17, 18
EXIT_SIGNAL = 0xFF
O_SYNC = 0x101000  # with O_DSYNC
O_TRUNC, O_ACCMODE = 0x200, 3
O_DIRECT = (0x4000, 0x10000)  # of each architecture
TO_THE_DISK = tuple(O_SYNC | direct for direct in O_DIRECT)
FCNTLS = {  # not those that have signals sent, hold up whoever opens a file (F_SETLEASE), enlarge a pipe, or lock by an
    # open file (F_OFD_SETLK), whose locks stay with a map of it, where nobody sees them
    "F_DUPFD": 0,
    "F_GETFD": 1,
    "F_SETFD": 2,
    "F_GETFL": 3,
    "F_SETFL": 4,
    "F_GETLK": 5,
    "F_SETLK": 6,
    "F_SETLKW": 7,
    "F_GETOWN": 9,
    "F_DUPFD_CLOEXEC": 1030,
    "F_GETPIPE_SZ": 1032,
}
IOCTLS = {  # of any descriptor; not those that type into terminals, or set a file's flags
    "TCGETS": 0x5401,
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
PRCTLS = {  # about the caller; not those that open it to others (PR_SET_DUMPABLE), or take memory of the kernel, nor
    # PR_SET_TIMERSLACK: see process.wake_rarely
    "PR_SET_PDEATHSIG": 1,
    "PR_GET_PDEATHSIG": 2,
    "PR_GET_DUMPABLE": 3,
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_GET_SECCOMP": 21,
    "PR_CAPBSET_READ": 23,
    "PR_GET_TIMERSLACK": 30,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_GET_NO_NEW_PRIVS": 39,
    "PR_SET_THP_DISABLE": 41,
    "PR_GET_THP_DISABLE": 42,
    "PR_SVE_GET_VL": 51,
}
WORD = 0xFFFFFFFF
ALLOW = 0x7FFF0000


def fail(number: int) -> int:
    return 0x00050000 | number


@dataclass(frozen=True)
class Test:
    """A word of an argument, masked, must be one of `values` (or, `among=False`, none of them), else `result`.

    It is the low word; the `high` one of a pointer may be all of it that is not 0. The mask may be one of each
    architecture.
    """

    argument: int
    values: tuple[int, ...]
    mask: int | tuple[int, ...] = WORD
    among: bool = True
    result: int = fail(errno.EPERM)
    high: bool = False


def opening(flags: int) -> list[Test]:
    """Return the tests of a call that opens a file; `flags` is their argument's place."""
    return [
        Test(
            flags, (0,), mask=TO_THE_DISK, result=fail(errno.EINVAL)
        ),  # who waits for a disk cannot be killed meanwhile
        # without O_WRONLY or O_RDWR, Landlock did not see it before Linux 6.2
        Test(flags, (O_TRUNC, O_TRUNC | O_ACCMODE), mask=O_TRUNC | O_ACCMODE, among=False),
    ]


CHECKED = {
    # a thread with descriptors or a current folder of its own would hide what it has open, as it could by close_range
    "clone": (
        (56, 220),
        [
            Test(
                0,
                (0, CLONE_FS, CLONE_FILES, CLONE_FS | CLONE_FILES, CLONE_FS | CLONE_FILES | CLONE_THREAD),
                mask=NEW_NAMESPACE_OR_SIBLING | CLONE_FS | CLONE_FILES | CLONE_THREAD,
            ),
            Test(0, (0, SIGCHLD), EXIT_SIGNAL),  # another, SIGCONT, would let a stopped parent go on
        ],
    ),
    "close_range": ((436, 436), [Test(2, (0, CLOSE_RANGE_CLOEXEC))]),
    # a datagram socket of a pair could still send to any address, path or abstract
    "socketpair": ((53, 199), [Test(0, (AF_UNIX,)), Test(1, (SOCK_STREAM, SOCK_SEQPACKET), mask=0xF)]),
    # RWF_NOWAIT tells which files lie in memory; files are read and written without any flag, too
    "preadv2": ((327, 286), [Test(5, (0,), result=fail(errno.EOPNOTSUPP))]),
    "pwritev2": ((328, 287), [Test(5, (0,), result=fail(errno.EOPNOTSUPP))]),
    # huge pages that an operator has set aside for others, a database: no process's memory counts them
    "mmap": ((9, 222), [Test(3, (0,), mask=MAP_HUGETLB, result=fail(errno.EINVAL))]),  # as of a kernel without them
    "madvise": ((28, 233), [Test(2, (MADV_COLD, MADV_PAGEOUT), among=False, result=fail(0))]),
    "sendto": ((44, 206), [Test(3, (0,), mask=MSG_OOB, result=fail(errno.EOPNOTSUPP))]),  # as before Linux 5.15
    "setpriority": ((141, 140), [Test(0, (PRIO_PROCESS,)), Test(1, (0,))]),
    # that stays as process.dump_nothing has set it; to read it is allowed
    "setrlimit": ((160, 164), [Test(0, (RLIMIT_CORE,), among=False)]),
    "prlimit64": (
        (302, 261),
        [Test(0, (0,)), Test(1, (RLIMIT_CORE,), result=ALLOW), Test(2, (0,)), Test(2, (0,), high=True)],
    ),
    "open": ((2, None), opening(flags=1)),
    "openat": ((257, 56), opening(flags=2)),
    "fcntl": (
        (72, 25),
        [
            Test(1, tuple(FCNTLS.values())),
            Test(1, (FCNTLS["F_SETFL"],), result=ALLOW),
            Test(2, (0,), mask=O_DIRECT, result=fail(errno.EINVAL)),
        ],
    ),
    "ioctl": ((16, 29), [Test(1, tuple(IOCTLS.values()))]),
    # no death of one process (PR_SET_PDEATHSIG) lets a stopped one go on
    "prctl": ((157, 167), [Test(0, tuple(PRCTLS.values())), Test(1, (SIGCONT,), among=False)]),
}
PRETENDED_IF = {  # by path and without times it is refused: Path.touch() takes success for a file that is there
    "utimensat": ((280, 88), [Test(1, (0,), among=False, result=fail(0)), Test(2, (0,), among=False)]),
}
KILL = ((62, 129), (200, 130), (234, 131))  # kill, tkill, tgkill
MOST_PROTECTED = 120  # by each id and its negative: a jump in a filter goes 255 instructions at most

LOAD, JUMP, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, AND, RETURN = (0x20, 0x05, 0x15, 0x35, 0x54, 0x06)
NUMBER, ARCHITECTURE, ARGUMENTS = (0, 4, 16)  # offsets in struct seccomp_data, little-endian


TABLES = (
    (REFUSED, fail(errno.EPERM)),
    (ABSENT, fail(errno.ENOSYS)),
    (UNSUPPORTED, fail(errno.EOPNOTSUPP)),
    (PRETENDED, fail(0)),
)


def op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value & WORD)


def return_if_among(values: Iterable[int], result: int) -> bytes:
    """Return `result` where the accumulator is one of the values (at most 255)."""
    values = list(values)
    jumps = [op(JUMP_IF_EQUAL, value, if_true=len(values) - i) for i, value in enumerate(values)]
    return b"".join(jumps) + op(JUMP, 1) + op(RETURN, result)


def return_unless_among(values: Iterable[int], result: int) -> bytes:
    """Return `result` where the accumulator is none of the values (at most 255)."""
    values = list(values)
    jumps = [op(JUMP_IF_EQUAL, value, if_true=len(values) - i) for i, value in enumerate(values)]
    return b"".join(jumps) + op(RETURN, result)


def check(row: tuple[int | None, ...], column: int, tests: Iterable[Test], result: int) -> bytes:
    """Decide the call of this row: `result` if all tests hold, else that of the first which does not."""
    if (number := row[column]) is None:
        return b""
    body = b""
    for test in tests:
        mask = test.mask if isinstance(test.mask, int) else test.mask[column]
        body += op(LOAD, ARGUMENTS + 8 * test.argument + 4 * test.high) + op(AND, mask)
        body += (return_if_among, return_unless_among)[test.among](test.values, test.result)
    body += op(RETURN, result)
    return op(JUMP_IF_EQUAL, number, if_false=len(body) // 8) + body


def program(protected: Iterable[int] = (), machine: str = platform.machine()) -> bytes | None:
    """Return the filter for this architecture, None where its system calls are not known here.

    Parameters
    ----------
    protected : threads of ours that no signal may be sent to, the first MOST_PROTECTED; then none to all (-1) either.
    """
    if machine not in ARCHITECTURES:
        return None
    column, audit = ARCHITECTURES[machine]
    targets = tuple(sign * pid for pid in islice(protected, MOST_PROTECTED) for sign in (1, -1))
    code = op(LOAD, ARCHITECTURE) + return_unless_among([audit], fail(errno.ENOSYS)) + op(LOAD, NUMBER)
    code += op(JUMP_IF_AT_LEAST, FIRST_UNKNOWN, if_false=1) + op(RETURN, fail(errno.ENOSYS))
    for table, result in TABLES:
        code += return_if_among([row[column] for row in table.values() if row[column] is not None], result)
    for table, result in ((CHECKED, ALLOW), (PRETENDED_IF, fail(0))):
        for row, tests in table.values():
            code += check(row, column, tests, result)
    if targets:
        for row in KILL:
            code += check(row, column, [Test(0, (*targets, -1), among=False)], ALLOW)
    return code + op(RETURN, ALLOW)


def restrict_self(code: bytes) -> None:
    """Apply the filter to this thread and all that it starts (it needs no_new_privs); raise OSError."""
    filter_ = ctypes.create_string_buffer(code, len(code))
    argument = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(filter_)))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(argument))
