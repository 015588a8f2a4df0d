"""The chance that one of k samples passes, from the number that did."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa.errors import InvalidInput


def pass_at_k(n: Any, c: Any, k: int) -> Any:
    r"""Estimate the chance that at least one of k samples passes.

    .. math:: 1 - \binom{n-c}{k} / \binom{n}{k}

    the unbiased estimator of Chen et al. [1]_, equation 1, computed as
    :math:`1 - \prod_{i=0}^{k-1} (1 - c / (n - i))` in logarithms, so that no binomial
    overflows and a small chance keeps its digits.

    Parameters
    ----------
    n : int or array-like of int
        Samples drawn for each problem.
    c : int or array-like of int
        Samples that passed, 0 to `n`. Broadcast against `n`.
    k : int
        Samples that would be shown, 1 to the smallest `n`.

    Returns
    -------
    float, or array of float with the shape of `n` and `c`
        Take its mean over the problems.

    Raises
    ------
    InvalidInput
        When a number is not an integer or out of range.

    References
    ----------
    .. [1] Chen et al., "Evaluating Large Language Models Trained on Code", 2021,
       arXiv:2107.03374.

    Examples
    --------
    >>> from sklopa.metrics import pass_at_k
    >>> round(pass_at_k(n=10, c=3, k=1), 6)
    0.3
    >>> pass_at_k(n=[10, 10], c=[0, 9], k=5)
    array([0., 1.])
    """
    n, c, drawn = integers(n, "n"), integers(c, "c"), integers(k, "k")
    if drawn.ndim:
        raise InvalidInput(f"k has shape {drawn.shape}; give one number and call once for each k.")
    n, c = _broadcast(n, c)
    check_counts(n, c, int(drawn))
    steps = np.arange(int(drawn)).reshape(-1, *[1] * n.ndim)
    with np.errstate(divide="ignore"):  # log(0): no choice of k samples misses all passes
        log_miss = np.log1p(-np.minimum(c / (n - steps), 1.0)).sum(axis=0)
    chance = 0.0 - np.expm1(log_miss)  # 0.0 - x, not -x, which would print as -0.0
    return float(chance) if chance.ndim == 0 else chance


def integers(value: Any, name: str) -> np.ndarray:
    """Return whole numbers as an int64 array; refuse anything else, by `name`."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.size == 0:
        raise InvalidInput(f"{name} is {value!r}; it must be an integer or an array of integers.")
    return array.astype(np.int64)


def _broadcast(n: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        n_all, c_all = np.broadcast_arrays(n, c)
        return n_all, c_all
    except ValueError:
        raise InvalidInput(
            f"n has shape {n.shape} and c has shape {c.shape}; give one count c for each n, or "
            "one n for all."
        ) from None


def check_counts(n: np.ndarray, c: np.ndarray, k: int) -> None:
    """Refuse a k that is not between 1 and the smallest n, and a c that is not between 0 and n."""
    if k < 1 or k > n.min():
        raise InvalidInput(
            f"k is {k}, and the smallest number of samples is {n.min()}; k must be between 1 "
            "and that number. Draw more samples or lower k."
        )
    if c.min() < 0 or (c > n).any():
        raise InvalidInput(
            f"c is between {c.min()} and {c.max()}; the number of samples that pass must be "
            "between 0 and n."
        )
