"""What training minimises, for each kind of target, and where a linear head starts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sklopa._linear_start import logistic_start, ridge_start

# Logit of a class that no training row has, against those that some have.
_ABSENT = -5.0


class CrossEntropy:
    """One class a row: outputs (B, C) are logits, targets (B,) class indices.

    Parameters
    ----------
    n_classes : int, C; training rows need not have all of them
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,)."""
        return F.cross_entropy(outputs, target, reduction="none")

    def start(
        self, features: Tensor, target: Tensor, weight: Tensor, n_optional: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of a regularised linear model of the features."""
        weights, bias = torch.zeros(self.n_classes, features.shape[1]), torch.zeros(self.n_classes)
        present = target.unique()
        if len(present) > 1:
            coef, intercept = logistic_start(features, target, weight, n_optional)
            if len(coef) == 1:  # two classes share one column; split it between their logits
                coef = np.vstack([-coef, coef]) / 2
                intercept = np.hstack([-intercept, intercept]) / 2
            weights[present] = torch.from_numpy(coef).float()
            bias[present] = torch.from_numpy(intercept).float()
        bias[~torch.isin(torch.arange(self.n_classes), present)] = bias.min() + _ABSENT
        return weights, bias


class BinaryCrossEntropy:
    """Any number of classes a row: outputs (B, C) are logits, targets (B, C) are 0 or 1."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,): the mean over the classes."""
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(dim=1)

    def start(
        self, features: Tensor, target: Tensor, weight: Tensor, n_optional: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,), one regularised linear model for each class."""
        solved = [self._start_column(features, column, weight, n_optional) for column in target.T]
        return torch.stack([w for w, _ in solved]), torch.stack([b for _, b in solved])

    def _start_column(
        self, features: Tensor, column: Tensor, weight: Tensor, n_optional: int
    ) -> tuple[Tensor, Tensor]:
        if column.min() == column.max():  # a class that is always or never there
            constant = torch.tensor(5.0 if column[0] > 0 else -5.0)
            return torch.zeros(features.shape[1]), constant
        coef, intercept = CrossEntropy(2).start(features, column.long(), weight, n_optional)
        return coef[1] - coef[0], intercept[1] - intercept[0]


class SquaredError:
    """Numbers: outputs and targets (B, K) in units of the targets' standard deviations."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,): the mean over the columns."""
        return (outputs - target).square().mean(dim=1)

    def start(
        self, features: Tensor, target: Tensor, weight: Tensor, n_optional: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of a ridge regression on the features."""
        coef, intercept = ridge_start(features, target, weight, n_optional)
        return torch.from_numpy(coef).float(), torch.from_numpy(intercept).float()


class LogLikelihood:
    """Target texts: outputs (B,) are mean log-probabilities of their tokens."""

    def loss(self, outputs: Tensor, target: None) -> Tensor:
        """Loss of each row, (B,): nats a target token."""
        return -outputs
