"""Predictions from a graph, by ONNX Runtime alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if

from sklopa._inputs.columns import check_same_columns
from sklopa._onnx import read
from sklopa._onnx.feeds import FEEDS
from sklopa._onnx.weights import SharedWeights, shared_weights
from sklopa._public import public
from sklopa._storage.single_values import as_refused, refused
from sklopa._tokens.truncation import Truncation

# Where ONNX Runtime looks for external data of a graph that it is given as bytes.
_FOLDER = "session.model_external_initializers_file_folder_path"
_BLOCK_ROWS = 8192


@public("sklopa")
class OnnxPredictor:
    """Predictions of a fitted estimator that `to_onnx` wrote, without torch and transformers.

    Reading runs no code of the files: they are checked against their hashes, and name nothing
    outside of their folder. Graphs in one folder that were made over one model share one file of
    its weights, which is mapped into memory once.

    Parameters
    ----------
    path : str or Path
        As it was given to `to_onnx`.
    n_threads : int, default=None
        Threads of ONNX Runtime; None takes one a core.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, of a classifier.

    Raises
    ------
    InvalidArchive
        If a file is damaged, or was not written by `to_onnx`.
    FileNotFoundError
    MissingDependency
        If onnxruntime or tokenizers is not installed.

    Examples
    --------
    >>> from sklopa import OnnxPredictor
    >>> clf.to_onnx("deploy/reviews")  # doctest: +SKIP
    >>> OnnxPredictor("deploy/reviews").predict(["a fine film"])  # doctest: +SKIP
    array(['positive'], dtype='<U8')
    """

    def __init__(self, path: str | os.PathLike, *, n_threads: int | None = None) -> None:
        self.path, self.n_threads = Path(path), n_threads
        self._manifest = read.read_manifest(self.path)
        self._weights = shared_weights(read.check_beside(self.path, self._manifest, "weights"))
        self._session = _session(self.path, self._manifest, self._weights, n_threads)
        self._feed: Any = FEEDS[self._manifest["reads"]](self.path, self._manifest)
        _check_inputs(self.path, self._manifest, self._session, self._feed)
        labels = self._manifest["classes"]
        if labels is not None:
            self.classes_ = read.as_array(labels)

    def predict(self, X: Any) -> np.ndarray:
        """Label, or number, of each row.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)
            Texts, pairs of texts, or images, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n,)
            (n, C) where rows have several labels, (n, K) of several numbers.
        """
        outputs = self._outputs(X)
        if not hasattr(self, "classes_"):
            numbers = outputs.astype(np.float64)
            return numbers[:, 0] if numbers.shape[1] == 1 else numbers
        if self._manifest["several_labels"]:
            return (outputs > 0.5).astype(np.int64)
        return self.classes_[outputs.argmax(axis=1)]

    @available_if(lambda self: hasattr(self, "classes_"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n, C). Rows sum to one, except for several labels a row.

        Of labels alone: numbers have no probabilities.
        """
        return self._outputs(X).astype(np.float64)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the graph returns for each row, (n, C)."""
        manifest = self._manifest
        inputs = self._feed.check(X)
        check_same_columns(inputs, manifest["n_columns"], manifest["names"], "OnnxPredictor")
        out = np.empty((len(inputs), manifest["n_outputs"]), dtype=np.float32)
        truncation = Truncation()
        for start in range(0, len(inputs), _BLOCK_ROWS):
            feeds, cut = self._feed.feeds(inputs.rows[start : start + _BLOCK_ROWS])
            truncation += cut
            for chosen, tensors in feeds:
                found = self._session.run(None, tensors)[0]
                if found.shape != (len(chosen), manifest["n_outputs"]):
                    raise refused(f"{self.path.name} returns other columns than it says")
                out[start + chosen] = found
        truncation.warn()
        return out


def _session(
    path: Path, manifest: dict[str, Any], weights: SharedWeights, n_threads: int | None
) -> Any:
    import onnxruntime

    graph = read.read_graph(path, manifest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or 0
    folder = str(path.parent.resolve())
    options.add_session_config_entry(_FOLDER, folder)
    for name, value in weights.values.items():
        options.add_initializer(name, value)
    try:
        session = onnxruntime.InferenceSession(
            graph, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's errors are of many kinds
        raise as_refused(error) from error
    return session


def _check_inputs(path: Path, manifest: dict[str, Any], session: Any, feed: Any) -> None:
    """Refuse a graph that reads other tensors than are made for it."""
    shapes = {
        put.name: tuple(n if type(n) is int else None for n in put.shape)
        for put in session.get_inputs()
    }
    if shapes != feed.shapes or shapes.keys() != {*manifest["inputs"]}:
        raise refused(f"{path.name} reads other inputs than its description says")
