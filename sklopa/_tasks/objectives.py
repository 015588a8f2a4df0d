"""What training minimises, for each kind of target, and where a linear head starts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sklopa._heads.linear_start import LinearStart, ProbeRows, logistic_start, ridge_start

# Logit of a class that no training row has, against those that some have.
_ABSENT = -5.0

# Weight (C, D) and bias (C,) of the head, and what is added to its outputs in training (n, C).
Start = tuple[Tensor, Tensor, Tensor]


def as_start(solved: LinearStart) -> Start:
    """A solved linear model as tensors."""
    parts = (solved.coef, solved.intercept, solved.offset)
    return tuple(torch.from_numpy(part).float() for part in parts)


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

    def start(self, rows: ProbeRows) -> Start:
        """A regularised linear model of the features."""
        n_rows, n_features = rows.features.shape
        weights, bias = torch.zeros(self.n_classes, n_features), torch.zeros(self.n_classes)
        offset, present = torch.zeros(n_rows, self.n_classes), rows.target.unique()
        if len(present) > 1:
            solved = as_start(logistic_start(rows))
            weights[present], bias[present], offset[:, present] = solved
        bias[~torch.isin(torch.arange(self.n_classes), present)] = bias.min() + _ABSENT
        return weights, bias, offset


class BinaryCrossEntropy:
    """Any number of classes a row: outputs (B, C) are logits, targets (B, C) are 0 or 1."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,): the mean over the classes."""
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(dim=1)

    def start(self, rows: ProbeRows) -> Start:
        """A regularised linear model of the features for each class."""
        columns = [replace(rows, target=column) for column in rows.target.T]
        weights, bias, offsets = zip(*map(self._start_column, columns), strict=True)
        return torch.stack(weights), torch.stack(bias), torch.stack(offsets, dim=1)

    def _start_column(self, rows: ProbeRows) -> Start:
        column = rows.target
        if column.min() == column.max():  # a class that is always or never there
            constant = torch.tensor(5.0 if column[0] > 0 else -5.0)
            return torch.zeros(rows.features.shape[1]), constant, torch.zeros(len(column))
        weights, bias, offset = CrossEntropy(2).start(replace(rows, target=column.long()))
        return weights[1] - weights[0], bias[1] - bias[0], offset[:, 1] - offset[:, 0]


class SquaredError:
    """Numbers: outputs and targets (B, K) in units of the targets' standard deviations."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,): the mean over the columns."""
        return (outputs - target).square().mean(dim=1)

    def start(self, rows: ProbeRows) -> Start:
        """A ridge regression on the features."""
        return as_start(ridge_start(rows))


class LogLikelihood:
    """Target texts: outputs (B,) are mean log-probabilities of their tokens."""

    def loss(self, outputs: Tensor, target: None) -> Tensor:
        """Loss of each row, (B,): nats a target token."""
        return -outputs
