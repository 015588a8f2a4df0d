"""What all frozen models are, of texts and of images: shared, never changed, and run as one."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import torch
from torch import nn


class Frozen:
    """What all frozen models are: shared and never changed.

    Not an ``nn.Module``, so that no network that holds one counts, saves or trains its weights.
    `base` is the part that is run; `_hold` of whoever inherits sets it.
    """

    base: nn.Module

    def __init__(
        self,
        model: nn.Module,
        family: Any,
        *,
        key: Hashable,
        fingerprint: str | None,
        step_dtype: torch.dtype | None,
    ) -> None:
        self.family = family
        self.key = key
        self.fingerprint = fingerprint
        self.step_dtype = step_dtype
        self.config = model.config
        self.name = getattr(model.config, "name_or_path", "") or str(key)
        self._hold(model)

    def _hold(self, model: nn.Module) -> None:
        self.model = model.eval().requires_grad_(False)

    @cached_property
    def in_steps(self) -> Frozen:
        """What training steps run: this model, or a copy of it in another precision."""
        if self.step_dtype in (None, self.dtype):
            return self
        twin = copy.copy(self)
        twin._hold(copy.deepcopy(self.model, self._not_in_steps()).to(self.step_dtype))
        return twin

    def _not_in_steps(self) -> dict[int, nn.Module]:
        """Parts that training steps do not run, by identity, and what stands in for them."""
        return {}

    @property
    def device(self) -> torch.device:
        return next(self.base.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def revision(self) -> str | None:
        """Commit of the checkpoint on the hub; None for a local folder."""
        return getattr(self.config, "_commit_hash", None)

    def with_body(self, body: nn.Module) -> Frozen:
        """A reader like this one through a copy `body` of its base."""
        reader = copy.copy(self)
        reader.model = reader.base = body
        return reader
