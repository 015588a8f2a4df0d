"""One at a time: locks on files that are opened without following links, and never cut.

`filelock` empties what it opens: a file of that name in a user's folder.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class Busy(Exception):
    """Another process, or another thread, holds the lock."""


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file, which stays where it is afterwards.

    Raises
    ------
    Busy
        If somebody else holds it, unless it is waited for.
    OSError
        If `path` is a link, or no regular file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path.name} is no regular file")
        while not _take(handle):
            if not wait:
                raise Busy
            time.sleep(0.01)
        try:
            yield
        finally:
            _leave(handle)
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Windows has the second for the same
        return False
    return True


def _leave(handle: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextlib.contextmanager
def writing_at(path: Path) -> Iterator[None]:
    """What is held while an archive is written.

    It stands in a folder of this user's own elsewhere, so that a folder that is written holds
    nothing but the archive.
    """
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with held_by_user(name):
        yield


@contextlib.contextmanager
def held_by_user(name: str) -> Iterator[None]:
    """What is held by one process, or thread, of this user at a time; others wait."""
    with locked(_own_folder() / f"{name}.lock", wait=True):
        yield


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"sklopa-{getpass.getuser()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == getattr(os, "getuid", int)()
    if sys.platform != "win32" and not is_own:
        raise OSError(f"{str(folder)!r} belongs to somebody else; remove it, or set TMPDIR")
    return folder
