"""Texts that are written for texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sklopa._backbone.language import as_language_model
from sklopa._batches.rows import Rows
from sklopa._heads.likelihood import join_targets
from sklopa._heads.writing import Decoding
from sklopa._inputs.texts import check_target_texts
from sklopa._inputs.weights import check_weights
from sklopa._tasks.interface import Targets, Task

if TYPE_CHECKING:
    from sklopa._network.fitted import FittedNetwork


@dataclass(frozen=True)
class Writing(Task):
    """Target texts: outputs (B,) are mean log-probabilities of their tokens.

    Parameters
    ----------
    max_target_length : int or None
        Token limit of a training target.
    decoding : Decoding
        How texts are written.
    """

    max_target_length: int | None
    decoding: Decoding

    @property
    def n_outputs(self) -> int:
        """0: the outputs are texts."""
        return 0

    def encode(self, y: Any, n_rows: int, sample_weight: Any = None, *, name: str = "y") -> Targets:
        """Texts (n,)."""
        return Targets(check_target_texts(y, name), check_weights(sample_weight, n_rows))

    def attach(self, rows: Rows, targets: Targets, network: FittedNetwork) -> Rows:
        """Rows with the tokens of their targets."""
        frozen, design = as_language_model(network.live().frozen.plain), network.design
        joined, truncation = join_targets(
            frozen, rows, targets.values, self.max_target_length, design.n_rows,
            design.special_tokens,
        )  # fmt: skip
        no_limit = self.max_target_length is None
        longer = "Lower prompt_length" if no_limit else "Raise max_target_length"
        truncation.warn("targets", longer)
        return joined

    def loss(self, outputs: Tensor, target: Any) -> Tensor:
        """Nats a target token of each row, (B,)."""
        return -outputs

    def credit(self, outputs: Tensor, target: Any) -> Tensor:
        """Mean log-probability of a token of each target, (B,)."""
        return outputs

    def score(self, outputs: np.ndarray, rows: Rows) -> float:
        """Mean log-probability of a target token, each row counting by its weight."""
        return float(np.average(outputs, weights=rows.weights()))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Texts as they are."""
        return outputs

    def fitted(self) -> dict[str, Any]:
        """Nothing: all is in the parameters."""
        return {}
