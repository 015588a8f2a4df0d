"""What a fit tells while it runs: a progress bar, and scikit-learn's callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import TqdmWarning

with warnings.catch_warnings():  # a notebook without ipywidgets has bars of text
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

try:  # scikit-learn >= 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class _NoCallbacks:
        """Stands in where scikit-learn has no callbacks."""

    CallbackSupportMixin = _NoCallbacks

    def with_callbacks(method: Callable) -> Callable:
        """Stands in where scikit-learn has no callbacks."""
        return method


@contextmanager
def rows_bar(estimator: Any, n_rows: int) -> Iterator[Callable[[int], Any]]:
    """What to tell of rows that are done; shown, with rows a second, if `estimator` is verbose."""
    with _bar(estimator, "rows", n_rows, disable=not estimator.verbose) as bar:
        yield bar.update


def _bar(estimator: Any, what: str, total: int, **options: Any) -> tqdm:
    """A bar of rows, which goes when all are done."""
    name = f"{type(estimator).__name__} {what}"
    return tqdm(total=total, unit="row", desc=name, leave=False, **options)


class FitProgress:
    """Tells a bar and the estimator's callbacks about batches and epochs.

    Parameters
    ----------
    estimator : the estimator in `fit`
    max_iter : int, epochs
    n_rows : int, rows of an epoch
    fitted_state : callable
        Attributes that make the estimator as fitted as it is at that moment.
    X, y : the data as the user gave them, for callbacks that score
    """

    def __init__(
        self,
        estimator: Any,
        *,
        max_iter: int,
        n_rows: int,
        fitted_state: Callable[[], dict],
        X: Any = None,
        y: Any = None,
    ) -> None:
        self._estimator, self._fitted_state, self._data = estimator, fitted_state, (X, y)
        self._bar = None
        if estimator.verbose:
            self._bar = _bar(estimator, "fit", max_iter * n_rows)
        self._root: Any = None
        self._task: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self._root = estimator._init_callback_context(max_subtasks=max_iter)
            X, y = self._data
            self._root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def resume(self, n_rows: int) -> None:
        """So many rows were done before; the bar goes on from there."""
        if self._bar is not None:
            self._bar.initial = self._bar.n = min(n_rows, self._bar.total)
            self._bar.refresh()

    def batch(self, n_rows: int, loss: float) -> None:
        """A batch of `n_rows` rows is done."""
        if self._root is not None and self._task is None:
            self._begin_epoch()
        if self._bar is not None:
            self._bar.update(n_rows)
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

    def epoch(self, record: dict) -> bool:
        """An epoch is done; whether a callback asks to stop."""
        if self._bar is not None:
            score = record.get("validation_score")
            text = {} if score is None else {"validation": f"{score:.4f}"}
            self._bar.set_postfix(loss=f"{record['loss']:.4f}", **text)
        if self._root is None:
            return False
        task, self._task = self._task, None  # the next one begins only if training goes on
        return self._end(task)

    def close(self) -> None:
        """Training is over, whatever ended it."""
        if self._bar is not None:
            self._bar.close()

    def end(self) -> None:
        """The estimator is fitted."""
        if self._root is not None:
            self._end(self._root)

    def _begin_epoch(self) -> None:
        self._task = self._root.subcontext(task_name="epoch")
        X, y = self._data
        self._task.call_on_fit_task_begin(estimator=self._estimator, X=X, y=y)

    def _end(self, task: Any) -> bool:
        X, y = self._data
        return task.call_on_fit_task_end(
            estimator=self._estimator, X=X, y=y, reconstruction_attributes=self._fitted_state
        )
