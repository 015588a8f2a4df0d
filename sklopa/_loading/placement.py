"""Devices, precisions, thread-safe randomness, and what to do when memory runs out."""

from __future__ import annotations

import torch

_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory")


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
    tell = getattr(torch.cpu, "get_capabilities", dict)  # new in torch 2.11
    fast = any(tell().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else held


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _MEMORY_TEXTS)


def seeded_generator(seed: int) -> torch.Generator:
    """A generator of its own on the CPU, so that the global one stays as it was found."""
    return torch.Generator().manual_seed(seed)
