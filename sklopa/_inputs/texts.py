"""Whatever users hold texts in -> rows of texts. Every message about X is here."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklopa.errors import InvalidInput, InvalidType

Row = str | tuple[str, str]

_HOW = "X must be a list, array or Series of texts (str), or two columns for text pairs"


@dataclass(frozen=True)
class Texts:
    """n inputs as plain Python texts.

    Attributes
    ----------
    rows : list of str, or of (str, str)
    n_columns : int, 1 for texts and 2 for pairs
    names : array of str, or None
        Column names, where X came as a frame.
    """

    rows: list[Row]
    n_columns: int
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)


def check_texts(X: Any, nulls: str = "error") -> Texts:
    """Rows of text from a list, tuple, 1-D array, Series, frame, or pairs.

    Parameters
    ----------
    X : array-like of shape (n,), (n, 1) or (n, 2)
    nulls : {"error", "empty"}
        What to do with missing texts.

    Raises
    ------
    InvalidType
        If X is one text, bytes, numbers, or something else that is not a column of texts.
    InvalidInput
        If X is empty, has more than two columns, or has missing texts; names the first bad row.
    """
    if _is_frame(X):
        columns, names = _columns_of_frame(X), _frame_names(X)
    else:
        columns, names = _columns_of_sequence(X), None
    if nulls == "error":
        _check_missing(columns)
    columns = [[_as_text(value, i) for i, value in enumerate(column)] for column in columns]
    rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    if not rows:
        raise InvalidInput("Found array with 0 sample(s): X is empty; at least one text is needed.")
    return Texts(rows, len(columns), names)


def check_target_texts(y: Any, name: str = "y") -> list[str]:
    """Texts to learn, as a list; empty ones are allowed.

    Raises
    ------
    InvalidType
        If a row is no text, or y is one text or a table; names the first bad row.
    """
    how = f"{name} must be a list, array or Series with one text (str) for each row of X"
    if isinstance(y, (str, bytes)) or not hasattr(y, "__len__") or np.ndim(y) > 1:
        raise InvalidType(f"{how}; got {type(y).__name__} {str(y)[:40]!r}.")
    texts = _values_of(y)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidType(f"{how}; row {i} is {text!r} of type {type(text).__name__}.")
    return [str(text) for text in texts]


def _is_frame(X: Any) -> bool:
    """Whether X is a table: of pandas, polars, pyarrow or datasets."""
    named = hasattr(X, "column_names") or (hasattr(X, "shape") and hasattr(X, "columns"))
    return named and len(X.shape) == 2


def _names_of(X: Any) -> list:
    return list(X.column_names if hasattr(X, "column_names") else X.columns)


def _frame_names(X: Any) -> np.ndarray | None:
    """Column names, when all of them are texts (scikit-learn's rule)."""
    names = _names_of(X)
    return np.asarray(names, dtype=object) if all(isinstance(n, str) for n in names) else None


def _columns_of_frame(X: Any) -> list[Sequence]:
    _check_column_count(X.shape[1])
    if hasattr(X, "iloc"):
        return [X.iloc[:, j].tolist() for j in range(X.shape[1])]
    return [_values_of(X[name]) for name in _names_of(X)]


def _values_of(column: Any) -> list:
    """A column as Python objects, whatever library it is of."""
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def _columns_of_sequence(X: Any) -> list[Sequence]:
    _refuse_single_values(X)
    if isinstance(X, np.ma.MaskedArray):
        X = np.where(np.ma.getmaskarray(X), None, X.data.astype(object))
    if isinstance(X, np.ndarray) or hasattr(X, "__array_interface__"):
        return _columns_of_array(np.asarray(X))
    values = _values_of(X)
    if values and all(isinstance(value, (tuple, list)) for value in values):
        widths = {len(value) for value in values}
        for width in widths:
            _check_column_count(width)
        if len(widths) > 1:
            raise InvalidInput(f"{_HOW}; some rows have one text and some have two.")
        return [list(column) for column in zip(*values, strict=True)]
    return [values]


def _columns_of_array(X: np.ndarray) -> list[Sequence]:
    if X.ndim == 0:
        raise InvalidType(f"{_HOW}; got an array with no dimension. Pass a list of texts.")
    if (X.size and X.dtype.kind in "biufcmMV") or X.ndim > 2:
        raise InvalidType(f"{_HOW}; got an array of {X.dtype} with shape {X.shape}.")
    if X.ndim == 1:
        return [X.tolist()]
    _check_column_count(X.shape[1])
    return [X[:, j].tolist() for j in range(X.shape[1])]


def _refuse_single_values(X: Any) -> None:
    if isinstance(X, str):
        raise InvalidType(f"{_HOW}; got the single text {X[:40]!r}. Pass [text] for one row.")
    if isinstance(X, (bytes, bytearray, dict, set)) or not hasattr(X, "__len__"):
        raise InvalidType(f"{_HOW}; got {type(X).__name__}.")
    if hasattr(X, "tocsr"):
        raise InvalidType(f"{_HOW}; got a sparse matrix of numbers.")


def _check_column_count(n_columns: int) -> None:
    if n_columns not in (1, 2):
        raise InvalidInput(
            f"{_HOW}; got {n_columns} columns. Choose the text column, or join columns first."
        )


def _check_missing(columns: list[Sequence]) -> None:
    missing = {i: value for column in columns for i, value in enumerate(column) if _is_null(value)}
    if not missing:
        return
    rows = sorted(missing)
    named = ", ".join(map(str, rows[:5])) + (" and more" if len(rows) > 5 else "")
    found = f"a missing text ({missing[rows[0]]!r}) in row {named}"
    if len(rows) > 1:
        found = f"{len(rows)} missing texts (such as {missing[rows[0]]!r}) in rows {named}"
    raise InvalidInput(
        f"X has {found}. Drop such rows, or set nulls='empty' to read them as empty texts."
    )


def _as_text(value: Any, i: int) -> str:
    if isinstance(value, str):
        if not value.isascii():
            _check_unicode(value, i)
        return str(value)
    if _is_null(value):
        return ""
    raise InvalidType(f"{_HOW}; row {i} is {value!r} of type {type(value).__name__}.")


def _is_null(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and value != value


def _check_unicode(text: str, i: int) -> None:
    """Lone surrogates are no characters: no tokenizer can read them."""
    for position, character in enumerate(text):
        if unicodedata.category(character) == "Cs":
            raise InvalidInput(
                f"X row {i} holds the lone surrogate {character!r} at position {position}, which "
                "is not valid Unicode. Clean it with text.encode('utf-8', 'replace').decode()."
            )
