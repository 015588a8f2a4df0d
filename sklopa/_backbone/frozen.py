"""What all frozen models are, of texts and of images: shared, never changed, and run as one."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from sklopa._backbone.borrowed import Borrowed
from sklopa._backbone.layer_rows import states_entering, without_layers
from sklopa._batches.modes import GUESTS
from sklopa._cache.content import digest_of_config
from sklopa._tokens.batch import AnyBatch
from sklopa._tokens.template import Template
from sklopa.errors import InvalidParameter, UnsupportedBackbone

if TYPE_CHECKING:
    from typing_extensions import Self

BatchT = TypeVar("BatchT", bound=AnyBatch)

_MOST_CONTENTS = 64
_contents: dict[Hashable, dict[str, str]] = {}  # digests of models that were loaded before


class Reader(Protocol):
    """Turns rows, as users give them, into what a frozen model reads."""

    def read(self, rows: Sequence[Any]) -> tuple[list[Any], int]:
        """The items of the rows, and how many rows were truncated."""


class AnyFamily(Protocol):
    """What is known of a family of models, of texts and of images."""

    @property
    def kind(self) -> str:
        """An "encoder", a "decoder", an "encoder-decoder" or a "vision" tower."""

    @property
    def pooling(self) -> str:
        """How one vector is made of states."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Where the list of layers is, as a path within the base model."""


class Unprompted(NamedTuple):
    """What a model makes of rows without a prompt.

    Attributes
    ----------
    last : Tensor of shape (B, T, D), the last states, in float32
    second : Tensor of shape (B, F), the second view of the rows, in float32
    lower : Tensor of shape (B, T, D), or None
        What the layer of the prompt reads, in the precision of the model; None at the input.
    """

    last: Tensor
    second: Tensor
    lower: Tensor | None


class Frozen(ABC, Generic[BatchT]):
    """A frozen model: shared and never changed.

    Not an ``nn.Module``, so that no network that holds one counts, saves or trains its weights.

    Parameters
    ----------
    model : transformers PreTrainedModel
    family : AnyFamily
    key : hashable
        Stands for the model in caches.
    files : hashable
        Tells the files of this model from others in this process; None for live objects.
    step_dtype : torch.dtype or None
        Precision in training steps, where it is not that of the model.

    Attributes
    ----------
    base : nn.Module, the part that is run
    """

    reads: ClassVar[str]
    base: nn.Module
    prompt_layer = 0  # the layer whose input prompts join; see `at_layer`

    def __init__(
        self,
        model: Any,
        family: Any,
        *,
        key: Hashable,
        files: Hashable,
        step_dtype: torch.dtype | None,
    ) -> None:
        self.family = family
        self.key = key
        self.files = files
        self.step_dtype = step_dtype
        self.config = model.config
        self.name = getattr(model.config, "name_or_path", "") or str(key)
        self.plain = self  # of copies: the model in the precision of predictions
        self._borrowed: Borrowed | None = None
        self._seen: Hashable = None
        self._identity = _short(files)
        self._hold(model if files is None else _at_rest(model))
        if files is None:
            self._borrowed = Borrowed(model, self.reads_with)
            self.in_use()

    def _hold(self, model: Any) -> None:
        """Keep the model; whoever inherits finds its `base` here too."""
        self.model = model

    # ------------------------------------------------------------------ what each kind says

    @abstractmethod
    def _check(self) -> None:
        """Raise where the model, or what reads for it, cannot be used as it is."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D of the states that the model returns."""

    @property
    def second_width(self) -> int:
        """F of the second view of a row."""
        return self.width

    @property
    @abstractmethod
    def prompt_width(self) -> int:
        """D of the rows of a prompt."""

    @property
    @abstractmethod
    def room(self) -> int | None:
        """Rows, prompt and tokens together, that the model can read; None if unbounded."""

    @property
    @abstractmethod
    def n_layers(self) -> int:
        """L, the layers that are run one after the other."""

    @property
    @abstractmethod
    def reads_with(self) -> Any:
        """The tokenizer, or image processor."""

    @abstractmethod
    def reader(
        self,
        max_tokens: int | None,
        template: Template | None = None,
        special_tokens: bool = False,
    ) -> Reader:
        """What reads rows for this model, within a limit of tokens; see `TextReader`."""

    @abstractmethod
    def prompt_start(self, n: int, generator: torch.Generator, *, deep: bool = False) -> Tensor:
        """Where prompts start: (P, D), or (L, P, D) for all layers."""

    @abstractmethod
    def states_behind(self, prompt: Tensor | None, tokens: BatchT) -> Tensor:
        """Last states (B, T, D) of rows, in float32, without those of the prompt."""

    @abstractmethod
    def unprompted(self, tokens: BatchT) -> Unprompted:
        """All that is read of rows without a prompt, in one pass."""

    @abstractmethod
    def n_states(self, item: Any) -> int:
        """T, states of one item that the model reads, without a prompt."""

    @abstractmethod
    def pool(self, states: Tensor, tokens: BatchT) -> Tensor:
        """One vector (B, D) for each row, from states (B, T, D)."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Put the model, and what reads for it, into a folder that it loads from."""

    # ------------------------------------------------------------------ which model it is

    def in_use(self) -> Self:
        """The same, at rest until the present run ends: no dropout, no gradients of its weights."""
        if self._borrowed is not None:
            GUESTS.use(self._borrowed)
        return self

    @property
    def identity(self) -> str:
        """Stands for the model in caches of this process, and holds none of it.

        It differs between files that differ, and between live objects before and after a change.
        """
        if self._borrowed is None:
            return self._identity
        mark = self._borrowed.mark()
        if mark != self._seen:  # what was made of the model before is not of this one
            self._seen, self._identity = mark, _short(mark)
            self._check()
            for name in ("in_steps", "_above"):
                self.__dict__.pop(name, None)
        return self.plain.identity if self.plain is not self else self._identity

    @property
    def content(self) -> dict[str, str]:
        """SHA-256 of all that outputs depend on: what caches on disk, files and pickles go by.

        Weights as they are held and their shapes, the configuration, and what reads for the model,
        with its vocabulary. Computed once for the same files in a process.
        """
        key = (self.identity, self.dtype)
        if key not in _contents:
            while len(_contents) >= _MOST_CONTENTS:
                _contents.pop(next(iter(_contents)), None)
            _contents[key] = self._digests()
        return _contents[key]

    def _digests(self) -> dict[str, str]:
        weights, shapes = hashlib.sha256(), hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if isinstance(value, Tensor):
                shapes.update(f"{name} {tuple(value.shape)} ".encode())
                weights.update(
                    value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
                )
        vocabulary = hashlib.sha256(repr(sorted(self._vocabulary().items())).encode())
        digests = {"weights": weights, "shapes": shapes, "vocabulary": vocabulary}
        return {
            **{name: digest.hexdigest() for name, digest in digests.items()},
            "configuration": digest_of_config(self.config.to_dict()),
            "reader": self._reader_digest(),
        }

    # ------------------------------------------------------------------ what all share

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of the base model.

        Raises
        ------
        UnsupportedBackbone
            If they are not one plain list, each with weights of its own.
        """
        for path in self.family.layers:
            found = _part(self.base, path)
            if isinstance(found, nn.ModuleList) and len(found) == self.n_layers:
                return found
        raise UnsupportedBackbone(
            f"{self.name!r} has no plain list of {self.n_layers} layers, each with weights of its "
            "own, so prompts cannot enter between them. Use depth='shallow' and prompt_layer=0."
        )

    def at_layer(self, layer: int) -> Self:
        """The same model, which prompts enter at the input of `layer`.

        Raises
        ------
        InvalidParameter
            If it has no such layer.
        """
        if layer == self.prompt_layer:
            return self
        if layer >= self.n_layers:
            raise InvalidParameter(
                f"parameter prompt_layer must be below {self.n_layers}, the layers of "
                f"{self.name}; got {layer}"
            )
        reader = copy.copy(self)
        for name in ("in_steps", "_above"):  # these are made anew for this layer
            reader.__dict__.pop(name, None)
        reader.prompt_layer = layer
        return reader

    @torch.no_grad()
    def lower_states(self, tokens: BatchT) -> Tensor:
        """States (B, T, D) that the layer of the prompt reads of rows without a prompt.

        In the precision of predictions; the layers from there on are not run.
        """
        layer = self.plain.layers[self.prompt_layer]
        return states_entering(layer, lambda: self.plain.states_behind(None, tokens))

    @cached_property
    def _above(self) -> nn.Module:
        """The base model without the layers below the prompt's, where these can be left out."""
        if not self.family.skips_layers:
            return self.base
        path = next(p for p in self.family.layers if _part(self.base, p) is self.layers)
        return without_layers(self.base, path, self.prompt_layer, self._n_returned())

    @abstractmethod
    def _run_one(self) -> None:
        """Run the base model on one short row."""

    def _n_returned(self) -> int | None:
        """How many values a layer returns; None where it returns nothing but states."""
        found: list[Any] = []
        handle = self.layers[0].register_forward_hook(lambda *args: found.append(args[-1]))
        try:
            with torch.no_grad():
                self._run_one()
        finally:
            handle.remove()
        return len(found[0]) if isinstance(found[0], tuple) else None

    @cached_property
    def in_steps(self) -> Self:
        """What training steps run: this model, or a copy of it in another precision."""
        if self.step_dtype in (None, self.dtype):
            return self
        if self.plain is not self:  # one copy serves prompts at all layers
            return cast("Self", self.plain.in_steps.at_layer(self.prompt_layer))
        twin, memo = copy.copy(self), self._not_in_steps()
        for module in self.model.modules():
            if id(module) not in memo:  # each weight is converted by itself, to be light on memory
                memo |= {id(p): self._converted(p) for p in module.parameters(recurse=False)}
        twin._hold(_at_rest(copy.deepcopy(self.model, memo)).to(self.step_dtype))
        return twin

    def _converted(self, parameter: nn.Parameter) -> nn.Parameter:
        dtype = self.step_dtype if parameter.is_floating_point() else parameter.dtype
        return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)

    def _not_in_steps(self) -> dict[int, Any]:
        """Parts that training steps do not run, by identity, and what stands in for them."""
        return {}

    @abstractmethod
    def _reader_digest(self) -> str:
        """SHA-256 of the tokenizer, or image processor."""

    def _vocabulary(self) -> dict[str, int]:
        """Token ids by token; images have none."""
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

    def with_body(self, body: nn.Module) -> Self:
        """A reader like this one through a copy `body` of its base."""
        reader = copy.copy(self)
        reader.model = reader.base = body
        return reader


def _short(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()


def _at_rest(model: Any) -> Any:
    """A model of our own, frozen for good."""
    return model.eval().requires_grad_(False)


def _part(module: nn.Module, path: str) -> nn.Module | None:
    """The part of a module at a dotted path; None if there is none."""
    for name in path.split("."):
        found = getattr(module, name, None)
        if not isinstance(found, nn.Module):
            return None
        module = found
    return module
