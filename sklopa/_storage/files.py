"""Folders and zip files of JSON and safetensors: written whole or not at all, read with limits.

A manifest names every other file with its SHA-256, and carries one of itself. In a folder it is
replaced last and at once, and what it names has a name that follows from its content: whatever
interrupts the writing, the old archive or the new one is there.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from sklopa._cache.content import sha256_of
from sklopa.errors import InvalidArchive, NotWritten

MANIFEST, LOCK = "manifest.json", "lock"
OURS = re.compile(r"(weights-[0-9a-f]{16}\.safetensors|(backbone|encoder)-[0-9a-f]{16})")
_UNFINISHED = re.compile(r"(weights|backbone|encoder|manifest).*\.part")

Models = dict[str, Callable[[Path], None]]  # name -> what writes the model into a folder


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
        if path.suffix == ".zip":
            _write_zip(path, {named["file"]: tensors, MANIFEST: seal(manifest)})
        else:
            _write_folder(path, manifest, tensors, models or {})
    except NotWritten:
        raise
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise NotWritten(
            f"{str(path)!r} could not be written ({error}). What was there before is unchanged; "
            "free some space or give another path."
        ) from error


def refused(reason: str) -> InvalidArchive:
    """The error for an archive that is damaged or not to be trusted."""
    return InvalidArchive(
        f"This archive is damaged, or was not written by sklopa: {reason}. Nothing of it was used; "
        "take another copy, or save the estimator again."
    )


# ---------------------------------------------------------------- how it is written


def seal(manifest: dict) -> bytes:
    """The manifest as it is written, with a hash of all the rest of it."""
    return json.dumps(manifest | {"sha256": sum_of(manifest)}, indent=1).encode()


def sum_of(manifest: dict) -> str:
    """SHA-256 of a manifest without the one that it carries."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_folder(folder: Path, manifest: dict, tensors: bytes, models: Models) -> None:
    new = not folder.exists()
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _writing_in(folder):
        try:
            _put(folder / manifest["weights"]["file"], tensors)
            described = {name: _put_model(folder, name, save) for name, save in models.items()}
            _put(folder / MANIFEST, seal(manifest | {"models": described}))
        except BaseException:
            if new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        kept = {manifest["weights"]["file"], *(model["folder"] for model in described.values())}
        for entry in folder.iterdir():  # what the manifest before this one named
            if entry.name not in kept and _is_ours(entry.name) and entry.name != MANIFEST:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _is_ours(name: str) -> bool:
    return name == MANIFEST or bool(OURS.fullmatch(name) or _UNFINISHED.fullmatch(name))


def check_free(folder: Path) -> None:
    """Raise `NotWritten` if a folder holds what is not ours."""
    names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    alien = [name for name in names if name != LOCK and not _is_ours(name)]
    if alien and MANIFEST not in names:
        raise NotWritten(
            f"{str(folder)!r} holds other files, such as {alien[0]!r}; nothing was written. "
            "Give a folder that is empty or not there yet."
        )


def _put_model(folder: Path, name: str, save: Callable[[Path], None]) -> dict:
    """A model in a folder of its own, named after its content."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-", suffix=".part") as temporary:
        save(Path(temporary))
        files = hash_files(Path(temporary))
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        target = folder / f"{name}-{digest[:16]}"
        if not target.exists():
            shutil.copytree(temporary, f"{target}.part", dirs_exist_ok=True)
            os.replace(f"{target}.part", target)
    return {"folder": target.name, "files": files}


def _write_zip(path: Path, entries: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _put(path: Path, data: bytes) -> None:
    with _replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that takes the place of `path` when all of it is on the disk."""
    # The name is our own among processes and threads that write to one path.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _writing_in(folder: Path) -> FileLock:
    """What is held while a folder is written.

    It stands elsewhere, so that the folder holds nothing but the archive.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir(), f"sklopa-{getpass.getuser()}-{name}.lock"))


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
