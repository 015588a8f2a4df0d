"""What users hold -> tensors that a graph reads, batch by batch. No torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sklopa._inputs.images import Images, Picture, check_images
from sklopa._inputs.texts import Texts, check_texts
from sklopa._onnx import read
from sklopa._onnx.preparation import Preparation
from sklopa._onnx.tokenizer import FileTokenizer
from sklopa._tokens.template import Template
from sklopa._tokens.texts import TextReader
from sklopa._tokens.tokens import Tokens
from sklopa._tokens.truncation import Truncation

# Small ones are faster here: what a layer hands on stays in the cache of a core.
_BATCH_ROWS = 8

# Which rows, and the tensors of their batch by name.
Feeds = Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]


class TextFeed:
    """Texts, or pairs of texts.

    Parameters
    ----------
    path : Path, of the graph
    manifest : dict, as it was checked

    Attributes
    ----------
    shapes : dict
        By the name of each tensor that is made, its shape; None for an axis of any length.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self._reading, self._nulls = manifest["reading"], manifest["nulls"]
        self._readers = _readers(path, manifest)
        parts = ["ids", "mask", *["types"] * self._reading["with_types"]]
        self.shapes = {f"{name}_{part}": (None, None) for name in self._readers for part in parts}

    def check(self, X: Any) -> Texts:
        """Rows of X."""
        return check_texts(X, self._nulls)

    def feeds(self, rows: Sequence[Any]) -> tuple[Feeds, Truncation]:
        """Batches of rows, those of like length together, and how many lost their end."""
        read_rows, truncation = self._read(rows)
        lengths = [-len(row) for row in next(iter(read_rows.values()))]
        order = np.argsort(lengths, kind="stable")
        return ((chosen, self._tensors(read_rows, chosen)) for chosen in _cut(order)), truncation

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
        return found, Truncation(cut, len(rows), limit, self._reading["truncation_side"])

    def _tensors(self, rows: dict[str, list[Tokens]], chosen: np.ndarray) -> dict[str, np.ndarray]:
        out = {}
        for name, tokens in rows.items():
            out[f"{name}_ids"], out[f"{name}_mask"] = _padded([tokens[i].ids for i in chosen])
            if self._reading["with_types"]:
                out[f"{name}_types"], _ = _padded([tokens[i].types for i in chosen])
        return out


class ImageFeed:
    """Images; they are read when their batch comes. Attributes are those of `TextFeed`."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self._prepared = Preparation.from_dict(manifest["reading"])
        assert self._prepared.shape is not None  # of a manifest that was checked
        self.shapes = {"row_pixels": (None, *self._prepared.shape)}

    def check(self, X: Any) -> Images:
        """Rows of X."""
        return check_images(X)

    def feeds(self, rows: Sequence[Picture]) -> tuple[Feeds, Truncation]:
        """Batches of rows; none ever loses its end."""
        return (
            (chosen, {"row_pixels": np.stack([self._prepared(rows[i]) for i in chosen])})
            for chosen in _cut(np.arange(len(rows)))
        ), Truncation()


FEEDS = {"texts": TextFeed, "images": ImageFeed}


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


def _padded(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens under each other, (B, T), and where there is one, (B, T)."""
    values = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(values)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return values, mask


def _cut(order: np.ndarray) -> Iterator[np.ndarray]:
    """Indices, a batch at a time."""
    for start in range(0, len(order), _BATCH_ROWS):
        yield order[start : start + _BATCH_ROWS]
