"""A frozen model reduced to its word embeddings: all that a client needs to write prompts."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sklopa._loading import registry
from sklopa._loading.description import Backbone, LiveBackbone
from sklopa._loading.live import Shell, load_shell
from sklopa.errors import UnsupportedBackbone

_WEIGHTS = "model.safetensors"


def embeddings_only(backbone: Backbone, dtype: str) -> Backbone:
    """A live backbone with tokenizer, configuration and word embeddings, and no other weight.

    The table (V, D) is read from its file by itself. All other weights stay on the meta device,
    so running the model fails instead of giving wrong numbers.

    Parameters
    ----------
    backbone : Backbone
    dtype : str
        Precision of the table.

    Raises
    ------
    UnsupportedBackbone
        If the checkpoint does not have the table in a form that can be read by itself.
    """
    if isinstance(backbone, LiveBackbone):  # live objects are in memory anyway
        return backbone
    return registry.get_or_load((backbone, dtype), lambda: _read(backbone, dtype))


def _read(backbone: Backbone, dtype: str) -> Backbone:
    shell = load_shell(backbone)
    embedding = shell.model.get_input_embeddings()
    table = _read_gguf(shell) if shell.gguf_file else _read_safetensors(shell, backbone)
    for name, _ in list(embedding.named_buffers()):  # a factor that no file holds
        factor = torch.tensor(getattr(embedding, f"scalar_{name}"), dtype=torch.float32)
        setattr(embedding, name, factor)
    if table.shape != embedding.weight.shape:
        raise UnsupportedBackbone(
            f"The word embeddings of {backbone.model!r} cannot be used by themselves: the file "
            f"holds {tuple(table.shape)} and the model computes {tuple(embedding.weight.shape)} "
            "from it. Use Backbone.from_objects(model, tokenizer), with the whole model loaded."
        )
    table = table.to(getattr(torch, dtype))
    embedding.weight = nn.Parameter(table, requires_grad=False)
    return Backbone.from_objects(shell.model, shell.tokenizer)


def _read_safetensors(shell: Shell, backbone: Backbone) -> Tensor:
    """The table from the one file that has it; shards without it are not even opened."""
    names, index = _names(shell.model), shell.find(f"{_WEIGHTS}.index.json")
    if index:
        with open(index) as handle:
            places = json.load(handle)["weight_map"]
        found = [shell.find(file) for key, file in places.items() if _is_one_of(key, names)]
    else:
        found = [shell.find(_WEIGHTS)]
    for path in filter(None, found):
        with safe_open(path, framework="pt") as file:
            for key in filter(lambda key: _is_one_of(key, names), file.keys()):
                return file.get_tensor(key)
    raise UnsupportedBackbone(
        f"{backbone.model!r} has no safetensors file with its word embeddings "
        f"({' or '.join(names)}), which a client reads by themselves. Load the model once and "
        "save it with save_pretrained(folder)."
    )


def _names(model: Any) -> list[str]:
    """What the table is called in a checkpoint; tied weights have several names."""
    weight = model.get_input_embeddings().weight
    parameters = model.named_parameters(remove_duplicate=False)
    return [name for name, parameter in parameters if parameter is weight]


def _is_one_of(key: str, names: list[str]) -> bool:
    """Whether a key of a file means one of `names`, saved with or without the head around it."""
    return any(f".{a}".endswith(f".{b}") for name in names for a, b in ((key, name), (name, key)))


def _read_gguf(shell: Shell) -> Tensor:
    from gguf import GGUFReader, dequantize

    for tensor in GGUFReader(shell.find(shell.gguf_file or "")).tensors:
        if tensor.name == "token_embd.weight":
            return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    return torch.empty(0, dtype=torch.float32)
