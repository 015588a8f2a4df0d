"""Which device, and in which precision."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sklopa.errors import InvalidParameter


def resolve_device(device: str) -> torch.device:
    """The device that "auto" or a name stands for.

    Raises
    ------
    InvalidParameter
        If torch knows no such device, or finds none here.
    """
    if device != "auto":
        try:
            found = torch.device(device)
        except RuntimeError as error:
            raise InvalidParameter(
                f"Backbone: device must be 'auto' or a device of torch, as 'cpu' or 'cuda:0'; got "
                f"{device!r}"
            ) from error
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise InvalidParameter(
                f"Backbone: device={device!r} is not there; torch finds "
                f"{torch.cuda.device_count()} GPUs. Use device='auto'."
            )
        return found
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision that "auto" or a name stands for on `device`."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


def resolve_step_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of the frozen model in training steps.

    Gradients need less of it than predictions do. So with "auto" a processor that multiplies
    bfloat16 fast trains through a copy of the weights in it, and predicts from float32.
    """
    held = resolve_dtype(dtype, device)
    if dtype != "auto" or device.type != "cpu":
        return held
    tell: Callable[[], dict] = getattr(torch.cpu, "get_capabilities", dict)  # since torch 2.11
    fast = any(tell().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else held
