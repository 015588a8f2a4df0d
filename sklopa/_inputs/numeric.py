"""y of numbers -> columns, and the units in which a network learns them."""

from __future__ import annotations

import datetime
import numbers
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np

from sklopa._inputs.columns import are_numbers, is_missing, ravelled, stacked, to_array
from sklopa._inputs.rules import as_plain, shown
from sklopa.errors import InvalidInput

# Standard deviations from the mean, at most: the square of this is still a float32.
_FARTHEST = 1e15
_HIGHEST = np.finfo(np.float64).max
_LOWEST_SCALE = np.finfo(np.float64).smallest_subnormal


@dataclass(frozen=True)
class Numbers:
    """Numbers to learn, and the units that make them small.

    Attributes
    ----------
    values : ndarray of shape (n, K), float64
    mean, scale : ndarrays of shape (K,)
        Weighted mean and standard deviation of each column. The scale of a constant column is
        the size of its value, or 1 where that is 0.
    """

    values: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


def check_numbers(y: Any, weights: np.ndarray, *, name: str = "y") -> Numbers:
    """Numbers (n,) or (n, K) as columns, with their mean and scale over the weighted rows.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, K)
        Any real numbers that a float64 can hold, in any container.
    weights : ndarray of shape (n,)
        Rows of weight 0 do not count for mean and scale.

    Raises
    ------
    InvalidType
        If y is a single value, or a collection without order.
    InvalidInput
        If y is missing, not numeric, not finite, or has more than two dimensions; the text names
        the first bad row.
    """
    if y is None:
        raise InvalidInput(
            f"requires {name} to be passed, but the target {name} is None: give one number for "
            "each text."
        )
    values = read_numbers(y, name)
    if values.ndim > 2 or not values.size:
        raise InvalidInput(
            f"{name} must hold numbers, one or several for each row of X; got an array of shape "
            f"{values.shape}."
        )
    values = ravelled(values, name).reshape(len(values), -1)
    return Numbers(values, *_units(values, weights))


def read_numbers(values: Any, name: str) -> np.ndarray:
    """Finite real numbers as float64, in as many dimensions as they come.

    Raises
    ------
    InvalidInput
        If anything else is among them; names the first bad row.
    """
    array = stacked(to_array(values, name))
    if array.dtype.kind not in "biufO":
        bad = array.flat[0] if array.size else array.dtype
        raise InvalidInput(_no_number(bad, _row(array.shape, 0), name))
    array = _as_floats(array, name)
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidInput(
            f"{name} contains NaN or infinity: row {_row(array.shape, bad)} has "
            f"{array.flat[bad].item()!r}."
        )
    return array


def _as_floats(array: np.ndarray, name: str) -> np.ndarray:
    try:
        if are_numbers(array):
            with np.errstate(over="ignore"):  # a longer float is infinite then, and refused
                return array.astype(np.float64)
    except OverflowError:  # 10**400; the row is found below
        pass
    found = [_as_float(value, array.shape, i, name) for i, value in enumerate(array.flat)]
    return np.array(found, dtype=np.float64).reshape(array.shape)


def _row(shape: tuple[int, ...], position: int) -> int:
    """Row of the element at a position of the flat array."""
    return position // max(1, int(np.prod(shape[1:])))


def _as_float(value: Any, shape: tuple[int, ...], position: int, name: str) -> float:
    row = _row(shape, position)
    if is_missing(value):
        raise InvalidInput(f"{name} contains NaN or infinity: row {row} has {shown(value)}.")
    plain = as_plain(value)
    if isinstance(plain, np.generic) or not isinstance(plain, (numbers.Real, Decimal)):
        raise InvalidInput(_no_number(value, row, name))
    try:
        return float(value)
    except (OverflowError, ValueError) as error:  # 10**400; a signalling NaN
        raise InvalidInput(
            f"{name} contains NaN or infinity: row {row} has {shown(value)}, which no float64 "
            "can hold."
        ) from error


def _no_number(value: Any, row: int, name: str) -> str:
    advice = "Convert it with float(value)."
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        advice = f"Divide by a unit of time, such as {name} / numpy.timedelta64(1, 's')."
    elif isinstance(value, (datetime.date, datetime.time, np.datetime64)):
        advice = f"Count from a start: ({name} - start) / numpy.timedelta64(1, 'D')."
    elif isinstance(value, Enum):
        advice = "Use its value: label.value."
    elif isinstance(value, numbers.Complex):
        advice = "Give real and imaginary part as two columns."
    return (
        f"{name} must hold numbers: row {row} is {shown(value)} of type {type(value).__name__}. "
        f"{advice}"
    )


# ---------------------------------------------------------------- units


def _units(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale (K,) of the columns over rows of weight above 0, whatever their size.

    Columns are brought to at most 1 by a power of two, which is exact, so that no square leaves
    the range of float64; and are taken from their first value, so that small differences between
    large numbers stay what they are.
    """
    values, weights = values[weights > 0], weights[weights > 0]
    exponent = np.frexp(np.abs(values).max(axis=0))[1]
    small = np.ldexp(values, -exponent)
    apart = small - small[0]
    mean = np.average(apart, axis=0, weights=weights)
    deviation = np.sqrt(np.average((apart - mean) ** 2, axis=0, weights=weights))
    mean = np.ldexp((small[0] + mean).clip(small.min(axis=0), small.max(axis=0)), exponent)
    with np.errstate(over="ignore", under="ignore"):
        scale = np.ldexp(deviation, exponent).clip(_LOWEST_SCALE, _HIGHEST)
    constant = np.where(mean == 0, 1.0, np.abs(mean))
    return mean, np.where(deviation == 0, constant, scale)


def standardise(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`values` (n, K) in standard deviations from the mean, float64, at most 1e15 of them.

    What lies farther away, as in rows to watch that have nothing to do with those of `fit`, or in
    rows of weight 0, is as far as a network in float32 can tell.
    """
    exponent = np.frexp(np.maximum(np.abs(mean), scale))[1]
    with np.errstate(over="ignore", under="ignore"):
        apart = np.ldexp(values, -exponent) - np.ldexp(mean, -exponent)
        return (apart / np.ldexp(scale, -exponent)).clip(-_FARTHEST, _FARTHEST)


def restore(outputs: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The inverse of `standardise`: numbers (n, K), float64, in the units of y."""
    exponent = np.frexp(np.maximum(np.abs(mean), scale))[1]
    with np.errstate(over="ignore", under="ignore"):
        small = outputs * np.ldexp(scale, -exponent) + np.ldexp(mean, -exponent)
        return np.ldexp(small, exponent).clip(-_HIGHEST, _HIGHEST)
