"""Folders and zip files of JSON and safetensors: written whole or not at all, read with limits.

A manifest names every other file with its SHA-256, and carries one of itself. In a folder it is
replaced last and at once, and what it names has a name that follows from its content: whatever
interrupts the writing, the old archive or the new one is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sklopa._cache.content import sha256_of
from sklopa._storage.lock import writing_at
from sklopa._storage.single_values import refused
from sklopa.errors import InvalidArchive, InvalidInput, NotWritten

MANIFEST, LOCK = "manifest.json", "lock"
# A manifest that is longer, or has more tables and lists, is none of ours, whatever it says.
MOST_MANIFEST_BYTES, MOST_TABLES = 8 << 20, 200_000
OURS = re.compile(r"(weights-[0-9a-f]{16}\.safetensors|(backbone|encoder)-[0-9a-f]{16})")
# Names while something is written: with a number that nobody guesses, or as earlier versions did.
_PART = r"\.([0-9a-f]{16}|\d+-\d+)\.part"
_UNFINISHED = re.compile(
    rf"(manifest\.json|weights-[0-9a-f]{{16}}\.safetensors){_PART}"
    r"|(backbone|encoder)-([0-9a-f]{16}|[a-z0-9_]{8})\.part"
)

Models = dict[str, Callable[[Path], None]]  # name -> what writes the model into a folder


def is_zip(path: Path) -> bool:
    """Whether an archive of that name is a zip file, and not a folder."""
    return path.suffix.lower() == ".zip"


def write(path: Path, manifest: dict, tensors: bytes, models: Models | None = None) -> None:
    """Write an archive: a zip file where the name ends so, else a folder.

    Raises
    ------
    NotWritten
        If it cannot be written. What was there before still is.
    """
    digest = hashlib.sha256(tensors).hexdigest()
    named = {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest}
    manifest = manifest | {"weights": named}
    try:
        with writing_at(path):
            if is_zip(path):
                _write_zip(path, {named["file"]: tensors, MANIFEST: seal(manifest)})
            else:
                _write_folder(path, manifest, tensors, models or {})
    except (NotWritten, InvalidInput):
        raise
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise NotWritten(
            f"{str(path)!r} could not be written ({error}). What was there before is unchanged; "
            "free some space or give another path."
        ) from error


# ---------------------------------------------------------------- how it is written


def seal(manifest: dict) -> bytes:
    """The manifest as it is written, with a hash of all the rest of it."""
    data = json.dumps(manifest | {"sha256": sum_of(manifest)}, indent=1).encode()
    if problem := too_long(data):
        raise InvalidInput(
            f"The estimator cannot be saved: its manifest {problem}; use joblib.dump."
        )
    return data


def too_long(data: bytes) -> str | None:
    """What is too much about a manifest, before it is read; None if it is as ours are."""
    if len(data) > MOST_MANIFEST_BYTES:
        return f"has {len(data)} bytes, over the limit of {MOST_MANIFEST_BYTES}"
    n_tables = data.count(b"{") + data.count(b"[")
    return (
        f"has {n_tables} tables, over the limit of {MOST_TABLES}"
        if n_tables > MOST_TABLES
        else None
    )


def sum_of(manifest: dict) -> str:
    """SHA-256 of a manifest without the one that it carries."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_folder(folder: Path, manifest: dict, tensors: bytes, models: Models) -> None:
    new = not folder.exists()
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before = _named_in(folder)
    try:
        put(folder / manifest["weights"]["file"], tensors)
        described = {name: _put_model(folder, name, save) for name, save in models.items()}
        put(folder / MANIFEST, seal(manifest | {"models": described}))
    except BaseException:
        _sweep(folder, before, _named_in(folder))
        if new:
            with contextlib.suppress(OSError):  # somebody else put something there
                folder.rmdir()
        raise
    _sweep(folder, before, _named_in(folder))


def _named_in(folder: Path) -> set[str]:
    """What the manifest of a folder names, and the manifest; nothing if there is none."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, MOST_MANIFEST_BYTES))
    except (FileNotFoundError, InvalidArchive):
        return set()
    models = (manifest.get("models") or {}).values()
    return {MANIFEST, manifest["weights"]["file"], *(model["folder"] for model in models)}


def _sweep(folder: Path, before: set[str], kept: set[str]) -> None:
    """Remove what the manifest before named and the one now does not, and what was not finished."""
    for entry in folder.iterdir():
        if entry.name not in kept and (entry.name in before or _is_ours(entry)):
            is_folder = entry.is_dir() and not entry.is_symlink()
            shutil.rmtree(entry) if is_folder else entry.unlink(missing_ok=True)


def _is_ours(entry: Path) -> bool:
    """Whether it has a name of ours, and the content that the name tells."""
    if _UNFINISHED.fullmatch(entry.name):
        return True
    if not OURS.fullmatch(entry.name) or entry.is_symlink():
        return False
    named = re.split(r"[-.]", entry.name)[1]
    if entry.name.startswith("weights-"):
        return entry.is_file() and sha256_of(entry).startswith(named)
    try:
        return entry.is_dir() and _digest_of(hash_files(entry)).startswith(named)
    except InvalidArchive:
        return False


def check_free(folder: Path) -> None:
    """Raise `NotWritten` if a folder holds what is not ours."""
    entries = list(folder.iterdir()) if folder.exists() else []
    if folder / MANIFEST in entries:
        if not _is_manifest(folder / MANIFEST):
            raise NotWritten(
                f"{str(folder)!r} holds a {MANIFEST} that sklopa did not write, or that is "
                "damaged; nothing was written. Give another folder, or remove that file."
            )
        return
    alien = [entry.name for entry in entries if entry.name != LOCK and not _is_ours(entry)]
    if alien:
        raise NotWritten(
            f"{str(folder)!r} holds other files, such as {alien[0]!r}; nothing was written. "
            "Give a folder that is empty or not there yet."
        )


def _is_manifest(path: Path) -> bool:
    """Whether a file is a manifest of ours: of an archive or a checkpoint, with its own hash."""
    try:
        data = read_regular(path, MOST_MANIFEST_BYTES)
        manifest = None if too_long(data) else json.loads(data)
    except (InvalidArchive, OSError, ValueError, RecursionError):
        return False
    if not isinstance(manifest, dict) or not isinstance(manifest.get("weights"), dict):
        return False
    is_one = {"format", "estimator"} <= manifest.keys() or "checkpoint" in manifest
    return is_one and manifest.get("sha256") == sum_of(manifest)


def _put_model(folder: Path, name: str, save: Callable[[Path], None]) -> dict:
    """A model in a folder of its own, named after its content."""
    temporary = folder / f"{name}-{secrets.token_hex(8)}.part"
    temporary.mkdir()
    try:
        save(temporary)
        files = hash_files(temporary)
        target = folder / f"{name}-{_digest_of(files)[:16]}"
        if not _holds(target, files):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"folder": target.name, "files": files}


def _digest_of(files: dict[str, str]) -> str:
    """SHA-256 of what `hash_files` tells of a folder."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _holds(folder: Path, files: dict[str, str]) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    try:
        return hash_files(folder) == files
    except InvalidArchive:
        return False


def _write_zip(path: Path, entries: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = re.compile(re.escape(path.name) + _PART)
    for entry in path.parent.iterdir():  # of a writer that was killed: nobody else writes now
        if unfinished.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
    with _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def put(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    with _replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that takes the place of `path` when all of it is on the disk."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path there."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise refused(f"{path.name} is a link or no file")
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = sha256_of(path)
    return files


def read_regular(path: Path, limit: int | None = None, n_bytes: int | None = None) -> bytes:
    """The bytes of a regular file: looked at, checked and read through one handle.

    Parameters
    ----------
    limit : int, bytes that it may have
    n_bytes : int, bytes to read from its start; None for all

    Raises
    ------
    InvalidArchive
        If it is a pipe, a device or a folder, or too long.
    FileNotFoundError
        If it is not there.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except (IsADirectoryError, PermissionError) as error:
        raise refused(f"{path.name} is no regular file, or may not be read") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise refused(f"{path.name} is no regular file")
    with os.fdopen(handle, "rb") as file:
        if limit is not None and status.st_size > limit:
            raise refused(f"{path.name} has {status.st_size} bytes, over the limit of {limit}")
        return file.read(status.st_size if n_bytes is None else n_bytes)
