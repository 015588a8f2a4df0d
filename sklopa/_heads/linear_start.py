"""A regularised linear model of features, from which a head starts to learn.

How strongly to regularise depends on the task: too weak a penalty fits the training rows and
leaves the prompt nothing to learn, too strong a one throws away what many classes need. So it is
chosen on rows held out for that, as is whether some of the features are worth reading at all.

A linear model of many features is right about the rows it was fitted on and wrong about others, so
training that starts from it sees hardly an error. Hence the offset: with it, outputs for training
rows are at first those of models that have not seen them, and what is left to learn is honest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from torch import Tensor

# Inverse penalties of the logistic model, and penalties a row of the ridge model, on standardised
# features; the middle ones serve where there are too few rows to choose by.
_INVERSE_PENALTIES = (0.0004, 0.002, 0.01, 0.05, 0.25, 1.0)
_DEFAULT_INVERSE_PENALTY = 0.002
_PENALTIES = (10.0, 1.0, 0.1, 0.01)
_DEFAULT_PENALTY = 0.1
_ENOUGH_ROWS = 50
_ENOUGH_HELD_OUT = 200
_N_FOLDS = 5


@dataclass(frozen=True)
class ProbeRows:
    """What a linear model is fitted on.

    Attributes
    ----------
    features : Tensor of shape (n, D)
    target : Tensor of shape (n,), class indices, or (n, K), numbers
    weight : Tensor of shape (n,)
    group : Tensor of shape (n,), equal for rows that hold the same input; all differ by default
    firsts : sequence of int
        Features from which on the model may read; those before have coefficients of zero.
    """

    features: Tensor
    target: Tensor
    weight: Tensor
    group: Tensor | None = None
    firsts: Sequence[int] = (0,)

    @property
    def n_distinct(self) -> int:
        """Number of rows that differ: a row that is there twice is one of weight 2."""
        return len(self.features) if self.group is None else len(self.group.unique())

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of rows to fit on and of rows held out. Equal rows are on the same side."""
        group = np.arange(len(self.features)) if self.group is None else self.group.numpy()
        distinct = np.unique(group)
        if len(distinct) < 2:
            return
        split = KFold(min(_N_FOLDS, len(distinct)), shuffle=True, random_state=0).split
        for _, held_out in split(distinct):
            is_held_out = np.isin(group, distinct[held_out])
            yield np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


@dataclass(frozen=True)
class LinearStart:
    """A linear model, and how it does on rows that it has not seen.

    Attributes
    ----------
    coef : ndarray of shape (C, D)
    intercept : ndarray of shape (C,)
    offset : ndarray of shape (n, C)
        Outputs for each row of a model fitted without it, less those of this model, which has
        seen it.
    """

    coef: np.ndarray
    intercept: np.ndarray
    offset: np.ndarray


def logistic_start(rows: ProbeRows) -> LinearStart:
    """A logistic regression, with a column for each class that is there."""
    few = rows.n_distinct < _ENOUGH_ROWS
    options = (_DEFAULT_INVERSE_PENALTY,) if few else _INVERSE_PENALTIES
    return _solve([LogisticRegression(C=c, max_iter=100) for c in options], rows, _log_loss)


def ridge_start(rows: ProbeRows) -> LinearStart:
    """A ridge regression, with a column for each number."""
    few, total = rows.n_distinct < _ENOUGH_ROWS, float(rows.weight.sum())
    options = (_DEFAULT_PENALTY,) if few else _PENALTIES
    return _solve([Ridge(alpha=a * total) for a in options], rows, _squared_error)


def _solve(models: Sequence[Any], rows: ProbeRows, loss: Callable) -> LinearStart:
    """The best of `models`, fitted on standardised features and given for them as they are."""
    X, y = rows.features.double().numpy(), rows.target.numpy()
    weight = rows.weight.double().numpy()
    mean = np.average(X, axis=0, weights=weight)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    scale[scale < 1e-12] = 1.0
    X, first, model = (X - mean) / scale, 0, models[0]
    with warnings.catch_warnings():  # a start need not have converged
        warnings.simplefilter("ignore")
        if len(models) > 1:
            model, first = _best(models, rows, X, y, weight, loss)
        model.fit(X[:, first:], y, sample_weight=weight)
        coef, intercept = _per_class(model)
        folds = () if _has_few_rows_a_class(model, rows) else rows.folds()
        offset = _offset(model, folds, X[:, first:], y, weight)
    coef = np.pad(coef / scale[first:], ((0, 0), (first, 0)))
    return LinearStart(coef, intercept - coef @ mean, offset)


def _per_class(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (C, D) and intercepts (C,) of a fitted model."""
    coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    if is_classifier(model) and len(coef) == 1:  # two classes share one column; split it
        return np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
    return coef, intercept


def _offset(
    model: Any, folds: Iterable, X: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Outputs (n, C) for each row of a model fitted without it, less those of `model`.

    Of a class that the other model has not seen it knows nothing: the output stays.
    """
    coef, intercept = _per_class(model)
    offset = np.zeros((len(X), len(coef)))
    for train, test in folds:
        if len(np.unique(y[train], axis=0)) < 2:
            continue
        other = clone(model).fit(X[train], y[train], sample_weight=weight[train])
        seen = np.arange(len(coef))
        if is_classifier(model):
            seen = np.flatnonzero(np.isin(model.classes_, other.classes_))
        its_coef, its_intercept = _per_class(other)
        gap = X[test] @ (its_coef - coef[seen]).T + its_intercept - intercept[seen]
        offset[np.ix_(test, seen)] = gap
    return offset


def _best(
    models: Sequence[Any],
    rows: ProbeRows,
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    loss: Callable,
) -> tuple[Any, int]:
    """The model, not fitted, and the first column for it, that serve held-out rows best.

    Of models within a standard error of the best, on the same columns, it is the first, the most
    strongly regularised one (Breiman et al., 1984): it leaves most to the prompt. With few rows a
    class there is no offset, training has little to learn, and the best itself is taken.
    """
    folds = _enough([fold for fold in rows.folds() if len(np.unique(y[fold[0]], axis=0)) > 1])
    if not folds:
        return models[len(models) // 2], 0
    test = np.concatenate([held_out for _, held_out in folds])
    losses = np.empty((len(rows.firsts), len(models), len(test)))
    for i, first in enumerate(rows.firsts):
        Z = _rotated(X[:, first:])
        for k, model in enumerate(models):
            tried = [(clone(model).fit(Z[a], y[a], sample_weight=weight[a]), b) for a, b in folds]
            losses[i, k] = np.concatenate([loss(fitted, Z[b], y[b]) for fitted, b in tried])
    losses *= weight[test] / weight[test].mean()
    means = losses.mean(axis=2)
    i, k = np.unravel_index(means.argmin(), means.shape)
    if _has_few_rows_a_class(models[k], rows):
        return models[k], rows.firsts[i]
    allowed = means[i, k] + losses[i, k].std() / np.sqrt(len(test))
    return models[int(np.argmax(means[i] <= allowed))], rows.firsts[i]


def _has_few_rows_a_class(model: Any, rows: ProbeRows) -> bool:
    """Whether classes have fewer rows than there are folds, so that some models lack a class."""
    return is_classifier(model) and rows.n_distinct < _N_FOLDS * len(rows.target.unique())


def _enough(folds: Sequence[tuple]) -> Sequence[tuple]:
    """The first of the folds that together hold out enough rows to judge by."""
    seen = np.cumsum([len(held_out) for _, held_out in folds])
    return folds[: 1 + int(np.searchsorted(seen, _ENOUGH_HELD_OUT))]


def _rotated(X: np.ndarray) -> np.ndarray:
    """X (n, D) in at most n columns: a penalised linear model cannot tell, and is fitted faster."""
    if len(X) >= X.shape[1]:
        return X
    u, s, _ = np.linalg.svd(X, full_matrices=False)
    return u * s


def _log_loss(model: LogisticRegression, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss of each row; a class that the model has not seen counts as a rare one."""
    p = np.full(len(y), 1e-4)
    where = np.searchsorted(model.classes_, y).clip(max=len(model.classes_) - 1)
    seen = model.classes_[where] == y
    p[seen] = model.predict_proba(X)[seen, where[seen]]
    return -np.log(p.clip(min=1e-12))


def _squared_error(model: Ridge, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((model.predict(X).reshape(y.shape) - y) ** 2).reshape(len(y), -1).mean(axis=1)
