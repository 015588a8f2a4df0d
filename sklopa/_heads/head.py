"""What every head is: prompt and rows -> outputs, through the frozen model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._batches.rows import Batch, Views


class Head(nn.Module):
    """Reads the frozen model behind a prompt.

    Parameters
    ----------
    frozen : Frozen
        The model as predictions run it. It is held, not owned: its weights are not the head's.
    """

    def __init__(self, frozen: Frozen[Any]) -> None:
        super().__init__()
        self.frozen = frozen

    @abstractmethod
    def read(self, frozen: Frozen[Any], prompt: Tensor | None, batch: Batch) -> Tensor:
        """Outputs for B rows behind prompts (B, P, D).

        In training `frozen` is the model in the precision of training steps.
        """

    def parameter_groups(self) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """What is trained, as one part; see `Trainer`."""
        if parameters := list(self.parameters()):
            yield "head", 1.0, parameters


class StateHead(Head):
    """A head that reads one vector a row: the states of the row, pooled."""

    def read(self, frozen: Frozen[Any], prompt: Tensor | None, batch: Batch) -> Tensor:
        """Outputs (B, C)."""
        return self(
            self.inputs(
                self.features(frozen.states_behind(prompt, batch.tokens), batch), batch.views
            )
        )

    @abstractmethod
    def features(self, states: Tensor, batch: Batch) -> Tensor:
        """One vector (B, D) a row, from states (B, T, D)."""

    def inputs(self, features: Tensor, views: Views | None) -> Tensor:
        """What the head reads, from features (B, D) and from what else is known of the rows."""
        return features
