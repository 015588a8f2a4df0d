"""What training minimises, for each kind of target, and where a linear head starts."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Inverse strength of the ridge penalty of the starting head, on standardised features. Strong
# on purpose: a head that fits the training rows leaves the prompt nothing to learn.
_START_C = 0.002

# Ridge penalty of a regressor's starting head for each row, for the same reason.
_START_RIDGE = 0.1


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

    def start(self, features: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of a regularised linear model of the features."""
        from sklearn.linear_model import LogisticRegression

        weights, bias = torch.zeros(self.n_classes, features.shape[1]), torch.zeros(self.n_classes)
        present = target.unique()
        if len(present) > 1:
            model = LogisticRegression(C=_START_C, max_iter=300)
            coef, intercept = _fit_standardised(model, features, target, weight)
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

    def start(self, features: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,), one regularised linear model for each class."""
        solved = [self._start_column(features, column, weight) for column in target.T]
        return torch.stack([w for w, _ in solved]), torch.stack([b for _, b in solved])

    def _start_column(
        self, features: Tensor, column: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        if column.min() == column.max():  # a class that is always or never there
            constant = torch.tensor(5.0 if column[0] > 0 else -5.0)
            return torch.zeros(features.shape[1]), constant
        coef, intercept = CrossEntropy(2).start(features, column.long(), weight)
        return coef[1] - coef[0], intercept[1] - intercept[0]


class SquaredError:
    """Numbers: outputs and targets (B, K) in units of the targets' standard deviations."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (B,): the mean over the columns."""
        return (outputs - target).square().mean(dim=1)

    def start(self, features: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of a ridge regression on the features."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=_START_RIDGE * float(weight.sum()))
        coef, intercept = _fit_standardised(model, features, target, weight)
        return torch.from_numpy(coef).float(), torch.from_numpy(intercept).float()


class LogLikelihood:
    """Target texts: outputs (B,) are mean log-probabilities of their tokens."""

    def loss(self, outputs: Tensor, target: None) -> Tensor:
        """Loss of each row, (B,): nats a target token."""
        return -outputs


def _fit_standardised(
    model, features: Tensor, target: Tensor, weight: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear model on standardised features; return it for the features as they are."""
    X, weight = features.double().numpy(), weight.double().numpy()
    mean = np.average(X, axis=0, weights=weight)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    scale[scale < 1e-12] = 1.0
    with warnings.catch_warnings():  # a start need not have converged
        warnings.simplefilter("ignore")
        model.fit((X - mean) / scale, target.numpy(), sample_weight=weight)
    coef = np.atleast_2d(model.coef_) / scale
    return coef, np.atleast_1d(model.intercept_) - coef @ mean
