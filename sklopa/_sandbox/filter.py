"""The system calls that a locked process may make, as a filter for the kernel (seccomp).

A table of refused calls and a few calls whose arguments decide, turned into a classic BPF
program. Everything not named is allowed: the interpreter and its extension modules need most
of the rest, and what the rest can do is bounded by Landlock, the missing capabilities and the
resource limits. Numbers are those of the kernel's ``unistd.h``.

Sources: Linux manual pages seccomp(2), syscalls(2); kernel documentation, Seccomp BPF.
"""

from __future__ import annotations

import errno

Row = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

# machine: (AUDIT_ARCH constant, which of the two numbers of a system call applies)
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Numbers above this one came after Linux 6.1 and were not looked at: to the program they do
# not exist, as on an older kernel.
_NEWEST_SYSTEM_CALL = 450

# name:x86_64:aarch64, "-" where the machine has no such call. Refused with EPERM.
_REFUSED = {
    "processes": "fork:57:- vfork:58:- execve:59:221 execveat:322:281 unshare:272:97 setns:308:268",
    "network": "socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 "
    "accept4:288:242 sendmsg:46:211 sendmmsg:307:269",
    # io_uring and aio would do file and network work that the other rules never see
    "hidden work": "io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427 "
    "io_setup:206:0 io_submit:209:2 splice:275:76 tee:276:77 vmsplice:278:75",
    "other processes": "ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 "
    "process_madvise:440:440 process_mrelease:448:448 kcmp:312:272 pidfd_open:434:434 "
    "pidfd_getfd:438:438 pidfd_send_signal:424:424 tkill:200:130 rt_sigqueueinfo:129:138 "
    "rt_tgsigqueueinfo:297:240 setpriority:141:140 ioprio_set:251:30 sched_setparam:142:118 "
    "sched_setscheduler:144:119 sched_setattr:314:274 migrate_pages:256:238 move_pages:279:239",
    # memory and messages that outlive the process or escape RLIMIT_AS and RLIMIT_FSIZE
    "kernel objects": "memfd_create:319:279 memfd_secret:447:447 shmget:29:194 shmat:30:196 "
    "shmctl:31:195 semget:64:190 semop:65:193 semctl:66:191 semtimedop:220:192 msgget:68:186 "
    "msgsnd:69:189 msgrcv:70:188 msgctl:71:187 mq_open:240:180 mq_unlink:241:181 bpf:321:280 "
    "perf_event_open:298:241 userfaultfd:323:282 add_key:248:217 request_key:249:218 "
    "keyctl:250:219 syslog:103:116 modify_ldt:154:- sync:162:81 syncfs:306:267",
    # what Landlock does not watch, or not on every kernel
    "files": "truncate:76:45 fallocate:285:47 open_by_handle_at:304:265 chown:92:- fchown:93:55 "
    "lchown:94:- fchownat:260:54 setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 "
    "removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16",
}
# Answered with "not implemented", so that the C library takes the older call, which is checked.
_MISSING = "clone3:435:435 openat2:437:437"
# Answered with success and not done: shutil.copy needs them, and Landlock cannot confine them.
_PRETENDED = "chmod:90:- fchmod:91:52 fchmodat:268:53 utime:132:- utimes:235:- utimensat:280:88 "
_PRETENDED += "futimesat:261:-"

# ioctl requests that the standard library needs: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO,
# FIONCLEX, FIOCLEX
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# F_SETOWN, F_SETSIG, F_SETOWN_EX send signals to others; F_SETLEASE blocks other readers
_FCNTL_REFUSED = (8, 10, 15, 1024)


def _load(argument: int, high: bool = False) -> Row:
    return (0x20, 0, 0, 16 + 8 * argument + 4 * high)  # little-endian: low word first


def _if(jump: int, value: int, body: list[Row]) -> list[Row]:
    """Run `body` when the loaded word is equal to (0x15), above (0x25) or has bits (0x45)."""
    return [(jump, 0, len(body), value), *body]


def _answer(number: int) -> Row:
    return (0x06, 0, 0, 0x00050000 | number)  # SECCOMP_RET_ERRNO; 0 pretends success


_ALLOW = (0x06, 0, 0, 0x7FFF0000)
_KILL = (0x06, 0, 0, 0x80000000)
_DENY = _answer(errno.EPERM)


def _only(argument: int, values: tuple[int, ...] | list[int], otherwise: Row = _DENY) -> list[Row]:
    body = [_load(argument)]
    for value in values:
        body += _if(0x15, value, [_ALLOW])
    return [*body, otherwise]


def _except(argument: int, values: tuple[int, ...] | list[int]) -> list[Row]:
    body = [_load(argument)]
    for value in values:
        body += _if(0x15, value, [_DENY])
    return [*body, _ALLOW]


def _open_rules(argument: int) -> list[Row]:
    """Refuse access mode 3 and truncation of a file opened for reading: Landlock misses both."""
    rules = []
    for mask, value in ((0x3, 0x3), (0x203, 0x200)):
        rules += [_load(argument), (0x54, 0, 0, mask), *_if(0x15, value, [_DENY])]
    return [*rules, _ALLOW]


def _unless_peeking(argument: int) -> list[Row]:
    """Refuse MSG_PEEK: what was sent to the interpreter is read once, by whoever reads it."""
    return [_load(argument), *_if(0x45, 0x2, [_DENY]), _ALLOW]


def _checked(pid: int, channel: int = -1) -> dict[str, list[Row]]:
    """List the calls whose arguments decide, as {name:x86_64:aarch64: rules}."""
    channel &= 0xFFFFFFFF
    return {
        "kill:62:129": _only(0, [pid]),
        "tgkill:234:131": _only(0, [pid]),
        "prlimit64:302:261": _only(0, [0, pid]),
        "sched_setaffinity:203:122": _only(0, [0, pid]),
        "prctl:157:167": _only(0, [15]),  # PR_SET_NAME
        "ioctl:16:29": _only(1, _IOCTL_ALLOWED, _answer(errno.ENOTTY)),
        "fcntl:72:25": _except(1, _FCNTL_REFUSED),
        "open:2:-": _open_rules(1),
        "openat:257:56": _open_rules(2),
        # the channel to the caller stays what it is, whatever the program closes
        "close:3:57": [_load(0), *_if(0x15, channel, [_answer(errno.EBADF)]), _ALLOW],
        # the C library gives up where this fails, so success is pretended and nothing closed
        "close_range:436:436": [
            _load(0),
            *_if(0x25, channel, [_ALLOW]),
            _load(1),
            *_if(0x25, channel - 1, [_answer(0)]),
            _ALLOW,
        ],
        "dup2:33:-": _except(1, [channel]),
        "dup3:292:24": _except(1, [channel]),
        "recvfrom:45:207": _unless_peeking(3),
        "recvmsg:47:212": _unless_peeking(2),
        "recvmmsg:299:243": _unless_peeking(3),
        "clone:56:220": [_load(0), *_if(0x45, 0x10000, [_ALLOW]), _DENY],  # threads only
        # a shared mapping of a file is written without any call that could be counted
        "mmap:9:222": [_load(3), *_if(0x45, 0x20, [_ALLOW]), *_if(0x45, 0x1, [_DENY]), _ALLOW],
        # only without an address: socketpair() must not become a door to other sockets
        "sendto:44:206": [
            _load(4),
            *_if(0x15, 0, [_load(4, high=True), *_if(0x15, 0, [_ALLOW])]),
            _DENY,
        ],
    }


def filter_rows(machine: str, pid: int, channel: int = -1) -> list[Row]:
    """Write the filter of a machine type for the process `pid`, which keeps `channel` open.

    Returns
    -------
    list of (code, jump if true, jump if false, constant)
        The rows of the BPF program. Raises KeyError for a machine type without a table.
    """
    arch, column = _MACHINES[machine]
    groups = [(names, [_DENY]) for names in _REFUSED.values()]
    groups += [(_MISSING, [_answer(errno.ENOSYS)]), (_PRETENDED, [_answer(0)])]
    groups += list(_checked(pid, channel).items())
    rows = [(0x20, 0, 0, 4), (0x15, 1, 0, arch), _KILL, (0x20, 0, 0, 0)]
    rows += _if(0x25, _NEWEST_SYSTEM_CALL, [_answer(errno.ENOSYS)])
    for names, body in groups:
        for entry in names.split():
            number = entry.split(":")[1 + column]
            if number != "-":
                rows += _if(0x15, int(number), body)
    return [*rows, _ALLOW]
