"""All that sklopa knows about vision towers, as one table of small objects.

A tower turns pixels into states of a few rows of its own (a class token, perhaps registers) and
of the patches, runs them through one list of layers, and a last norm. The prompt stands between
the two kinds of rows. To support another family, add a line to the table and a line to its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sklopa.errors import UnsupportedBackbone


def _inner_tower(model: Any) -> Any:
    """Of a model with a text tower too, or with a head, the part that sees."""
    return getattr(model, "vision_model", model.base_model)


def _class_token(tower: Any, states: Any) -> Any:
    return states[:, 0]


def _mean_of_patches(tower: Any, states: Any) -> Any:
    return states.mean(dim=1)


def _normed_class_token(tower: Any, states: Any) -> Any:
    return tower.post_layernorm(states[:, 0])


def _own_pooler(tower: Any, states: Any) -> Any:
    """BEiT's, which has no weights but a norm: the class token, or the mean of the patches."""
    return _class_token(tower, states) if tower.pooler is None else tower.pooler(states)


def _own_head(tower: Any, states: Any) -> Any:
    """SigLIP's attention over the patches."""
    return tower.head(states) if hasattr(tower, "head") else _mean_of_patches(tower, states)


def _in_order(tower: Any, pixels: Any) -> Any:
    """Without it, a masked autoencoder shuffles its patches even where it masks none."""
    n_patches = tower.embeddings.patch_embeddings.num_patches
    return {"noise": pixels.new_ones(pixels.shape[0], n_patches).cumsum(dim=1)}


def _relative_biases(tower: Any) -> Any:
    """Modules that return a bias between rows (..., T, T), in which the prompt has no place."""
    return [m for m in tower.modules() if type(m).__name__ == "BeitRelativePositionBias"]


@dataclass(frozen=True)
class VisionFamily:
    """How one family of vision towers takes a soft prompt.

    Attributes
    ----------
    tower : callable of the model
        The module that turns pixels into states.
    pool : callable of (tower, states (B, T, D) without the prompt) -> (B, D)
        Reads states as the model was trained to be read.
    n_prefix : callable of the configuration
        Rows in front of the patches; the prompt comes behind them.
    arguments : callable of (tower, pixels)
        What the tower must be told besides the pixels.
    biases : callable of the tower
        Modules whose output, a bias between rows, must make room for the prompt.
    settings : dict
        Values that the configuration must have.
    layers : tuple of str
        Where the tower keeps its layers, in one version of transformers or another.
    any_size : bool
        Whether images may have another size than the configuration says.
    """

    tower: Callable = _inner_tower
    pool: Callable = _class_token
    n_prefix: Callable = lambda config: 1
    arguments: Callable = lambda tower, pixels: {}
    biases: Callable = lambda tower: []
    settings: dict[str, Any] = field(default_factory=dict)
    any_size: bool = False
    layers: tuple[str, ...] = ("layers", "encoder.layer")
    skips_layers: bool = True
    kind: str = "vision"
    pooling: str = "image"


_VIT = VisionFamily()
# A distillation token stands behind the class token.
_DEIT = replace(_VIT, n_prefix=lambda config: 2)
_BEIT = replace(_VIT, pool=_own_pooler, biases=_relative_biases)
_MAE = replace(_VIT, arguments=_in_order, settings={"mask_ratio": 0.0})
_DINO = replace(_VIT, any_size=True)
_WITH_REGISTERS = replace(_DINO, n_prefix=lambda config: 1 + config.num_register_tokens)
_CLIP = replace(_VIT, pool=_normed_class_token, layers=("encoder.layers",))
_SIGLIP = replace(_VIT, pool=_own_head, n_prefix=lambda config: 0, layers=("encoder.layers",))

VISION_FAMILIES: dict[str, VisionFamily] = {
    "vit": _VIT,
    "deit": _DEIT,
    "beit": _BEIT,
    "vit_mae": _MAE,
    "vit_msn": _VIT,
    "dinov2": _DINO,
    "dinov2_with_registers": _WITH_REGISTERS,
    # Here `base_model` would be the list of layers alone.
    "dinov3_vit": replace(
        _WITH_REGISTERS, tower=lambda model: model, layers=("model.layer", "layer")
    ),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}

_WINDOWS = (
    "its layers cut the grid of patches into windows and merge neighbours, and rows that have no "
    "place on the grid fall out"
)
REFUSED_VISION: dict[str, str] = {
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "hiera": (
        "its stages pool patches in an unrolled order of fixed length, in which rows that have no "
        "place on the grid cannot stand"
    ),
}


def vision_family_of(config: Any, name: str) -> VisionFamily | None:
    """The family of a vision model's configuration; None if it is no vision model known here.

    Raises
    ------
    UnsupportedBackbone
        If the family is known not to take a soft prompt.
    """
    if reason := REFUSED_VISION.get(config.model_type):
        raise UnsupportedBackbone(
            f"{name!r} is a {config.model_type!r} model, which cannot be used: {reason}. "
            f"Families that work for images: {', '.join(sorted(VISION_FAMILIES))}."
        )
    return VISION_FAMILIES.get(config.model_type)
