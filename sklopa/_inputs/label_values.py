"""What a label is: a text, a truth value or a whole number, and all labels of one kind."""

from __future__ import annotations

from collections.abc import Callable, Set
from enum import Enum
from typing import Any

import numpy as np

from sklopa._inputs.columns import first_missing
from sklopa._inputs.rules import as_plain, shown
from sklopa.errors import InvalidInput

Place = Callable[[int], str]  # words for a position, as "row 3"

_LARGEST_WHOLE = 2.0**53  # beyond it, floats skip whole numbers
_KINDS = {str: "text", bool: "truth value", int: "number", float: "number"}


def check_labels(labels: np.ndarray, name: str, place: Place, *, as_texts: bool) -> np.ndarray:
    """Labels (n,) of one kind, as an array of that kind; texts may come as objects.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Of anything; objects are looked into.
    name, place
        Of what, and where in it: for messages.
    as_texts : bool
        Whether texts among objects are made an array of texts.

    Raises
    ------
    InvalidInput
        If one is missing, is no label, or is of another kind than the others.
    """
    if labels.dtype.kind == "O":
        labels = _from_objects(labels, name, place, as_texts)
    if labels.dtype.kind in "mM":  # an array of dates is of one kind by itself
        missing = np.flatnonzero(np.isnat(labels))
        if missing.size:
            bad = int(missing[0])
            raise InvalidInput(
                f"{name} contains NaN: the label of {place(bad)} is missing ({shown(labels[bad])})."
            )
        return labels
    if labels.dtype.kind not in "biufUO":
        raise _no_label(labels[0] if len(labels) else labels.dtype, name, place(0))
    if labels.dtype.kind == "f":
        labels = _check_whole(labels, name, place)
    return labels


def positions(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Index of each label (n,) among `classes`, -1 where it is not there; int64."""
    index = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([index.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def _from_objects(labels: np.ndarray, name: str, place: Place, as_texts: bool) -> np.ndarray:
    bad = first_missing(labels)
    if bad is not None:
        value = shown(labels[bad])
        raise InvalidInput(f"{name} contains NaN: the label of {place(bad)} is missing ({value}).")
    if not set(map(type, labels)) <= _KINDS.keys():
        labels = np.fromiter(map(_as_label, labels), dtype=object, count=len(labels))
    firsts: dict[type, int] = {}
    for i, kind in enumerate(map(type, labels)):
        firsts.setdefault(kind, i)
    for kind, i in firsts.items():
        if kind not in _KINDS:
            raise _no_label(labels[i], name, place(i))
    if len({_KINDS[kind] for kind in firsts}) > 1:
        found = ", ".join(f"{place(i)} is {shown(labels[i])}" for i in firsts.values())
        raise InvalidInput(
            f"{name} mixes labels of types {', '.join(sorted(kind.__name__ for kind in firsts))} "
            f"({found}); make all of them texts or all of them numbers."
        )
    return _as_one_type(labels, firsts.keys(), name, place, as_texts)


def _as_label(value: Any) -> Any:
    """A label as the text or number that it is, also where that is a member of an enumeration."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return as_plain(value)


def _as_one_type(
    labels: np.ndarray, kinds: Set, name: str, place: Place, as_texts: bool
) -> np.ndarray:
    if kinds <= {str}:
        texts = np.array(labels, dtype=str) if as_texts else labels
        return texts if texts.tolist() == labels.tolist() else labels  # lost: a null at the end
    if kinds == {bool}:
        return labels.astype(bool)
    for dtype in (np.float64,) if float in kinds else (np.int64, np.uint64):
        try:
            numbers = labels.astype(dtype)
        except OverflowError:
            continue
        if numbers.tolist() == labels.tolist():
            return numbers
    bad = max(range(len(labels)), key=lambda i: abs(labels[i]))
    raise InvalidInput(
        f"{name} has the label {shown(labels[bad])} in {place(bad)}, which is too large for a "
        "number of 64 bits. Make labels texts with str(label)."
    )


def _check_whole(labels: np.ndarray, name: str, place: Place) -> np.ndarray:
    if not np.isfinite(labels).all():
        bad = int(np.flatnonzero(~np.isfinite(labels))[0])
        value = float(labels[bad])
        raise InvalidInput(f"{name} contains NaN or infinity: {place(bad)} is {value!r}.")
    broken = (labels != np.floor(labels)) | (np.abs(labels) > _LARGEST_WHOLE)
    if broken.any():
        bad = int(np.flatnonzero(broken)[0])
        raise InvalidInput(
            f"Unknown label type: continuous. {name} {place(bad)} is {float(labels[bad])!r}, and "
            "labels are texts, truth values or whole numbers. To predict numbers use a regressor; "
            "to take them for classes make them texts with str(label)."
        )
    return labels.astype(np.float64) if labels.dtype.itemsize > 8 else labels


def _no_label(value: Any, name: str, place: str) -> InvalidInput:
    advice = "Make labels texts with str(label)."
    if isinstance(value, Enum):
        advice = "Use label.value or label.name."
    elif isinstance(value, (bytes, bytearray)):
        advice = "Make labels texts with label.decode()."
    elif isinstance(value, (list, np.ndarray, Set, dict)) or hasattr(value, "__next__"):
        advice = "Give several labels a row as sets, as in [{'a', 'b'}, {'a'}]."
    return InvalidInput(
        f"{name} {place} is {shown(value)} of type {type(value).__name__}, which is no label: "
        f"labels are texts, truth values or whole numbers. {advice}"
    )
