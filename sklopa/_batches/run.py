"""Running a network over many rows without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._batches.order import inference_chunks
from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._batches.rows import Rows
from sklopa._heads.likelihood import LanguageNetwork
from sklopa._network.pipe import LoPANetwork
from sklopa._tokens.batch import Batch


def _nobody(n_rows: int) -> None:
    """Whom progress is told where nobody asked."""


def run_rows(
    network: LoPANetwork,
    rows: Rows,
    run: Callable[[Batch], Tensor],
    batch_size: int,
    on_rows: Callable[[int], Any] = _nobody,
) -> np.ndarray:
    """`run` of every row, in the order of the rows, as a float32 array (n, ...).

    Rows of similar length run together; each chunk leaves the device before the next, and
    `on_rows` is told how many rows it had.
    """
    network.eval()
    out: np.ndarray | None = None
    for chunk in inference_chunks(rows.lengths, batch_size):
        values, batch_size = halve_until_it_fits(
            lambda n, chunk=chunk: _run_chunk(network, rows, run, chunk, n),
            batch_size,
            rows.longest(chunk),
        )
        if out is None:
            out = np.empty((len(rows), *values.shape[1:]), dtype=np.float32)
        out[chunk] = values
        on_rows(len(chunk))
    return out


def generate_rows(
    network: LanguageNetwork,
    rows: Rows,
    run: Callable[[Batch], list],
    batch_size: int,
    on_rows: Callable[[int], Any] = _nobody,
) -> list:
    """What `run` generates for every row, in the order of the rows."""
    network.eval()
    out: list = [None] * len(rows)
    for chunk in inference_chunks(rows.lengths, batch_size):

        def part(n: int, chunk: np.ndarray = chunk) -> list:
            starts = range(0, len(chunk), n)
            with torch.no_grad():
                batches = (rows.batch(chunk[i : i + n]).to(network.device) for i in starts)
                return [value for batch in batches for value in run(batch)]

        values, batch_size = halve_until_it_fits(part, batch_size, rows.longest(chunk))
        for i, value in zip(chunk.tolist(), values, strict=True):
            out[i] = value
        on_rows(len(chunk))
    return out


def _run_chunk(
    network: LoPANetwork, rows: Rows, run: Callable, chunk: np.ndarray, rows_at_once: int
) -> np.ndarray:
    parts = []
    with torch.no_grad():
        for start in range(0, len(chunk), rows_at_once):
            batch = rows.batch(chunk[start : start + rows_at_once]).to(network.device)
            parts.append(run(batch).float().cpu().numpy())
    return np.concatenate(parts)
