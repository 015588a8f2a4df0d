"""Whatever users hold rows in -> Python objects or numpy arrays, with nothing guessed or lost."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning

from sklopa._inputs.rules import shown
from sklopa.errors import InvalidInput, InvalidType

_NULLS = ("NAType", "NaTType", "MaskedConstant")  # of pandas and numpy
_MAY_BE_NAN = (float, complex, np.inexact, np.datetime64, np.timedelta64)


def check_lengths(n_rows: int, **others: Any) -> None:
    """Raise unless X and everything beside it have equally many rows."""
    for name, values in others.items():
        if values is not None and (n_values := _count_rows(values, name)) != n_rows:
            raise InvalidInput(
                "Found input variables with inconsistent numbers of samples: "
                f"X has {n_rows} rows and {name} has {n_values}."
            )


def _count_rows(values: Any, name: str) -> int:
    if isinstance(values, (str, bytes)):
        raise _no_column(values, name)
    sized = values if hasattr(values, "__len__") else np.asarray(values)
    shape = getattr(sized, "shape", None)  # sparse matrices have no length
    try:
        return len(sized) if shape is None else shape[0]
    except (TypeError, IndexError) as error:
        raise _no_column(values, name) from error


def _no_column(values: Any, name: str, holds: str = "one value for each row of X") -> InvalidType:
    return InvalidType(f"{name} must hold {holds}; got {type(values).__name__} {shown(values)}.")


# ---------------------------------------------------------------- frames


def is_frame(values: Any) -> bool:
    """Whether `values` are a table: of pandas, polars, pyarrow or datasets."""
    if len(getattr(values, "shape", ())) != 2:  # asked first: a lazy frame computes its columns
        return False
    return hasattr(values, "column_names") or hasattr(values, "columns")


def column_names(frame: Any) -> list:
    """Names of the columns of a table, in order."""
    return list(frame.column_names if hasattr(frame, "column_names") else frame.columns)


def frame_columns(frame: Any) -> list[list]:
    """Columns of a table as Python objects; by position, since names may be there twice."""
    if hasattr(frame, "iloc"):
        return [frame.iloc[:, j].tolist() for j in range(frame.shape[1])]
    if hasattr(frame, "column"):  # pyarrow
        return [frame.column(j).to_pylist() for j in range(frame.shape[1])]
    return [to_list(frame[name]) for name in column_names(frame)]


# ---------------------------------------------------------------- columns


def to_list(column: Any) -> list:
    """A column as Python objects, whatever library it is of."""
    for method in ("to_pylist", "tolist", "to_list"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def to_array(values: Any, name: str, holds: str = "one value for each row of X") -> np.ndarray:
    """Rows as an array of at least one dimension.

    What is no array becomes one of Python objects, so that a list of texts and numbers is still
    that. Masked values become None.

    Parameters
    ----------
    values : array-like of any library, not sparse
    name, holds : str
        For messages: what they are, and what they should hold.

    Raises
    ------
    InvalidType
        If `values` are a single one, have no order, or are sparse.
    """
    single = isinstance(values, (str, bytes, bytearray, Mapping, Set))
    if single or not (hasattr(values, "__len__") or hasattr(values, "__array__")):
        raise _no_column(values, name, holds)
    if hasattr(values, "tocsr"):
        raise InvalidType(f"{name} must not be sparse. Pass {name}.toarray().")
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        hides = values.dtype.names is None and mask.any()
        values = (
            np.where(mask, np.array(None), values.data.astype(object)) if hides else values.data
        )
    array = _as_it_is(values)
    try:
        if array is None:
            array = _frame_of_objects(values) if is_frame(values) else objects(to_list(values))
    except (TypeError, ValueError) as error:
        raise _no_column(values, name, holds) from error
    if array.ndim == 0:
        raise _no_column(values, name, holds)
    return array.astype(object) if array.dtype.kind == "T" else array


def _as_it_is(values: Any) -> np.ndarray | None:
    """The array that `values` are, or are made of; None where there is no such array."""
    if not hasattr(values, "__array__") or hasattr(values, "to_pylist"):
        return None
    try:
        return np.asarray(values)
    except Exception:  # of any library: a tensor elsewhere or with a gradient, say
        return None


def _frame_of_objects(frame: Any) -> np.ndarray:
    array = np.empty(frame.shape, dtype=object)
    for j, column in enumerate(frame_columns(frame)):
        array[:, j] = objects(column)
    return array


def objects(items: list) -> np.ndarray:
    """A list as a 1-D array of its items (numpy would look into them); scalar arrays opened."""
    if any(hasattr(kind, "shape") for kind in set(map(type, items))):
        items = [item.item() if _is_scalar_array(item) else item for item in items]
    return np.fromiter(items, dtype=object, count=len(items))


def _is_scalar_array(value: Any) -> bool:
    return getattr(value, "shape", None) == () and not is_missing(value) and hasattr(value, "item")


def ravelled(array: np.ndarray, name: str) -> np.ndarray:
    """A matrix of one column as that column, with scikit-learn's word on it; others as they are."""
    if array.ndim != 2 or array.shape[1] != 1:
        return array
    warnings.warn(
        f"A column-vector {name} was passed when a 1d array was expected. Please change the shape "
        f"of {name} to (n_samples, ), for example using ravel().",
        DataConversionWarning,
        stacklevel=2,
    )
    return array.ravel()


def are_numbers(values: np.ndarray) -> bool:
    """Whether all values are numbers or truth values, of Python or of numpy."""
    if values.dtype.kind != "O":
        return values.dtype.kind in "biuf"
    return all(
        kind is not np.timedelta64
        and issubclass(kind, (int, float, np.integer, np.floating, np.bool_))
        for kind in set(map(type, values.flat))
    )


def stacked(rows: np.ndarray) -> np.ndarray:
    """A column of rows of equal length as a matrix of objects; other arrays as they are."""
    if rows.dtype != object or rows.ndim != 1 or not all(map(is_sequence, rows)):
        return rows
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        return rows
    matrix = np.empty((len(rows), *widths), dtype=object)
    for i, row in enumerate(rows):
        matrix[i] = objects(to_list(row))
    return matrix


def is_sequence(value: Any) -> bool:
    """Whether a row is itself an ordered collection."""
    return isinstance(value, (list, tuple)) or (
        hasattr(value, "__len__") and len(getattr(value, "shape", ())) == 1
    )


# ---------------------------------------------------------------- missing values


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT, NA, or a masked one."""
    if value is None or type(value).__name__ in _NULLS:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, _MAY_BE_NAN) and bool(value != value)


def first_missing(values: np.ndarray) -> int | None:
    """Position of the first missing value in a 1-D array of objects; None if there is none."""
    kinds = [kind for kind in set(map(type, values)) if not issubclass(kind, (str, int))]
    if not kinds:
        return None
    return next((i for i, value in enumerate(values) if is_missing(value)), None)


def check_same_columns(inputs: Any, n_columns: int, names: Any, owner: str) -> None:
    """Raise unless X has the columns of the rows that were fitted on.

    Raises
    ------
    InvalidInput
    """
    if inputs.n_columns != n_columns:
        raise InvalidInput(
            f"X has {inputs.n_columns} features, but {owner} is expecting {n_columns} features as "
            "input (1 for texts, 2 for text pairs)."
        )
    if inputs.names is not None and names is not None and list(inputs.names) != list(names):
        raise InvalidInput(
            "The feature names should match those that were passed during fit: fitted with "
            f"{list(names)}, got {list(inputs.names)}."
        )
