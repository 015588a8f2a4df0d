"""A design in plain values -> a live network, fresh or with given weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklopa._backbone.frozen import Frozen
from sklopa._embedding.instance import TrainedEncoder
from sklopa._heads.likelihood import LanguageNetwork
from sklopa._heads.linear import LinearHead, VerbalizerHead
from sklopa._loading.description import Backbone
from sklopa._loading.live import load
from sklopa._loading.placement import seeded_generator
from sklopa._network.pipe import LoPANetwork
from sklopa._prompt.low_rank import DeepPrompt, LowRankPrompt
from sklopa._tokens.texts import Template


@dataclass(frozen=True)
class Design:
    """All that shapes a network, in plain values, so that it can be built again anywhere.

    Attributes
    ----------
    backbone : Backbone, the frozen model
    encoder : Backbone, the model that makes instance embeddings
    n_outputs : int, C
    word_ids : tuple of int of length C for a verbaliser, None for a linear head
    template : Template around the text, for a verbaliser or a generator
    pairs : bool, whether a row is two texts
    generates : bool, whether targets are texts
    reserved : int, positions kept free behind the text for what is generated
    n_views : int, views of a row that the head reads: 2 with that of an earlier layer
    prompt_length, rank, bottleneck, gate, depth, dropout, train_encoder, max_length
        As the estimator parameters of the same names.
    """

    backbone: Backbone
    encoder: Backbone
    n_outputs: int
    prompt_length: int
    rank: int
    bottleneck: int
    gate: str
    dropout: float
    train_encoder: bool
    max_length: int | None
    depth: str = "shallow"
    word_ids: tuple[int, ...] | None = None
    template: Template | None = None
    pairs: bool = False
    generates: bool = False
    reserved: int = 0
    n_views: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, those of the template in a dictionary of their own."""
        template = None if self.template is None else dict(vars(self.template))
        return vars(self) | {"template": template}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Design:
        """The design that `as_dict` gave the values of."""
        template = values["template"]
        return cls(**values | {"template": None if template is None else Template(**template)})

    @property
    def is_probe(self) -> bool:
        """Whether there is nothing but a linear layer on the frozen features."""
        return self.prompt_length == 0 and self.word_ids is None and not self.generates

    @property
    def n_rows(self) -> int:
        """Rows that the prompt puts in front of a text."""
        doubled = self.gate == "concat" and self.rank > 0
        return self.prompt_length * (2 if doubled else 1)

    @property
    def reads_instances(self) -> bool:
        """Whether the prompt depends on the instance."""
        return self.prompt_length > 0 and self.rank > 0

    def instance_width(self, encoder: Frozen) -> int:
        """E of the instance embeddings that `encoder` makes."""
        apart = self.pairs and not self.train_encoder  # see `embed_rows`
        return encoder.width * (2 if apart else 1)


def build(design: Design, seed: int = 0) -> LoPANetwork:
    """A network with fresh weights drawn from `seed`."""
    frozen = load(design.backbone)
    generator = seeded_generator(seed)
    encoder = load(design.encoder) if design.reads_instances else None
    network = LanguageNetwork if design.generates else LoPANetwork
    return network(
        frozen,
        prompt=_fresh_prompt(design, frozen, encoder, generator),
        head=_fresh_head(design, frozen, encoder),
        encoder=TrainedEncoder(encoder) if encoder and design.train_encoder else None,
        n_views=design.n_views,
    ).eval()


def restore(design: Design, weights: dict[str, np.ndarray]) -> LoPANetwork:
    """A network with given weights, ready to predict."""
    network = build(design)
    # torch.tensor copies, and so also takes arrays that are memory-mapped for reading only.
    network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return network


def _fresh_prompt(
    design: Design,
    frozen: Frozen,
    encoder: Frozen | None,
    generator: torch.Generator,
) -> LowRankPrompt | DeepPrompt | None:
    if design.prompt_length == 0:
        return None
    deep = design.depth == "deep"
    rows = frozen.prompt_start(design.prompt_length, generator, deep=deep)
    return (DeepPrompt if deep else LowRankPrompt)(
        rows,
        encoder_width=design.instance_width(encoder) if encoder else 0,
        rank=design.rank,
        bottleneck=design.bottleneck,
        gate=design.gate,
        dropout=design.dropout,
        generator=generator,
    )


def _fresh_head(
    design: Design, frozen: Frozen, encoder: Frozen | None
) -> LinearHead | VerbalizerHead | None:
    if design.generates:
        return None
    if design.word_ids is not None:
        return VerbalizerHead(frozen, list(design.word_ids))
    if design.is_probe:
        return LinearHead(frozen, design.n_outputs, design.n_views * design.instance_width(frozen))
    beside = design.instance_width(encoder) if encoder and not design.train_encoder else 0
    return LinearHead(frozen, design.n_outputs, frozen.width + design.n_views * beside)
