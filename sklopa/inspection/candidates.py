"""What a search tried, in one form for all kinds of search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from sklopa.errors import InvalidParameter, InvalidType, NotFitted


@dataclass(frozen=True)
class Candidates:
    """What a search tried, and what came of it.

    Attributes
    ----------
    params : list of dict, parameters of each candidate
    scores : ndarray of shape (n,), mean test scores; NaN for a candidate that failed
    chosen : int or None, the candidate that the search chose
    score_name : str, such as "mean test accuracy"
    larger_is_better : bool
    resources : ndarray of shape (n,) or None
        Of a halving search: the most of `resource` that each candidate was given.
    resource : str or None
    """

    params: list[dict[str, Any]]
    scores: np.ndarray
    chosen: int | None
    score_name: str
    larger_is_better: bool = True
    resources: np.ndarray | None = None
    resource: str | None = None

    def find(self, name: str) -> str:
        """The full name of a parameter: itself, or the one that ends in it behind ``__``.

        Raises
        ------
        InvalidParameter
            If the search has no such parameter, or several.
        """
        known = list(dict.fromkeys(key for params in self.params for key in params))
        found = [key for key in known if key == name]
        found = found or [key for key in known if key.endswith(f"__{name}")]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(map(repr, found or known))
        if found:
            raise InvalidParameter(f"{name!r} may be any of {listed} here; give the full name.")
        raise InvalidParameter(
            f"{name!r} is no parameter of this search, which varied {listed}. Name two of these as "
            "x and y, or one as x with y=None."
        )


def read_search(search: Any, metric: str | None = None) -> Candidates:
    """The candidates of a search of scikit-learn or Optuna, or of an Optuna study.

    Raises
    ------
    InvalidType
        If it is none of these.
    NotFitted
        If it has not run.
    InvalidParameter
        If it has several scores and `metric` names none of them.
    """
    study = getattr(search, "study_", search)
    if hasattr(study, "trials") and hasattr(study, "directions"):
        is_alone = study is search
        return _of_study(study, "objective value" if is_alone else _name_of_scores(search, "score"))
    if hasattr(search, "cv_results_"):
        return _of_cv_results(search, metric or _metric(search))
    if hasattr(search, "fit") and hasattr(search, "estimator"):
        raise NotFitted(
            f"This {type(search).__name__} instance is not fitted yet. Call 'fit' before "
            "SearchDisplay.from_search."
        )
    raise InvalidType(
        "SearchDisplay.from_search needs a search of scikit-learn (grid, randomized, halving) or "
        f"Optuna, or an Optuna study; got {type(search).__name__}."
    )


def _of_cv_results(search: Any, metric: str) -> Candidates:
    results, defaults = search.cv_results_, search.estimator.get_params()
    if f"mean_test_{metric}" not in results:
        listed = ", ".join(map(repr, _metrics(search)))
        raise InvalidParameter(f"metric={metric!r} is no score of this search, which has {listed}.")
    names = dict.fromkeys(name for params in results["params"] for name in params)
    found = Candidates(
        # One of several grids may leave a parameter as the estimator has it.
        params=[{n: one.get(n, defaults.get(n)) for n in names} for one in results["params"]],
        scores=np.asarray(results[f"mean_test_{metric}"], dtype=float),
        chosen=getattr(search, "best_index_", None),
        score_name=_name_of_scores(search, metric),
    )
    if "n_resources" not in results:
        return found
    return _last_rounds(found, np.asarray(results["n_resources"]), search.resource)


def _last_rounds(found: Candidates, resources: np.ndarray, resource: str) -> Candidates:
    """Each candidate of a halving search once, as scored with the most resources."""
    params = [{k: v for k, v in one.items() if k != resource} for one in found.params]
    last = {repr(one): i for i, one in enumerate(params)}  # rounds come one after another
    kept = sorted(last.values())
    return Candidates(
        params=[params[i] for i in kept],
        scores=found.scores[kept],
        chosen=None if found.chosen is None else kept.index(last[repr(params[found.chosen])]),
        score_name=found.score_name,
        resources=resources[kept],
        resource=resource,
    )


def _of_study(study: Any, score_name: str) -> Candidates:
    if len(study.directions) > 1:
        raise InvalidParameter(
            f"This study has {len(study.directions)} objectives, and a heat map shows one."
        )
    trials = [trial for trial in study.trials if trial.state.is_finished() and trial.params]
    done = [trial.state.name == "COMPLETE" for trial in trials]
    if not any(done):
        raise NotFitted("This study has no complete trial yet. Run it before drawing it.")
    return Candidates(
        params=[trial.params for trial in trials],
        scores=np.array([t.value if ok else np.nan for t, ok in zip(trials, done, strict=True)]),
        chosen=[trial.number for trial in trials].index(study.best_trial.number),
        score_name=score_name,
        larger_is_better=study.directions[0].name == "MAXIMIZE",
    )


def _metrics(search: Any) -> list[str]:
    start = "mean_test_"
    return [key.removeprefix(start) for key in search.cv_results_ if key.startswith(start)]


def _metric(search: Any) -> str:
    """The only score of a search, or the one that it refits for."""
    if isinstance(search.refit, str):
        return search.refit
    if len(metrics := _metrics(search)) == 1:
        return metrics[0]
    listed = ", ".join(map(repr, metrics))
    raise InvalidParameter(f"This search has several scores: {listed}. Choose one with metric=.")


def _name_of_scores(search: Any, metric: str) -> str:
    """What stands for a `metric`, which is "score" where there is only one."""
    if metric != "score":
        name = metric
    elif search.scoring is not None:
        name = getattr(search.scoring, "__name__", None) or str(search.scoring)
    elif is_classifier(search.estimator):
        name = "accuracy"
    else:
        name = "R²" if is_regressor(search.estimator) else "score"
    return f"mean test {name}".replace("_", " ")
