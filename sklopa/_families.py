"""All that sklopa knows about model families, as one table of small objects.

A family says where it departs from the common case: embeddings enter through
``inputs_embeds``, positions are counted from 0 and explicit, the base model returns states.
To support another family, add a line to the table and a line to its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sklopa._vision_families import VISION_FAMILIES
from sklopa.errors import UnsupportedBackbone


def _table_length(config) -> int | None:
    return getattr(config, "max_position_embeddings", None)


@dataclass(frozen=True)
class Family:
    """How one model family takes a soft prompt.

    Attributes
    ----------
    kind : {"encoder", "decoder", "encoder-decoder"}
        An encoder sees the whole text at each position, a decoder only what came before. Of an
        encoder-decoder it is the encoder that reads the prompt and the text.
    pooling : {"mean", "first", "last"}
        Which states of the text stand for it: their mean, the first or the last token.
    first_position : callable of the configuration
        Position id of the first row of the input.
    position_limit : callable of the configuration
        Rows of the position table, or the context that the model was trained for; None where
        positions are relative and nothing bounds them.
    state_width : callable of the configuration
        Width of the states that the backbone returns.
    """

    kind: str
    pooling: str
    first_position: Callable = lambda config: 0
    position_limit: Callable = _table_length
    state_width: Callable = lambda config: config.hidden_size

    def room(self, config) -> int | None:
        """How many rows (prompt and tokens) the backbone can read; None if unbounded."""
        limit = self.position_limit(config)
        return None if limit is None else limit - self.first_position(config)


_ENCODER = Family(kind="encoder", pooling="mean")
# RoBERTa counts positions from the padding index plus one.
_ROBERTA = replace(_ENCODER, first_position=lambda config: config.pad_token_id + 1)
# MPNet does the same with a fixed padding index of 1.
_MPNET = replace(_ENCODER, first_position=lambda config: 2)
_DECODER = Family(kind="decoder", pooling="last")
# OPT may project its states to the width of its word embeddings.
_OPT = replace(_DECODER, state_width=lambda config: config.word_embed_proj_dim)
_BART = Family(kind="encoder-decoder", pooling="mean")
# T5 has relative positions only.
_T5 = replace(_BART, position_limit=lambda config: None)

FAMILIES: dict[str, Family] = {
    "bert": _ENCODER,
    "distilbert": _ENCODER,
    "electra": _ENCODER,
    "deberta-v2": _ENCODER,
    "modernbert": _ENCODER,
    "roberta": _ROBERTA,
    "mpnet": _MPNET,
    "gpt2": _DECODER,
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gpt_neox": _DECODER,
    "codegen": _DECODER,
    "phi": _DECODER,
    "gemma": _DECODER,
    "opt": _OPT,
    "bart": _BART,
    "t5": _T5,
}

REFUSED: dict[str, str] = {
    "gemma3n": "each of its layers reads the token ids again, so rows without ids cannot enter",
    "qwen2_5_vl": "its positions have several axes, which a text prompt does not have",
}


def family_of(config, name: str) -> Family:
    """The family of a model configuration, found before any weight is loaded.

    Raises
    ------
    UnsupportedBackbone
        If the family is unknown or cannot take a soft prompt.
    """
    model_type = config.model_type
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    reason = REFUSED.get(model_type, "sklopa has no entry for it, and guessing could be wrong")
    raise UnsupportedBackbone(
        f"{name!r} is a {model_type!r} model, which cannot be used: {reason}. "
        f"Families that work: {', '.join(sorted(FAMILIES))}; for images: "
        f"{', '.join(sorted(VISION_FAMILIES))}."
    )
