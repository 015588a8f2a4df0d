"""Archives in folders and zip files, read with limits and with every hash checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sklopa._storage.files import (
    MANIFEST,
    MOST_MANIFEST_BYTES,
    OURS,
    hash_files,
    read_regular,
    sum_of,
    too_long,
)
from sklopa._storage.model_files import check_model_settings
from sklopa._storage.single_values import refused
from sklopa.errors import ArchiveNotFound, InvalidArchive

# Weights hardly shrink, and text not a hundredfold: more is a bomb.
_MOST_SHRUNK, _FREE_BYTES = 100, 1 << 20
# Buffers that are stored beside what is trained are at most as large as that.
_BYTES_A_PARAMETER = 8
# What a model in a folder may consist of. None of it is code, and none a pickle.
_MODEL_FILES = {".json", ".safetensors", ".txt", ".model", ".jinja"}
# How often a folder is read again that another process replaced meanwhile.
_TRIES = 20

ReadEntry = Callable[[str, int | None, int | None], bytes]  # name, limit, bytes -> content


def read_archive(path: Path) -> tuple[dict, bytes]:
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
            return _read_folder(path)
        if path.is_file():
            with _zip_reader(path) as read_entry:
                manifest = read_entry(MANIFEST, MOST_MANIFEST_BYTES, None)
                return _check(manifest, read_entry, folder=None)
    except OSError as error:
        raise ArchiveNotFound(f"{str(path)!r} could not be read: {error}") from error
    except InvalidArchive:
        raise
    except Exception as error:  # damaged zip files end in errors of many kinds
        raise refused(f"{path} cannot be read: {error}") from error
    raise ArchiveNotFound(f"There is no archive at {str(path)!r}; give the path that save had.")


def check_models(path: Path, manifest: dict) -> None:
    """Raise unless the models of an archive are as its manifest says, now that they are loaded.

    They are read by name, so they may have changed after they were first looked at.
    """
    for model in (manifest.get("models") or {}).values():
        _check_model(path, model)


def _read_folder(folder: Path) -> tuple[dict, bytes]:
    """A folder, which a writer may replace at any moment: its manifest last and at once."""

    def read_entry(name: str, limit: int | None, n_bytes: int | None) -> bytes:
        try:
            return read_regular(folder / name, limit, n_bytes)
        except FileNotFoundError as error:
            raise refused(f"{name} is missing") from error

    for n_left in reversed(range(_TRIES)):
        manifest = read_entry(MANIFEST, MOST_MANIFEST_BYTES, None)
        try:
            return _check(manifest, read_entry, folder)
        except (InvalidArchive, OSError):
            if n_left == 0 or read_entry(MANIFEST, MOST_MANIFEST_BYTES, None) == manifest:
                raise
    raise AssertionError  # the last turn returns or raises


def _check(data: bytes, read_entry: ReadEntry, folder: Path | None) -> tuple[dict, bytes]:
    manifest = _parse(data)
    if manifest.get("sha256") != sum_of(manifest):
        raise refused(f"{MANIFEST} does not match its own SHA-256")
    weights = manifest.get("weights")
    if not isinstance(weights, dict) or not OURS.fullmatch(str(weights.get("file"))):
        raise refused(f"{MANIFEST} names no weights")
    limit = _most_bytes(manifest)
    _check_header(read_entry(weights["file"], limit, 8))
    tensors = read_entry(weights["file"], limit, None)
    found = hashlib.sha256(tensors).hexdigest()
    if found != weights.get("sha256"):
        raise refused(f"{weights['file']} has SHA-256 {found}, not {weights.get('sha256')}")
    models = manifest.get("models") or {}
    if not isinstance(models, dict):
        raise refused("models is no table")
    for model in models.values():
        _check_model(folder, model)
    return manifest, tensors


def _most_bytes(manifest: dict) -> int | None:
    """Bytes that weights may have, from what the manifest says was trained; None for a checkpoint.

    So a file is refused before it is read that is larger than anything it could be needed for.
    """
    attributes = manifest.get("attributes")
    if not isinstance(attributes, dict):
        return None
    n_trained = attributes.get("n_trainable_parameters_")
    if type(n_trained) is not int or n_trained < 0:
        raise refused(f"it says that {str(n_trained)[:40]} parameters were trained")
    return _BYTES_A_PARAMETER * n_trained + _FREE_BYTES


def _check_header(start: bytes) -> None:
    """Raise where the first bytes are not those of safetensors; a file of holes is all zeros."""
    if len(start) < 8 or not int.from_bytes(start, "little"):
        raise refused("its weights have no header")


def _parse(data: bytes) -> dict:
    if problem := too_long(data):
        raise refused(f"{MANIFEST} {problem}")
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


def _check_model(folder: Path | None, model: Any) -> None:
    name = str(model.get("folder")) if isinstance(model, dict) else ""
    if folder is None:
        raise refused("models come in folders only")
    if not OURS.fullmatch(name):
        raise refused(f"{name!r} is no folder of a model")
    if (folder / name).is_symlink():
        raise refused(f"{name} is a link")
    found = hash_files(folder / name)
    odd = [file for file in found if Path(file).suffix not in _MODEL_FILES]
    if odd:
        raise refused(f"{name}/{odd[0]} is a kind of file that is not opened")
    if found != model.get("files"):
        listed = model.get("files")
        listed = listed if isinstance(listed, dict) else {}
        wrong = [f for f in sorted({*found, *listed}) if found.get(f) != listed.get(f)]
        raise refused(f"{name} differs from what was saved in {', '.join(wrong)}")
    check_model_settings(folder / name)


@contextlib.contextmanager
def _zip_reader(path: Path) -> Iterator[ReadEntry]:
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

        def read_entry(name: str, limit: int | None, n_bytes: int | None) -> bytes:
            if name not in names:
                raise refused(f"{name} is missing")
            entry = archive.getinfo(name)
            if limit is not None and entry.file_size > limit:
                raise refused(f"{name} has {entry.file_size} bytes, over the limit of {limit}")
            with archive.open(entry) as file:
                if n_bytes is not None:
                    return file.read(n_bytes)
                data = file.read(entry.file_size + 1)
            if len(data) != entry.file_size:
                raise refused(f"{name} has not the size that is told")
            return data

        yield read_entry


def _check_entry(entry: zipfile.ZipInfo) -> None:
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if is_link or entry.flag_bits & 1:
        raise refused(f"{entry.filename!r} is a link or encrypted")
    if entry.filename != MANIFEST and not OURS.fullmatch(entry.filename):
        raise refused(f"it holds a file {entry.filename!r}, which is none of ours")
