"""Scores for generated texts and programs, and scorers for model selection.

Every ``*_score`` takes references first and predictions second and is better when larger.
Every ``*_scorer`` is called with (estimator, X, y), as in ``GridSearchCV(scoring=...)``.
"""

from sklopa.metrics.pass_at_k import pass_at_k
from sklopa.metrics.programs import code_pass_rate, code_passes, make_code_pass_scorer
from sklopa.metrics.texts import (
    bleu_score,
    bleu_scorer,
    chrf_score,
    chrf_scorer,
    exact_match_score,
    exact_match_scorer,
    log_likelihood_scorer,
)

__all__ = [
    "bleu_score",
    "bleu_scorer",
    "chrf_score",
    "chrf_scorer",
    "code_pass_rate",
    "code_passes",
    "exact_match_score",
    "exact_match_scorer",
    "log_likelihood_scorer",
    "make_code_pass_scorer",
    "pass_at_k",
]
