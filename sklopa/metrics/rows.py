"""Whatever users hold references and predictions in -> lists of texts, or a clear refusal."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa.errors import InvalidInput, InvalidType


def text_rows(values: Any, name: str) -> list[str]:
    """Return one text a row.

    Parameters
    ----------
    values : list, tuple, 1-D array or Series of str, length n
    name : str
        How the error messages call it.

    Raises
    ------
    InvalidType
        When `values` is a bare text or a row is not a text.
    InvalidInput
        When there is no row.
    """
    return [_text(row, f"{name}[{i}]") for i, row in enumerate(_rows(values, name))]


def reference_rows(values: Any, name: str) -> list[list[str]]:
    """Return a list of acceptable texts a row; a row that is one text becomes a list of one.

    Raises
    ------
    InvalidType, InvalidInput
        As :func:`text_rows`, and when a row has no acceptable text at all.
    """
    rows = []
    for i, row in enumerate(_rows(values, name)):
        choices = list(row) if _is_sequence(row) else [row]
        if not choices:
            raise InvalidInput(f"{name}[{i}] is empty; give at least one acceptable text.")
        rows.append([_text(choice, f"{name}[{i}]") for choice in choices])
    return rows


def text_table(values: Any, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the texts row by row, and their shape: (n,) or (n, n_samples).

    Raises
    ------
    InvalidType, InvalidInput
        As :func:`text_rows`, and when rows have different numbers of texts.
    """
    rows = _rows(values, name)
    if not _is_sequence(rows[0]):
        return text_rows(rows, name), (len(rows),)
    width = len(rows[0])
    texts = []
    for i, row in enumerate(rows):
        if not _is_sequence(row) or len(row) != width or width == 0:
            raise InvalidInput(
                f"{name}[{i}] does not have {max(width, 1)} texts as the first row has; give "
                "every row the same number of samples, at least one."
            )
        texts += [_text(text, f"{name}[{i}][{j}]") for j, text in enumerate(row)]
    return texts, (len(rows), width)


def check_same_length(first: Any, second: Any, names: tuple[str, str]) -> None:
    """Refuse two columns that cannot belong together."""
    if len(first) != len(second):
        raise InvalidInput(
            f"{names[0]} has {len(first)} rows and {names[1]} has {len(second)}; both need one "
            "row for each sample."
        )


def _rows(values: Any, name: str) -> list:
    if isinstance(values, (str, bytes, dict, set)) or not hasattr(values, "__len__"):
        raise InvalidType(
            f"{name} is {type(values).__name__} {str(values)[:40]!r}; give a list, array or "
            "Series with one row for each sample."
        )
    if hasattr(values, "columns"):  # a frame iterates over its column names
        values = values.to_numpy()
    rows = list(values)
    if not rows:
        raise InvalidInput(f"{name} is empty; at least one row is needed.")
    return rows


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidType(
            f"{where} is {type(value).__name__} {str(value)[:40]!r}, not a text; convert it "
            "with str() or leave the row out."
        )
    return str(value)
