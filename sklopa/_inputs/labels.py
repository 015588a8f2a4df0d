"""y of labels, one or several a row -> what a classifier learns."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sklopa._inputs.columns import are_numbers, column_names, is_frame, ravelled, stacked, to_array
from sklopa._inputs.label_values import check_labels, positions
from sklopa._inputs.rules import shown
from sklopa._inputs.several_labels import (
    as_collections,
    check_indicators,
    check_sparse_indicators,
    encode_sets,
    name_columns,
)
from sklopa.errors import InvalidInput


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


def encode_labels(
    y: Any, classes: np.ndarray | None = None, *, name: str = "y", refuse_unseen: bool = True
) -> Labels:
    """Labels as class indices, or as an indicator matrix for several labels a row.

    Parameters
    ----------
    y : array-like of shape (n,), indicator matrix (n, C), or list of label sets
        The columns of an indicator frame name the classes.
    classes : ndarray of shape (C,), optional
        Known classes; other labels are then refused. By default those of y: sorted, or as the
        columns of a matrix stand.
    refuse_unseen : bool, default=True
        False encodes a label that is not among `classes` as -1, and with several labels a row
        every class of a row that has one: no prediction is equal to that.

    Raises
    ------
    InvalidType
        If y is a single label, or a collection without order.
    InvalidInput
        If labels are missing, of no kind or of several kinds, continuous, or not among
        `classes`; the text names the first bad row.
    """
    if y is None:
        raise InvalidInput(
            f"requires {name} to be passed, but the target {name} is None: give one label for "
            "each text."
        )
    if hasattr(y, "tocsr") and y.ndim == 2 and y.shape[1] > 1:
        indicators = check_sparse_indicators(y, name)
        return Labels(*name_columns(indicators, None, classes, name))
    array = to_array(y.toarray() if hasattr(y, "tocsr") else y, name)
    array = ravelled(array, name)
    rows = as_collections(array, name)
    if rows is not None:
        array = _as_matrix(array)
        if array.ndim == 1:
            return Labels(*encode_sets(rows, classes, name, refuse_unseen))
        array = ravelled(array, name)
    if array.ndim == 2 and array.shape[1] > 1:
        names = column_names(y) if is_frame(y) else None
        return Labels(*name_columns(check_indicators(array, name), names, classes, name))
    labels = _check_column(array, name, as_texts=not hasattr(y, "__array__"))
    return _encode_column(labels, classes, name, refuse_unseen)


def check_classes(classes: Any, y: Any = None, known: np.ndarray | None = None) -> np.ndarray:
    """All labels that will ever come, (C,), as `partial_fit` is told of them.

    Parameters
    ----------
    classes : array-like or set of labels
    y : optional
        What they are the labels of. They name the columns of an indicator matrix, and stay in
        the order given; otherwise they are sorted, and each is there once.
    known : ndarray of shape (C,), optional
        Those of an earlier call.

    Raises
    ------
    InvalidType, InvalidInput
        If y could not have such labels, or they are not the known ones.
    """
    ordered = list(classes) if isinstance(classes, Set) else classes
    labels = to_array(ordered, "classes", "all labels that will ever come")
    if labels.ndim != 1 or not len(labels):
        raise InvalidInput(
            f"classes must be a list of labels; got an array of shape {labels.shape}."
        )
    as_texts = not hasattr(ordered, "__array__")
    labels = check_labels(labels, "classes", "entry {}".format, as_texts=as_texts)
    found = np.unique(labels)
    if isinstance(classes, Set) or not _is_matrix(y) or len(found) < len(labels):
        labels = found
    if known is not None and labels.tolist() != known.tolist():
        raise InvalidInput(
            f"classes={shown(labels.tolist())} is not the same as on the last call to "
            f"partial_fit, which had {shown(known.tolist())}."
        )
    return labels


def _is_matrix(y: Any) -> bool:
    """Whether y has a column for each class."""
    if y is None or hasattr(y, "tocsr"):
        return y is not None
    array = _as_matrix(to_array(y, "y"))
    return array.ndim == 2 and array.shape[1] > 1


def _as_matrix(rows: np.ndarray) -> np.ndarray:
    """Rows that are equally long lists of numbers as a matrix; others as they are."""
    matrix = stacked(rows)
    return matrix if matrix.size and are_numbers(matrix) else rows


def _check_column(array: np.ndarray, name: str, *, as_texts: bool) -> np.ndarray:
    if array.ndim != 1:
        raise InvalidInput(
            f"{name} must hold one label for each row of X; got an array of shape {array.shape}."
        )
    labels = check_labels(array, name, "row {}".format, as_texts=as_texts)
    if not len(labels):
        raise InvalidInput(f"{name} is empty; at least one label is needed.")
    try:
        check_classification_targets(labels)  # for its warning of numbers that hardly repeat
    except (TypeError, ValueError) as error:
        raise InvalidInput(str(error)) from error
    return labels


def _encode_column(
    labels: np.ndarray, classes: np.ndarray | None, name: str, refuse_unseen: bool
) -> Labels:
    found, codes = np.unique(labels, return_inverse=True)
    if classes is None:
        return Labels(codes.astype(np.int64), found)
    where = positions(found, classes)
    if refuse_unseen and (where < 0).any():
        raise InvalidInput(
            f"{name} has the label {shown(found[where < 0][0])}, which is not among the classes "
            f"{shown(classes.tolist())}. The first call to fit or partial_fit fixes the classes."
        )
    return Labels(where[codes], classes)
