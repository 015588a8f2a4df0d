"""`MultiTaskPredictor`: rows of many tasks in shared batches through one frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sklopa._inputs.columns import check_lengths
from sklopa._inputs.rules import integer
from sklopa._inputs.texts import check_texts
from sklopa._public import public
from sklopa.errors import InvalidInput, InvalidParameter


@public("sklopa.serving")
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
        shared = self.estimators[first]._fitted_task().network.design.backbone
        for name, estimator in self.estimators.items():
            fitted = estimator._fitted_task()
            if fitted.network.design.backbone != shared:
                raise InvalidParameter(
                    f"MultiTaskPredictor: tasks must share one frozen model; {first!r} has "
                    f"{shared!r} and {name!r} has {fitted.network.design.backbone!r}"
                )
            _check_shareable(name, fitted)

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
        for (_, decoding), parts in self._prepared(list(names), texts.rows).items():
            results = run_shared([part.run for part in parts], decoding, self.batch_size)
            for part, values in zip(parts, results, strict=True):
                for i, value in zip(part.places, part.task.decide(values), strict=True):
                    out[i] = value
        return out

    # ------------------------------------------------------------------ steps

    def _prepared(self, names: list[str], texts: list) -> dict[Any, list[_Part]]:
        """What can share batches, by how it is read."""
        groups: dict[Any, list[_Part]] = {}
        for name, places in self._places(names).items():
            fitted = self.estimators[name]._fitted_task()
            _check_shareable(name, fitted)
            inputs = fitted.read([texts[i] for i in places])
            rows, truncation = fitted.network.prepare(inputs.rows, fitted.memory)
            truncation.warn()
            decoding = getattr(fitted.task, "decoding", None)
            part = _Part(fitted.task, places, (fitted.network.live(), rows))
            groups.setdefault((fitted.network.design.is_probe, decoding), []).append(part)
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


class _Part(NamedTuple):
    """Rows of one task.

    Attributes
    ----------
    task : Task
    places : list of int, where the rows stand among all
    run : (network, rows)
    """

    task: Any
    places: list[int]
    run: tuple[Any, Any]


def _check_shareable(name: str, fitted: Any) -> None:
    if fitted.reads != "texts":
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} reads {fitted.reads}, and only rows of texts "
            "share batches; use the estimator alone"
        )
    if fitted.network.design.prompt_layer:
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} has prompt_layer="
            f"{fitted.network.design.prompt_layer}, and only prompts at the input share a batch; "
            "fit it with prompt_layer=0"
        )
    if fitted.network.design.depth == "deep":
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} has depth='deep', whose prompts enter at every "
            "layer and cannot share a batch; fit it with depth='shallow'"
        )
    decoding = getattr(fitted.task, "decoding", None)
    if decoding is not None and decoding.do_sample:
        raise InvalidParameter(
            f"MultiTaskPredictor: task {name!r} draws at random (do_sample=True), which depends "
            "on the rows beside it; call set_params(do_sample=False), or use the estimator alone"
        )
