"""The frozen language model: embedded text and soft prompt -> states (B, P + T, D)."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sklopa._backbone.families import Family
from sklopa._backbone.frozen import Frozen
from sklopa._backbone.layer_rows import deep_rows, hook_layers
from sklopa._backbone.pooling import pool
from sklopa._tokens.batch import PromptedBatch, TokenBatch
from sklopa._tokens.texts import Template, TextReader
from sklopa.errors import UnsupportedBackbone

_SHORT = 256  # rows up to which plain attention is taken on a CPU


class FrozenModel(Frozen):
    """A pretrained language model and its tokenizer.

    Parameters
    ----------
    model : transformers PreTrainedModel
    tokenizer : transformers tokenizer
    family : Family
    key : hashable
        Stands for the model in caches.
    has_lm_head : bool
        Whether the checkpoint brought the weights of a language-model head.
    fingerprint : str or None
        Tells the files of this model from others in any process; None for live objects.
    step_dtype : torch.dtype or None
        Precision in training steps, where it is not that of the model.
    """

    reads = "texts"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        family: Family,
        *,
        key: Hashable,
        has_lm_head: bool,
        fingerprint: str | None = None,
        step_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, family, key=key, fingerprint=fingerprint, step_dtype=step_dtype)
        self.tokenizer = tokenizer
        self.has_lm_head = has_lm_head
        self.accepts = frozenset(inspect.signature(self.base.forward).parameters)

    def _hold(self, model: nn.Module) -> None:
        super()._hold(model)
        self.base = _body(model, self.family)
        table = model.get_input_embeddings()
        if isinstance(table, nn.Embedding):  # a copy for training steps reads the same one
            self.embedding = table

    def _not_in_steps(self) -> dict[int, nn.Module]:
        # Rows come from the table of the model itself; the copy needs one for words only.
        is_lm = self.model.get_output_embeddings() is not None
        return {} if is_lm else {id(self.embedding): nn.Identity()}

    def with_body(self, body: nn.Module) -> FrozenModel:
        """A reader like this one through a copy `body` of its base."""
        reader = super().with_body(body)
        reader.embedding = body.get_input_embeddings()
        return reader

    @property
    def width(self) -> int:
        """D of the states that the backbone returns."""
        return self.family.state_width(self.config)

    @property
    def prompt_width(self) -> int:
        """D of the rows that enter the backbone: the width of its word embeddings."""
        return self.embedding.embedding_dim

    @property
    def room(self) -> int | None:
        """Rows, prompt and tokens together, that the backbone can read; None if unbounded."""
        room = self.family.room(self.config)
        limit = getattr(self.tokenizer, "model_max_length", None)
        # Tokenizers without a limit report an absurdly large number.
        limits = [n for n in (room, limit) if n is not None and n < 10**9]
        return min(limits, default=None)

    def reader(self, max_tokens: int | None, template: Template | None = None) -> TextReader:
        """A reader of texts for this model."""
        return TextReader(
            self.tokenizer,
            name=self.key,
            max_tokens=max_tokens,
            with_types=getattr(self.config, "type_vocab_size", 0) > 1,
            template=template,
        )

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (B, T, D) of token ids (B, T), scaled as the model scales them."""
        return self.embedding(ids) * self.family.embedding_scale(self.config)

    def vocabulary_rows(self, n: int, generator: torch.Generator) -> Tensor:
        """Word embeddings (n, D) of tokens drawn at random, special tokens left out.

        Where prompts start matters: rows of the vocabulary are vectors that the backbone has
        read before (Lester et al., 2021, section 3.2).
        """
        n_tokens = self.embedding.num_embeddings
        allowed = torch.ones(n_tokens)
        special = [i for i in getattr(self.tokenizer, "all_special_ids", []) if i < n_tokens]
        allowed[special] = 0
        enough = n <= int(allowed.sum())
        ids = torch.multinomial(allowed, n, replacement=not enough, generator=generator)
        return self.embed(ids.to(self.device)).float().cpu()

    def prompt_start(self, n: int, generator: torch.Generator, *, deep: bool = False) -> Tensor:
        """Where prompts start: (P, D), or (L, P, D) for all layers."""
        rows = self.vocabulary_rows(n, generator)
        return torch.cat([rows.unsqueeze(0), self.deep_starts(rows)]) if deep else rows

    def states_behind(self, prompt: Tensor | None, tokens: TokenBatch) -> Tensor:
        """Last states (B, T, D) of texts, in float32, without those of the prompt."""
        inputs = self.inputs_behind(prompt, tokens)
        return self.states(inputs)[:, inputs.prompt_length :]

    def inputs_behind(self, prompt: Tensor | None, tokens: TokenBatch) -> PromptedBatch:
        """What the model reads: prompts in front of the embedded tokens."""
        return prepend(prompt, self.embed(tokens.ids), tokens)

    def pool(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """One vector (B, D) for each text, from states (B, T, D)."""
        return pool(states, tokens, self.family.pooling)

    def views(self, tokens: TokenBatch) -> list[Tensor]:
        """States (B, T, D) of texts without a prompt: two thirds up the layers, and the last."""
        out = self._run(self.inputs_behind(None, tokens), output_hidden_states=True)
        earlier = (len(out.hidden_states) - 1) * 2 // 3  # the first one is what the layers read
        return [out.hidden_states[earlier].float(), out[0].float()]

    def states(self, inputs: PromptedBatch) -> Tensor:
        """Last states (B, P + T, D), in float32."""
        return self._run(inputs)[0].float()

    def _run(self, inputs: PromptedBatch, **options: Any) -> Any:
        arguments = {
            "inputs_embeds": inputs.embeds.to(self.dtype),
            "attention_mask": inputs.mask,
        }
        arguments |= self.positions(inputs.positions)
        if inputs.types is not None:
            arguments["token_type_ids"] = inputs.types
        if "use_cache" in self.accepts:
            arguments["use_cache"] = False
        with deep_rows(inputs.deep, inputs.start, inputs.mask.shape[1]), self._attention(inputs):
            return self.base(**arguments, **options)

    def _attention(self, inputs: PromptedBatch) -> Any:
        """Plain attention for short rows in half precision on a CPU.

        The fused kernel there takes twice as long in the backward pass; its lower use of memory
        counts for long rows only.
        """
        plain = self.device.type == "cpu" and self.dtype != torch.float32
        short = inputs.mask.shape[1] <= _SHORT
        return sdpa_kernel(SDPBackend.MATH) if plain and short else nullcontext()

    @torch.no_grad()
    def deep_starts(self, rows: Tensor) -> Tensor:
        """States (L - 1, P, D) that the later layers read for rows (P, D) without a text.

        Deep prompts that start there change nothing at first. The layers are made open to them.

        Raises
        ------
        UnsupportedBackbone
            If the layers cannot take rows, or are of another width than the input.
        """
        for model in {self, self.in_steps}:
            hook_layers(model.base, self.config.num_hidden_layers, self.name)
        embeds = rows.to(self.device, self.dtype).unsqueeze(0)
        arguments = self.positions(torch.arange(len(rows), device=self.device).unsqueeze(0))
        out = self.base(inputs_embeds=embeds, output_hidden_states=True, **arguments)
        states = torch.cat(out.hidden_states[1 : self.config.num_hidden_layers])
        if states.shape[-1] != rows.shape[-1]:
            raise UnsupportedBackbone(
                f"depth='deep' cannot be used with {self.name!r}: its layers are "
                f"{states.shape[-1]} wide and its input {rows.shape[-1]}. Use depth='shallow'."
            )
        return states.float().cpu()

    def positions(self, positions: Tensor) -> dict[str, Tensor]:
        """The argument that tells the model positions counted from 0, where it takes one."""
        if "position_ids" not in self.accepts:
            return {}
        return {"position_ids": positions + self.family.first_position(self.config)}

    def lm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits (B, K, V) of states (B, K, D), by the model's own head.

        Raises
        ------
        UnsupportedBackbone
            If the checkpoint has no language-model head.
        """
        self.require_lm_head()
        shell = copy.copy(self.model)  # the same weights, with the body taken out
        shell._modules = dict(self.model._modules)
        name = next(n for n, part in self.model.named_children() if part is self.base)
        shell._modules[name] = _PassThrough()
        return shell(inputs_embeds=states.to(self.dtype)).logits.float()

    def require_lm_head(self) -> None:
        """Raise unless the checkpoint has a language-model head."""
        if not self.has_lm_head:
            raise UnsupportedBackbone(
                f"{self.name!r} was saved without a language-model head, which words are read "
                "from. Use head='linear', or a checkpoint saved for masked or causal language "
                "modelling."
            )


def _body(model: nn.Module, family: Family) -> nn.Module:
    """The part of a model that reads prompt and text."""
    if family.kind == "encoder-decoder":
        return model.get_encoder()
    hidden = model.base_model is model and model.get_output_embeddings() is not None
    return model.get_decoder() if hidden else model.base_model


class _PassThrough(nn.Module):
    """Stands in for the body of a language model and hands its input to the head."""

    @property
    def decoder(self) -> _PassThrough:
        """Itself: some language models call the inner part of their body."""
        return self

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _OnlyStates:
        return _OnlyStates(inputs_embeds)


class _OnlyStates:
    """What a body returns, reduced to its last states; all else that a head may ask for is None."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]


def pad_left(inputs: PromptedBatch) -> PromptedBatch:
    """The same rows with padding in front, so that all of them end at the same place.

    Prompt and text keep their order and positions: padding, prompt, text.
    """
    length = inputs.mask.shape[1]
    padding = length - inputs.mask.sum(dim=1, keepdim=True)  # (B, 1)
    source = (torch.arange(length, device=inputs.mask.device) - padding) % length  # (B, L)
    rows = torch.arange(len(source), device=source.device).unsqueeze(1)
    mask = inputs.mask[rows, source]
    types = None if inputs.types is None else inputs.types[rows, source]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return replace(
        inputs,
        embeds=inputs.embeds[rows, source],
        mask=mask,
        positions=positions,
        types=types,
        start=padding.squeeze(1),
    )


def prepend(prompt: Tensor | None, embeds: Tensor, tokens: TokenBatch) -> PromptedBatch:
    """Put prompts (B, P, D), or (B, L, P, D) for all layers, before embedded texts (B, T, D).

    Mask, positions and token types are made here, after the prompt is in place, and nowhere
    else: positions count from the first prompt row, so the text is shifted by P as it would
    be behind P real tokens.
    """
    mask, types, length, deep = tokens.mask, tokens.types, 0, None
    # A model that looks at neighbours must find nothing where there is padding.
    embeds = embeds * mask.unsqueeze(-1).to(embeds.dtype)
    if prompt is not None:
        if prompt.ndim == 4:
            prompt, deep = prompt[:, 0], prompt[:, 1:]
        length = prompt.shape[1]
        embeds = torch.cat([prompt.to(embeds.dtype), embeds], dim=1)  # (B, P + T, D)
        mask = torch.cat([mask.new_ones(len(mask), length), mask], dim=1)
        if types is not None:
            types = torch.cat([types.new_zeros(len(types), length), types], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    start = mask.new_zeros(len(mask))
    return PromptedBatch(embeds, mask, positions, types, length, start, deep)
