"""Follow a locked process from outside: send it its test, stop it at the first broken limit.

These limits are counted, once in 20 ms, because no limit of the kernel says the same: the
number of processes is not limited for root, and the size of a file says nothing about their
number. What the process could do faster than that is described in ``run.py``.
"""

import os
import selectors
import socket
import subprocess
import time
from typing import BinaryIO

from sklopa._sandbox.judge import ENDED
from sklopa.errors import SandboxUnavailable

_MAX_WRITTEN = 64 * 2**20  # bytes, output and files together
_MAX_FILES = 1000
_MAX_THREADS = 64
_OUTPUT_TAIL = 4096  # bytes
_MESSAGE = 2048  # bytes
_BEFORE_TEST = b"ready\n" + ENDED
_TICK = 0.02  # seconds between two looks at the program
_START_SECONDS = 60.0  # for the interpreter, before the program's own clock starts


class Follower:
    """Drains a running program, sends it its test, stops it at the first limit that it breaks."""

    def __init__(
        self,
        process: subprocess.Popen,
        channel: socket.socket,
        test: bytes,
        folder: str,
        timeout: float,
    ):
        self.process, self.channel, self.folder = process, channel, folder
        self.timeout = timeout
        self.tail = bytearray()  # the end of the output
        self.message = bytearray()  # the start of what came through the channel before the test
        self.answer = bytearray()  # and after it
        self.broken: str | None = None  # the limit
        self._unsent = memoryview(test)
        self._deadline = time.monotonic() + _START_SECONDS
        self._ready, self._next_look, self._tick = False, 0.0, _TICK
        self._counters: BinaryIO  # from _open_counters

    def follow(self) -> None:
        """Return when the program has ended by itself or a limit is broken.

        Raises
        ------
        SandboxUnavailable
            When the process cannot be watched.
        """
        assert self.process.stdout is not None  # it was started with a pipe
        output = self.process.stdout.fileno()
        self.channel.setblocking(False)
        with selectors.DefaultSelector() as selector, self._open_counters():
            selector.register(output, selectors.EVENT_READ, self._keep_end)
            selector.register(self.channel, selectors.EVENT_READ, self._keep_start)
            while selector.get_map() and self.broken is None:
                # Asked before reading: what it said until its end is then in the pipes.
                ended = self.process.poll() is not None
                events = selector.select(self._tick)
                for key, _ in events:
                    chunk = _read(key.fd)
                    if not chunk:
                        selector.unregister(key.fd)
                    key.data(chunk)
                # A process that another thread forked meanwhile may hold the pipes open, so
                # their end is not what is waited for.
                if ended and not events:
                    return
                if self.message == _BEFORE_TEST and self._unsent:
                    self._send()
                self._look()

    def _send(self) -> None:
        """Send the test, as much as the channel takes now, and its end."""
        try:
            while self._unsent:
                n_sent = self.channel.send(self._unsent, socket.MSG_NOSIGNAL)
                self._unsent = self._unsent[n_sent:]
            self.channel.shutdown(socket.SHUT_WR)
        except BlockingIOError:  # full: look again soon
            self._tick = _TICK / 20
        except OSError:  # the process is gone
            pass

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
        kept = self.message if self._unsent else self.answer
        kept += chunk
        del kept[_MESSAGE:]

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


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except ConnectionResetError:  # ended before it read what was sent to it
        return b""


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
