"""Texts -> soft prompts for chat requests, without anything of the frozen model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklopa._batches.rows import Batch, Rows
from sklopa._embedding.instance import embed_rows
from sklopa._embedding.trained import TrainedEncoder
from sklopa._inputs.texts import Row
from sklopa._loading.live import live_model
from sklopa._network.design import Design
from sklopa._network.prepare import token_limit
from sklopa._prompt.low_rank import LowRankPrompt
from sklopa._tasks.fitted import FittedTask
from sklopa._tokens.texts import any_of
from sklopa.errors import InvalidInput, InvalidParameter
from sklopa.serving.prompt_writer import (
    check_servable,
    embeds_and_salt,
    in_chunks,
    warn_of_whole_model,
)


@dataclass(frozen=True)
class ChatRows:
    """n rows on their way into messages.

    Attributes
    ----------
    texts : list of str, what stands behind the prompt
    rows : Rows, what prompts are made from
    """

    texts: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.texts)


class ChatWriter:
    """Writes soft prompts (P, D) of a fitted estimator; the text is sent as it is.

    Parameters
    ----------
    fitted : FittedTask
        One whose outputs are words of a causal language model.

    Raises
    ------
    UnsupportedBackbone, InvalidParameter
        If no chat request could do what the estimator does.
    """

    def __init__(self, fitted: FittedTask) -> None:
        check_servable(fitted)
        design = fitted.network.design
        _check_chat(fitted.owner, design)
        self.fitted, self.design = fitted, design
        self.makes = _PromptMaker(design, fitted.network.weights)

    def read(self, X: Any) -> ChatRows:
        """Texts and instance embeddings of all rows of X; no text is cut."""
        inputs, design = self.fitted.read(X).rows, self.design
        _check_plain(inputs, design)
        template = design.template
        texts = [row if template is None else template.message(row) for row in inputs]
        if not design.reads_instances:
            return ChatRows(texts, Rows(tokens=[()] * len(texts)))
        encoder = live_model(design.encoder)
        limit, special = token_limit(encoder, design.max_length, 0), design.special_tokens
        if design.train_encoder:
            tokens, _ = encoder.reader(limit, special_tokens=special).read(inputs)
            return ChatRows(texts, Rows(tokens=tokens, encoder_tokens=tokens))
        views = embed_rows(
            encoder, inputs, limit, self.fitted.memory, design.n_views, special_tokens=special
        )
        return ChatRows(texts, Rows(views=views))

    def write(self, rows: ChatRows) -> Iterator[Tensor | None]:
        """One tensor (P, D) a row, in their order; None without a prompt."""
        for chunk in in_chunks(len(rows)):
            yield from self._write_chunk(rows.rows, chunk)

    @torch.inference_mode()
    def _write_chunk(self, rows: Rows, chunk: np.ndarray) -> list[Tensor | None]:
        if self.makes.prompt is None:
            return [None] * len(chunk)
        dtype = getattr(torch, self.fitted.dtype)
        batch = (
            rows.batch(chunk)
            if self.design.reads_instances
            else Batch(weight=torch.ones(0, dtype=torch.float32))
        )
        return list(self.makes(batch, len(chunk)).to(dtype))

    def messages(self, rows: ChatRows) -> Iterator[list[dict[str, Any]]]:
        """The ``messages`` of each row."""
        for text, tensor in zip(rows.texts, self.write(rows), strict=True):
            yield _messages(text, tensor)[0]

    def bodies(self, rows: ChatRows) -> Iterator[dict[str, Any]]:
        """What the body of a request says of its row."""
        for text, tensor in zip(rows.texts, self.write(rows), strict=True):
            messages, salt = _messages(text, tensor)
            yield {"messages": messages, **salt}


def _messages(text: str, tensor: Tensor | None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One user message, and the salt of its prompt."""
    parts, salt = [{"type": "text", "text": text}], dict[str, str]()
    if tensor is not None:
        encoded, salt = embeds_and_salt(tensor)
        parts.insert(0, {"type": "prompt_embeds", "data": encoded})
    return [{"role": "user", "content": parts}], salt


class _PromptMaker(nn.Module):
    """The parts of a fitted network that make prompts, from its weights alone."""

    def __init__(self, design: Design, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        own = {k: torch.tensor(v) for k, v in weights.items() if not k.startswith("head.")}
        self.prompt = _empty_prompt(design, own) if design.prompt_length else None
        trained = design.reads_instances and design.train_encoder
        self.encoder = TrainedEncoder(live_model(design.encoder)) if trained else None
        self.load_state_dict(own)
        self.eval()

    def forward(self, batch: Batch, n: int) -> Tensor:
        """Soft prompts (n, P, D)."""
        assert self.prompt is not None
        if self.encoder is not None:
            return self.prompt(self.encoder(batch.encoder_tokens))
        return self.prompt(
            torch.empty(n, 0, dtype=torch.float32) if batch.views is None else batch.views.last
        )


def _empty_prompt(design: Design, weights: dict[str, Tensor]) -> LowRankPrompt:
    """A prompt of the shapes that the weights have, which are all that tells its widths."""
    if "prompt.task" in weights:
        width = weights["prompt.task"].shape[1]
    else:
        last = max(name for name in weights if name.startswith("prompt.v."))
        width = weights[last].shape[0] // design.rank
    first = [value for name, value in weights.items() if name.startswith("prompt.u.")]
    return LowRankPrompt(
        torch.ones(design.prompt_length, width, dtype=torch.float32),
        encoder_width=first[0].shape[1] if first else 0,
        rank=design.rank,
        bottleneck=design.bottleneck,
        gate=design.gate,
        dropout=design.dropout,
        generator=torch.Generator(),
    )


def _check_plain(inputs: Sequence[Row], design: Design) -> None:
    """Refuse what the estimator reads as text, and a server as tokens of the model."""
    special = any_of(design.special_texts)
    if special is None or design.special_tokens:
        return
    for i, row in enumerate(inputs):
        for text in (row,) if isinstance(row, str) else row:
            if found := special.search(text):
                raise InvalidInput(
                    f"Row {i} holds {found[0]!r}, which is text to the estimator, and which a "
                    "server would read as a token of the model, as if the prompt ended there. Take "
                    "it out, or use api='completions', which sends what the estimator reads."
                )


def _check_chat(owner: str, design: Design) -> None:
    if design.max_length is not None:
        raise InvalidParameter(
            f"{owner}: max_length={design.max_length} cuts texts by tokens, which api='chat' does "
            "not know here. Fit with max_length=None, or use api='completions'."
        )
    if design.pairs and design.template is None:
        raise InvalidParameter(
            f"{owner}: pairs of texts without a chat template are joined by the tokenizer, which "
            "api='chat' does not have here. Use api='completions'."
        )
    warn_of_whole_model(design)
