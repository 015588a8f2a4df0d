"""The frozen weights of graphs, mapped into memory once for all that share a file."""

from __future__ import annotations

import json
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from sklopa._storage.single_values import refused
from sklopa.errors import MissingDependency

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class SharedWeights:
    """Weights by name, as ONNX Runtime takes them.

    Parameters
    ----------
    path : Path of a safetensors file
    """

    def __init__(self, path: Path) -> None:
        try:
            from onnxruntime import OrtValue
        except ImportError as error:
            raise MissingDependency(
                "OnnxPredictor needs ONNX Runtime: pip install onnxruntime tokenizers."
            ) from error
        # They are views of the file; the operating system reads what is asked for.
        self._arrays = mapped_tensors(path)
        self.values = {
            name: OrtValue.ortvalue_from_numpy(array) for name, array in self._arrays.items()
        }


def mapped_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file, in place.

    Raises
    ------
    InvalidArchive
        If its header does not fit the file.
    """
    data = np.memmap(path, dtype=np.uint8, mode="c")  # a private copy of what is written: nothing
    start, entries = header_of(data)
    try:
        return {name: _tensor(data[start:], entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise refused(f"{path.name} has a header that does not fit") from error


def header_of(data: Any) -> tuple[int, dict[str, Any]]:
    """Where the tensors of a safetensors file begin, and what its header says of each."""
    length = int.from_bytes(bytes(data[:8]), "little")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise refused("the weights have no header") from error
    if not isinstance(header, dict):
        raise refused("the weights have no header")
    header.pop("__metadata__", None)
    return 8 + length, header


def _tensor(data: np.ndarray, entry: Any) -> np.ndarray:
    begin, end = entry["data_offsets"]
    return data[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


_SHARED: weakref.WeakValueDictionary[str, SharedWeights] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def shared_weights(path: Path) -> SharedWeights:
    """The weights of a file that was checked; graphs that use it hold one copy."""
    key = str(path.resolve())
    with _LOCK:
        found = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = SharedWeights(path)
    return found
