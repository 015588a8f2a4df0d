"""All that sklopa knows about model families, as one table of small objects.

A family says where it departs from the common case: embeddings enter through
``inputs_embeds``, positions are counted from 0 and explicit, the base model returns states.
To support another family, add a line to the table and a line to its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sklopa._backbone.vision_families import VISION_FAMILIES
from sklopa.errors import UnsupportedBackbone


def _table_length(config: Any) -> int | None:
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
    embedding_scale : callable of the configuration
        Factor between a row of the embedding table and what enters in its place; models that
        scale inside the table or behind the entrance need none.
    masks_steps : bool
        Whether a step of cached decoding reads the mask of all that came before; a state-space
        model has only its state.
    casts_strays : bool
        Whether weights that transformers leaves in float32 by mistake are cast like the others.
    layers : tuple of str
        Where the base model keeps its layers, in one version of transformers or another; none
        where they are no plain list.
    skips_layers : bool
        Whether layers below a prompt can be left out: the first ones make nothing that those
        behind them need besides the states.
    refuses : callable of the configuration
        Why a model of the family cannot take a prompt after all, or None.
    """

    kind: str
    pooling: str
    first_position: Callable = lambda config: 0
    position_limit: Callable = _table_length
    state_width: Callable = lambda config: config.hidden_size
    embedding_scale: Callable = lambda config: 1.0
    masks_steps: bool = True
    casts_strays: bool = False
    layers: tuple[str, ...] = ("layers",)
    skips_layers: bool = True
    refuses: Callable = lambda config: None

    def room(self, config: Any) -> int | None:
        """How many rows (prompt and tokens) the backbone can read; None if unbounded."""
        limit = self.position_limit(config)
        return None if limit is None else limit - self.first_position(config)


def _unbounded(config: Any) -> None:
    """Positions are relative, or there are none."""


def _scaled_outside(config: Any) -> float:
    return config.d_model**0.5 if config.scale_embedding else 1.0


_ENCODER = Family(kind="encoder", pooling="mean", layers=("encoder.layer",))
_FLAT_ENCODER = replace(_ENCODER, layers=("layers",))
# One layer that runs again and again, sublayers in lists of their own, or layers that are called
# past the hooks of modules.
_NO_LAYERS = replace(_ENCODER, layers=())
# RoBERTa counts positions from the padding index plus one.
_ROBERTA = replace(_ENCODER, first_position=lambda config: config.pad_token_id + 1)
# MPNet does the same with a fixed padding index of 1.
_MPNET = replace(_ENCODER, first_position=lambda config: 2)
# ESM-2 scales embeddings by the share of tokens that training did not mask.
_ESM = replace(
    _ENCODER,
    embedding_scale=lambda config: 1 - 0.15 * 0.8 if config.token_dropout else 1.0,
    refuses=lambda config: (
        "it has no way in behind its word embeddings; ESM-2 has one"
        if config.position_embedding_type != "rotary"
        else None
    ),
)
_DECODER = Family(kind="decoder", pooling="last")
_UNBOUNDED_DECODER = replace(_DECODER, position_limit=_unbounded)
_GPT = replace(_DECODER, layers=("h",))
_STATE_SPACE = replace(_UNBOUNDED_DECODER, masks_steps=False)
# OPT may project its states to the width of its word embeddings.
_OPT = replace(
    _DECODER,
    state_width=lambda config: config.word_embed_proj_dim,
    layers=("decoder.layers",),
)
_MPT = replace(_DECODER, position_limit=lambda config: config.max_seq_len, layers=("blocks",))
_BOTH = Family(kind="encoder-decoder", pooling="mean")
# Some relatives of BART scale the rows that they look up, and not those that they are given.
_SCALED_OUTSIDE = replace(_BOTH, embedding_scale=_scaled_outside)
_LED = replace(_BOTH, position_limit=lambda config: config.max_encoder_position_embeddings)
# The first layer makes the position biases of all of them.
_T5 = replace(_BOTH, position_limit=_unbounded, layers=("block",), skips_layers=False)

FAMILIES: dict[str, Family] = {
    "albert": _NO_LAYERS,
    "bert": _ENCODER,
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "deberta": replace(_ENCODER, casts_strays=True),
    "deberta-v2": _ENCODER,
    "distilbert": replace(_ENCODER, layers=("transformer.layer",)),
    "electra": _ENCODER,
    "ernie": _ENCODER,
    "esm": _ESM,
    "eurobert": _FLAT_ENCODER,
    "flaubert": _NO_LAYERS,
    "gte": _FLAT_ENCODER,
    "jina_embeddings_v3": _FLAT_ENCODER,
    "layoutlm": _ENCODER,
    "longformer": _ROBERTA,
    "luke": _ROBERTA,
    "megatron-bert": _ENCODER,
    "mobilebert": _ENCODER,
    "modernbert": _FLAT_ENCODER,
    "mpnet": _MPNET,
    "nomic_bert": _FLAT_ENCODER,
    "rembert": _ENCODER,
    "roberta": _ROBERTA,
    "roberta-prelayernorm": _ROBERTA,
    "roformer": _ENCODER,
    "squeezebert": _NO_LAYERS,
    "xlm": _NO_LAYERS,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
    "apertus": _DECODER,
    "arcee": _DECODER,
    "biogpt": _DECODER,
    "bitnet": _DECODER,
    "bloom": replace(_GPT, position_limit=_unbounded),
    "codegen": _GPT,
    "cohere": _DECODER,
    "cohere2": _DECODER,
    "deepseek_v2": _DECODER,
    "deepseek_v3": _DECODER,
    "ernie4_5": _DECODER,
    "exaone4": _DECODER,
    "falcon": _GPT,
    "falcon_mamba": _STATE_SPACE,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
    "glm": _DECODER,
    "glm4": _DECODER,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": _GPT,
    "gpt_neox": _DECODER,
    "gpt_oss": _DECODER,
    "gptj": _GPT,
    "granite": _DECODER,
    "granitemoe": _DECODER,
    "granitemoehybrid": _DECODER,
    "helium": _DECODER,
    "hunyuan_v1_dense": _DECODER,
    "jamba": _DECODER,
    "lfm2": _DECODER,
    "llama": _DECODER,
    "mamba": _STATE_SPACE,
    "mamba2": _STATE_SPACE,
    "mistral": _DECODER,
    "mixtral": _DECODER,
    "modernbert-decoder": _DECODER,
    "mpt": _MPT,
    "nemotron": _DECODER,
    "olmo": _DECODER,
    "olmo2": _DECODER,
    "olmo3": _DECODER,
    "olmoe": _DECODER,
    "opt": _OPT,
    "persimmon": _DECODER,
    "phi": _DECODER,
    "phi3": _DECODER,
    "phimoe": _DECODER,
    "qwen2": _DECODER,
    "qwen2_moe": _DECODER,
    "qwen3": _DECODER,
    "qwen3_moe": _DECODER,
    "seed_oss": _DECODER,
    "smollm3": _DECODER,
    "stablelm": _DECODER,
    "starcoder2": _DECODER,
    "xglm": _DECODER,
    "bart": _BOTH,
    "blenderbot": _BOTH,
    "blenderbot-small": _SCALED_OUTSIDE,
    "led": _LED,
    "longt5": _T5,
    "m2m_100": _BOTH,
    "marian": _SCALED_OUTSIDE,
    "mbart": _BOTH,
    "mt5": _T5,
    "mvp": _SCALED_OUTSIDE,
    "pegasus": _SCALED_OUTSIDE,
    "plbart": _BOTH,
    "t5": _T5,
    "umt5": _T5,
}

_AXES = "its positions have several axes, which a text prompt does not have"
_IDS_AGAIN = "each of its layers reads the token ids again, so rows without ids cannot enter"
_CAPACITY = "its experts drop tokens when a batch is full, so a row depends on its neighbours"
_OVER_PADDING = "its recurrent state runs on over padding, so a row depends on its neighbours"
_LENGTH = "which positions it connects depends on the padded length, so a row depends on others"

REFUSED: dict[str, str] = {
    "big_bird": _LENGTH,
    "bigbird_pegasus": _LENGTH,
    "convbert": "its convolutions read padding, so a row depends on its neighbours",
    "fnet": "it mixes all positions without a mask, so a row depends on its neighbours",
    "funnel": "it pools pairs of positions, padding included, so a row depends on its neighbours",
    "gemma3": "it reads images too; its checkpoints for text alone are 'gemma3_text' models",
    "gemma3n": _IDS_AGAIN,
    "gemma3n_text": _IDS_AGAIN,
    "gemma4": _IDS_AGAIN,
    "gemma4_text": _IDS_AGAIN,
    "ibert": "its word embeddings are integers with a scale, and a prompt is neither",
    "mra": "its attention runs on CUDA kernels only",
    "nllb-moe": _CAPACITY,
    "nystromformer": _LENGTH,
    "openai-gpt": "it has no cache to generate from; gpt2 is its successor",
    "qwen2_5_vl": _AXES,
    "qwen2_vl": _AXES,
    "qwen3_vl": _AXES,
    "reformer": "it sorts positions into buckets of the padded length, at random",
    "rwkv": _OVER_PADDING,
    "switch_transformers": _CAPACITY,
    "xlstm": _OVER_PADDING,
    "yoso": "it samples its attention at random",
}


def family_of(config: Any, name: str) -> Family:
    """The family of a model configuration, found before any weight is loaded.

    Raises
    ------
    UnsupportedBackbone
        If the family is unknown or cannot take a soft prompt.
    """
    family = FAMILIES.get(config.model_type)
    unknown = "sklopa has no entry for it, and guessing could be wrong"
    reason = family.refuses(config) if family else REFUSED.get(config.model_type, unknown)
    if family is not None and reason is None:
        return family
    raise UnsupportedBackbone(
        f"{name!r} is a {config.model_type!r} model, which cannot be used: {reason}. "
        f"Families that work: {', '.join(sorted(FAMILIES))}; for images: "
        f"{', '.join(sorted(VISION_FAMILIES))}."
    )
