"""Follow a locked process from outside: take its output, stop it at the first broken limit.

These limits are counted, once in 20 ms, because no limit of the kernel says the same: the
number of processes is not limited for root, and the size of a file says nothing about their
number. What the process could do faster than that is described in ``run.py``.
"""

import os
import selectors
import subprocess
import time
from typing import BinaryIO

from sklopa.errors import SandboxUnavailable

_MAX_WRITTEN = 64 * 2**20  # bytes, output and files together
_MAX_FILES = 1000
_MAX_THREADS = 64
_OUTPUT_TAIL = 4096  # bytes
_MESSAGE = 2048  # bytes
_TICK = 0.02  # seconds between two looks at the program
_START_SECONDS = 60.0  # for the interpreter, before the program's own clock starts


class Follower:
    """Drains a running program and stops it at the first limit that it breaks."""

    def __init__(self, process: subprocess.Popen, channel: int, folder: str, timeout: float):
        self.process, self.channel, self.folder = process, channel, folder
        self.timeout = timeout
        self.tail = bytearray()  # the end of the output
        self.message = bytearray()  # the start of what came through the channel
        self.broken: str | None = None  # the limit
        self._deadline = time.monotonic() + _START_SECONDS
        self._ready, self._next_look = False, 0.0
        self._counters: BinaryIO | None = None

    def follow(self) -> None:
        """Return when the program has ended by itself or a limit is broken.

        Raises
        ------
        SandboxUnavailable
            When the process cannot be watched.
        """
        output = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector, self._open_counters():
            selector.register(output, selectors.EVENT_READ, self._keep_end)
            selector.register(self.channel, selectors.EVENT_READ, self._keep_start)
            while selector.get_map() and self.broken is None:
                # Asked before reading: what it said until its end is then in the pipes.
                ended = self.process.poll() is not None
                events = selector.select(_TICK)
                for key, _ in events:
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                    key.data(chunk)
                # A process that another thread forked meanwhile may hold the pipes open, so
                # their end is not what is waited for.
                if ended and not events:
                    return
                self._look()

    def _open_counters(self) -> BinaryIO:
        # Opened before the program runs: a process that is about to end hides them from its
        # owner, but what is open stays readable.
        path = f"/proc/{self.process.pid}/io"
        try:
            self._counters = open(path, "rb", buffering=0)  # noqa: SIM115 - follow() closes it
        except OSError as error:
            raise SandboxUnavailable(
                f"Generated code cannot be watched here: {path} cannot be read "
                f"({error.strerror}). Use an interpreter that runs without file capabilities."
            ) from error
        return self._counters

    def _keep_end(self, chunk: bytes) -> None:
        self.tail += chunk
        del self.tail[:-_OUTPUT_TAIL]

    def _keep_start(self, chunk: bytes) -> None:
        # The locked process speaks first; a flood by the program must not push that out.
        self.message += chunk
        del self.message[_MESSAGE:]

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _TICK
        if not self._ready and self.message:
            self._ready, self._deadline = True, now + self.timeout
        if now > self._deadline:
            self.broken = "timeout"
        elif self._ready and self.process.poll() is None:
            self.broken = self._broken_limit()

    def _broken_limit(self) -> str | None:
        """Name the limit that the process has broken, if any."""
        try:
            n_threads = len(os.listdir(f"/proc/{self.process.pid}/task"))
            self._counters.seek(0)
            _, _, rest = self._counters.read().partition(b"wchar: ")
        except (FileNotFoundError, ProcessLookupError):  # ended; the caller ignores SIGCHLD
            return None
        if n_threads > _MAX_THREADS:
            return "threads"
        if int(rest.split()[0]) > _MAX_WRITTEN:
            return "output"
        return "files" if _has_many_files(self.folder) else None


def _has_many_files(folder: str) -> bool:
    """Count files and folders, no further than the limit: the caller's time is limited too."""
    pending, count = [folder], 0
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > _MAX_FILES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError:  # nested deeper than a path is long, or closed to its owner
            return True
    return False
