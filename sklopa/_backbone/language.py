"""The frozen language model: embedded text and soft prompt -> states (B, P + T, D)."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sklopa._backbone.attention import PlainAttention
from sklopa._backbone.families import Family
from sklopa._backbone.frozen import Frozen, Unprompted
from sklopa._backbone.layer_rows import deep_rows, states_at
from sklopa._backbone.lm_head import head_logits
from sklopa._backbone.prompted import PromptedBatch, with_prompt, without_prompt
from sklopa._cache.content import digest_of_tokenizer
from sklopa._tokens.batch import TokenBatch
from sklopa._tokens.template import Template
from sklopa._tokens.texts import TextReader
from sklopa.errors import UnsupportedBackbone

_SHORT = 256  # rows up to which plain attention is taken on a CPU


class FrozenLanguageModel(Frozen[TokenBatch]):
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
    files : hashable
        Tells the files of this model from others in this process; None for live objects.
    step_dtype : torch.dtype or None
        Precision in training steps, where it is not that of the model.
    """

    reads = "texts"
    family: Family
    embedding: nn.Embedding

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        family: Family,
        *,
        key: Hashable,
        has_lm_head: bool,
        files: Hashable = None,
        step_dtype: torch.dtype | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        super().__init__(model, family, key=key, files=files, step_dtype=step_dtype)
        self.has_lm_head = has_lm_head
        self.accepts = frozenset(inspect.signature(self.base.forward).parameters)
        self._check()

    def _check(self) -> None:
        """Raise where the tokenizer makes tokens that the model has no row for."""
        n_rows = getattr(getattr(self, "embedding", None), "num_embeddings", None)
        if n_rows is None or len(self.tokenizer) <= n_rows:
            return
        special = set(getattr(self.tokenizer, "all_special_ids", ()))  # no text is read as these
        ordinary = [(i, token) for token, i in self._vocabulary().items() if i not in special]
        last, token = max(ordinary)
        if last >= n_rows:
            raise UnsupportedBackbone(
                f"The tokenizer of {self.name!r} makes tokens up to {last} ({token!r}), and the "
                f"model has rows for {n_rows}. Call model.resize_token_embeddings({last + 1}) and "
                "train the new rows, or take the model's own tokenizer."
            )

    def _hold(self, model: Any) -> None:
        super()._hold(model)
        self.base = _body(model, self.family)
        table = model.get_input_embeddings()
        if isinstance(table, nn.Embedding):  # a copy for training steps reads the same one
            self.embedding = table

    def _not_in_steps(self) -> dict[int, Any]:
        # Rows come from the table of the model itself; the copy needs one for words only.
        is_lm = self.model.get_output_embeddings() is not None
        return {} if is_lm else {id(self.embedding): nn.Identity()}

    def with_body(self, body: nn.Module) -> FrozenLanguageModel:
        """A reader like this one through a copy `body` of its base."""
        reader = super().with_body(body)
        reader.embedding = cast(Any, body).get_input_embeddings()
        return reader

    def _vocabulary(self) -> dict[str, int]:
        return self.tokenizer.get_vocab()

    def _reader_digest(self) -> str:
        return digest_of_tokenizer(self.tokenizer)

    def write(self, folder: Path) -> None:
        """Put model and tokenizer into a folder that they load from."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

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

    @property
    def n_layers(self) -> int:
        """L, the layers that are run one after the other."""
        return self.config.num_hidden_layers

    @property
    def reads_with(self) -> Any:
        """The tokenizer."""
        return self.tokenizer

    def reader(
        self,
        max_tokens: int | None,
        template: Template | None = None,
        special_tokens: bool = False,
    ) -> TextReader:
        """A reader of texts for this model."""
        return TextReader(
            self.tokenizer,
            name=self.identity,
            max_tokens=max_tokens,
            with_types=getattr(self.config, "type_vocab_size", 0) > 1,
            template=template,
            special_tokens=special_tokens,
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
        allowed = torch.ones(n_tokens, dtype=torch.float32)
        special = [i for i in getattr(self.tokenizer, "all_special_ids", []) if i < n_tokens]
        allowed[special] = 0
        enough = n <= int(allowed.sum())
        ids = torch.multinomial(allowed, n, replacement=not enough, generator=generator)
        return self._rows_of(ids)

    def _rows_of(self, ids: Tensor) -> Tensor:
        return self.embed(ids.to(self.device)).float().cpu()

    def prompt_start(
        self,
        n: int,
        generator: torch.Generator,
        *,
        deep: bool = False,
        ids: Sequence[int] = (),
    ) -> Tensor:
        """Where prompts start: (P, D), or (L, P, D) for all layers from that of the prompt on.

        At the first P of some tokens, which begin again where there are fewer; without any, at
        words drawn at random.
        """
        rows = self.vocabulary_rows(n, generator)
        if ids:
            rows = self._rows_of(torch.tensor([ids[i % len(ids)] for i in range(n)]))
        if not deep and self.prompt_layer == 0:
            return rows
        starts = torch.cat([rows.unsqueeze(0), self.deep_starts(rows)])[self.prompt_layer :]
        return starts if deep else starts[0]

    def states_behind(self, prompt: Tensor | None, tokens: TokenBatch) -> Tensor:
        """Last states (B, T, D) of texts, in float32, without those of the prompt."""
        if prompt is not None and self.prompt_layer > 0:
            return self._states_above(prompt, tokens)
        inputs = self.inputs_behind(prompt, tokens)
        return without_prompt(self.states(inputs), inputs)

    def _states_above(self, prompt: Tensor, tokens: TokenBatch) -> Tensor:
        """The same behind prompts that join the states of the texts at a layer."""
        states = self.lower_states(tokens) if tokens.states is None else tokens.states
        states = states[:, : tokens.ids.shape[1]]  # some models fill up to a window
        inputs = with_prompt(prompt, states.to(self.dtype), tokens)
        above = self._above
        entering = states_at(
            self.layers, self.prompt_layer, inputs.embeds, inputs.deep, inputs.start
        )
        with entering, self._attention(inputs):
            out = above(**self._arguments(inputs))[0].float()
        return without_prompt(out, inputs)

    def inputs_behind(self, prompt: Tensor | None, tokens: TokenBatch) -> PromptedBatch:
        """What the model reads: the embedded tokens with the prompts among them."""
        return with_prompt(prompt, self.embed(tokens.ids), tokens)

    def n_states(self, item: Any) -> int:
        """T, states of one text."""
        return len(item)

    def pool(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """One vector (B, D) for each text, from states (B, T, D)."""
        return pool(states, tokens, self.family.pooling)

    def unprompted(self, tokens: TokenBatch) -> Unprompted:
        """All that is read of texts without a prompt, in one pass.

        The second view is of the states two thirds up: heads read there what serves some tasks
        better than the last layer does (Tenney et al., 2019).
        """
        out = self._run(self.inputs_behind(None, tokens), output_hidden_states=True)
        states = out.hidden_states  # the first ones are what the layers read
        earlier = (len(states) - 1) * 2 // 3
        second = self.pool(states[earlier].float(), tokens)
        lower = states[self.prompt_layer] if self.prompt_layer else None
        return Unprompted(out[0].float(), second, lower)

    def _run_one(self) -> None:
        """Run the base model on one short row."""
        tokens = TokenBatch.collate(self.reader(None).read(["a"])[0])
        self._run(self.inputs_behind(None, tokens.to(self.device)))

    def states(self, inputs: PromptedBatch) -> Tensor:
        """Last states (B, P + T, D), in float32."""
        return self._run(inputs)[0].float()

    def _run(self, inputs: PromptedBatch, **options: Any) -> Any:
        with self.deep(inputs), self._attention(inputs):
            return self.base(**self._arguments(inputs), **options)

    def _arguments(self, inputs: PromptedBatch) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "inputs_embeds": inputs.embeds.to(self.dtype),
            "attention_mask": inputs.mask,
        }
        arguments |= self.positions(inputs.positions)
        if inputs.types is not None:
            arguments["token_type_ids"] = inputs.types
        if "use_cache" in self.accepts:
            arguments["use_cache"] = False
        return arguments

    def deep(self, inputs: PromptedBatch) -> AbstractContextManager[None]:
        """Within this context the layers read the deep prompts of `inputs`, if there are any."""
        layers = () if inputs.deep is None else self.layers
        return deep_rows(layers, inputs.deep, inputs.start, inputs.mask.shape[1])

    def _attention(self, inputs: PromptedBatch) -> AbstractContextManager[Any]:
        """Plain attention for short rows in half precision on a CPU.

        The fused kernel there takes twice as long in the backward pass; its lower use of memory
        counts for long rows only.
        """
        plain = self.device.type == "cpu" and self.dtype != torch.float32
        short = inputs.mask.shape[1] <= _SHORT
        return PlainAttention() if plain and short else nullcontext()

    @torch.no_grad()
    def deep_starts(self, rows: Tensor) -> Tensor:
        """States (L - 1, P, D) that the later layers read for rows (P, D) without a text.

        Deep prompts that start there change nothing at first.

        Raises
        ------
        UnsupportedBackbone
            If there is no list of layers, or they are of another width than the input.
        """
        n_layers = len(self.layers)
        embeds = rows.to(self.device, self.dtype).unsqueeze(0)
        arguments = self.positions(torch.arange(len(rows), device=self.device).unsqueeze(0))
        out = self.base(inputs_embeds=embeds, output_hidden_states=True, **arguments)
        states = torch.cat(out.hidden_states[1:n_layers])
        if states.shape[-1] != rows.shape[-1]:
            raise UnsupportedBackbone(
                f"depth='deep' or prompt_layer cannot be used with {self.name!r}: its layers are "
                f"{states.shape[-1]} wide and its input {rows.shape[-1]}. Use depth='shallow' and "
                "prompt_layer=0."
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
        return head_logits(self.model, self.base, states.to(self.dtype)).float()

    def require_lm_head(self) -> None:
        """Raise unless the checkpoint has a language-model head."""
        if not self.has_lm_head:
            raise UnsupportedBackbone(
                f"{self.name!r} was saved without a language-model head, which words are read "
                "from. Use head='linear', or a checkpoint saved for masked or causal language "
                "modelling."
            )


def as_language_model(frozen: Frozen[Any]) -> FrozenLanguageModel:
    """The same model, known to read texts.

    Raises
    ------
    UnsupportedBackbone
        If it reads something else.
    """
    if isinstance(frozen, FrozenLanguageModel):
        return frozen
    raise UnsupportedBackbone(
        f"{frozen.name!r} reads {frozen.reads}, and texts are asked of it. Use a language model, "
        "or LoPAImageClassifier for images."
    )


def _body(model: Any, family: Family) -> nn.Module:
    """The part of a model that reads prompt and text."""
    if family.kind == "encoder-decoder":
        return model.get_encoder()
    hidden = model.base_model is model and model.get_output_embeddings() is not None
    return model.get_decoder() if hidden else model.base_model


def pool(states: Tensor, tokens: TokenBatch, pooling: str) -> Tensor:
    """One vector (B, D) for each text, from states (B, T, D).

    Reads by the attention mask, so that padding is never taken for a token.
    """
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states_of(states, tokens.mask.sum(dim=1) - 1)
    mask = tokens.mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def states_of(states: Tensor, position: Tensor) -> Tensor:
    """States (B, D) at one position (B,) of each row."""
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, position]
