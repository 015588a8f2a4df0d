"""Several labels a row, as sets or as an indicator matrix -> zeros and ones for each class."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import numpy as np

from sklopa._inputs.columns import are_numbers, is_missing, is_sequence, to_list
from sklopa._inputs.label_values import check_labels, positions
from sklopa._inputs.rules import shown
from sklopa.errors import InvalidInput

Encoded = tuple[np.ndarray, np.ndarray]  # indicators (n, C), float32, and classes (C,)


# ---------------------------------------------------------------- sets


def as_collections(rows: np.ndarray, name: str) -> list[list] | None:
    """Rows as lists, where each of them is a collection of labels; None where none is.

    Raises
    ------
    InvalidInput
        If some are and some are not.
    """
    if rows.dtype != object or rows.ndim != 1:
        return None
    are = [isinstance(row, Set) or is_sequence(row) for row in rows]
    if not any(are):
        return None
    if not all(are):
        bad = are.index(False)
        if is_missing(rows[bad]):
            raise InvalidInput(f"{name} contains NaN: the labels of row {bad} are missing.")
        raise InvalidInput(
            f"{name} row {bad} is {shown(rows[bad])}, while other rows hold several labels. Give "
            "every row a set, of one label or of none where that is so."
        )
    return [list(row) if isinstance(row, Set) else to_list(row) for row in rows]


def encode_sets(
    rows: list[list], classes: np.ndarray | None, name: str, refuse_unseen: bool
) -> Encoded:
    """Collections of labels as indicators; see `encode_labels`."""
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    flat = np.fromiter((x for row in rows for x in row), dtype=object, count=len(row_of))
    labels = check_labels(flat, name, lambda i: f"row {row_of[i]}", as_texts=False)
    if classes is None and not len(labels):
        raise InvalidInput(f"{name} has no label in any row; there is nothing to learn.")
    found, codes = np.unique(labels, return_inverse=True)
    if classes is None:
        classes = found
    where = positions(found, classes)[codes]
    unseen = np.flatnonzero(where < 0)
    if refuse_unseen and len(unseen):
        raise InvalidInput(
            f"{name} row {row_of[unseen[0]]} has the unseen label {shown(labels[unseen[0]])}; the "
            f"classes are {shown(classes.tolist())}."
        )
    indicators = np.zeros((len(rows), len(classes)), dtype=np.float32)
    indicators[row_of, where] = 1.0
    indicators[row_of[unseen]] = -1.0
    return indicators, classes


# ---------------------------------------------------------------- matrices


def check_indicators(matrix: np.ndarray, name: str) -> np.ndarray:
    """A matrix (n, C) of 0 and 1, or False and True, as float32.

    Raises
    ------
    InvalidInput
        If anything else is in it; names the first place.
    """
    n_columns = matrix.shape[1]
    _check_bits(matrix.ravel(), lambda i: divmod(i, n_columns), name, n_columns)
    return matrix.astype(np.float32)


def check_sparse_indicators(y: Any, name: str) -> np.ndarray:
    """A sparse matrix (n, C) of 0 and 1 as float32, dense."""
    y = y.tocoo(copy=True)
    y.sum_duplicates()  # what stands in one place twice counts as the sum
    _check_bits(y.data, lambda i: (int(y.row[i]), int(y.col[i])), name, y.shape[1])
    return y.astype(np.float32).toarray()


def _check_bits(
    values: np.ndarray, place: Callable[[int], tuple[int, int]], name: str, n_columns: int
) -> None:
    """Raise unless all values (m,), of which each has a place in a matrix, are 0 or 1."""
    if are_numbers(values):
        bad = np.flatnonzero((values != 0) & (values != 1))
    else:
        bad = np.flatnonzero(
            [not (are_numbers(values[i : i + 1]) and v in (0, 1)) for i, v in enumerate(values)]
        )
    if not len(bad):
        return
    value, (row, column) = values[bad[0]], place(int(bad[0]))
    missing = "contains NaN: it " if is_missing(value) else ""
    raise InvalidInput(
        f"{name} {missing}has {n_columns} columns but is no indicator matrix of zeros and ones: "
        f"row {row} has {shown(value)} in column {column}. Give one column of labels, or several "
        "labels a row as sets, as in [{'a', 'b'}, {'a'}]."
    )


def name_columns(
    indicators: np.ndarray, names: list | None, classes: np.ndarray | None, name: str
) -> Encoded:
    """The columns of an indicator matrix as classes.

    Parameters
    ----------
    indicators : ndarray of shape (n, C)
    names : list or None
        Names of the columns, where they have some: these are the classes. Names 0 to C - 1 are
        taken for none.
    classes : ndarray of shape (C,) or None
        Known classes. Columns with names are put in their order; others are taken to be in it.

    Raises
    ------
    InvalidInput
        If names are no labels, or are not those of the known classes.
    """
    n_columns = indicators.shape[1]
    if names is None or names == list(range(n_columns)):
        n_classes = n_columns if classes is None else len(classes)
        if n_columns != n_classes:
            raise InvalidInput(f"{name} has {n_columns} columns; there are {n_classes} classes.")
        return indicators, np.arange(n_classes) if classes is None else classes
    found = np.fromiter(names, dtype=object, count=n_columns)
    found = check_labels(found, f"{name}.columns", "column {}".format, as_texts=False)
    if len(set(found.tolist())) < n_columns:
        raise InvalidInput(
            f"{name}.columns are the labels, and have to differ; got {shown(names)}."
        )
    if classes is None:
        return indicators, found
    if set(found.tolist()) != set(classes.tolist()):
        raise InvalidInput(
            f"{name} has the columns {shown(names)}; the classes are {shown(classes.tolist())}."
        )
    return indicators[:, positions(classes, found)], classes
