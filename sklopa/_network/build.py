"""A design -> a live network, fresh or with given weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import FrozenLanguageModel, as_language_model
from sklopa._embedding.trained import TrainedEncoder
from sklopa._heads.head import Head
from sklopa._heads.label_words import VerbalizerHead
from sklopa._heads.likelihood import LikelihoodHead
from sklopa._heads.linear import LinearHead
from sklopa._loading.live import live_language_model, live_model
from sklopa._network.design import Design
from sklopa._network.pipe import LoPANetwork
from sklopa._prompt.deep import DeepPrompt
from sklopa._prompt.low_rank import LowRankPrompt
from sklopa.errors import InvalidArchive, InvalidParameter, UnsupportedBackbone


def build_network(design: Design, seed: int = 0, initial_text: str | None = None) -> LoPANetwork:
    """A network with fresh weights drawn from `seed`; the prompt may start at a text."""
    frozen = live_model(design.backbone).at_layer(design.prompt_layer)
    generator = torch.Generator().manual_seed(seed)
    encoder = live_model(design.encoder) if design.reads_instances else None
    return LoPANetwork(
        frozen,
        prompt=_fresh_prompt(design, frozen, encoder, generator, initial_text),
        head=_fresh_head(design, frozen, encoder),
        encoder=TrainedEncoder(encoder) if encoder and design.train_encoder else None,
        embedder=encoder,
    ).eval()


def fill_network(design: Design, weights: Mapping[str, np.ndarray]) -> LoPANetwork:
    """A network with given weights, ready to predict.

    Raises
    ------
    InvalidArchive
        If the weights are not those of the design.
    """
    network = build_network(design)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise InvalidArchive(
                f"The stored weights do not fit {design.backbone.model!r}: {name} has the shape "
                f"{found.get(name)} and should have {shapes.get(name)}. Take another copy, or fit "
                "the estimator again."
            )
    # torch.tensor copies, and so also takes arrays that are memory-mapped for reading only.
    network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return network


def check_room(design: Design, owner: str, reads: str) -> None:
    """Raise unless the frozen models of a design read what they should, with room for a text.

    Parameters
    ----------
    owner : str, name of the estimator, for messages
    reads : {"texts", "images"}

    Raises
    ------
    UnsupportedBackbone, InvalidParameter
    """
    frozen = live_model(design.backbone)
    encoder = live_model(design.encoder) if design.reads_instances else frozen
    for model in (frozen, encoder):
        if model.reads != reads:
            raise UnsupportedBackbone(
                f"{model.name!r} reads {model.reads}, and {owner} needs a model that reads {reads}."
            )
    frozen.at_layer(design.prompt_layer)
    if design.rank > frozen.prompt_width:
        raise InvalidParameter(
            f"{owner}: parameter rank must be at most {frozen.prompt_width}, the width of "
            f"{design.backbone.model}; got {design.rank}"
        )
    if isinstance(frozen, FrozenLanguageModel):
        _check_positions(design, frozen, owner)


def _check_positions(design: Design, frozen: FrozenLanguageModel, owner: str) -> None:
    is_pair = design.pairs and design.template is None
    taken = design.n_rows + design.reserved
    special = frozen.tokenizer.num_special_tokens_to_add(is_pair)
    if frozen.room is None or taken + special + 1 <= frozen.room:
        return
    names, kept = "parameter prompt_length", ""
    if design.reserved:
        names = "parameters prompt_length, max_new_tokens and max_target_length"
        kept = f", and {design.reserved} are kept for what is written"
    raise InvalidParameter(
        f"{owner}: {names} must leave room for text; {design.backbone.model} reads {frozen.room} "
        f"positions and the prompt takes {design.n_rows}{kept}"
    )


def _fresh_prompt(
    design: Design,
    frozen: Frozen[Any],
    encoder: Frozen[Any] | None,
    generator: torch.Generator,
    initial_text: str | None,
) -> LowRankPrompt | DeepPrompt | None:
    if design.prompt_length == 0:
        return None
    deep = design.depth == "deep"
    if initial_text is None:
        rows = frozen.prompt_start(design.prompt_length, generator, deep=deep)
    else:
        frozen = as_language_model(frozen)
        reader = frozen.reader(None, special_tokens=design.special_tokens)
        ids = reader.ids_of([initial_text])[0]
        rows = frozen.prompt_start(design.prompt_length, generator, deep=deep, ids=ids)
    return (DeepPrompt if deep else LowRankPrompt)(
        rows,
        encoder_width=design.instance_width(encoder) if encoder else 0,
        rank=design.rank,
        bottleneck=design.bottleneck,
        gate=design.gate,
        dropout=design.dropout,
        generator=generator,
    )


def _fresh_head(design: Design, frozen: Frozen[Any], encoder: Frozen[Any] | None) -> Head:
    if design.generates:
        return LikelihoodHead(frozen)
    if design.word_ids is not None:
        return VerbalizerHead(live_language_model(design.backbone), list(design.word_ids))
    if design.is_probe:
        return LinearHead(frozen, design.n_outputs, design.views_width(frozen))
    beside = design.views_width(encoder) if encoder and not design.train_encoder else 0
    return LinearHead(frozen, design.n_outputs, frozen.width + beside)
