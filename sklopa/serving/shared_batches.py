"""Rows of several networks over one frozen model, run together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sklopa._batches.order import inference_chunks
from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._batches.rows import Rows
from sklopa._heads.writing import Decoding, decode
from sklopa._network.pipe import LoPANetwork
from sklopa._tokens.batch import Batch, PromptedBatch

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
    out: list[list] = [[None] * len(rows) for _, rows in parts]
    for network, _ in parts:
        network.eval()

    def run(chunk: np.ndarray, n: int) -> list:
        places = (chunk[i : i + n] for i in range(0, len(chunk), n))
        picks = (
            [(parts[j], row_of[p[part_of[p] == j]]) for j in _seen(part_of[p])] for p in places
        )
        return [value for picked in picks for value in _run_together(picked, decoding)]

    for chunk in inference_chunks(lengths, batch_size):
        longest = int(lengths[chunk].max())
        chunk = chunk[np.argsort(part_of[chunk], kind="stable")]
        values, batch_size = halve_until_it_fits(
            lambda n, chunk=chunk: run(chunk, n), batch_size, longest
        )
        for place, value in zip(chunk, values, strict=True):
            out[part_of[place]][row_of[place]] = value
    return [np.array(values, dtype=object if decoding else np.float32) for values in out]


def _seen(parts: np.ndarray) -> list[int]:
    return np.unique(parts).tolist()


@torch.inference_mode()
def _run_together(picked: list[tuple[Part, np.ndarray]], decoding: Decoding | None) -> list[Any]:
    """One batch of rows that several networks picked, in their order."""
    networks = [network for (network, _), _ in picked]
    frozen = networks[0].frozen
    batches = [rows.batch(where).to(frozen.device) for (_, rows), where in picked]
    if batches[0].tokens is None:  # linear probes, whose frozen features are known already
        outputs = [network(batch) for network, batch in zip(networks, batches, strict=True)]
        return [row.cpu().numpy() for output in outputs for row in output]
    inputs = [network.inputs(batch) for network, batch in zip(networks, batches, strict=True)]
    together = stack(inputs)
    if decoding is not None:
        return [text for (text,) in decode(frozen, together, decoding)]
    states = frozen.states(together).split([len(batch.mask) for batch in inputs])
    return [
        row for one in zip(networks, batches, inputs, states, strict=True) for row in _outputs(*one)
    ]


def _outputs(
    network: LoPANetwork, batch: Batch, inputs: PromptedBatch, states: Tensor
) -> np.ndarray:
    # Without the prompt, and without the padding to others' lengths.
    own = states[:, inputs.prompt_length : inputs.mask.shape[1]]
    features = network.head.features(own, batch.tokens)
    outputs = network.head(network.head.inputs(features, batch.embedding))
    return outputs.float().cpu().numpy()


def stack(batches: Sequence[PromptedBatch]) -> PromptedBatch:
    """Prompted rows of several networks under each other, padded on the right to the longest.

    Prompts may differ in length, so the result has no one `prompt_length`.
    """
    length = max(batch.mask.shape[1] for batch in batches)

    def joined(name: str) -> Tensor | None:
        values = [getattr(batch, name) for batch in batches]
        if values[0] is None:
            return None
        behind = (0, 0) * (values[0].ndim - 2)
        return torch.cat([pad(v, (*behind, 0, length - v.shape[1])) for v in values])

    parts = {name: joined(name) for name in ("embeds", "mask", "positions", "types")}
    return PromptedBatch(**parts, prompt_length=0, start=torch.cat([b.start for b in batches]))
