"""Plain attention for one thread.

`torch.nn.attention.sdpa_kernel` sets switches of the whole process: two threads that use it leave
them wrong for good, and each computes by the other's. Here the choice is made for each call.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _Here(threading.local):
    depth = 0


_here = _Here()


class PlainAttention(TorchFunctionMode):
    """Within this context attention is computed by its definition, in this thread only.

    With ``sdpa_kernel(SDPBackend.MATH)`` the results have the same bits.
    """

    def __enter__(self) -> Any:
        _here.depth += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _here.depth -= 1
        super().__exit__(*error)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Another function for attention, and any other as it is."""
        if func is F.scaled_dot_product_attention:
            return _by_definition(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def is_plain() -> bool:
    """Whether attention is plain in this thread."""
    return _here.depth > 0


def _by_definition(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        zeros = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = zeros.masked_fill_(attn_mask.logical_not(), -torch.inf)
    return torch.ops.aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
