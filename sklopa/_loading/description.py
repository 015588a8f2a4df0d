"""`Backbone`: a small immutable description of the frozen model."""

from __future__ import annotations

import copyreg
import json
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, cast

from sklopa._loading import registry
from sklopa._public import public
from sklopa.errors import BackboneNotPicklable, InvalidArchive, InvalidParameter

# Attention that a file may ask for. Any other name makes transformers fetch and import code.
ATTENTION = (
    None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention",
)  # fmt: skip

_DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
# Fields that are made anew in each process, and what no file can carry.
_NEVER_STORED = ("_placement", "_folder", "trust_remote_code")


@dataclass(frozen=True)
class Permitted:
    """State in a pickle, with what only the caller can allow kept apart from plain values.

    A pickle runs what it likes; so what its writer allowed may travel in it, to the workers of a
    search for instance. Formats that run nothing hold the plain part alone.

    Attributes
    ----------
    plain : dict, what restored state may hold
    rest : dict, what else there was
    """

    plain: dict[str, Any]
    rest: dict[str, Any]


@public("sklopa")
@dataclass(frozen=True, repr=False, kw_only=True)
class Backbone:
    """Which frozen model to use, and how to hold it.

    A `Backbone` is only a description: building, copying, hashing and pickling one costs
    nothing and loads nothing. The weights load at first use, once for each distinct
    description in a process, and every estimator, clone and fold then shares that copy.

    Parameters
    ----------
    model : str or Path
        Hub id ("sentence-transformers/all-MiniLM-L6-v2") or local folder.
    revision : str, default=None
        Branch, tag or commit on the hub.
    dtype : {"auto", "float32", "bfloat16", "float16"} or torch.dtype, default="auto"
        Precision of the frozen weights. "auto" takes the fastest one that the device runs
        well, and float32 for predictions on a CPU. What is trained is always float32.
        "bfloat16" is faster where the processor multiplies it fast. Numbers then have some three
        digits, and the last one depends on which rows are computed together: predicted one by
        one, a row gets a slightly other probability, and one on the border may change its label.
    device : str or torch.device, default="auto"
        "auto" takes a GPU if there is one, else the CPU.
    gguf_file : str, default=None
        Name of a GGUF file in the repository or folder. It is expanded to `dtype` in memory.
    attn_implementation : str, default=None
        Attention kernel, as in transformers.
    quantization_config : dict or transformers configuration, default=None
        Passed on to transformers.
    device_map, tp_plan : default=None
        Passed on to transformers, for models larger than one device.
    gradient_checkpointing : bool, default=False
        Keep the states of one layer and not of all while training, and compute them again in the
        backward pass: less memory for large models, a third more time.
    local_files_only : bool, default=False
        Never ask the hub.
    trust_remote_code : bool, default=False
        Whether to run code that comes with the model. Leave it off unless you have read it.

    Examples
    --------
    >>> from sklopa import Backbone
    >>> Backbone("org/model", dtype="float32")
    Backbone('org/model', dtype='float32')
    """

    model: str = field(default="", kw_only=False)
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    gguf_file: str | None = None
    attn_implementation: str | None = None
    quantization_config: Any = field(default=None, compare=False)
    device_map: Any = field(default=None, compare=False)
    tp_plan: str | None = None
    gradient_checkpointing: bool = False
    local_files_only: bool = False
    trust_remote_code: bool = False
    # The two options that may be unhashable take part in equality as text.
    _placement: str = field(init=False, default="")
    # Where a relative folder was when it was named: another one may have that name elsewhere.
    _folder: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if not isinstance(self.model, (str, Path)) or not str(self.model):
            raise InvalidParameter(
                f"Backbone: model must be a hub id or a folder; got {self.model!r}. "
                "To wrap live objects use Backbone.from_objects(model, tokenizer)."
            )
        plain = {
            "model": str(self.model),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "_placement": _as_text((self.quantization_config, self.device_map)),
            "_folder": _absolute(self.model),
        }
        if plain["dtype"] not in _DTYPES:
            raise InvalidParameter(
                f"Backbone: parameter dtype must be one of {', '.join(map(repr, _DTYPES))}, or "
                f"such a torch.dtype; got {self.dtype!r}"
            )
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @staticmethod
    def from_objects(model: Any, tokenizer: Any) -> Backbone:
        """Wrap a live transformers model and its tokenizer (or image processor).

        The objects are used as they are, on the device where they are, and never copied.
        The result is equal only to itself and cannot be pickled: save the two with
        ``save_pretrained(folder)`` and use ``Backbone(folder)`` for that.

        Raises
        ------
        InvalidParameter
            If the first is no transformers model, or the second no tokenizer or processor.
        """
        _check_objects(model, tokenizer)
        return LiveBackbone(model, tokenizer)

    @property
    def place(self) -> str:
        """Hub id, or the folder wherever the process is by now."""
        return self._folder or self.model

    def release(self) -> None:
        """Free the weights, as soon as no fitted estimator holds them.

        The next use takes up what is still held, if its files are as they were, or loads again.
        """
        registry.drop(self)

    @staticmethod
    def release_all() -> None:
        """Free the weights of all backbones in this process; see `release`."""
        registry.drop_all()

    def __reduce__(self) -> Any:
        state = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        rest = {name: state[name] for name in _only_from_the_caller(state)}
        plain = {name: value for name, value in state.items() if name not in rest}
        return copyreg.__newobj__, (type(self),), Permitted(plain, rest) if rest else plain  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any] | Permitted) -> None:
        """Take restored state, which never carries `trust_remote_code`.

        Raises
        ------
        InvalidArchive
            If it holds what no description that was written down holds.
        """
        rest: dict[str, Any] = {}
        if isinstance(state, Permitted):
            rest, state = state.rest, state.plain
        known = {f.name for f in fields(self) if f.init}
        values = {k: v for k, v in state.items() if k not in _NEVER_STORED}
        odd = [*(values.keys() - known), *_only_from_the_caller(values)]
        if odd or not isinstance(values.get("model"), str):
            name = odd[0] if odd else "model"
            raise InvalidArchive(
                f"A stored Backbone has {name}={values.get(name)!r}, which a file cannot ask for. "
                "Nothing of it was used; give the model again with Backbone(...)."
            )
        Backbone.__init__(self, **values | rest)

    def __copy__(self) -> Backbone:
        return self

    def __deepcopy__(self, memo: dict) -> Backbone:
        return self

    def __sklearn_clone__(self) -> Backbone:
        return self

    def __repr__(self) -> str:
        given = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)[1:]
            if f.init and getattr(self, f.name) != f.default
        ]
        return f"Backbone({', '.join([repr(self.model), *given])})"


class LiveBackbone(Backbone):
    """Live objects in the place of a description. Equal only to itself."""

    objects: tuple[Any, Any]

    def __init__(self, model: Any, tokenizer: Any) -> None:
        name = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        super().__init__(f"<live {name}>")
        object.__setattr__(self, "objects", (model, tokenizer))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Backbone.from_objects({self.model})"

    def __reduce__(self) -> Any:
        raise BackboneNotPicklable(
            f"{self!r} holds live objects, which are not put into a pickle. "
            "Save them with model.save_pretrained(folder) and tokenizer.save_pretrained(folder), "
            "then use model=folder or Backbone(folder)."
        )


def is_live_model(value: Any) -> bool:
    """Whether a value is a model of transformers that is in memory."""
    return hasattr(value, "config") and hasattr(value, "get_input_embeddings")


def as_backbone(model: str | PathLike | Backbone) -> Backbone:
    """The description that an estimator's `model` or `encoder` parameter stands for."""
    return model if isinstance(model, Backbone) else Backbone(cast(str, model))  # or a path


def allowed_by_caller(backbone: Backbone) -> str | None:
    """The option of a description that no file can turn on, as it would be written; or None."""
    state = {f.name: getattr(backbone, f.name) for f in fields(backbone) if f.init}
    odd = _only_from_the_caller(state)
    return f"{odd[0]}={state[odd[0]]!r}" if odd else None


def _only_from_the_caller(state: dict[str, Any]) -> list[str]:
    """Names of options that are not what a file may ask for."""
    texts = ("model", "revision", "dtype", "device", "gguf_file", "tp_plan")
    switches = ("gradient_checkpointing", "local_files_only")
    fine = {name: isinstance(state.get(name), (str, type(None))) for name in texts}
    fine |= {name: isinstance(state.get(name), (bool, type(None))) for name in switches}
    attention = state.get("attn_implementation")
    fine["attn_implementation"] = attention is None or (
        isinstance(attention, str) and attention in ATTENTION
    )
    fine["trust_remote_code"] = state.get("trust_remote_code") in (False, None)
    fine["quantization_config"] = _is_plain(state.get("quantization_config"))
    fine["device_map"] = _is_plain(state.get("device_map")) and not _names_disk(
        state.get("device_map")
    )
    return [name for name, is_fine in fine.items() if not is_fine]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, bool, int, float))


def _names_disk(device_map: Any) -> bool:
    """Whether weights would be written to a folder."""
    return isinstance(device_map, dict) and "disk" in device_map.values()


def _check_objects(model: Any, tokenizer: Any) -> None:
    """Raise unless objects are a transformers model, and what reads for it.

    Asked by what they have, since neither torch nor transformers is loaded here.
    """
    how = "Backbone.from_objects: give a transformers model and its tokenizer or image processor"
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        raise InvalidParameter(
            f"{how}; this model is wrapped by peft. Give model.merge_and_unload(), the same model "
            "with the adapter in its weights."
        )
    if not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
        hint = ""
        if hasattr(model, "encode") and hasattr(model, "tokenizer"):
            hint = " Of a SentenceTransformer s take s[0].auto_model and s.tokenizer."
        if hasattr(tokenizer, "get_input_embeddings"):
            hint = " The model comes first."
        raise InvalidParameter(f"{how}; got {_kind(model)} as the model.{hint}")
    if not hasattr(tokenizer, "model_input_names"):
        raise InvalidParameter(f"{how}; got {_kind(tokenizer)} as what reads for the model.")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _absolute(model: str | PathLike) -> str:
    """Where a relative folder is now; empty for what is no such folder."""
    path = Path(model)
    return "" if path.is_absolute() or not path.is_dir() else str(path.absolute())


def _as_text(options: tuple) -> str:
    def plain(value: Any) -> Any:
        return value.to_dict() if hasattr(value, "to_dict") else str(value)

    return json.dumps(options, sort_keys=True, default=plain) if any(options) else ""
