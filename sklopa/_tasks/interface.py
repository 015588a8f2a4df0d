"""What every task is: y -> targets, what training minimises, and outputs -> what users see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sklopa._batches.rows import Rows
from sklopa._heads.linear_start import LinearStart, ProbeRows

if TYPE_CHECKING:
    from sklopa._network.fitted import FittedNetwork

# Weight (C, D) and bias (C,) of the head, and what is added to its outputs in training (n, C).
Start = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Targets:
    """What is to be learned for each row.

    Attributes
    ----------
    values : sequence of length n, as the task has it: class indices, numbers or texts
    weights : ndarray of shape (n,), as given; a row of weight 0 is left out
    strata : ndarray of shape (n,), or None
        Groups that a held-out part should represent.
    """

    values: Any
    weights: np.ndarray
    strata: np.ndarray | None = None


class Task(ABC):
    """What is learned. A task is known in full once y has been seen."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """C, columns of the outputs; 0 where texts are written."""

    @abstractmethod
    def encode(self, y: Any, n_rows: int, sample_weight: Any = None, *, name: str = "y") -> Targets:
        """Y of more rows of the same task.

        Parameters
        ----------
        y : array-like of length n_rows
        n_rows : int
        sample_weight : array-like of shape (n_rows,), default=None
        name : str, what messages call y

        Raises
        ------
        InvalidInput, InvalidType
            If y cannot be learned, or is of another task.
        """

    @abstractmethod
    def attach(self, rows: Rows, targets: Targets, network: FittedNetwork) -> Rows:
        """Rows with something to learn."""

    @abstractmethod
    def loss(self, outputs: Tensor, target: Any) -> Tensor:
        """Loss of each row, (B,)."""

    @property
    def start_depends_on(self) -> tuple[Any, ...]:
        """What `start` depends on besides the rows."""
        return type(self).__name__, self.n_outputs

    def start(self, rows: ProbeRows) -> Start:
        """A linear model from which a linear head begins."""
        raise NotImplementedError  # only tasks with a linear head are asked

    @abstractmethod
    def credit(self, outputs: Tensor, target: Any) -> Tensor:
        """What each row adds to a score of training rows, (B,); the score is the mean of it."""

    @abstractmethod
    def score(self, outputs: np.ndarray, rows: Rows) -> float:
        """How good outputs are for rows with targets; larger is better."""

    @abstractmethod
    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (n, C) as what users see."""

    def reported(self, outputs: Tensor) -> Tensor:
        """Outputs (B, C) as probabilities, or as numbers in the units of y; see `OnnxPredictor`."""
        raise NotImplementedError  # only tasks with outputs are asked

    @abstractmethod
    def fitted(self) -> dict[str, Any]:
        """Attributes of an estimator that the task is made from again."""


def as_start(solved: LinearStart) -> Start:
    """A solved linear model as tensors."""
    weight, bias, offset = (
        torch.from_numpy(part).float() for part in (solved.coef, solved.intercept, solved.offset)
    )
    return weight, bias, offset
