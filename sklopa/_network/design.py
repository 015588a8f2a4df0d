"""What shapes a network, in plain values. It imports no torch, so that unpickling needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklopa._loading.description import Backbone
from sklopa._tokens.template import Template

if TYPE_CHECKING:
    from sklopa._backbone.frozen import Frozen


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
    special_texts : tuple of str, of a network that reads or writes words
        What the frozen model's tokenizer would read as tokens of its own.
    reserved : int, positions kept free behind the text for what is generated
    n_views : int, views of a row that the head reads: 1, the instance embedding, or 2
    prompt_layer : int, layer whose input the prompt joins
    prompt_length, rank, bottleneck, gate, depth, dropout, train_encoder, max_length, special_tokens
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
    max_length: int | None = None
    depth: str = "shallow"
    word_ids: tuple[int, ...] | None = None
    template: Template | None = None
    pairs: bool = False
    generates: bool = False
    reserved: int = 0
    n_views: int = 1
    prompt_layer: int = 0
    special_tokens: bool = False
    special_texts: tuple[str, ...] = ()

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

    def instance_width(self, encoder: Frozen[Any]) -> int:
        """E of the instance embeddings that `encoder` makes."""
        return encoder.width * self._n_compared

    def views_width(self, encoder: Frozen[Any]) -> int:
        """Width of all views of a row together: E, or F + E."""
        second = encoder.second_width if self.n_views > 1 else 0
        return (second + encoder.width) * self._n_compared

    @property
    def _n_compared(self) -> int:
        """Vectors that are made of those of one text each; see `embed_rows`."""
        return 2 if self.pairs and not self.train_encoder else 1
