"""Predictions from a graph, by ONNX Runtime alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if

from sklopa._inputs.columns import check_same_columns
from sklopa._inputs.texts import check_texts
from sklopa._onnx import read
from sklopa._onnx.tokenizer import FileTokenizer
from sklopa._onnx.weights import SharedWeights, shared_weights
from sklopa._public import public
from sklopa._storage.single_values import as_refused, refused
from sklopa._tokens.template import Template
from sklopa._tokens.texts import TextReader
from sklopa._tokens.tokens import Tokens
from sklopa._tokens.truncation import Truncation

# Where ONNX Runtime looks for external data of a graph that it is given as bytes.
_FOLDER = "session.model_external_initializers_file_folder_path"
_BATCH_ROWS = 32
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
        self._readers = _readers(self.path, self._manifest)
        labels = self._manifest["classes"]
        if labels is not None:
            self.classes_ = read.as_array(labels)

    def predict(self, X: Any) -> np.ndarray:
        """Label, or number, of each row.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)
            Texts, or pairs of texts.

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
        inputs = check_texts(X, manifest["nulls"])
        check_same_columns(inputs, manifest["n_columns"], manifest["names"], "OnnxPredictor")
        out = np.empty((len(inputs), manifest["n_outputs"]), dtype=np.float32)
        truncation = Truncation()
        for start in range(0, len(inputs), _BLOCK_ROWS):
            rows = inputs.rows[start : start + _BLOCK_ROWS]
            read_rows, cut = self._read(rows)
            truncation += cut
            for chosen in _batches(next(iter(read_rows.values()))):
                fed = dict(self._fed(read_rows, chosen))
                found = self._session.run(None, fed)[0]
                if found.shape != (len(chosen), manifest["n_outputs"]):
                    raise refused(f"{self.path.name} returns other columns than it says")
                out[start + chosen] = found
        truncation.warn()
        return out

    def _read(self, rows: Sequence[Any]) -> tuple[dict[str, list[Tokens]], Truncation]:
        """Tokens of each text that the graph reads, and how many lost their end."""
        columns = {"row": rows, "text": rows, "pair": rows}
        if isinstance(rows[0], tuple):
            firsts, seconds = zip(*rows, strict=True)
            columns = {"row": rows, "text": list(firsts), "pair": list(seconds)}
        found, cut = {}, 0
        for i, (name, reader) in enumerate(self._readers.items()):
            found[name], n_cut = reader.read(columns[name])
            cut = n_cut if i == 0 else cut
        limit = next(iter(self._readers.values())).max_tokens
        side = self._manifest["reading"]["truncation_side"]
        return found, Truncation(cut, len(rows), limit, side)

    def _fed(
        self, rows: dict[str, list[Tokens]], chosen: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        for name, tokens in rows.items():
            ids, mask = _padded([tokens[i].ids for i in chosen])
            found = {"ids": ids, "mask": mask}
            if self._manifest["reading"]["with_types"]:
                found["types"], _ = _padded([tokens[i].types for i in chosen])
            for part, values in found.items():
                yield f"{name}_{part}", values


def _readers(path: Path, manifest: dict[str, Any]) -> dict[str, TextReader]:
    """What reads each text of the graph, that behind the prompt first."""
    reading = manifest["reading"]
    file = read.check_beside(path, manifest, "tokenizer")
    text = file.read_text(encoding="utf-8")
    tokenizer = FileTokenizer(text, reading["stand_in"], reading["truncation_side"])
    template = reading["template"] and Template(**reading["template"])
    return {
        name: TextReader(
            tokenizer, name=("onnx", file.name), max_tokens=limit, with_types=reading["with_types"],
            template=template if name == "row" else None, special_tokens=reading["special_tokens"],
        )
        for name, limit in reading["limits"].items()
    }  # fmt: skip


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
    asked = {name.rpartition("_")[0] for name in manifest["inputs"]}
    if {put.name for put in session.get_inputs()} != {*manifest["inputs"]} or asked != {
        *manifest["reading"]["limits"]
    }:
        raise refused(f"{path.name} reads other texts than its description says")
    return session


def _padded(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens under each other, (B, T), and where there is one, (B, T)."""
    values = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(values)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return values, mask


def _batches(rows: Sequence[Tokens]) -> Iterator[np.ndarray]:
    """Indices that cover all rows, those of like length together."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    for start in range(0, len(order), _BATCH_ROWS):
        yield order[start : start + _BATCH_ROWS]
