"""The one place where pictures reach into a fitted estimator."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from sklopa.errors import InvalidType, NotFitted


def unwrap(caller: str, estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The fitted estimator of sklopa in a pipeline or search, and X as it reaches it.

    Raises
    ------
    InvalidType
        If there is none.
    NotFitted
    """
    if hasattr(estimator, "best_estimator_"):
        return unwrap(caller, estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        X = X if X is None else estimator[:-1].transform(X)
        return unwrap(caller, estimator[-1], X)
    if hasattr(estimator, "refit"):
        raise NotFitted(
            f"This {type(estimator).__name__} instance has no best_estimator_ to look at. Call "
            f"'fit' with refit=True before {caller}."
        )
    if not hasattr(estimator, "generate_prompts"):
        raise InvalidType(
            f"{caller} needs a fitted estimator of sklopa, or a pipeline or search that ends in "
            f"one; got {type(estimator).__name__}."
        )
    if not estimator.__sklearn_is_fitted__():
        raise NotFitted(
            f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' before "
            f"{caller}."
        )
    return estimator, X


def design_of(estimator: Any) -> Any:
    """What a fitted estimator was built as, in plain values."""
    return estimator._fitted_network().design


def live_network(estimator: Any) -> Any:
    """The network of a fitted estimator."""
    return estimator._fitted_network().live()


def score_name(estimator: Any) -> str:
    """What the validation score of an estimator is called."""
    if is_classifier(estimator):
        return "accuracy"
    return "R²" if is_regressor(estimator) else "log-likelihood"
