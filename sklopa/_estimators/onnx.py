"""Estimators whose whole pipe can be written as one ONNX graph."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sklopa._batches.modes import in_own_modes
from sklopa._inputs.rules import PATH
from sklopa.errors import InvalidInput, InvalidParameter


class OnnxMixin:
    """`to_onnx`; not for use by itself."""

    n_features_in_: int
    n_outputs_: int
    _fitted_task: Any

    @in_own_modes
    def to_onnx(self, path: str | PathLike) -> None:
        """Write the whole pipe as one ONNX graph, which `OnnxPredictor` reads without torch.

        The graph goes from token ids, or pixels, to probabilities, or to numbers. Beside it come
        the frozen weights, the tokenizer, and what says how they are read. Graphs over one model in
        one folder share one file of its weights.

        Parameters
        ----------
        path : str or Path
            Name of the graph, as ``"deploy/reviews"``; ``.onnx`` is added.

        Raises
        ------
        NotFitted
            Before `fit`.
        UnsupportedBackbone
            If the backbone is not held in float32, an encoder of its own makes the instance
            embeddings, the tokenizer is written in Python, or the image processor does more than
            resize, cut and scale.
        MissingDependency
            If the package onnx is not installed.
        NotWritten
            If the disk refuses.
        """
        if not PATH.accepts(path):
            raise InvalidParameter(f"to_onnx: path must be {PATH.allowed}; got {path!r}")
        from sklopa._onnx.write import write_onnx

        write_onnx(self._fitted_task(), Path(path), self._described())

    def _described(self) -> dict[str, Any]:
        """What a reader of the graph has to know of the estimator."""
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        return {
            "kind": type(self).__name__,
            "classes": None if classes is None else _as_plain(classes),
            "several_labels": bool(getattr(self, "_is_multilabel", False)),
            "n_columns": self.n_features_in_,
            "n_outputs": self.n_outputs_ if classes is None else len(classes),
            "nulls": getattr(self, "nulls", "error"),
            "names": None if names is None else [str(name) for name in names],
        }


def _as_plain(classes: np.ndarray) -> dict[str, Any]:
    """Labels as JSON knows them."""
    values = classes.tolist()
    if not all(isinstance(label, (str, bool, int, float)) for label in values):
        raise InvalidInput(
            "to_onnx: labels must be texts, numbers or truth values; got "
            f"{type(values[0]).__name__}."
        )
    return {"dtype": classes.dtype.str, "values": values}
