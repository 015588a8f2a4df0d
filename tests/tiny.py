"""Tiny random models of every family, made from a configuration in code: no file, no network."""

import string
from functools import lru_cache

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sklopa import Backbone

WIDTH, LAYERS, POSITIONS = 32, 2, 96
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]"]
WORDS = [
    "good", "bad", "fine", "awful", "film", "book", "was", "it", "the", "a", "and", "not", "very",
    "plot", "red", "green", "blue", "yes", "no", "maybe",
]  # fmt: skip
# Words for numbers: column letter and bin, as the estimator checks write them.
NUMBERS = [f"{column}{i}" for column in "abcdefghijklmnopqrst" for i in range(16)]

ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "electra", "deberta-v2", "modernbert")
DECODERS = (
    "gpt2", "llama", "qwen2", "qwen3", "gpt_neox", "codegen", "phi", "gemma", "opt",
)  # fmt: skip
BOTH = ("bart", "t5")  # an encoder and a decoder

_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_OVERRIDES = {
    "distilbert": {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64},
    "roberta": {"max_position_embeddings": POSITIONS + 1},
    "mpnet": {"max_position_embeddings": POSITIONS + 2},
    "electra": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True, "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"], "max_relative_positions": POSITIONS,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": POSITIONS},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "codegen": {
        "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": POSITIONS,
        "n_ctx": POSITIONS, "rotary_dim": 4,
    },
    "gemma": {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": False},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": WIDTH},
    "bart": {
        "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "decoder_start_token_id": 5, "forced_eos_token_id": None,
    },
    "t5": {
        "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": 4,
        "decoder_start_token_id": 0,
    },
}  # fmt: skip


def tokenizer(kind: str = "encoder"):
    """Whole words where they are known, else characters."""
    characters = [c for c in string.printable if not c.isspace()]
    pieces = SPECIALS + WORDS + NUMBERS + characters + ["##" + c for c in characters]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    if kind == "encoder":
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    else:
        del names["pad_token"]  # as GPT-2: a decoder without one
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names)


def model(model_type: str, *, with_head: bool = True, seed: int = 0, **overrides):
    """A tiny random model and its tokenizer."""
    kind = "decoder" if model_type in DECODERS else "encoder"
    reader = tokenizer(kind)
    options = _COMMON | {"vocab_size": len(reader), "pad_token_id": 0}
    options |= {"bos_token_id": 5, "eos_token_id": 5, "cls_token_id": 2, "sep_token_id": 3}
    config = transformers.AutoConfig.for_model(
        model_type, **(options | _OVERRIDES.get(model_type, {}) | overrides)
    )
    auto = transformers.AutoModel
    if with_head:
        auto = transformers.AutoModelForMaskedLM
        if model_type in DECODERS:
            auto = transformers.AutoModelForCausalLM
        if model_type in BOTH:
            auto = transformers.AutoModelForSeq2SeqLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = auto.from_config(config)
        for parameter in made.parameters():  # larger weights, so that inputs matter
            if parameter.ndim > 1 and model_type != "gemma":  # gemma scales inside
                parameter.data.mul_(4.0)
    return made.eval(), reader


@lru_cache
def backbone(model_type: str = "bert") -> Backbone:
    """A tiny live backbone, one for the whole test run."""
    return Backbone.from_objects(*model(model_type))


def save(folder, model_type: str = "bert", **options) -> str:
    """A tiny model in a folder, as `save_pretrained` leaves it."""
    made, reader = model(model_type, **options)
    made.save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)
