"""Texts -> soft prompt and embedded text in one tensor each, written on the user's side."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklopa._backbone.language import FrozenLanguageModel
from sklopa._batches.rows import Rows
from sklopa._loading.description import Backbone
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._tasks.classification import SeveralLabels
from sklopa._tasks.fitted import FittedTask
from sklopa.errors import InvalidParameter, UnsupportedBackbone, WholeModelWarning
from sklopa.serving.embedding_table import embeddings_only

_ROWS_AT_ONCE = 32


class PromptEmbeds(NamedTuple):
    """One text as a server takes it.

    Attributes
    ----------
    tensor : Tensor of shape (P + T, D), the soft prompt and the embedded tokens
    body : dict, the JSON body of a POST to ``/v1/completions`` but for the name of the model
    """

    tensor: Tensor
    body: dict[str, Any]


class PromptWriter:
    """Writes prompts of a fitted estimator without the frozen model's other weights.

    Parameters
    ----------
    fitted : FittedTask
        One whose outputs are words of a causal language model.

    Raises
    ------
    UnsupportedBackbone, InvalidParameter
        If no language-model server could do what the estimator does.
    """

    def __init__(self, fitted: FittedTask) -> None:
        design, weights = fitted.network.design, fitted.network.weights
        check_servable(fitted)
        self.fitted = fitted
        backbone = _of_client(design, fitted.dtype)
        self.network = FittedNetwork(replace(design, backbone=backbone), weights)
        if self.frozen.family.kind != "decoder":
            raise _unsupported(fitted)

    @property
    def frozen(self) -> FrozenLanguageModel:
        """The frozen model, as far as it is here."""
        frozen = self.network.live().frozen
        assert isinstance(frozen, FrozenLanguageModel)  # it has words
        return frozen

    def read(self, X: Any) -> Rows:
        """Tokens and instance embeddings of all rows of X."""
        rows, truncation = self.network.prepare(self.fitted.read(X).rows, self.fitted.memory)
        truncation.warn()
        return rows

    def lengths(self, rows: Rows) -> np.ndarray:
        """Positions that each row takes on the server, P + T, (n,)."""
        return rows.lengths + self.network.design.n_rows

    def write(self, rows: Rows) -> Iterator[Tensor]:
        """One tensor (P + T, D) a row, in their order, made as they are asked for."""
        for chunk in in_chunks(len(rows)):
            yield from self._write_chunk(rows, chunk)

    def bodies(self, rows: Rows) -> Iterator[dict[str, Any]]:
        """What the body of a request says of its row."""
        for tensor in self.write(rows):
            yield body_of(tensor)

    def embed(self, ids: list[int]) -> Tensor:
        """Word embeddings (T, D) of tokens, without a prompt."""
        return self.frozen.embed(torch.tensor(ids))

    @torch.inference_mode()
    def _write_chunk(self, rows: Rows, chunk: np.ndarray) -> list[Tensor]:
        network = self.network.live()
        inputs = network.inputs(rows.batch(chunk).to(network.device))
        lengths = inputs.mask.sum(dim=1).tolist()
        return [row[:length].cpu() for row, length in zip(inputs.embeds, lengths, strict=True)]


def in_chunks(n: int) -> Iterator[np.ndarray]:
    """Indices of n rows, a few at a time."""
    for start in range(0, n, _ROWS_AT_ONCE):
        yield np.arange(start, min(start + _ROWS_AT_ONCE, n))


def embeds_and_salt(tensor: Tensor) -> tuple[str, dict[str, str]]:
    """A tensor as text, what `torch.save` writes in base64, and the salt of a request with it.

    The salt keeps a server's prefix cache from taking one prompt for another; equal ones still
    share their work.
    """
    # A slice would be saved with all that it is a slice of; servers need dense tensors only.
    dense, buffer = tensor.detach().cpu().clone(memory_format=torch.contiguous_format), io.BytesIO()
    torch.save(dense, buffer)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    salt = hashlib.blake2b(encoded.encode(), digest_size=24).hexdigest()
    return encoded, {"cache_salt": salt}


def body_of(tensor: Tensor) -> dict[str, Any]:
    """The part of a body of ``/v1/completions`` that is a prompt."""
    encoded, salt = embeds_and_salt(tensor)
    return {"prompt": None, "prompt_embeds": encoded, **salt}


def _of_client(design: Design, dtype: str) -> Backbone:
    """The frozen model as far as the client needs it."""
    if warn_of_whole_model(design):
        return design.backbone
    return embeddings_only(design.backbone, dtype)


def warn_of_whole_model(design: Design) -> bool:
    """Whether the instance embedding comes from the frozen model itself; says so."""
    whole = design.reads_instances and design.encoder == design.backbone
    if whole:
        warnings.warn(
            f"The instance embedding comes from the frozen model {design.backbone.model!r} itself "
            "(encoder=None), so this client loads all of its weights. To keep them on the server, "
            "fit with a small encoder= such as 'sentence-transformers/all-MiniLM-L6-v2', or with "
            "rank=0.",
            WholeModelWarning,
            stacklevel=6,
        )
    return whole


def check_servable(fitted: FittedTask) -> None:
    """Raise unless a server of language models can do what a fitted estimator does.

    Raises
    ------
    UnsupportedBackbone, InvalidParameter
    """
    design = fitted.network.design
    masked = design.template is not None and design.template.mask_token is not None
    if masked or (not design.generates and design.word_ids is None):
        raise _unsupported(fitted)
    if design.prompt_layer:
        raise InvalidParameter(
            f"{fitted.owner}: prompt_layer={design.prompt_layer} puts the prompt "
            "between layers of the frozen model, and a server takes input embeddings only. Fit "
            "with prompt_layer=0."
        )
    if design.depth == "deep":
        raise InvalidParameter(
            f"{fitted.owner}: depth='deep' changes every layer of the frozen model, and a server "
            "takes input embeddings only. Fit with depth='shallow'."
        )
    if isinstance(fitted.task, SeveralLabels):
        raise InvalidParameter(
            f"{fitted.owner}: rows with several labels need logits, and a server gives "
            "probabilities that are relative to each other. Fit one classifier for each label."
        )


def _unsupported(fitted: FittedTask) -> UnsupportedBackbone:
    return UnsupportedBackbone(
        f"{fitted.owner} on {fitted.network.design.backbone.model!r} cannot be served: a server of "
        "language models gives tokens and their probabilities, no states. Use LoPAGenerator, or "
        "LoPAClassifier with head='verbalizer', on a causal language model."
    )
