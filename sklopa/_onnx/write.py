"""A fitted task -> files that `OnnxPredictor` reads: graph, weights, tokenizer and what they mean.

A graph holds what was trained. The frozen model's weights lie in a file beside it, named after its
content, at the place where ONNX looks for external data: tasks over one model share one copy.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from sklopa._backbone.language import as_language_model
from sklopa._inputs.images import Picture
from sklopa._network.prepare import token_limit
from sklopa._onnx.graph import ROW, ImageGraph, OnnxGraph, TextGraph
from sklopa._onnx.preparation import Preparation
from sklopa._onnx.read import FORMAT, graph_file, manifest_file
from sklopa._onnx.weights import header_of
from sklopa._storage import files
from sklopa._storage.lock import writing_at
from sklopa._tasks.fitted import FittedTask
from sklopa._version import __version__
from sklopa.errors import MissingDependency, NotWritten, UnsupportedBackbone

_SMALL = 1024  # bytes of a constant that stays in the graph


def write_onnx(fitted: FittedTask, path: Path, described: dict[str, Any]) -> None:
    """Write a fitted task as ONNX.

    Parameters
    ----------
    fitted : FittedTask
    path : Path
        Name of the graph; its suffix may be left out.
    described : dict
        What the reader has to know of the estimator.

    Raises
    ------
    UnsupportedBackbone
        If the pipe cannot be put into one graph, the tokenizer into one file, or the preparation
        of images into numbers.
    MissingDependency, NotWritten
    """
    _check(fitted)
    graph, reading = _graph_and_reading(fitted)
    model = _traced(graph)
    content = {"weights": _take_out(model, graph)}
    if fitted.reads == "texts":
        content["tokenizer"] = _tokenizer_text(fitted).encode()
    names = {kind: _named(kind, data) for kind, data in content.items()}
    data = model.SerializeToString(deterministic=True)
    manifest = {
        "format": FORMAT, "sklopa": __version__, "inputs": graph.inputs, "reads": fitted.reads,
        "graph": {"sha256": hashlib.sha256(data).hexdigest()},
        **{kind: {"file": name, "sha256": hashlib.sha256(content[kind]).hexdigest()}
           for kind, name in names.items()},
        "reading": reading, **described,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with writing_at(path):
            for kind, name in names.items():
                if not (path.parent / name).exists():
                    files.put(path.parent / name, content[kind])
            files.put(graph_file(path), data)
            files.put(manifest_file(path), files.seal(manifest))
    except OSError as error:
        raise NotWritten(f"{str(path)!r} could not be written ({error}).") from error


def _check(fitted: FittedTask) -> None:
    design, owner = fitted.network.design, fitted.owner
    frozen = fitted.network.live().frozen
    reason = None
    if design.encoder != design.backbone or design.train_encoder:
        reason = "it has an encoder of its own; fit it with encoder=None, train_encoder=False"
    elif design.template is not None and design.template.before is not None:
        reason = "its prompt stands within a chat template, which is not put into a graph"
    elif frozen.dtype != torch.float32:
        reason = f"its backbone is held in {frozen.dtype}; load it with dtype='float32'"
    if reason:
        raise UnsupportedBackbone(f"{owner} cannot be written as ONNX: {reason}.")


def _graph_and_reading(fitted: FittedTask) -> tuple[OnnxGraph, dict[str, Any]]:
    """The graph, and how what users hold becomes what it reads."""
    network, finish = fitted.network, fitted.task.reported
    if fitted.reads == "texts":
        texts = TextGraph(network, finish)
        return texts, _reading(fitted, texts)
    preparation = _preparation(fitted)
    assert preparation.shape is not None  # it was checked
    return ImageGraph(network, finish, preparation.shape), preparation.as_dict()


def _traced(graph: OnnxGraph) -> Any:
    """The graph as ONNX has it."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "Writing ONNX needs the package onnx: pip install onnx onnxruntime."
        ) from error
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.no_grad(),
        warnings.catch_warnings(),
        _known_positions(graph),
    ):
        warnings.simplefilter("ignore")  # of values that are constant for these shapes, as meant
        target = Path(folder, "graph.onnx")
        torch.onnx.export(
            graph.eval(), graph.example(), str(target), input_names=graph.inputs,
            output_names=["outputs"], dynamic_axes=graph.axes | {"outputs": {0: "rows"}},
            opset_version=17, do_constant_folding=False, dynamo=False,
        )  # fmt: skip
        return onnx.load(str(target))


@contextmanager
def _known_positions(graph: OnnxGraph) -> Iterator[None]:
    """Within this context, and this trace, positions of patches are constants.

    Towers fit them to the size of an image by operations that ONNX has not, even where they fit.
    """
    with ExitStack() as stack:
        if isinstance(graph, ImageGraph):
            for module in graph.base.modules():
                part: Any = module
                if hasattr(part, "interpolate_pos_encoding"):
                    part.interpolate_pos_encoding = _remembering(part.interpolate_pos_encoding)
                    stack.callback(part.__delattr__, "interpolate_pos_encoding")
            graph(*graph.example())
        yield


def _remembering(interpolate: Callable[..., Any]) -> Callable[..., Any]:
    """The same; a trace is given what was made for the same size before it."""
    known: dict[tuple[int, ...], torch.Tensor] = {}

    def positions(embeddings: Any, *size: Any) -> Any:
        key = tuple(map(int, size))
        if not torch.jit.is_tracing():
            known[key] = interpolate(embeddings, *size)
            return known[key]
        return known[key] if key in known else interpolate(embeddings, *size)

    return positions


def _take_out(model: Any, graph: OnnxGraph) -> bytes:
    """Move the frozen weights out of a graph, into the bytes of a safetensors file.

    Each is named after its content there, and in the graph.
    """
    from onnx import TensorProto, numpy_helper
    from onnx.external_data_helper import set_external_data

    trained = {f"task.{name}" for name in graph.task.state_dict()}
    names, values = {}, {}
    for tensor in model.graph.initializer:
        if tensor.name not in trained and len(tensor.raw_data) >= _SMALL:
            array = numpy_helper.to_array(tensor)
            digest = hashlib.sha256(repr((array.dtype.str, array.shape)).encode())
            digest.update(tensor.raw_data)
            names[tensor.name] = digest.hexdigest()[:32]
            values[names[tensor.name]] = array
    data = safetensors.numpy.save(dict(sorted(values.items())))
    start, entries = header_of(data)
    kept = {}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.name = names[tensor.name]
            begin, end = entries[tensor.name]["data_offsets"]
            set_external_data(tensor, _named("weights", data), start + begin, end - begin)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
        kept[tensor.name] = tensor
    once = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept.values()]
    del model.graph.initializer[:]
    model.graph.initializer.extend(once)
    _rename(model.graph, names)
    return data


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give the inputs of all nodes their new names, also within branches."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _named(kind: str, data: bytes) -> str:
    suffix = {"weights": "safetensors", "tokenizer": "json"}[kind]
    return f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.{suffix}"


def _preparation(fitted: FittedTask) -> Preparation:
    """How images become pixels without transformers; tried on images of several shapes.

    Raises
    ------
    UnsupportedBackbone
        If they would become others than with the model's image processor.
    """
    frozen: Any = fitted.network.live().frozen
    processor, name = frozen.processor, type(frozen.processor).__name__
    try:
        preparation = Preparation.of(processor.to_dict())
    except (KeyError, TypeError, ValueError, StopIteration):
        preparation = None
    if preparation is not None and preparation.shape is None:
        raise UnsupportedBackbone(
            f"{fitted.owner} cannot be written as ONNX: its image processor {name} leaves images "
            "with different sizes. Use one that makes all images of one size."
        )
    if preparation is None or not _same(preparation, frozen.reader()):
        raise UnsupportedBackbone(
            f"{fitted.owner} cannot be written as ONNX: its image processor {name} does more to an "
            "image than resize it with Pillow, cut out its middle, and scale its values."
        )
    return preparation


def _same(preparation: Preparation, reader: Any) -> bool:
    """Whether images become the same pixels in both ways."""
    assert preparation.shape is not None
    _, height, width = preparation.shape
    random = np.random.RandomState(0)
    for shape in ((height, width), (2 * height + 3, width + 8), (height // 2 + 1, 3 * width)):
        picture = Picture(random.randint(0, 256, size=(*shape, 3)).astype(np.uint8))
        wanted, found = reader.values([picture])[0], preparation(picture)
        if wanted.shape != found.shape or not np.allclose(wanted, found, rtol=0, atol=1e-5):
            return False
    return True


def _tokenizer_text(fitted: FittedTask) -> str:
    tokenizer = as_language_model(fitted.network.live().frozen).tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedBackbone(
            f"The tokenizer of {fitted.network.design.backbone.model!r} is written in Python, and "
            "cannot be put into one file. Use a model with a fast tokenizer."
        )
    return backend.to_str()


def _reading(fitted: FittedTask, graph: TextGraph) -> dict[str, Any]:
    """How texts become tokens."""
    design = fitted.network.design
    frozen = as_language_model(fitted.network.live().frozen)
    row = token_limit(frozen, design.max_length, design.n_rows + design.reserved)
    template = None if design.template is None else dict(vars(design.template))
    reader = frozen.reader(row, design.template, design.special_tokens)
    return {
        "limits": {
            name: row if name == ROW else token_limit(frozen, design.max_length, 0)
            for name in graph.texts
        },
        "with_types": graph.with_types,
        "template": template,
        "stand_in": reader.stand_in,
        "special_tokens": design.special_tokens,
        "truncation_side": getattr(frozen.tokenizer, "truncation_side", "right"),
    }
