"""What runs inside the sandbox: lock the own process for good, then judge a program.

:func:`sklopa._sandbox.run.run_isolated` calls :func:`main` in a fresh interpreter; nothing else
does. It imports the standard library only, so that it starts fast. The order matters: all
locks are put in place and tried out before the first line of foreign code is compiled, and
none of them can be taken back by the process that carries them.

Sources: Linux manual pages landlock(7), capabilities(7), prctl(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import sys

from sklopa._sandbox.filter import filter_rows
from sklopa._sandbox.judge import judge

_libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """A promised protection could not be put in place; the text names it."""


def _check(result: int) -> int:
    """Turn the -1 of a C call into the OSError that the os module would raise."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _prctl(option: int, value: int, *rest: int) -> int:
    """prctl(2); whole machine words, because the kernel insists that unused ones are zero."""
    words = [ctypes.c_ulong(number) for number in (value, *rest, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *words))


def restrict_system_calls(channel: int) -> None:
    """Install the filter for this process and all its later threads (seccomp, mode 2)."""
    machine = platform.machine()
    try:
        rows = filter_rows(machine, os.getpid(), channel)
    except KeyError:
        raise Missing(f"a system-call filter for the machine type {machine!r}") from None

    class Row(ctypes.Structure):
        _fields_ = [
            ("code", ctypes.c_uint16),
            ("true", ctypes.c_uint8),
            ("false", ctypes.c_uint8),
            ("k", ctypes.c_uint32),
        ]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("rows", ctypes.POINTER(Row))]

    program = Program(len(rows), (Row * len(rows))(*(Row(*row) for row in rows)))
    _prctl(22, 2, ctypes.addressof(program))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


# ---- files, privileges, limits ----


def restrict_files(folder: str, readable: list[str]) -> None:
    """Landlock: full use of `folder`, reading below `readable`, nothing else."""
    create, add, restrict = (ctypes.c_long(number) for number in (444, 445, 446))
    abi = _check(_libc.syscall(create, None, 0, 1))
    n_rights = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    everything = (1 << n_rights) - 1
    handled = ctypes.c_uint64(everything)
    size = ctypes.c_size_t(8)
    rules = _check(_libc.syscall(create, ctypes.byref(handled), size, 0))
    read_file, read_folder, write_file = 0x4, 0x8, 0x2
    inside = everything & ~(1 | 1 << 6 | 1 << 11 | 1 << 15)  # no execution, no devices
    wanted = [(folder, inside), ("/dev/null", read_file | write_file)]
    wanted += [(path, read_file | read_folder) for path in readable]
    for path, rights in wanted:
        if not os.path.exists(path):
            continue
        where = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):
            rights &= read_file | write_file
        rule = rights.to_bytes(8, sys.byteorder) + where.to_bytes(4, sys.byteorder)
        _check(_libc.syscall(add, rules, 1, rule, 0))
        os.close(where)
    _check(_libc.syscall(restrict, rules, 0))
    os.close(rules)


def drop_privileges() -> None:
    """Give up every capability; root is then an ordinary user that owns root's files."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def limit_resources(settings: dict) -> None:
    """Memory, processor time, size and number of files, no memory dump."""
    seconds, memory = settings["cpu_seconds"], settings["memory"]
    limits = {
        # 1 byte, not 0: a dump handed to a program is stopped by 1 only, see core(5)
        resource.RLIMIT_CORE: (1, 1),
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_FSIZE: (settings["file_size"],) * 2,
        resource.RLIMIT_NOFILE: (settings["open_files"],) * 2,
        resource.RLIMIT_AS: (memory, memory),
    }
    for kind, (soft, hard) in limits.items():
        _, allowed = resource.getrlimit(kind)
        if allowed != resource.RLIM_INFINITY:
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.setrlimit(kind, (soft, hard))


def verify(folder: str, caller: int) -> None:
    """Try what must fail; a rule that does not hold here is a reason not to run at all."""
    outside = os.path.join(os.path.dirname(folder), "outside")
    attempts = {
        "no write outside the folder": lambda: os.open(outside, os.O_WRONLY | os.O_CREAT),
        "no network": lambda: _check(_libc.socket(2, 1, 0)),
        "no signal to the caller": lambda: os.kill(caller, 0),
        "no new process": os.fork,
    }
    for claim, attempt in attempts.items():
        try:
            attempt()
        except PermissionError:
            continue
        raise Missing(claim)


def follow_caller(caller: int) -> None:
    """Die with the caller, and start with the signals as a fresh process has them."""
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != caller:
        raise Missing("a living caller")
    python_ignores = {signal.SIGPIPE, signal.SIGXFSZ}
    for number in signal.valid_signals() - python_ignores:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def same_python(version: str) -> None:
    """Code travels compiled, so both sides must be the same Python."""
    if version != sys.version:
        raise Missing(f"the caller's Python at {sys.executable}, which is {sys.version}")


def lock(settings: dict) -> None:
    """Put every protection in place, in the order in which they need one another."""
    folder, caller = settings["folder"], settings["caller"]
    steps = {
        "the caller's Python": lambda: same_python(settings["python"]),
        "the end together with the caller": lambda: follow_caller(caller),
        "limits on memory, time and files": lambda: limit_resources(settings),
        "no new privileges": lambda: _prctl(38, 1),
        "file access rules (Landlock)": lambda: restrict_files(folder, settings["readable"]),
        "giving up capabilities": drop_privileges,
        "a system-call filter (seccomp)": lambda: restrict_system_calls(settings["channel"]),
        "a check of all of these": lambda: verify(folder, caller),
    }
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            raise Missing(f"{name}: {error.strerror}") from error


def main() -> None:
    """Read the settings from standard input, lock, judge the program."""
    settings = json.load(sys.stdin.buffer)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    write, leave, channel = os.write, os._exit, settings["channel"]
    for name in [name for name in sys.modules if name.split(".")[0] == "sklopa"]:
        del sys.modules[name]  # this stripped package is nothing that a program should import
    sys.path += settings["site_packages"]
    try:
        lock(settings)
    except Exception as error:
        write(channel, f"missing {error}".encode())
        leave(1)
    write(channel, b"ready\n")
    failure = judge(settings["program"], channel, settings["site_packages"])
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - no contextlib: foreign code may have replaced what it relies on
            stream.flush()
        except BaseException:  # replaced or closed by the program; its output is not the point
            pass
    write(channel, failure)
    leave(0)
