"""Tiny random vision models of every family, made from a configuration in code."""

from functools import lru_cache

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

from sklopa import Backbone

WIDTH, LAYERS, SIZE, PATCH = 32, 2, 16, 4
N_PATCHES = (SIZE // PATCH) ** 2

_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": SIZE,
    "patch_size": PATCH,
}
_OVERRIDES = {
    "beit": {"use_relative_position_bias": True, "use_mean_pooling": True},
    "vit_mae": {"mask_ratio": 0.0},
    "dinov2_with_registers": {"num_register_tokens": 3},
    "dinov3_vit": {"num_register_tokens": 2},
}
FAMILIES = (
    "vit", "deit", "beit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers", "dinov3_vit",
    "clip_vision_model", "siglip_vision_model",
)  # fmt: skip
PREFIX = {"deit": 2, "dinov2_with_registers": 4, "dinov3_vit": 3, "siglip_vision_model": 0}


def processor():
    """An image processor that works without torchvision."""
    try:
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as Maker
    except ImportError:  # older transformers has one for Pillow only
        from transformers import ViTImageProcessor as Maker
    return Maker(size={"height": SIZE, "width": SIZE})


def model(model_type: str = "vit", *, seed: int = 0, **overrides):
    """A tiny random vision model whose positions, class token and biases are not zero."""
    options = _COMMON | _OVERRIDES.get(model_type, {}) | overrides
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoModel.from_config(AutoConfig.for_model(model_type, **options))
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1 or "token" in name:  # larger weights, so that inputs matter
                parameter.data.normal_(0, 0.15)
    return made.eval()


@lru_cache
def backbone(model_type: str = "vit") -> Backbone:
    """A tiny live backbone, one for the whole test run."""
    return Backbone.from_objects(model(model_type), processor())


def save(folder, model_type: str = "vit", **options) -> str:
    """A tiny model in a folder, as `save_pretrained` leaves it."""
    model(model_type, **options).save_pretrained(folder)
    processor().save_pretrained(folder)
    return str(folder)


def images(n: int = 24, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Noise with a bright bar, which stands or lies: uint8 (n, 16, 16) and labels."""
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 90, size=(n, SIZE, SIZE)).astype(np.uint8)
    for i, image in enumerate(pixels):
        at = random.randint(2, SIZE - 2)
        (image if i % 2 else image.T)[at : at + 2] += 150
    return pixels, ["lying" if i % 2 else "standing" for i in range(n)]
