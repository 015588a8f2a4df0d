"""Plain values as JSON, with tensors beside it. Reading runs no code and makes no other class."""

from __future__ import annotations

import datetime
import math
import os
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from sklopa._loading.description import Backbone
from sklopa._network.design import Design
from sklopa._storage.single_values import check_generator_state, plain
from sklopa._tokens.template import Template

Tensors = dict[str, torch.Tensor]

# Bytes of an array that is written as a list. Longer ones are no labels, whatever they claim.
_MOST_BYTES = 1 << 28
_AS_THEY_ARE = (type(None), bool, int, str)
_RECORDS = {"backbone": Backbone, "design": Design, "template": Template}


def pack(value: Any, tensors: Tensors) -> Any:
    """`value` as JSON knows it; tensors in it are put into `tensors`.

    What JSON lacks is written as ``{"$kind": ...}``.

    Raises
    ------
    TypeError
        If there is no way to write the value; the text names it.
    """
    if type(value) in _AS_THEY_ARE:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is list:
        return [pack(item, tensors) for item in value]
    if type(value) is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: pack(item, tensors) for key, item in value.items()}
        return {"$dict": [[pack(x, tensors) for x in item] for item in value.items()]}
    for kind, (matches, write) in _WRITERS.items():
        if isinstance(value, matches):
            return {f"${kind}": write(value, tensors)}
    raise TypeError(f"{value!r} of type {type(value).__name__} is no plain value")


def unpack(packed: Any, tensors: Tensors) -> Any:
    """The value that `pack` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If `packed` is not of that form.
    """
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    kinds = [key for key in packed if key.startswith("$")]
    if not kinds:
        return {key: unpack(item, tensors) for key, item in packed.items()}
    if len(packed) > 1 or kinds[0][1:] not in _READERS:
        raise ValueError(f"{kinds[0]!r} is not a known kind of value")
    return _READERS[kinds[0][1:]](packed[kinds[0]], tensors)


# ---------------------------------------------------------------- writing


def _write_array(array: np.ndarray, tensors: Tensors) -> dict:
    dtype, flat = array.dtype.str, np.ascontiguousarray(array).ravel()
    if array.dtype.kind in "mM":
        flat = flat.view(np.int64)
    elif array.dtype.kind not in "biufUSO":
        raise TypeError(f"an array of {array.dtype} is no plain value")
    items = [pack(item, tensors) for item in flat.tolist()]
    return {"dtype": dtype, "shape": list(array.shape), "items": items}


def _write_tensor(tensor: torch.Tensor, tensors: Tensors) -> str:
    name = f"{len(tensors)}"
    tensors[name] = tensor.detach().cpu().contiguous().clone()
    return name


def _write_record(record: Any, tensors: Tensors) -> dict:
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.init}
    # A configuration of transformers is known by its dictionary.
    known = {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in values.items()}
    return {name: pack(plain(value), tensors) for name, value in known.items()}


def _write_state(generator: np.random.RandomState, tensors: Tensors) -> Any:
    return pack(generator.get_state(legacy=True), tensors)


_WRITERS: dict[str, tuple[type | tuple, Callable]] = {
    "tuple": (tuple, lambda value, tensors: [pack(item, tensors) for item in value]),
    "tensor": (torch.Tensor, _write_tensor),
    "array": (np.ndarray, _write_array),
    "scalar": (np.generic, lambda value, tensors: _write_array(np.asarray(value), tensors)),
    "bytes": (bytes, lambda value, tensors: value.hex()),
    "datetime": (datetime.datetime, lambda value, tensors: value.isoformat()),
    "date": (datetime.date, lambda value, tensors: value.isoformat()),
    "path": (os.PathLike, lambda value, tensors: os.fspath(value)),
    "memory": (joblib.Memory, lambda value, tensors: pack(value.location, tensors)),
    "random_state": (np.random.RandomState, _write_state),
    **{kind: (record, _write_record) for kind, record in _RECORDS.items()},
}


# ---------------------------------------------------------------- reading


def _read_array(packed: dict, tensors: Tensors) -> np.ndarray:
    dtype, shape = np.dtype(packed["dtype"]), tuple(packed["shape"])
    items = unpack(packed["items"], tensors)
    if dtype.kind not in "biufUSOmM" or not isinstance(items, list):
        raise ValueError(f"an array of {dtype} cannot be read")
    if len(items) * dtype.itemsize > _MOST_BYTES or not all(type(n) is int for n in shape):
        raise ValueError(f"an array of {len(items)} items of {dtype} is too large")
    if dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):  # at once, items that are tuples would become rows
            array[i] = item
        return array.reshape(shape)
    given = np.array(items, dtype=np.int64 if dtype.kind in "mM" else dtype)
    if dtype.kind in "bU" and not all(
        type(x) is (bool if dtype.kind == "b" else str) for x in items
    ):
        raise ValueError(f"items of an array are not of {dtype}")
    return (given.view(dtype) if dtype.kind in "mM" else given).reshape(shape)


def _read_record(kind: type, packed: dict, tensors: Tensors) -> Any:
    # Public classes call themselves members of another module than the one that they stand in.
    hints = typing.get_type_hints(kind, kind.__dict__["__init__"].__globals__)
    known = {f.name for f in fields(kind) if f.init}
    values = {name: unpack(value, tensors) for name, value in packed.items()}
    for name, value in values.items():
        if name not in known or not _is_of(value, hints[name]):
            raise ValueError(f"{kind.__name__}: {name}={value!r} cannot be")
    return kind(**values)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as our records write types."""
    if hint is Any:
        return True
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(_is_of(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_is_of(x, item) for x in value)
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _read_state(packed: Any, tensors: Tensors) -> np.random.RandomState:
    generator = np.random.RandomState(0)
    generator.set_state(check_generator_state(unpack(packed, tensors)))
    return generator


_READERS: dict[str, Callable] = {
    "float": lambda packed, tensors: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[packed],
    "dict": lambda packed, tensors: {
        unpack(key, tensors): unpack(item, tensors) for key, item in packed
    },
    "tuple": lambda packed, tensors: tuple(unpack(item, tensors) for item in packed),
    "tensor": lambda packed, tensors: tensors[packed],
    "array": _read_array,
    "scalar": lambda packed, tensors: _read_array(packed, tensors)[()],
    "bytes": lambda packed, tensors: bytes.fromhex(packed),
    "datetime": lambda packed, tensors: datetime.datetime.fromisoformat(packed),
    "date": lambda packed, tensors: datetime.date.fromisoformat(packed),
    "path": lambda packed, tensors: Path(packed),
    # Its folder would be made, or written to; reading has no such effect. Not restored at all.
    "memory": lambda packed, tensors: None,
    "random_state": _read_state,
    **{
        kind: lambda packed, tensors, record=record: _read_record(record, packed, tensors)
        for kind, record in _RECORDS.items()
    },
}
