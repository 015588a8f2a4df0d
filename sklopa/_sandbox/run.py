"""Run one Python program that nobody vouches for, in a process of its own.

Used to score generated code. :func:`run_isolated` is the only entry; what happens inside the
new process is in ``child.py`` (the locks) and ``judge.py`` (the program and its test), and what
watches it from outside in ``watch.py``.

What holds, on Linux (x86_64 and aarch64), for root and for an ordinary user alike, without any
privilege and inside containers:

===================== =============================================================== ==========
claim                 how                                                             by
===================== =============================================================== ==========
one process           no fork, no exec, no daemon, so that one kill ends everything   seccomp
threads               64                                                              the caller
no network            no socket of any family                                         seccomp
no harm to others     no signal, trace, priority or limit of another process          seccomp
files                 writes only in an empty folder that is removed afterwards;      Landlock
                      reads only there, in the Python installation and in /usr, /lib
privileges            all capabilities are given up, none can be gained               capset,
                                                                                      no_new_privs
memory                address space limited, no shared or named memory                RLIMIT_AS
time                  wall clock, processor time                                      the caller
disk                  64 MiB written in all, 16 MiB a file, 1000 files, 64 open        the caller
secrets               bare environment, no inherited file descriptor, no /proc        exec
===================== =============================================================== ==========

The locked process tries four forbidden things before it runs the program and refuses to go on
when one of them works. Where a protection is missing (another system, a kernel before 5.13 or
one that was started without Landlock, another machine type),
:class:`~sklopa.errors.SandboxUnavailable` names it: a program never runs with less.

This is a guard rail against faulty and careless programs, not a security boundary: the kernel
is shared, and threads and files are counted every 20 ms and not at every call. Programs that
somebody wrote to attack belong in a virtual machine.
"""

import functools
import json
import math
import os
import platform
import secrets
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sklopa._sandbox.judge import KEY_SIZE, compile_test
from sklopa._sandbox.watch import Follower
from sklopa.errors import InvalidInput, SandboxUnavailable

_MIB = 2**20
_SMALLEST_MEMORY = 64  # MiB; the interpreter alone needs about half of it
_FILE_SIZE = 16 * _MIB
_OPEN_FILES = 64

# The package without its __init__, which would import scikit-learn. The folder of a script would
# come first in sys.path, where private modules here hide those of the standard library.
_PACKAGE = str(Path(__file__).parents[1])
_LAUNCH = """
import sys, types
del sys.path[0]
package = sys.modules["sklopa"] = types.ModuleType("sklopa")
package.__path__ = [sys.argv[1]]
from sklopa._sandbox.child import main
main()
"""
_REMEDY = "Run on Linux 5.13 or newer (x86_64, aarch64), for example in a virtual machine."


@dataclass(frozen=True)
class SandboxResult:
    """What became of one program.

    Attributes
    ----------
    passed : bool
        True when program and test ran to their end without an exception.
    reason : str
        ``"passed"``; ``"failed"``: an exception, a syntax error included; ``"exited"``: it
        left before its end, or meddled with the answer; ``"timeout"``; ``"memory"``;
        ``"threads"``: more than 64; ``"output"``: more than 64 MiB written; ``"files"``: more
        than 1000 files and folders; ``"crashed"``: killed by a signal such as SIGSEGV.
    output : str
        The end of standard output and standard error, 4 KiB at most.
    """

    passed: bool
    reason: str
    output: str


def run_isolated(
    program: str, test: str = "", *, timeout: float = 5.0, memory_limit: float = 512
) -> SandboxResult:
    """Run a program, then a test in the same namespace, in a locked process of its own.

    See the top of the module for what the process can and cannot do. Both texts run as
    ``__main__``; the process is sent the test when the program has ended, be it with
    ``sys.exit(0)``, and its threads with it. Packages of the interpreter's site-packages folder
    can be imported, those of a user's home folder cannot. Standard input is empty, the hash
    seed is 0, the time zone UTC. ``chmod`` and ``utime`` pretend success and change nothing.
    System calls newer than Linux 6.1, ``mmap`` of files with write-back and sub-processes fail.

    Parameters
    ----------
    program, test : str
        Python source. The test is compiled here, without line numbers.
    timeout : float, default=5.0
        Wall-clock seconds for both, from the moment the interpreter is ready.
    memory_limit : float, default=512
        MiB of address space, 64 or more, of which the interpreter takes about 30.

    Returns
    -------
    SandboxResult

    Raises
    ------
    SandboxUnavailable
        When a promised protection cannot be put in place here.
    InvalidInput
        When a limit cannot be used; see :func:`check_limits`.
    """
    check_limits(timeout, memory_limit)
    _refuse_other_systems()
    try:
        compiled = compile_test(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return SandboxResult(False, "failed", f"the test is not valid Python: {error}")
    base = tempfile.mkdtemp(prefix="sklopa-")
    try:
        folder = os.path.join(base, "work")
        os.mkdir(folder, 0o700)
        settings = {
            "program": program,
            "python": sys.version,
            "folder": os.path.realpath(folder),
            "memory": int(memory_limit * _MIB),
            "cpu_seconds": int(timeout) + 2,
        }
        return _run(settings, compiled, timeout)
    finally:
        _remove_tree(base)


def check_limits(timeout: float, memory_limit: float) -> None:
    """Refuse a time that is not positive and finite, and less memory than the interpreter needs."""
    if not 0 < timeout < math.inf:
        raise InvalidInput(f"timeout is {timeout!r}; it must be a positive number of seconds.")
    if not _SMALLEST_MEMORY <= memory_limit < math.inf:
        raise InvalidInput(
            f"memory_limit is {memory_limit!r} MiB; it must be a finite number, and the "
            f"interpreter itself needs {_SMALLEST_MEMORY}."
        )


def _refuse_other_systems() -> None:
    """Say which system is missing before anything is started."""
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"Generated code cannot be confined on {sys.platform!r}: file access rules "
            f"(Landlock) and a system-call filter (seccomp) are features of Linux. {_REMEDY}"
        )
    if not os.path.exists("/proc/self/io"):
        raise SandboxUnavailable(
            "Generated code cannot be watched here: /proc/self/io does not exist. Mount /proc, "
            "or use a kernel with task I/O accounting."
        )
    if not sys.executable:
        raise SandboxUnavailable(
            f"sys.executable is {sys.executable!r}: no interpreter to start. Run from an "
            "ordinary Python process."
        )


@functools.cache
def _installation() -> dict:
    """Folders that the program may import from and read."""
    packages = [path for path in site.getsitepackages() if os.path.isdir(path)]
    paths = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *packages]
    paths += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += ["/usr", "/lib", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache"]
    paths += ["/dev/urandom", "/dev/random", "/dev/zero"]
    readable = sorted({os.path.realpath(path) for path in paths} - {"/"})
    return {"site_packages": packages, "readable": readable}


def _environment(folder: str) -> dict[str, str]:
    """Write the whole environment: nothing of the caller's is passed on."""
    one_thread = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",  # the same program gives the same result every time
        **dict.fromkeys(one_thread, "1"),  # each thread of a pool would reserve address space
    }


def _run(settings: dict, test: bytes, timeout: float) -> SandboxResult:
    """Start the locked process, follow it to its end, read off what happened."""
    key = secrets.token_bytes(KEY_SIZE)
    channel, far_end = socket.socketpair()
    settings |= {"channel": far_end.fileno(), "caller": os.getpid(), **_installation()}
    settings |= {"file_size": _FILE_SIZE, "open_files": _OPEN_FILES}
    with channel:
        with far_end:
            channel.sendall(key)
            process = _start(settings, far_end.fileno())
        try:
            follower = Follower(process, channel, test, settings["folder"], timeout)
            follower.follow()
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None  # it was started with a pipe
            process.stdout.close()
    reason = _reason(follower, process.returncode, key)
    return SandboxResult(reason == "passed", reason, follower.tail.decode(errors="replace"))


def _start(settings: dict, channel: int) -> subprocess.Popen:
    """Start the interpreter; the settings travel as a file in memory, so no pipe can fill."""
    # -S: no .pth file runs; -s: no packages of the home folder; -B: no compiled files.
    command = [sys.executable, "-s", "-S", "-B", "-X", "utf8", "-c", _LAUNCH, _PACKAGE]
    with open(os.memfd_create("settings"), "w+b") as stdin:
        stdin.write(json.dumps(settings).encode())
        stdin.seek(0)
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=(channel,),
            cwd=settings["folder"],
            env=_environment(settings["folder"]),
            start_new_session=True,
        )


def _reason(follower: Follower, returncode: int, key: bytes) -> str:
    """Read the outcome from what the process said; only the key, in its time, says "passed"."""
    ready, _, said = bytes(follower.message).partition(b"\n")
    if ready != b"ready":
        missing = ready.removeprefix(b"missing ").decode(errors="replace")
        missing = missing or follower.tail.decode(errors="replace").strip() or "it did not start"
        raise SandboxUnavailable(
            f"Generated code cannot be confined here; missing: {missing} (machine "
            f"{platform.machine()}, kernel {platform.release()}). {_REMEDY}"
        )
    if follower.answer == key:
        return "passed"
    if follower.broken:
        return follower.broken
    outcome = bytes(follower.answer) or said
    if outcome in (b"failed", b"memory", b"exited"):
        return outcome.decode()
    if returncode >= 0:
        return "exited"
    return "timeout" if returncode == -24 else "crashed"  # 24: SIGXCPU


def _remove_tree(base: str) -> None:
    """Remove a folder however deep it is nested, following no link.

    Each folder is first moved up to the top, so that no path gets long and nothing recurses;
    `shutil.rmtree` recurses and gives up on a thousand levels.
    """
    pending = [os.path.join(base, name) for name in os.listdir(base)]
    count = 0
    while pending:
        folder = pending.pop()
        if not os.path.isdir(folder) or os.path.islink(folder):
            os.unlink(folder)
            continue
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    count += 1
                    os.chmod(entry.path, 0o700)
                    pending.append(os.path.join(base, f"{count}"))
                    os.rename(entry.path, pending[-1])
                else:
                    os.unlink(entry.path)
        os.rmdir(folder)
    shutil.rmtree(base, ignore_errors=True)
