"""What to do when a batch does not fit in memory: half of it, and say so."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from sklopa.errors import BatchSizeWarning, OutOfMemory

Result = TypeVar("Result")

_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def halve_until_it_fits(
    run: Callable[[int], Result], rows_at_once: int, longest: int
) -> tuple[Result, int]:
    """Call ``run(rows_at_once)``, with half as many rows after each lack of memory.

    `longest` is the number of tokens in the longest of the rows, for the message.

    Returns
    -------
    result, rows_at_once
        The number that fitted, to go on with.

    Raises
    ------
    OutOfMemory
        If not even a single row fits.
    """
    while True:
        try:
            return run(rows_at_once), rows_at_once
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if rows_at_once == 1:
                shorter = (
                    f"; the longest row has {longest} tokens. First lower max_length (cost grows "
                    "with the longest text), then take"
                    if longest > 1
                    else ". Take"
                )
                raise OutOfMemory(
                    f"Memory ran out with a single row in the batch{shorter} a smaller backbone or "
                    f"dtype='bfloat16'. The device said: {str(error).splitlines()[0]}"
                ) from error
        rows_at_once = rows_at_once // 2
        _free()
        warnings.warn(
            f"Memory ran out; going on with {rows_at_once} rows at once. Results stay the same. "
            f"Set batch_size={rows_at_once} to avoid this warning.",
            BatchSizeWarning,
            stacklevel=2,
        )


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _MEMORY_TEXTS)
