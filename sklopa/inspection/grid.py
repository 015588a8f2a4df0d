"""Candidates of a search -> cells of a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Cells:
    """Cells in panels: a place for each combination of values.

    Attributes
    ----------
    values : tuple of 3 lists
        Values of the parameters of panels, rows and columns; [None] for no parameter.
    candidate : ndarray of shape (n_panels, n_y, n_x), int
        Which candidate a cell shows; -1 where none was tried.
    counts : ndarray of the same shape, int
        Candidates that the cell stands for.
    """

    values: tuple[list, list, list]
    candidate: np.ndarray
    counts: np.ndarray

    def of(self, amounts: Sequence[float]) -> np.ndarray:
        """The amount of each cell's candidate; NaN where none was tried."""
        found = np.asarray(amounts, dtype=float)[self.candidate]
        return np.where(self.candidate < 0, np.nan, found)


def place_candidates(
    params: list[dict[str, Any]],
    names: tuple[str | None, str | None, str | None],
    order: Sequence[float] | np.ndarray,
) -> Cells:
    """Put candidates into cells; of those that share one, the last in `order` is shown.

    Parameters
    ----------
    params : list of dict
    names : names of the parameters of panels, rows and columns; None for no parameter
    order : (n,), a rank of each candidate
    """
    columns = [values_of(params, name) for name in names]
    panels, ys, xs = map(distinct, columns)
    values = (panels, ys, xs)
    shape = tuple(map(len, values))
    candidate, counts = np.full(shape, -1), np.zeros(shape, dtype=int)
    places = [[place(v, known) for v in c] for c, known in zip(columns, values, strict=True)]
    at = list(zip(*places, strict=True))
    for i in np.argsort(order, kind="stable").tolist():
        candidate[at[i]] = i
        counts[at[i]] += 1
    return Cells(values, candidate, counts)


def values_of(params: list[dict[str, Any]], name: str | None) -> list[Any]:
    """The value of a parameter in each candidate; numpy's numbers as plain ones."""
    found = [one.get(name, "not set") if name is not None else None for one in params]
    return [value.item() if isinstance(value, np.generic) else value for value in found]


def distinct(values: Sequence[Any]) -> list[Any]:
    """Values without repetition: numbers by size, behind all others as they come."""
    ordered = list({_key(value): value for value in values}.values())
    numbers = sorted(value for value in ordered if _is_number(value))
    return [value for value in ordered if not _is_number(value)] + numbers


def place(value: Any, among: Sequence[Any]) -> int:
    """Where a value stands among distinct ones."""
    return [_key(other) for other in among].index(_key(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _key(value: Any) -> Any:
    return float(value) if _is_number(value) else repr(value)
