"""Whatever users hold texts in -> rows of texts. Every message about X is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklopa._inputs.columns import column_names, frame_columns, is_frame, is_missing, to_list
from sklopa._inputs.rules import shown
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
    columns = _columns_of_frame(X) if is_frame(X) else _columns_of_sequence(X)
    names = _frame_names(X) if is_frame(X) else None
    if nulls == "error":
        _check_missing(columns)
    texts: list[list[Any]] = [
        [_as_text(value, i) for i, value in enumerate(column)] for column in columns
    ]
    rows: list[Row] = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
    if not rows:
        raise InvalidInput("Found array with 0 sample(s): X is empty; at least one text is needed.")
    return Texts(rows, len(texts), names)


def check_target_texts(y: Any, name: str = "y") -> list[str]:
    """Texts to learn, as a list; empty ones are allowed.

    Raises
    ------
    InvalidType
        If a row is no text, or y is one text or a table; names the first bad row.
    """
    how = f"{name} must be a list, array or Series with one text (str) for each row of X"
    single = isinstance(y, (str, bytes, Mapping, Set)) or not hasattr(y, "__len__")
    if single or len(getattr(y, "shape", (0,))) != 1:
        given = f" {shown(y, 40)}" if isinstance(y, (str, bytes)) else ""
        raise InvalidType(f"{how}; got {type(y).__name__}{given}.")
    texts = _values_of(y, how)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            missing = " is missing:" if is_missing(text) else " is"
            raise InvalidType(
                f"{how}; row {i}{missing} {shown(text)} of type {type(text).__name__}."
            )
        _check_unicode(text, i, name)
    return [str.__str__(text) for text in texts]


def _frame_names(X: Any) -> np.ndarray | None:
    """Column names, when all of them are texts (scikit-learn's rule)."""
    names = column_names(X)
    return np.asarray(names, dtype=object) if all(isinstance(n, str) for n in names) else None


def _columns_of_frame(X: Any) -> Sequence[Sequence]:
    _check_column_count(X.shape[1])
    return frame_columns(X)


def _values_of(column: Any, how: str) -> list:
    """A column as Python objects, None where they are masked."""
    try:
        return to_list(column)
    except TypeError as error:
        raise InvalidType(f"{how}; got {type(column).__name__}.") from error


def _columns_of_sequence(X: Any) -> Sequence[Sequence]:
    _refuse_single_values(X)
    if isinstance(X, np.ma.MaskedArray):
        X = np.where(np.ma.getmaskarray(X), np.array(None), X.data.astype(object))
    if isinstance(X, np.ndarray) or hasattr(X, "__array_interface__"):
        return _columns_of_array(np.asarray(X))
    values = _values_of(X, _HOW)
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
    if isinstance(X, (bytes, bytearray, Mapping, Set)) or not hasattr(X, "__len__"):
        raise InvalidType(f"{_HOW}; got {type(X).__name__}.")
    if hasattr(X, "tocsr"):
        raise InvalidType(f"{_HOW}; got a sparse matrix of numbers.")


def _check_column_count(n_columns: int) -> None:
    if n_columns not in (1, 2):
        raise InvalidInput(
            f"{_HOW}; got {n_columns} columns. Choose the text column, or join columns first."
        )


def _check_missing(columns: Sequence[Sequence]) -> None:
    missing = {
        i: value for column in columns for i, value in enumerate(column) if is_missing(value)
    }
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
        _check_unicode(value, i, "X")
        return str.__str__(value)
    if is_missing(value):
        return ""
    raise InvalidType(f"{_HOW}; row {i} is {shown(value)} of type {type(value).__name__}.")


def _check_unicode(text: str, i: int, name: str) -> None:
    """Lone surrogates are no characters: no tokenizer can read them."""
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} row {i} holds the lone surrogate {text[error.start]!r} at position "
            f"{error.start}, which is not valid Unicode. Clean it with "
            "text.encode('utf-8', 'replace').decode()."
        ) from error
