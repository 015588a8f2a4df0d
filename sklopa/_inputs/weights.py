"""How much each row counts: sample weights, and weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sklopa._inputs.columns import check_lengths
from sklopa._inputs.numeric import read_numbers
from sklopa._inputs.rules import shown
from sklopa.errors import InvalidInput

# A weight says how often a row counts. The square of the ratio of two weights must be a float32,
# and a linear model that is fitted with them must not take one for zero or infinity.
SMALLEST, LARGEST = 1e-12, 1e12


def check_weights(sample_weight: Any, n_rows: int, *, name: str = "sample_weight") -> np.ndarray:
    """Sample weights (n,) as float64; ones where none are given.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), number or None
        Each is 0, or from 1e-12 to 1e12; True is 1. One number is the weight of every row.
    n_rows : int
        n.

    Raises
    ------
    InvalidInput, InvalidType
        If a weight is no such number, or all are zero; names the first bad row.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    sized = hasattr(sample_weight, "__len__") or hasattr(sample_weight, "__array__")
    single = isinstance(sample_weight, (str, bytes)) or not sized
    if single or getattr(sample_weight, "shape", None) == ():
        return np.repeat(check_weights([sample_weight], 1, name=name), n_rows)
    weights = read_numbers(sample_weight, name)
    if weights.ndim != 1:
        raise InvalidInput(
            f"Sample weights must be 1D array or scalar; {name} has shape {weights.shape}."
        )
    check_lengths(n_rows, **{name: weights})
    return _check_range(weights, name)


def _check_range(weights: np.ndarray, name: str) -> np.ndarray:
    if (weights < 0).any():
        bad = int(np.flatnonzero(weights < 0)[0])
        raise InvalidInput(f"{name} must not be negative; row {bad} is {weights[bad].item()}.")
    outside = np.flatnonzero((weights > LARGEST) | ((weights > 0) & (weights < SMALLEST)))
    if outside.size:
        raise InvalidInput(
            f"{name} must be 0, or from {SMALLEST:g} to {LARGEST:g}: row {outside[0]} is "
            f"{weights[outside[0]].item()}. Multiply all weights by one number, and set those "
            "that are still too small to 0."
        )
    if not weights.any():
        raise InvalidInput(f"{name} is zero for every row; nothing is left to learn from.")
    return weights


def apply_class_weight(
    weights: np.ndarray, y: np.ndarray, class_weight: Any, *, classes: np.ndarray | None = None
) -> np.ndarray:
    """Sample weights times class weights, (n,).

    Parameters
    ----------
    weights : ndarray of shape (n,)
    y : ndarray of shape (n,)
        Labels.
    class_weight : dict, "balanced" or None
        "balanced" gives all classes that have weight the same total, and leaves the sum over all
        rows as it is: a row of weight 3 counts as three rows do.
    classes : ndarray of shape (C,), default=None
        All labels that there are; None for those of rows with weight. As in scikit-learn, some of
        them may be missing in a dict, and weigh 1, where it has no other labels.

    Raises
    ------
    InvalidInput
        If a class weight is no number that a weight can be, or all rows end with weight zero.
    """
    if class_weight is None:
        return weights
    found, codes = np.unique(y, return_inverse=True)
    counts = np.bincount(codes, weights=weights, minlength=len(found))
    if isinstance(class_weight, Mapping):
        known = found[counts > 0] if classes is None else classes
        by_label = _check_class_weight(class_weight, known.tolist())
        by_class = np.array([by_label.get(label, 1.0) for label in found.tolist()])
    else:
        present = counts > 0
        by_class = np.ones(len(found))
        by_class[present] = counts.sum() / (present.sum() * counts[present])
    what = f"sample_weight times class_weight={shown(class_weight)}"
    return _check_range(weights * by_class[codes], what)


def _check_class_weight(class_weight: Mapping, classes: list) -> dict[Any, float]:
    by_label = {label: _as_weight(class_weight, label) for label in class_weight}
    known = set(classes)
    without = [label for label in classes if label not in by_label]
    others = [label for label in by_label if label not in known]
    if without and others:
        raise InvalidInput(
            f"class_weight={shown(class_weight)} has no weight for {shown(without[0])}, and one "
            f"for {shown(others[0])}, which is not among the labels {shown(classes)}."
        )
    return by_label


def _as_weight(class_weight: Mapping, label: Any) -> float:
    weight = class_weight[label]
    try:
        (number,) = read_numbers([weight], "class_weight").tolist()
        if number == 0 or SMALLEST <= number <= LARGEST:
            return number
    except (TypeError, ValueError):  # no number, or several
        pass
    raise InvalidInput(
        f"class_weight={shown(class_weight)}: the weight of {shown(label)} must be 0, or a number "
        f"from {SMALLEST:g} to {LARGEST:g}; got {shown(weight)}."
    )
