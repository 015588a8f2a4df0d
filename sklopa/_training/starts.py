"""What fits on the same rows have in common before their first epoch, computed once for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._batches.rows import Rows
from sklopa._batches.run import run_rows
from sklopa._cache import process
from sklopa._cache.content import Content, content_of
from sklopa._heads.linear_start import ProbeRows
from sklopa._network.pipe import LoPANetwork
from sklopa._tasks.interface import Start, Task


def shared_start(task: Task, rows: ProbeRows) -> Start:
    """`task.start` of rows, the same for all fits whose heads read the same of them.

    Folds are: what a linear model reads of them depends on neither rank nor learning rate. Of many
    rows it is fitted on some; the others, which it has not seen, need no offset.
    """
    n, used = len(rows.features), rows.sample()
    if len(used) < n:
        weights, bias, some = shared_start(task, rows.subset(used))
        offset = torch.zeros(n, some.shape[1], dtype=some.dtype)
        offset[used] = some
        return weights, bias, offset
    arrays = [rows.features, rows.target, rows.weight, rows.group]
    key = content_of(*map(_as_array, arrays), list(rows.firsts))

    def compute(missing: list[Content]) -> Iterator[tuple[int, Start]]:
        for i in range(len(missing)):
            yield i, task.start(rows)

    namespace = ("linear start", *task.start_depends_on)
    return process.FITS.compute(namespace, [key], compute, _bytes)[0]


def untrained_inputs(network: LoPANetwork, rows: Rows, batch_size: int) -> Tensor:
    """What the head reads of rows before anything is trained, (n, D).

    The same for fits that begin with the same prompt: the seed, and all that shapes a prompt, are
    the same. Other batches have other last digits, so only all rows together are the same rows.
    """
    frozen = network.frozen
    key = content_of(
        *[_as_array(value) for value in network.state_dict().values()],
        *[part for items in (rows.tokens, rows.encoder_tokens) for part in _parts_of(items)],
        *([] if rows.views is None else [_as_array(rows.views.joined())]),
    )
    read_by = (frozen.identity, frozen.prompt_layer, str(frozen.dtype), batch_size)

    def compute(missing: list[Content]) -> Iterator[tuple[int, Tensor]]:
        for i in range(len(missing)):
            values = run_rows(rows, network.head_inputs, batch_size, network.device)
            yield i, torch.from_numpy(values)

    namespace = ("untrained inputs", *read_by, torch.get_num_threads())
    return process.FITS.compute(namespace, [key], compute, lambda value: _bytes((value,)))[0]


def _as_array(value: Tensor | None) -> np.ndarray | None:
    return None if value is None else value.detach().cpu().numpy()


def _parts_of(items: Any) -> Iterator[Any]:
    """All that tells rows of tokens, or images, from one another."""
    for item in items or ():
        if hasattr(item, "picture"):
            yield item.picture.digest
        else:
            yield from (item.ids, item.types, item.slot, item.prompt_at)
    yield "end"


def _bytes(values: tuple[Tensor, ...]) -> int:
    return sum(value.nbytes for value in values) + 300
