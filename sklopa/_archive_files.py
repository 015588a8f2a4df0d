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
import shutil
import stat
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sklopa.errors import ArchiveNotFound, InvalidArchive, NotWritten

MANIFEST, LOCK = "manifest.json", "lock"
_MOST_MANIFEST_BYTES = 64 << 20
# Weights hardly shrink, and text not a hundredfold: more is a bomb.
_MOST_SHRUNK, _FREE_BYTES = 100, 1 << 20
_OURS = re.compile(r"(weights-[0-9a-f]{16}\.safetensors|(backbone|encoder)-[0-9a-f]{16})")
_UNFINISHED = re.compile(r"(weights|backbone|encoder|manifest).*\.part")
# What a model in a folder may consist of. None of it is code, and none a pickle.
_MODEL_FILES = {".json", ".safetensors", ".txt", ".model", ".jinja"}

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
            _write_zip(path, {named["file"]: tensors, MANIFEST: _seal(manifest)})
        else:
            _write_folder(path, manifest, tensors, models or {})
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(
            f"{str(path)!r} could not be written ({error}). What was there before is unchanged; "
            "free some space or give another path."
        ) from error


def read(path: Path) -> tuple[dict, bytes]:
    """Manifest and weights of an archive, with all hashes checked.

    Raises
    ------
    ArchiveNotFound
        If there is none.
    InvalidArchive
        If it is damaged, or not as sklopa writes it.
    """
    try:
        if path.is_dir():
            return _check(lambda name, limit: _read_file(path / name, limit), folder=path)
        if path.is_file():
            with _zip_reader(path) as read_entry:
                return _check(read_entry, folder=None)
    except OSError as error:
        raise ArchiveNotFound(f"{str(path)!r} could not be read: {error}") from error
    except InvalidArchive:
        raise
    except Exception as error:  # damaged zip files end in errors of many kinds
        raise refused(f"{path} cannot be read: {error}") from error
    raise ArchiveNotFound(f"There is no archive at {str(path)!r}; give the path that save had.")


def refused(reason: str) -> InvalidArchive:
    """The error for an archive that is damaged or not to be trusted."""
    return InvalidArchive(
        f"This archive is damaged, or was not written by sklopa: {reason}. Nothing of it was used; "
        "take another copy, or save the estimator again."
    )


# ---------------------------------------------------------------- writing


def _seal(manifest: dict) -> bytes:
    """The manifest as it is written, with a hash of all the rest of it."""
    return json.dumps(manifest | {"sha256": _sum_of(manifest)}, indent=1).encode()


def _sum_of(manifest: dict) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_folder(folder: Path, manifest: dict, tensors: bytes, models: Models) -> None:
    new = not folder.exists()
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        try:
            _put(folder / manifest["weights"]["file"], tensors)
            described = {name: _put_model(folder, name, save) for name, save in models.items()}
            _put(folder / MANIFEST, _seal(manifest | {"models": described}))
        except BaseException:
            if new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        kept = {manifest["weights"]["file"], *(model["folder"] for model in described.values())}
        for entry in folder.iterdir():  # what the manifest before this one named
            if entry.name not in kept and _is_ours(entry.name) and entry.name != MANIFEST:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _is_ours(name: str) -> bool:
    return name == MANIFEST or bool(_OURS.fullmatch(name) or _UNFINISHED.fullmatch(name))


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
        files = _hash_files(Path(temporary))
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


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process writes into a folder, and keep the others out."""
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---------------------------------------------------------------- reading


def _check(read_entry: Callable[[str, int | None], bytes], folder: Path | None) -> tuple:
    manifest = _parse(read_entry(MANIFEST, _MOST_MANIFEST_BYTES))
    if manifest.get("sha256") != _sum_of(manifest):
        raise refused(f"{MANIFEST} does not match its own SHA-256")
    weights = manifest.get("weights")
    if not isinstance(weights, dict) or not _OURS.fullmatch(str(weights.get("file"))):
        raise refused(f"{MANIFEST} names no weights")
    tensors = read_entry(weights["file"], None)
    found = hashlib.sha256(tensors).hexdigest()
    if found != weights.get("sha256"):
        raise refused(f"{weights['file']} has SHA-256 {found}, not {weights.get('sha256')}")
    models = manifest.get("models") or {}
    if not isinstance(models, dict) or (models and folder is None):
        raise refused("models come in folders only")
    for model in models.values():
        _check_model(folder, model)
    return manifest, tensors


def _parse(data: bytes) -> dict:
    try:
        manifest = json.loads(data, object_pairs_hook=_no_double_keys)
    except (ValueError, RecursionError) as error:
        raise refused(f"{MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise refused(f"{MANIFEST} holds no table")
    return manifest


def _no_double_keys(pairs: list[tuple[str, Any]]) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _check_model(folder: Path, model: Any) -> None:
    name = str(model.get("folder")) if isinstance(model, dict) else ""
    if not _OURS.fullmatch(name):
        raise refused(f"{name!r} is no folder of a model")
    found = _hash_files(folder / name)
    odd = [file for file in found if Path(file).suffix not in _MODEL_FILES]
    if odd:
        raise refused(f"{name}/{odd[0]} is a kind of file that is not opened")
    if found != model.get("files"):
        listed = model.get("files")
        listed = listed if isinstance(listed, dict) else {}
        wrong = [f for f in sorted({*found, *listed}) if found.get(f) != listed.get(f)]
        raise refused(f"{name} differs from what was saved in {', '.join(wrong)}")


def _hash_files(folder: Path) -> dict[str, str]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise refused(f"{path.name} is a link or no file")
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = sha256_of(path)
    return files


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_file(path: Path, limit: int | None) -> bytes:
    if not path.exists():
        raise refused(f"{path.name} is missing")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise refused(f"{path.name} is no regular file")
    if limit is not None and status.st_size > limit:
        raise refused(f"{path.name} has {status.st_size} bytes, over the limit of {limit}")
    return path.read_bytes()


@contextlib.contextmanager
def _zip_reader(path: Path) -> Iterator[Callable[[str, int | None], bytes]]:
    """What reads an entry of a zip file whose table of contents is as we write it."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for entry in entries:
            _check_entry(entry)
        if len(set(names)) < len(names) or MANIFEST not in names or len(names) > 2:
            raise refused(f"it holds {names[:4]}, and not a manifest and weights")
        allowed = _MOST_SHRUNK * path.stat().st_size + _FREE_BYTES
        if sum(entry.file_size for entry in entries) > allowed:
            raise refused("it unpacks to more than a hundred times its size")

        def read_entry(name: str, limit: int | None) -> bytes:
            if name not in names:
                raise refused(f"{name} is missing")
            entry = archive.getinfo(name)
            if limit is not None and entry.file_size > limit:
                raise refused(f"{name} has {entry.file_size} bytes, over the limit of {limit}")
            with archive.open(entry) as file:
                data = file.read(entry.file_size + 1)
            if len(data) != entry.file_size:
                raise refused(f"{name} has not the size that is told")
            return data

        yield read_entry


def _check_entry(entry: zipfile.ZipInfo) -> None:
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if is_link or entry.flag_bits & 1:
        raise refused(f"{entry.filename!r} is a link or encrypted")
    if entry.filename != MANIFEST and not _OURS.fullmatch(entry.filename):
        raise refused(f"it holds a file {entry.filename!r}, which is none of ours")
