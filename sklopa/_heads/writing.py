"""Prompted rows -> generated tokens: a cache filled once, then one token after the other."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper
from transformers.modeling_outputs import BaseModelOutput

from sklopa._backbone.language import FrozenLanguageModel
from sklopa._backbone.lm_head import end_ids, start_id
from sklopa._backbone.prompted import PromptedBatch, pad_left
from sklopa.errors import UnsupportedBackbone


@dataclass(frozen=True)
class Decoding:
    """How to turn logits into tokens.

    Attributes
    ----------
    max_new_tokens : int
    num_beams : int, 1 for greedy decoding or sampling
    do_sample : bool
    temperature, top_p : float, for sampling
    stop : tuple of str, texts after which a row is done
    """

    max_new_tokens: int
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


def write_texts(
    frozen: FrozenLanguageModel,
    inputs: PromptedBatch,
    options: Decoding,
    generator: torch.Generator | None = None,
    n_samples: int = 1,
) -> list[list[str]]:
    """Generated texts: `n_samples` for each of B rows.

    Each row is read once, however many samples are drawn from it.
    """
    if options.num_beams > 1:
        return [[text] for text in _decode_beams(frozen, inputs, options)]
    session = _session(frozen, inputs)
    logits = session.start()
    if logits.isnan().any():
        raise UnsupportedBackbone(
            f"The outputs of {frozen.name!r} are not finite. Check its weights, or use "
            "Backbone(..., dtype='float32')."
        )
    if n_samples > 1:
        session.repeat(n_samples)
        logits = logits.repeat_interleave(n_samples, dim=0)
    texts = _continue(frozen, session, logits, options, generator)
    return [texts[i : i + n_samples] for i in range(0, len(texts), n_samples)]


def _continue(
    frozen: FrozenLanguageModel,
    session: _Session,
    logits: Tensor,
    options: Decoding,
    generator: torch.Generator | None,
) -> list[str]:
    """Choose tokens until every row has ended, met a stop text, or is long enough."""
    ends = set(end_ids(frozen))
    rows: list[list[int]] = [[] for _ in range(len(logits))]
    done = [False] * len(rows)
    for step in range(options.max_new_tokens):
        chosen = _choose(logits, options, generator)
        for i, token in enumerate(chosen.tolist()):
            if done[i]:
                continue
            done[i] = token in ends
            if not done[i]:
                rows[i].append(token)
                done[i] = bool(options.stop) and _is_stopped(frozen, rows[i], options.stop)
        if all(done) or step + 1 == options.max_new_tokens:
            break
        logits = session.step(chosen)
    return [_as_text(frozen, row, options.stop) for row in rows]


def _choose(logits: Tensor, options: Decoding, generator: torch.Generator | None) -> Tensor:
    """The next token of each row, (B,)."""
    if not options.do_sample:
        return logits.argmax(dim=-1)
    warpers = LogitsProcessorList()
    if options.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(options.temperature))
    if options.top_p < 1.0:
        warpers.append(TopPLogitsWarper(options.top_p))
    p = warpers(None, logits).softmax(dim=-1).cpu()
    return torch.multinomial(p, 1, generator=generator).squeeze(1).to(logits.device)


def _is_stopped(frozen: FrozenLanguageModel, row: list[int], stop: tuple[str, ...]) -> bool:
    text = frozen.tokenizer.decode(row, skip_special_tokens=True)
    return any(end in text for end in stop)


def _as_text(frozen: FrozenLanguageModel, row: list[int], stop: tuple[str, ...]) -> str:
    text = frozen.tokenizer.decode(row, skip_special_tokens=True)
    cuts = [text.index(end) for end in stop if end in text]
    return text[: min(cuts)] if cuts else text


# ---------------------------------------------------------------------- reading with a cache


# What the argument is called, in newer versions of transformers and in older ones.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")


class _Session:
    """A batch of rows on their way: what was read so far, in the model's cache."""

    cache: Any = None

    def __init__(self, frozen: FrozenLanguageModel, reads: nn.Module) -> None:
        self.frozen, self.reads = frozen, reads
        accepted = inspect.signature(type(reads).forward).parameters
        self.cache_name = next(name for name in _CACHE_NAMES if name in accepted)

    def _read(self, **arguments: Any) -> Any:
        """One call of the model, that fills the cache or goes on from it."""
        out = self.reads(**arguments, **{self.cache_name: self.cache}, use_cache=True)
        self.cache = getattr(out, self.cache_name)
        if self.cache is None:
            raise UnsupportedBackbone(
                f"{self.frozen.config.model_type!r} models give no cache to generate from in this "
                "version of transformers. Upgrade it, or choose another model."
            )
        return out

    def start(self) -> Tensor:
        """Read the rows; logits (B, V) of the first new token."""
        raise NotImplementedError

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token a row (B,); logits (B, V) of the next."""
        raise NotImplementedError

    def repeat(self, n: int) -> None:
        """Go on with n copies of each row."""
        self.cache.batch_repeat_interleave(n)


class _DecoderSession(_Session):
    """Padding in front, so that the next token of every row has the same index."""

    def __init__(self, frozen: FrozenLanguageModel, inputs: PromptedBatch) -> None:
        super().__init__(frozen, frozen.base)
        self.inputs = pad_left(inputs)
        self.mask = self.inputs.mask
        self.length = self.mask.sum(dim=1)  # (B,), without padding

    def start(self) -> Tensor:
        with self.frozen.deep(self.inputs):
            out = self._read(
                inputs_embeds=self.inputs.embeds,
                attention_mask=self.mask,
                **self.frozen.positions(self.inputs.positions),
            )
        return self._logits(out)

    def step(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        arguments = self.frozen.positions(self.length.unsqueeze(1))
        if self.frozen.family.masks_steps:
            arguments["attention_mask"] = self.mask
        elif "cache_position" in self.frozen.accepts:  # how older versions tell a step
            arguments["cache_position"] = self.length[:1]
        out = self._read(inputs_embeds=self.frozen.embed(tokens.unsqueeze(1)), **arguments)
        self.length = self.length + 1
        return self._logits(out)

    def repeat(self, n: int) -> None:
        super().repeat(n)
        self.mask = self.mask.repeat_interleave(n, dim=0)
        self.length = self.length.repeat_interleave(n, dim=0)

    def _logits(self, out: Any) -> Tensor:
        return self.frozen.lm_logits(out[0][:, -1:].float()).squeeze(1)


class _EncoderDecoderSession(_Session):
    """The encoder reads prompt and text once; the decoder keeps the cache."""

    def __init__(self, frozen: FrozenLanguageModel, inputs: PromptedBatch) -> None:
        super().__init__(frozen, frozen.model)
        self.mask = inputs.mask
        self.states = frozen.states(inputs).to(frozen.dtype)

    def start(self) -> Tensor:
        return self.step(self.mask.new_full((len(self.mask),), start_id(self.frozen) or 0))

    def step(self, tokens: Tensor) -> Tensor:
        out = self._read(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.states),
            attention_mask=self.mask,
            decoder_input_ids=tokens.unsqueeze(1),
        )
        return out.logits[:, -1].float()

    def repeat(self, n: int) -> None:
        super().repeat(n)
        self.mask = self.mask.repeat_interleave(n, dim=0)
        self.states = self.states.repeat_interleave(n, dim=0)


def _session(frozen: FrozenLanguageModel, inputs: PromptedBatch) -> _Session:
    kind = _DecoderSession if frozen.family.kind == "decoder" else _EncoderDecoderSession
    return kind(frozen, inputs)


# ---------------------------------------------------------------------- beams


def _decode_beams(
    frozen: FrozenLanguageModel, inputs: PromptedBatch, options: Decoding
) -> list[str]:
    """Beam search of transformers, with nothing taken over from the model's own settings."""
    if frozen.family.kind == "decoder":
        inputs = pad_left(inputs)
    ends = end_ids(frozen)
    config = GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        num_beams=options.num_beams,
        do_sample=False,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
        decoder_start_token_id=start_id(frozen),
    )
    with frozen.deep(inputs):
        rows = frozen.model.generate(
            inputs_embeds=inputs.embeds, attention_mask=inputs.mask, generation_config=config
        )
    skip = 1 if frozen.family.kind == "encoder-decoder" else 0
    return [_as_text(frozen, _up_to_end(row[skip:].tolist(), ends), options.stop) for row in rows]


def _up_to_end(row: list[int], ends: list[int]) -> list[int]:
    found = [i for i, token in enumerate(row) if token in ends]
    return row[: found[0]] if found else row
