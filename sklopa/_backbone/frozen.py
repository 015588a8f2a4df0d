"""What all frozen models are, of texts and of images: shared, never changed, and run as one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


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
        twin, memo = copy.copy(self), self._not_in_steps()
        for module in self.model.modules():
            if id(module) not in memo:  # each weight is converted by itself, to be light on memory
                memo |= {id(p): self._converted(p) for p in module.parameters(recurse=False)}
        twin._hold(copy.deepcopy(self.model, memo).to(self.step_dtype))
        return twin

    def _converted(self, parameter: nn.Parameter) -> nn.Parameter:
        dtype = self.step_dtype if parameter.is_floating_point() else parameter.dtype
        return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)

    def _not_in_steps(self) -> dict[int, nn.Module]:
        """Parts that training steps do not run, by identity, and what stands in for them."""
        return {}

    @cached_property
    def content(self) -> dict[str, str]:
        """SHA-256 of the weights as they are held, of their shapes, and of the vocabulary."""
        weights, shapes = hashlib.sha256(), hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if isinstance(value, Tensor):
                shapes.update(f"{name} {tuple(value.shape)} ".encode())
                weights.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        words = getattr(getattr(self, "tokenizer", None), "get_vocab", dict)()
        vocabulary = hashlib.sha256(repr(sorted(words.items())).encode())
        digests = {"weights": weights, "shapes": shapes, "vocabulary": vocabulary}
        return {name: digest.hexdigest() for name, digest in digests.items()}

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
