"""Tiny random models of every family, made from a configuration in code: no file, no network."""

import string
from functools import lru_cache

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sklopa import Backbone
from sklopa._backbone.families import FAMILIES, REFUSED  # noqa: F401  (for a benchmark)

WIDTH, LAYERS, POSITIONS = 32, 2, 96
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]"]
WORDS = [
    "good", "bad", "fine", "awful", "film", "book", "was", "it", "the", "a", "and", "not", "very",
    "plot", "red", "green", "blue", "yes", "no", "maybe",
]  # fmt: skip
# Words for numbers: column letter and bin, as the estimator checks write them.
NUMBERS = [f"{column}{i}" for column in "abcdefghijklmnopqrst" for i in range(16)]

# The families that modules with claims of their own run through; test_families.py has them all.
ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "electra", "deberta-v2", "modernbert")
DECODERS = (
    "gpt2", "llama", "qwen2", "qwen3", "gpt_neox", "codegen", "phi", "gemma", "opt",
)  # fmt: skip
BOTH = ("bart", "t5")  # an encoder and a decoder

# What most configurations call their sizes.
_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 5,
    "eos_token_id": 5,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "decoder_start_token_id": 5,
}
_GPT = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": POSITIONS}
_BOTH = {
    "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "forced_eos_token_id": None, "scale_embedding": True,
}  # fmt: skip
_T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": 4}
_MOE = {
    "moe_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "shared_expert_intermediate_size": 16, "n_routed_experts": 4,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
_LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "num_key_value_heads": 4, "topk_method": "greedy",
}  # fmt: skip
_SSM = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2,
    "mamba_n_groups": 1, "mamba_chunk_size": 8,
}  # fmt: skip
_ROBERTA_POSITIONS = {"max_position_embeddings": POSITIONS + 1}  # the padding index is 0
_WINDOW = {"sliding_window": 8}

LEFT_OUT = object()  # for a name that a configuration does not take

# What a family needs besides, or calls otherwise. One line a family.
OPTIONS = {
    "albert": {"embedding_size": 16},
    "camembert": _ROBERTA_POSITIONS,
    "data2vec-text": _ROBERTA_POSITIONS,
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {
        "relative_attention": True, "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"], "max_relative_positions": POSITIONS,
    },
    "distilbert": {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "esm": {"token_dropout": True, "mask_token_id": 4, "position_embedding_type": "rotary"},
    "longformer": {"attention_window": 8} | _ROBERTA_POSITIONS,
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 8} | _ROBERTA_POSITIONS,
    "mobilebert": {
        "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16,
    },
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "mpnet": {"max_position_embeddings": POSITIONS + 2},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roberta": _ROBERTA_POSITIONS,
    "roberta-prelayernorm": _ROBERTA_POSITIONS,
    "roformer": {"embedding_size": 16},
    "squeezebert": {"embedding_size": WIDTH},
    "xlm-roberta": _ROBERTA_POSITIONS,
    "xlm-roberta-xl": _ROBERTA_POSITIONS,
    "codegen": _GPT | {"n_ctx": POSITIONS, "rotary_dim": 4},
    "cohere2": _WINDOW,
    "deepseek_v2": _MOE | _LATENT,
    "deepseek_v3": _MOE | _LATENT,
    "falcon": {"head_dim": LEFT_OUT},
    "gemma": {"tie_word_embeddings": False},
    "gemma2": _WINDOW,
    "gemma3_text": _WINDOW,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": {
        "num_layers": LAYERS, "num_heads": 4, "window_size": 8,
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_oss": _MOE | _WINDOW,
    "gptj": _GPT | {"rotary_dim": 4},
    "granitemoe": _MOE,
    "granitemoehybrid": _MOE | _SSM | {"layer_types": ["mamba", "attention"]},
    "jamba": _MOE | {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "n_groups": 1, "chunk_size": 8, "state_size": 8},
    "mistral": _WINDOW,
    "mixtral": _MOE,
    "modernbert-decoder": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "mpt": {"d_model": WIDTH, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": POSITIONS},
    "olmo3": _WINDOW,
    "olmoe": _MOE,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": WIDTH},
    "phimoe": _MOE,
    "qwen2_moe": _MOE,
    "qwen3_moe": _MOE,
    "xglm": {"d_model": WIDTH, "num_layers": LAYERS, "attention_heads": 4, "ffn_dim": 64},
    "bart": _BOTH | {"scale_embedding": False},  # as its checkpoints; its relatives do scale
    "blenderbot": _BOTH,
    "blenderbot-small": _BOTH,
    "led": _BOTH | {
        "attention_window": 8, "max_encoder_position_embeddings": POSITIONS,
        "max_decoder_position_embeddings": POSITIONS,
    },
    "longt5": _T5 | {
        "encoder_attention_type": "transient-global", "local_radius": 7, "global_block_size": 4,
    },
    "m2m_100": _BOTH,
    "marian": _BOTH,
    "mbart": _BOTH,
    "mt5": _T5,
    "mvp": _BOTH,
    "pegasus": _BOTH,
    "plbart": _BOTH,
    "t5": _T5,
    "umt5": _T5,
}  # fmt: skip

_CLASSES = {
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
}


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


def is_known(model_type: str) -> bool:
    """Whether the installed transformers has the family."""
    return model_type in transformers.CONFIG_MAPPING


def model(model_type: str, *, with_head: bool = True, seed: int = 0, **overrides):
    """A tiny random model and its tokenizer."""
    kind = FAMILIES[model_type].kind
    reader = tokenizer("decoder" if kind == "decoder" else "encoder")
    options = _COMMON | OPTIONS.get(model_type, {}) | {"vocab_size": len(reader)} | overrides
    options = {name: value for name, value in options.items() if value is not LEFT_OUT}
    config = transformers.AutoConfig.for_model(model_type, **options)
    auto = getattr(transformers, _CLASSES[kind] if with_head else "AutoModel")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = auto.from_config(config)
        for parameter in made.parameters():  # larger weights, so that inputs matter
            if parameter.ndim > 1 and model_type != "gemma":  # gemma scales inside
                parameter.data.mul_(4.0)
        rows = made.get_input_embeddings().weight.data
        rows[0] = rows[1]  # padding must not matter, whatever its row holds
    return made.eval(), reader


@lru_cache
def backbone(model_type: str = "bert") -> Backbone:
    """A tiny live backbone, one for the whole test run."""
    return Backbone.from_objects(*model(model_type))


def save(folder, model_type: str = "bert", dtype=torch.float32, **options) -> str:
    """A tiny model in a folder, as `save_pretrained` leaves it."""
    made, reader = model(model_type, **options)
    made.to(dtype)
    made.save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)
