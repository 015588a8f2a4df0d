"""y and sample weights -> arrays to learn from. Every message about y is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from sklopa.errors import InvalidInput, InvalidType


@dataclass(frozen=True)
class Labels:
    """Labels as numbers.

    Attributes
    ----------
    codes : ndarray, int64 of shape (n,), or float32 of shape (n, C) for multilabel
    classes : ndarray of shape (C,)
    """

    codes: np.ndarray
    classes: np.ndarray

    @property
    def is_multilabel(self) -> bool:
        return self.codes.ndim == 2


@dataclass(frozen=True)
class Numbers:
    """Numbers to learn, and the units that make them small.

    Attributes
    ----------
    values : ndarray of shape (n, K), float64
    mean, scale : ndarrays of shape (K,)
        Weighted mean and standard deviation of each column; the scale of a constant one is 1.
    """

    values: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


def check_lengths(n_rows: int, **others: Any) -> None:
    """Raise unless X and everything beside it have equally many rows."""
    for name, values in others.items():
        if values is not None and (n_values := _count_rows(values, name)) != n_rows:
            raise InvalidInput(
                "Found input variables with inconsistent numbers of samples: "
                f"X has {n_rows} rows and {name} has {n_values}."
            )


def _count_rows(values: Any, name: str) -> int:
    shape = getattr(as_sized(values), "shape", None)  # sparse matrices have no length
    try:
        if isinstance(values, (str, bytes)):
            raise TypeError(name)
        return len(values) if shape is None else shape[0]
    except (TypeError, IndexError) as error:
        raise InvalidType(
            f"{name} must hold one value for each row of X; got {type(values).__name__}."
        ) from error


def as_sized(values: Any) -> Any:
    """`values`, or an array of them where they can do no more than turn into one."""
    return values if hasattr(values, "__len__") else np.asarray(values)


def encode_labels(y: Any, classes: np.ndarray | None = None, *, name: str = "y") -> Labels:
    """Labels as class indices, or as an indicator matrix for several labels a row.

    Parameters
    ----------
    y : array-like of shape (n,), indicator matrix (n, C), or list of label sets
    classes : ndarray of shape (C,), optional
        Known classes; other labels are then refused.

    Raises
    ------
    InvalidInput
        If labels are missing, continuous, or not among `classes`.
    """
    if y is None:
        raise InvalidInput(
            f"requires {name} to be passed, but the target {name} is None: give one label for "
            "each text."
        )
    y = as_sized(y)
    if _are_label_sets(y):
        return _encode_sets(y, classes, name)
    if hasattr(y, "tocsr") or (np.ndim(y) == 2 and np.shape(y)[1] > 1):
        return _encode_indicators(y, classes, name)
    labels = _as_column(y, name)
    found = np.unique(labels)
    if classes is None:
        classes = found
    unseen = [value for value in found.tolist() if value not in set(classes.tolist())]
    if unseen:
        raise InvalidInput(
            f"{name} has the label {unseen[0]!r}, which is not among the classes "
            f"{classes.tolist()!r}. The first call to fit or partial_fit fixes the classes."
        )
    return Labels(np.searchsorted(classes, labels).astype(np.int64), classes)


def _as_column(y: Any, name: str) -> np.ndarray:
    if getattr(getattr(y, "dtype", None), "kind", "") == "T":  # scikit-learn cannot read these
        y = y.astype(object)
    try:
        labels = column_or_1d(y, warn=True)
    except ValueError as error:
        raise InvalidInput(f"{name} must hold one label for each row of X: {error}") from error
    if labels.dtype == object:
        _check_object_labels(labels, name)
    elif labels.dtype.kind == "f" and not np.isfinite(labels).all():
        bad = int(np.flatnonzero(~np.isfinite(labels))[0])
        raise InvalidInput(f"{name} contains NaN or infinity: row {bad} is {labels[bad].item()!r}.")
    try:
        check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        raise InvalidInput(str(error)) from error
    return labels


def _check_object_labels(labels: np.ndarray, name: str) -> None:
    for i, label in enumerate(labels):
        if label is None or type(label).__name__ == "NAType" or label != label:
            raise InvalidInput(f"{name} contains NaN: the label of row {i} is missing ({label!r}).")
    kinds = {type(label).__name__ for label in labels}
    if len(kinds) > 1 and not all(isinstance(label, str) for label in labels):
        raise InvalidInput(
            f"{name} mixes labels of types {', '.join(sorted(kinds))}; make all of them texts "
            "or all of them numbers."
        )


def _are_label_sets(y: Any) -> bool:
    """Whether each row is a collection of labels (and not a row of a matrix of numbers)."""
    values = y.tolist() if hasattr(y, "tolist") and len(np.shape(y)) == 1 else y
    if not isinstance(values, (list, tuple)) or not values:
        return False
    if all(isinstance(labels, (set, frozenset)) for labels in values):
        return True
    if not all(isinstance(labels, (list, tuple, set, frozenset)) for labels in values):
        return False
    numbers = all(isinstance(label, (int, float)) for labels in values for label in labels)
    return not (numbers and len({len(labels) for labels in values}) == 1)


def _encode_sets(y: Any, classes: np.ndarray | None, name: str) -> Labels:
    known = None if classes is None else list(classes)
    for i, labels in enumerate(y):
        unseen = [] if known is None else [label for label in labels if label not in known]
        if unseen:
            raise InvalidInput(f"{name} row {i} has the unseen label {unseen[0]!r}.")
    encoder = MultiLabelBinarizer(classes=known)
    codes = encoder.fit_transform(y).astype(np.float32)
    return Labels(codes, np.asarray(encoder.classes_))


def _encode_indicators(y: Any, classes: np.ndarray | None, name: str) -> Labels:
    try:
        matrix = check_array(y, accept_sparse=True, input_name=name)
    except ValueError as error:
        raise InvalidInput(f"{name} is no indicator matrix of zeros and ones: {error}") from error
    if type_of_target(matrix) != "multilabel-indicator":
        raise InvalidInput(
            f"{name} has {matrix.shape[1]} columns but is no indicator matrix of zeros and ones."
        )
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    n_classes = matrix.shape[1] if classes is None else len(classes)
    if matrix.shape[1] != n_classes:
        raise InvalidInput(f"{name} has {matrix.shape[1]} columns; there are {n_classes} classes.")
    return Labels(matrix.astype(np.float32), np.arange(n_classes) if classes is None else classes)


def check_numbers(y: Any, weights: np.ndarray, *, name: str = "y") -> Numbers:
    """Numbers (n,) or (n, K) as columns, with their mean and scale over the weighted rows.

    Raises
    ------
    InvalidInput
        If y is missing, not numeric, not finite, or has more than two dimensions.
    """
    if y is None:
        raise InvalidInput(
            f"requires {name} to be passed, but the target {name} is None: give one number for "
            "each text."
        )
    y = as_sized(y)
    try:
        if np.ndim(y) == 2 and np.shape(y)[1] == 1:
            y = column_or_1d(y, warn=True)
        y = check_array(
            y, ensure_2d=False, dtype=np.float64, input_name=name, ensure_all_finite=False
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must hold numbers: {error}") from error
    values = y.reshape(len(y), -1)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InvalidInput(
            f"{name} contains NaN or infinity: row {row} has {values[row, column].item()!r}."
        )
    mean = np.average(values, axis=0, weights=weights)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    return Numbers(values, mean, np.where(scale > 1e-12 * np.abs(mean), scale, 1.0))


def check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Sample weights (n,) as float64; ones where none are given.

    Raises
    ------
    InvalidInput
        If a weight is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    sample_weight = as_sized(sample_weight)
    try:
        if np.ndim(sample_weight) == 0:
            sample_weight = np.full(n_rows, float(np.asarray(sample_weight).item()))
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"sample_weight cannot be used: {error}") from error
    if weights.ndim != 1:
        raise InvalidInput("Sample weights must be 1D array or scalar")
    check_lengths(n_rows, sample_weight=weights)
    if (weights < 0).any():
        bad = int(np.flatnonzero(weights < 0)[0])
        raise InvalidInput(f"sample_weight must not be negative; row {bad} is {weights[bad]}.")
    if not weights.any():
        raise InvalidInput("sample_weight is zero for every row; nothing is left to learn from.")
    return weights


def apply_class_weight(weights: np.ndarray, y: Any, class_weight: Any) -> np.ndarray:
    """Sample weights times class weights; rows of weight zero do not count for a balance."""
    if class_weight is None:
        return weights
    used, scaled = weights > 0, np.zeros_like(weights)
    try:
        scaled[used] = weights[used] * compute_sample_weight(class_weight, y[used])
        if (scaled < 0).any():
            raise ValueError("a weight must not be negative")
        return scaled
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"class_weight={class_weight!r} does not fit the labels: {error}"
        ) from error
