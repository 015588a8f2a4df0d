"""A regularised linear model of features, from which a head starts to learn.

How strongly to regularise depends on the task: too weak a penalty fits the training rows and
leaves the prompt nothing to learn, too strong a one throws away what many classes need. So it is
chosen on rows held out for that, as is whether some of the features are worth reading at all.

A linear model of many features is right about the rows it was fitted on and wrong about others, so
training that starts from it sees hardly an error. Hence the offset: with it, outputs for training
rows are at first those of models that have not seen them, and what is left to learn is honest.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
# Several copies of the features are held, and a linear model learns little from rows beyond these.
_MANY_ROWS = 20_000
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

    def sample(self) -> Tensor:
        """Indices of rows to fit on: all of them, or a random part with some of each class."""
        n = len(self.features)
        if n <= _MANY_ROWS:
            return torch.arange(n)
        order = np.random.RandomState(0).permutation(n)
        if self.target.ndim == 1:
            codes = self.target.numpy()[order]
            by_class = np.argsort(codes, kind="stable")
            before = np.empty(n, dtype=np.int64)  # rows of the same class before it
            before[by_class] = np.arange(n) - np.searchsorted(codes[by_class], codes[by_class])
            order = order[np.argsort(before >= _N_FOLDS, kind="stable")]
        return torch.from_numpy(np.sort(order[:_MANY_ROWS]))

    def subset(self, used: Tensor) -> ProbeRows:
        """The rows with these indices."""
        group = None if self.group is None else self.group[used]
        return ProbeRows(
            self.features[used], self.target[used], self.weight[used], group, self.firsts
        )

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
    folds = [fold for fold in rows.folds() if len(np.unique(y[fold[0]], axis=0)) > 1]
    if not folds:
        return models[len(models) // 2], 0
    enough, few = _enough(folds), _has_few_rows_a_class(models[0], rows)
    views, lowest = list[_View](), len(models) - 1 if few else len(models) // 2
    for first in rows.firsts:
        view = _View(first, X[:, first:], y, weight, loss)
        lowest = view.lowest(models, enough, lowest)
        view.best = models[lowest]
        views.append(view)
    judges = enough if few else folds
    chosen = functools.reduce(lambda one, other: _better(one, other, judges), views)
    return (chosen.best if few else chosen.strongest_as_good(models, enough)), chosen.first


class _View:
    """Columns from one of them on, and how models of these do on rows held out.

    Comparing models needs no float64, and float32 takes half the time.
    """

    best: Any  # the model with the lowest loss

    def __init__(
        self, first: int, X: np.ndarray, y: np.ndarray, weight: np.ndarray, loss: Callable
    ) -> None:
        self.first = first
        self._X, self._y, self._weight = _rotated(X.astype(np.float32)), y, weight
        self._loss, self._known = loss, dict[tuple[int, int], np.ndarray]()

    def losses(self, model: Any, folds: Sequence[tuple]) -> np.ndarray:
        """Loss of each row that the folds hold out, times its weight (1 on average)."""
        weight = self._weight[np.concatenate([test for _, test in folds])]
        return np.concatenate([self._fold(model, *fold) for fold in folds]) * weight / weight.mean()

    def lowest(self, models: Sequence[Any], folds: Sequence[tuple], start: int) -> int:
        """Where the mean loss is lowest, which falls and then rises; looked for from `start` on."""

        def mean(k: int) -> float:
            return float(self.losses(models[k], folds).mean())

        best = start
        for step in (1, -1):
            while 0 <= best + step < len(models) and mean(best + step) < mean(best):
                best += step
        return best

    def strongest_as_good(self, models: Sequence[Any], folds: Sequence[tuple]) -> Any:
        """The first model, going back from the best one, whose loss is within its error."""
        losses, k = self.losses(self.best, folds), models.index(self.best)
        allowed = losses.mean() + losses.std() / np.sqrt(len(losses))
        while k and self.losses(models[k - 1], folds).mean() <= allowed:
            k -= 1
        return models[k]

    def _fold(self, model: Any, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Losses of rows held out, computed once."""
        key = id(model), int(test[0])
        if key not in self._known:
            X, y = self._X, self._y
            fitted = clone(model).fit(X[train], y[train], sample_weight=self._weight[train])
            self._known[key] = self._loss(fitted, X[test], y[test])
        return self._known[key]


def _better(one: _View, other: _View, folds: Sequence[tuple]) -> _View:
    """The one whose best model is better, on as many folds as it takes to be sure, or on all."""
    for n in range(len(_enough(folds)), len(folds) + 1):
        gap = other.losses(other.best, folds[:n]) - one.losses(one.best, folds[:n])
        if abs(gap.mean()) > 2 * gap.std() / np.sqrt(len(gap)):
            break
    return other if gap.mean() < 0 else one


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
