"""Scores for generated texts, and scorers for model selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import make_scorer

from sklopa.errors import InvalidInput, MissingDependency
from sklopa.metrics.rows import check_same_length, reference_rows, text_rows


def exact_match_score(
    y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None
) -> float:
    """Return the share of predictions that equal their reference.

    Parameters
    ----------
    y_true : array-like of length n
        References: one text a row, or a list of acceptable texts.
    y_pred : array-like of str, shape (n,)
        Predictions, one a row.
    normalize : bool, default=True
        Compare after removing white space at both ends and turning each run of it into one
        blank. Upper and lower case stay different. False compares the texts as they are.
    sample_weight : array-like of float, shape (n,), optional
        Weights, not negative and not all zero.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    InvalidType
        When a row is not a text.
    InvalidInput
        When lengths differ, there are no rows, or the weights cannot be used.

    Examples
    --------
    >>> from sklopa.metrics import exact_match_score
    >>> exact_match_score(["Paris", ["4", "four"]], [" Paris", "5"])
    0.5
    """
    references, predictions = _pairs(y_true, y_pred)
    clean = _collapse if normalize else str
    hits = [
        clean(prediction) in map(clean, choices)
        for choices, prediction in zip(references, predictions, strict=True)
    ]
    return float(np.average(hits, weights=_weights(sample_weight, len(hits))))


def chrf_score(y_true: Any, y_pred: Any) -> float:
    """Return the character n-gram F-score of the whole corpus (chrF2).

    Counts are summed over all rows before the score is taken, as papers report it [1]_;
    computed by sacrebleu with its default settings (``sacrebleu.corpus_chrf``).

    Parameters
    ----------
    y_true : array-like of length n
        References: one text a row, or a list of texts.
    y_pred : array-like of str, shape (n,)
        Predictions, one a row.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    MissingDependency
        When sacrebleu is not installed.
    InvalidType, InvalidInput
        As :func:`exact_match_score`.

    References
    ----------
    .. [1] Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """
    references, predictions = _pairs(y_true, y_pred)
    return float(_sacrebleu("chrf_score").corpus_chrf(predictions, _streams(references)).score)


def bleu_score(y_true: Any, y_pred: Any) -> float:
    """Return the BLEU score of the whole corpus.

    Computed by sacrebleu with its default settings (``sacrebleu.corpus_bleu``: 13a tokens,
    4-grams, exponential smoothing), so that it compares with figures reported elsewhere [1]_.

    Parameters
    ----------
    y_true : array-like of length n
        References: one text a row, or a list of texts.
    y_pred : array-like of str, shape (n,)
        Predictions, one a row.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    MissingDependency
        When sacrebleu is not installed.
    InvalidType, InvalidInput
        As :func:`exact_match_score`.

    References
    ----------
    .. [1] Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018.
    """
    references, predictions = _pairs(y_true, y_pred)
    return float(_sacrebleu("bleu_score").corpus_bleu(predictions, _streams(references)).score)


exact_match_scorer = make_scorer(exact_match_score)
exact_match_scorer.__doc__ = """Score ``estimator.predict(X)`` with :func:`exact_match_score`.

Made by :func:`sklearn.metrics.make_scorer`: called with (estimator, X, y), where `y` holds one
text or a list of acceptable texts a row, and optionally ``sample_weight``. Gives 0 to 1.
"""

chrf_scorer = make_scorer(chrf_score)
chrf_scorer.__doc__ = """Score ``estimator.predict(X)`` with :func:`chrf_score`.

Made by :func:`sklearn.metrics.make_scorer`: called with (estimator, X, y), where `y` holds one
text or a list of texts a row. The score is that of the whole corpus, so rows have no weights.
Gives 0 to 100.
"""

bleu_scorer = make_scorer(bleu_score)
bleu_scorer.__doc__ = """Score ``estimator.predict(X)`` with :func:`bleu_score`.

Made by :func:`sklearn.metrics.make_scorer`: called with (estimator, X, y), where `y` holds one
text or a list of texts a row. The score is that of the whole corpus, so rows have no weights.
Gives 0 to 100.
"""


def log_likelihood_scorer(estimator: Any, X: Any, y: Any) -> float:
    """Return the mean over rows of ``estimator.log_likelihood(X, y)``.

    That is the mean log-probability (natural logarithm) of a target token, each row counting
    the same whatever its length. No text is generated, so it is fast and changes smoothly
    with the estimator's parameters.

    Parameters
    ----------
    estimator : fitted estimator with ``log_likelihood(X, y)``
        For example a ``LoPAGenerator``.
    X : array-like of length n
        Inputs.
    y : array-like of str, shape (n,)
        Target texts.

    Returns
    -------
    float
        Not above 0; larger is better.
    """
    return float(np.mean(estimator.log_likelihood(X, y)))


def _pairs(y_true: Any, y_pred: Any) -> tuple[list[list[str]], list[str]]:
    references, predictions = reference_rows(y_true, "y_true"), text_rows(y_pred, "y_pred")
    check_same_length(references, predictions, ("y_true", "y_pred"))
    return references, predictions


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _weights(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=float)
    if weights.shape != (n_rows,):
        raise InvalidInput(
            f"sample_weight has shape {weights.shape}; it must be ({n_rows},), one weight a row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise InvalidInput(
            f"sample_weight is between {weights.min()} and {weights.max()}; weights must be "
            "finite, not negative and not all zero."
        )
    return weights


def _streams(references: list[list[str]]) -> list[list[str | None]]:
    """Turn rows of references into columns, filled with None: what sacrebleu reads."""
    most = max(map(len, references))
    return [[row[j] if j < len(row) else None for row in references] for j in range(most)]


def _sacrebleu(feature: str) -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise MissingDependency(
            f"{feature} needs the package sacrebleu, which is not installed. "
            "Install it with: pip install sacrebleu"
        ) from error
    return sacrebleu
