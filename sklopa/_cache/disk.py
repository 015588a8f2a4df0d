"""Arrays by key in a folder that several processes use at once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

# Predictions of single rows leave files of single rows; so many of them become one file.
_MOST_SMALL_FILES, _FEW_ROWS = 64, 256
_MOST_STORES = 32
_open: dict[tuple, DiskStore] = {}


def open_store(folder: str | os.PathLike, namespace: str, width: int) -> DiskStore:
    """The store of a process for a folder and namespace, which knows the files that it has read."""
    store = DiskStore(folder, namespace, width)
    key = (str(store.folder.absolute()), width)
    if key not in _open:
        while len(_open) >= _MOST_STORES:
            _open.pop(next(iter(_open)), None)
        _open[key] = store
    return _open[key]


class DiskStore:
    """Arrays of one shape that depend on a text and on nothing but `namespace` besides.

    Each `put` adds one file, which is whole from the moment it has its name and is never changed
    after. So readers and writers need no lock, on a network drive neither. Many small files are
    put into one before they are removed: who misses one meanwhile computes it again. A file
    that cannot be read, whose checksums are wrong, or that is not what `put` writes (a regular
    file of finite numbers, of one type and shape with those that are asked for) counts as not
    there.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    namespace : str
        All that the arrays depend on besides the text.
    width : int, default=None
        Length of the arrays; files with others are passed over. None takes any.
    """

    def __init__(self, folder: str | os.PathLike, namespace: str, width: int | None = None) -> None:
        self.width = width
        name = hashlib.blake2b(namespace.encode(), digest_size=12).hexdigest()
        self.folder = Path(folder, "sklopa", name)
        self._keys: dict[str, dict[bytes, int]] = {}  # of each file: key -> row
        self._is_closed = False  # to what is put, since it cannot be written

    def open(self) -> None:
        """Make the folder ready for what is put, or warn at once that it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError("permission denied")
        except OSError as error:
            self._close(error)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Arrays of those keys that are there."""
        self._read_new_files()
        wanted = set(keys)
        found: dict[bytes, np.ndarray] = {}
        for name, rows in list(self._keys.items()):
            here = wanted.intersection(rows).difference(found)
            values = self._read_values(name, len(rows)) if here else None
            if values is None:
                continue
            found |= {key: values[rows[key]] for key in here}
        return found

    def lacking(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of the keys that are not there."""
        if self._is_closed:
            return []
        if lacking := self._unknown(keys):
            self._read_new_files()
            lacking = self._unknown(lacking)
        return lacking

    def _unknown(self, keys: Iterable[bytes]) -> list[bytes]:
        files = self._keys.values()
        return [key for key in keys if not any(key in rows for rows in files)]

    def put(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Add arrays. A folder that cannot be written costs a warning, not the fit."""
        if not values or self._is_closed:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(values)
            self._merge()
        except OSError as error:
            self._close(error)

    def _close(self, error: OSError) -> None:
        self._is_closed = True
        warnings.warn(
            f"memory={str(self.folder.parent.parent)!r} cannot be written ({error}); instance "
            "embeddings are kept in this process only.",
            stacklevel=3,
        )

    def _write(self, values: Mapping[bytes, np.ndarray]) -> None:
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".part")
        name = path.removesuffix(".part") + ".npz"
        try:
            with os.fdopen(handle, "wb") as file:
                keys = np.frombuffer(b"".join(values), dtype=np.uint8)
                np.savez(
                    file, keys=keys.reshape(len(values), -1), values=np.stack([*values.values()])
                )
            os.replace(path, name)
        except BaseException:
            os.unlink(path)
            raise
        self._keys[Path(name).name] = {key: i for i, key in enumerate(values)}

    def _merge(self) -> None:
        """Put small files into one."""
        small = [name for name, rows in self._keys.items() if 0 < len(rows) < _FEW_ROWS]
        if len(small) <= _MOST_SMALL_FILES:
            return
        merged: dict[bytes, np.ndarray] = {}
        for name in small:
            rows = self._keys[name]
            values = self._read_values(name, len(rows))
            if values is not None:
                merged |= {key: values[i] for key, i in rows.items()}
        if merged:
            self._write(merged)
        for name in small:
            self._keys.pop(name, None)
            with contextlib.suppress(OSError):  # somebody else was faster
                os.unlink(self.folder / name)

    def _read_new_files(self) -> None:
        try:
            names = {entry.name for entry in os.scandir(self.folder) if entry.name.endswith(".npz")}
        except OSError:
            names = set()
        for name in set(self._keys) - names:
            del self._keys[name]
        for name in sorted(names - set(self._keys)):
            keys = self._read(name, "keys")
            if keys is not None and keys.dtype == np.uint8 and keys.ndim == 2:
                self._keys[name] = {row.tobytes(): i for i, row in enumerate(keys)}

    def _read_values(self, name: str, n_rows: int) -> np.ndarray | None:
        """The arrays of a file, one for each key; None if they are not what `put` writes."""
        values = self._read(name, "values")
        if (
            values is not None
            and values.ndim == 2
            and len(values) == n_rows
            and self.width in (None, values.shape[1])
            and values.dtype == np.float32
            and np.isfinite(values).all()
        ):
            return values
        self._forget(name)
        return None

    def _read(self, name: str, what: str) -> np.ndarray | None:
        """One array of a file; None if it is damaged, and then the file is forgotten."""
        try:
            with _open_regular(self.folder / name) as plain, zipfile.ZipFile(plain) as file:
                part = file.getinfo(f"{what}.npy")
                if part.file_size > part.compress_size:  # `put` does not pack: it would be a bomb
                    raise ValueError("packed")
                # Reading a whole part checks its sum.
                return np.load(io.BytesIO(file.read(part)), allow_pickle=False)
        except Exception:  # whatever a damaged file may lead to
            self._forget(name)
            return None

    def _forget(self, name: str) -> None:
        self._keys[name] = {}  # not read again


@contextlib.contextmanager
def _open_regular(path: Path) -> Iterator[IO[bytes]]:
    """A file to read, unless it is a link, a pipe or a device, which may never end."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        yield file
