"""Numbers, in one column or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import r2_score
from torch import Tensor

from sklopa._batches.rows import Rows
from sklopa._heads.linear_start import ProbeRows, ridge_start
from sklopa._inputs.numeric import check_numbers, restore, standardise
from sklopa._inputs.weights import check_weights
from sklopa._tasks.interface import Start, Targets, Task, as_start
from sklopa.errors import InvalidInput

if TYPE_CHECKING:
    from sklopa._network.fitted import FittedNetwork


@dataclass(frozen=True, eq=False)
class Regression(Task):
    """Numbers: outputs and targets (B, K) in units of the targets' standard deviations.

    Parameters
    ----------
    mean, scale : ndarrays of shape (K,)
    """

    mean: np.ndarray
    scale: np.ndarray

    @property
    def n_outputs(self) -> int:
        """K."""
        return len(self.mean)

    def encode(self, y: Any, n_rows: int, sample_weight: Any = None, *, name: str = "y") -> Targets:
        """Numbers (n, K), as given."""
        weights = check_weights(sample_weight, n_rows)
        values = check_numbers(y, weights, name=name).values
        if values.shape[1] != self.n_outputs:
            raise InvalidInput(
                f"{name} has {values.shape[1]} columns; the model was fitted with {self.n_outputs}."
            )
        return Targets(values, weights)

    def attach(self, rows: Rows, targets: Targets, network: FittedNetwork) -> Rows:
        """Rows with standardised numbers."""
        standardised = standardise(targets.values, self.mean, self.scale)
        return rows.with_target(torch.from_numpy(standardised).float())

    def loss(self, outputs: Tensor, target: Any) -> Tensor:
        """Squared error of each row, (B,): the mean over the columns."""
        return (outputs - target).square().mean(dim=1)

    def credit(self, outputs: Tensor, target: Any) -> Tensor:
        """What the squared error leaves of 1, the variance of y, so that the mean is R2."""
        return 1 - self.loss(outputs, target)

    def start(self, rows: ProbeRows) -> Start:
        """A ridge regression on the features."""
        return as_start(ridge_start(rows))

    def score(self, outputs: np.ndarray, rows: Rows) -> float:
        """R2, the coefficient of determination."""
        return float(r2_score(np.asarray(rows.target), outputs, sample_weight=rows.weights()))

    def score_of(self, outputs: np.ndarray, targets: Targets) -> float:
        """The same of targets as given, standardised, since squares of large ones overflow."""
        truth = standardise(targets.values, self.mean, self.scale)
        return float(r2_score(truth, outputs, sample_weight=targets.weights))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Numbers (n,), or (n, K), float64, in the units of y."""
        values = restore(outputs, self.mean, self.scale)
        return values[:, 0] if self.n_outputs == 1 else values

    def reported(self, outputs: Tensor) -> Tensor:
        """Numbers (B, K) in the units of y."""
        return outputs * torch.tensor(self.scale).float() + torch.tensor(self.mean).float()

    def fitted(self) -> dict[str, Any]:
        """Number of columns, and the units of each."""
        names = ("n_outputs_", "_target_mean", "_target_scale")
        return dict(zip(names, (self.n_outputs, self.mean, self.scale), strict=True))


def learn_numbers(y: Any, n_rows: int, sample_weight: Any) -> tuple[Regression, Targets]:
    """The task that y is of, and its targets.

    Raises
    ------
    InvalidInput
    """
    weights = check_weights(sample_weight, n_rows)
    numbers = check_numbers(y, weights)
    return Regression(numbers.mean, numbers.scale), Targets(numbers.values, weights)
