"""Rows of several networks over one frozen model, run together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sklopa._backbone.language import as_language_model
from sklopa._backbone.prompted import PromptedBatch, without_prompt
from sklopa._batches.rows import Batch, Rows
from sklopa._batches.run import check_finite, in_order, run_in_batches
from sklopa._heads.head import StateHead
from sklopa._heads.writing import Decoding, write_texts
from sklopa._network.pipe import LoPANetwork

Part = tuple[LoPANetwork, Rows]


def run_shared(
    parts: Sequence[Part], decoding: Decoding | None, batch_size: int
) -> list[np.ndarray]:
    """Outputs (n, C), or texts (n,), for the rows of each part.

    Parameters
    ----------
    parts : sequence of (network, rows)
        Networks that hold the same frozen model, with shallow prompts.
    decoding : Decoding or None
        How texts are generated; None for networks with a head.
    batch_size : int
    """
    part_of = np.concatenate([np.full(len(rows), j) for j, (_, rows) in enumerate(parts)])
    row_of = np.concatenate([np.arange(len(rows)) for _, rows in parts])
    lengths = np.concatenate([rows.lengths for _, rows in parts])
    for network, _ in parts:
        network.eval()

    def run(indices: np.ndarray) -> list[Any]:
        order = np.argsort(part_of[indices], kind="stable")
        chosen = indices[order]
        picked = [(parts[j], row_of[chosen[part_of[chosen] == j]]) for j in _seen(part_of[chosen])]
        values = _run_together(picked, decoding)
        return [values[i] for i in np.argsort(order)]

    values = in_order(len(lengths), run_in_batches(lengths, batch_size, run))
    kind = object if decoding else np.float32
    ends = np.cumsum([len(rows) for _, rows in parts])[:-1]
    bounds = itertools.pairwise([0, *ends.tolist(), len(values)])
    split = [np.array(values[start:end], dtype=kind) for start, end in bounds]
    return split if decoding else [check_finite(part, parts[0][0].frozen.name) for part in split]


def _seen(parts: np.ndarray) -> list[int]:
    return np.unique(parts).tolist()


def _run_together(picked: list[tuple[Part, np.ndarray]], decoding: Decoding | None) -> list[Any]:
    """One batch of rows that several networks picked, in their order."""
    networks = [network for (network, _), _ in picked]
    frozen = networks[0].frozen  # that all of them hold
    batches = [rows.batch(where).to(frozen.device) for (_, rows), where in picked]
    if batches[0].tokens is None:  # linear probes, whose frozen features are known already
        outputs = [network(batch) for network, batch in zip(networks, batches, strict=True)]
        return [row.cpu().numpy() for output in outputs for row in output]
    frozen = as_language_model(frozen)
    inputs = [network.inputs(batch) for network, batch in zip(networks, batches, strict=True)]
    together = stack(inputs)
    if decoding is not None:
        return [text for (text,) in write_texts(frozen, together, decoding)]
    states = frozen.states(together).split([len(batch.mask) for batch in inputs])
    return [
        row for one in zip(networks, batches, inputs, states, strict=True) for row in _outputs(*one)
    ]


def _outputs(
    network: LoPANetwork, batch: Batch, inputs: PromptedBatch, states: Tensor
) -> np.ndarray:
    # Without the prompt, and without the padding to others' lengths.
    own, head = without_prompt(states, inputs), network.head
    assert isinstance(head, StateHead)  # one that writes texts has a decoding
    outputs = head(head.inputs(head.features(own, batch), batch.views))
    return outputs.float().cpu().numpy()


def stack(batches: Sequence[PromptedBatch]) -> PromptedBatch:
    """Prompted rows of several networks under each other, padded on the right to the longest.

    Prompts may differ in length, so the result has no one `prompt_length`.
    """
    length = max(batch.mask.shape[1] for batch in batches)

    def joined(name: str) -> Any:
        values = [getattr(batch, name) for batch in batches]
        if values[0] is None:
            return None
        behind = (0, 0) * (values[0].ndim - 2)
        return torch.cat([pad(v, (*behind, 0, length - v.shape[1])) for v in values])

    parts = {name: joined(name) for name in ("embeds", "mask", "positions", "types")}
    return PromptedBatch(**parts, prompt_length=0, start=torch.cat([b.start for b in batches]))
