"""Which device, and in which precision."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sklopa.errors import InvalidParameter


def check_placement(device: str, dtype: str) -> None:
    """Raise unless a model can be put on that device, in that precision.

    Raises
    ------
    InvalidParameter
    """
    try:
        found = resolve_device(device)
    except RuntimeError as error:
        raise InvalidParameter(
            f"Backbone: parameter device must be 'auto' or a device of torch, such as 'cpu', "
            f"'cuda', 'cuda:1' or 'mps'; got {device!r}"
        ) from error
    try:
        torch.empty(0, device=found)
    except Exception as error:  # each kind of device has its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidParameter(
            f"Backbone: parameter device={device!r} asks for a device that cannot be used here: "
            f"{reason[0].rstrip('.')}. device='auto' takes what there is"
        ) from error
    kind = torch.float32 if dtype == "auto" else getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InvalidParameter(
            "Backbone: parameter dtype must be 'auto', 'float32', 'bfloat16', 'float16' or "
            f"another floating-point type of torch; got {dtype!r}"
        )


def resolve_device(device: str) -> torch.device:
    """The device that "auto" or a name stands for."""
    if device != "auto":
        return torch.device(device)
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
