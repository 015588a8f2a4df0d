"""Running something over many rows without gradients, however little memory there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._batches.modes import in_own_modes
from sklopa._batches.order import inference_chunks
from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._batches.rows import Batch, Rows
from sklopa.errors import UnsupportedBackbone


def _nobody(n_rows: int) -> None:
    """Whom progress is told where nobody asked."""


def run_in_batches(
    lengths: np.ndarray,
    batch_size: int,
    run: Callable[[np.ndarray], Sequence[Any] | np.ndarray],
    on_rows: Callable[[int], Any] = _nobody,
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Run rows of similar length together, longest first, in halves where memory runs out.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
        What the cost of each row grows with.
    batch_size : int
    run : callable
        Takes indices of rows, gives one value for each of them, in their order.
    on_rows : callable
        Told how many rows are done.

    Yields
    ------
    indices, values
        Each row once.
    """
    for chunk in inference_chunks(lengths, batch_size):

        @in_own_modes
        def in_parts(n: int, chunk: np.ndarray = chunk) -> list[Any]:
            starts = range(0, len(chunk), n)
            with torch.no_grad():  # no inference mode: what a model keeps serves training later
                return [value for i in starts for value in run(chunk[i : i + n])]

        longest = int(lengths[chunk].max())
        values, batch_size = halve_until_it_fits(in_parts, batch_size, longest)
        yield chunk, values
        on_rows(len(chunk))


def check_finite(outputs: np.ndarray, model: str) -> np.ndarray:
    """Outputs of a network (n, ...) as they are.

    Raises
    ------
    UnsupportedBackbone
        If some are not finite, from which no class and no number follows.
    """
    if not np.isfinite(outputs).all():
        odd = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        raise UnsupportedBackbone(
            f"The outputs for row {int(odd.argmax())} are not finite. Check the weights of "
            f"{model}, or use Backbone(..., dtype='float32')."
        )
    return outputs


def run_rows(
    rows: Rows,
    run: Callable[[Batch], Tensor],
    batch_size: int,
    device: torch.device,
    on_rows: Callable[[int], Any] = _nobody,
) -> np.ndarray:
    """`run` of every row, in the order of the rows, as a float32 array (n, ...).

    Each chunk leaves the device before the next.
    """

    def values(indices: np.ndarray) -> np.ndarray:
        return run(rows.batch(indices).to(device)).float().cpu().numpy()

    out = np.empty(0, dtype=np.float32)
    for i, (indices, done) in enumerate(run_in_batches(rows.lengths, batch_size, values, on_rows)):
        if i == 0:
            out = np.empty((len(rows), *done[0].shape), dtype=np.float32)
        out[indices] = done
    return out


def in_order(n: int, parts: Iterator[tuple[np.ndarray, list[Any]]]) -> list[Any]:
    """The values that `run_in_batches` yields, in the order of the rows."""
    out: list[Any] = [None] * n
    for indices, values in parts:
        for i, value in zip(indices.tolist(), values, strict=True):
            out[i] = value
    return out
