"""`MultiTaskPredictor`: rows of many tasks in shared batches through one frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sklopa._inputs.rules import integer
from sklopa._inputs.targets import check_lengths
from sklopa._inputs.texts import check_texts
from sklopa.errors import InvalidInput, InvalidParameter


class MultiTaskPredictor:
    """Predict for several fitted estimators over one frozen model, with batches that they share.

    A prompt is part of the input, so rows of different tasks can go through the frozen model
    together. Results are those of each estimator alone.

    Parameters
    ----------
    estimators : dict of {name: fitted estimator}
        All with an equal `Backbone`. Prompts, heads, encoders and labels may differ.
    batch_size : int, default=32
        Rows that go through the frozen model together.

    Raises
    ------
    InvalidParameter
        If the frozen models differ, or an estimator cannot share a batch (``depth="deep"``,
        ``do_sample=True``).

    Examples
    --------
    >>> from sklopa.serving import MultiTaskPredictor
    >>> tasks = MultiTaskPredictor({"mood": clf, "topic": other})  # doctest: +SKIP
    >>> tasks.predict(["mood", "topic", "mood"], texts)  # doctest: +SKIP
    array(['good', 'sport', 'bad'], dtype=object)
    """

    def __init__(self, estimators: Mapping[str, Any], *, batch_size: int = 32) -> None:
        if not integer(1).accepts(batch_size):
            raise InvalidParameter(
                f"MultiTaskPredictor: parameter batch_size must be {integer(1).allowed}; got "
                f"{batch_size!r}"
            )
        if not estimators:
            raise InvalidParameter("MultiTaskPredictor: parameter estimators is empty")
        self.estimators, self.batch_size = dict(estimators), batch_size
        first = next(iter(self.estimators))
        for name, estimator in self.estimators.items():
            estimator._check_fitted()
            self._check_same_backbone(first, name)
            _check_shareable(name, estimator)

    def predict(self, task_names: str | Sequence[str], X: Any) -> np.ndarray:
        """What the estimator of each row's task predicts for it.

        Parameters
        ----------
        task_names : array-like of shape (n,), or str
            Name of an estimator for each row, or one for all rows.
        X : array-like of shape (n,) or (n, 2)
            Texts, or text pairs where the tasks read pairs.

        Returns
        -------
        ndarray of shape (n,), object
            A label, number or text a row; of several outputs, such as a multilabel classifier's, an
            array (C,).
        """
        from sklopa.serving.shared_batches import run_shared

        nulls = {estimator.nulls for estimator in self.estimators.values()}
        texts = check_texts(X, "empty" if nulls == {"empty"} else "error")
        names = [task_names] * len(texts) if isinstance(task_names, str) else task_names
        check_lengths(len(texts), task_names=names)
        out = np.empty(len(texts), dtype=object)
        for (_, decoding), tasks in self._prepared(list(names), texts.rows).items():
            parts = [(network, rows) for _, _, network, rows in tasks]
            results = run_shared(parts, decoding, self.batch_size)
            for (estimator, where, *_), values in zip(tasks, results, strict=True):
                found = values if estimator._design.generates else estimator._decide(values)
                for i, value in zip(where, found, strict=True):
                    out[i] = value
        return out

    # ------------------------------------------------------------------ steps

    def _prepared(self, names: list[str], texts: list) -> dict[Any, list[tuple]]:
        """Tasks (estimator, places, network, rows) that can share batches, by how they are read."""
        from sklopa._tokens.texts import warn_truncated

        groups: dict[Any, list[tuple]] = {}
        for name, where in self._places(names).items():
            estimator = self.estimators[name]
            rows, truncation = estimator._prepare(
                estimator._check_inputs([texts[i] for i in where], reset=False)
            )
            warn_truncated(*truncation)
            design, task = estimator._design, (estimator, where, estimator._live_network(), rows)
            decoding = estimator._decoding(False) if design.generates else None
            groups.setdefault((design.is_probe, decoding), []).append(task)
        return groups

    def _places(self, names: list[str]) -> dict[str, list[int]]:
        """Rows of each task."""
        places: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            if name not in self.estimators:
                raise InvalidInput(
                    f"task_names: row {i} is {name!r}, and there is no such task; there are "
                    f"{', '.join(map(repr, self.estimators))}."
                )
            places.setdefault(name, []).append(i)
        return places

    def _check_same_backbone(self, first: str, name: str) -> None:
        ours, theirs = (self.estimators[task]._design.backbone for task in (first, name))
        if ours != theirs:
            raise InvalidParameter(
                f"MultiTaskPredictor: tasks must share one frozen model; {first!r} has {ours!r} "
                f"and {name!r} has {theirs!r}"
            )


def _check_shareable(name: str, estimator: Any) -> None:
    if estimator._reads != "texts":
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} reads {estimator._reads}, and only rows of texts "
            "share batches; use the estimator alone"
        )
    if estimator._design.depth == "deep":
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} has depth='deep', whose prompts enter at every "
            "layer and cannot share a batch; fit it with depth='shallow'"
        )
    if getattr(estimator, "do_sample", False):
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} draws at random (do_sample=True), which depends "
            "on the rows beside it; call set_params(do_sample=False), or use the estimator alone"
        )
