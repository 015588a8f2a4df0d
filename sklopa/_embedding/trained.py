"""An instance encoder that is trained with the prompt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._embedding.instance import read_instances
from sklopa._tokens.batch import AnyBatch


class TrainedEncoder(nn.Module):
    """A private copy of an encoder that is trained with the prompt (`train_encoder=True`).

    This is the authors' setting for GLUE; all of its weights then count as trainable.
    """

    def __init__(self, frozen: Frozen[Any]) -> None:
        super().__init__()
        self.body = copy.deepcopy(frozen.base).float().requires_grad_(True)
        self._reader = frozen.with_body(self.body)  # reads as the frozen one does

    def train(self, mode: bool = True) -> TrainedEncoder:
        """Stay without dropout, whose masks would come from the global generator."""
        return super().train(False)

    def forward(self, tokens: AnyBatch) -> Tensor:
        """Instance embeddings (B, E)."""
        return read_instances(self._reader, tokens)

    def parameter_groups(self) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """All weights, as one part; see `Trainer`."""
        yield "encoder", 1.0, list(self.parameters())
