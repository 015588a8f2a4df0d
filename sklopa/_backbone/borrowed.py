"""Live objects of a user: run as they are, left as they were found, and never taken on trust."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from sklopa._batches.modes import run_number
from sklopa.errors import UnsupportedBackbone

_numbers = itertools.count(1)


class Borrowed:
    """A model of the user's, and what reads for it.

    Parameters
    ----------
    model : transformers PreTrainedModel
    reader : transformers tokenizer or image processor
    """

    def __init__(self, model: nn.Module, reader: Any) -> None:
        if any(parameter.is_inference() for parameter in model.parameters()):
            raise UnsupportedBackbone(
                "The model was made under torch.inference_mode(), and nothing can be trained "
                "through such weights. Make or load it outside of that."
            )
        self.model, self.reader = model, reader
        self.number = next(_numbers)
        self._training: list[nn.Module] = []
        self._with_gradient: list[Tensor] = []
        self._looked: tuple[int, tuple] = (0, ())
        self._places: list[int] = []
        self._ends: list[list[Tensor]] = []

    def rest(self) -> None:
        """Switch dropout and gradients off, and remember where they were on."""
        modules = _modules(self.model)
        self._training = [module for module in modules if module.training]
        self._with_gradient = [p for m in modules for p in _own(m._parameters) if p.requires_grad]
        for module in self._training:
            module.training = False
        for parameter in self._with_gradient:
            parameter.requires_grad_(False)

    def wake(self) -> None:
        """Switch them on again."""
        for module in self._training:
            module.training = True
        for parameter in self._with_gradient:
            parameter.requires_grad_(True)
        self._training, self._with_gradient = [], []

    def mark(self) -> tuple:
        """What differs after a change of weights or tokens; looked at once in each run.

        Where each tensor is and how often it was written to, with its first and last value, since
        writing through ``.data`` is not counted; of the reader its size and settings.
        """
        if run_number() == 0 or self._looked[0] != run_number():
            mark = (self.number, self._mark_of_weights(), _mark_of_reader(self.reader))
            self._looked = run_number(), mark
        return self._looked[1]

    def _mark_of_weights(self) -> tuple:
        modules = _modules(self.model)
        tensors = [t for m in modules for part in (m._parameters, m._buffers) for t in _own(part)]
        places = [tensor.data_ptr() for tensor in tensors]
        if places != self._places:
            self._places, self._ends = places, _ends_of(tensors)
        values = tuple(str(torch.stack(ends).tolist()) for ends in self._ends)
        return tuple(places), tuple(tensor._version for tensor in tensors), values


def _modules(model: nn.Module) -> list[nn.Module]:
    """All modules, each once."""
    found, todo = {id(model): model}, [model]
    while todo:
        for part in todo.pop()._modules.values():
            if part is not None and id(part) not in found:
                found[id(part)] = part
                todo.append(part)
    return [*found.values()]


def _own(tensors: dict[str, Any]) -> list[Tensor]:
    return [tensor for tensor in tensors.values() if tensor is not None]


def _ends_of(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Views of the first and last value of each tensor, those that can be stacked together."""
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() and tensor.device.type != "meta":
            ends = tensor.detach()[(0,) * tensor.ndim], tensor.detach()[(-1,) * tensor.ndim]
            groups.setdefault((tensor.dtype, tensor.device), []).extend(ends)
    return [*groups.values()]


def _mark_of_reader(reader: Any) -> tuple:
    if not hasattr(reader, "get_vocab"):
        return (str(reader.to_dict() if hasattr(reader, "to_dict") else reader),)
    fast = getattr(reader, "backend_tokenizer", None)
    parts = ("normalizer", "pre_tokenizer", "post_processor")
    settings = ("truncation_side", "padding_side", "chat_template", "special_tokens_map")
    rules = tuple(str(getattr(fast, name, None)) for name in parts)
    return len(reader), rules, tuple(str(getattr(reader, name, None)) for name in settings)
