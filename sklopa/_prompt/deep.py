"""A low-rank prompt for each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklopa._prompt.low_rank import LowRankPrompt


class DeepPrompt(nn.Module):
    """A low-rank prompt for each layer, as in VPT-deep [1]_ and P-tuning v2 [2]_.

    Parameters
    ----------
    rows : Tensor of shape (L, P, D)
        Where the prompt of each layer starts.
    options
        As those of `LowRankPrompt`.

    References
    ----------
    .. [1] M. Jia et al. "Visual Prompt Tuning." ECCV 2022.
    .. [2] X. Liu et al. "P-Tuning v2." ACL 2022.
    """

    def __init__(self, rows: Tensor, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LowRankPrompt(layer, **options) for layer in rows)

    @property
    def _prompts(self) -> list[LowRankPrompt]:
        return [prompt for prompt in self.layers if isinstance(prompt, LowRankPrompt)]

    def parameter_groups(self) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """Those of the layers' prompts, in turn."""
        for prompt in self._prompts:
            yield from prompt.parameter_groups()

    def forward(self, embedding: Tensor) -> Tensor:
        """Soft prompts (B, L, n_rows, D) for instance embeddings (B, E)."""
        return torch.stack([prompt(embedding) for prompt in self._prompts], dim=1)

    @property
    def has_task(self) -> bool:
        """Whether there are task prompts Z_S."""
        return self._prompts[0].has_task

    def task_only(self, n: int) -> Tensor:
        """The prompts (n, L, n_rows, D) with the instance part at rest (Z_I = 0)."""
        return torch.stack([prompt.task_only(n) for prompt in self._prompts], dim=1)
