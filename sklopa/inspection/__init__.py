"""Pictures and tables of fitted estimators and searches.

Displays are those of scikit-learn: ``from_estimator`` computes and draws, ``plot`` draws again, and
``ax_`` and ``figure_`` are there to go on from. They need matplotlib, which is imported when
something is drawn.
"""

from sklopa.inspection.ablation import AblationDisplay
from sklopa.inspection.history import HistoryDisplay
from sklopa.inspection.prompts import PromptDisplay
from sklopa.inspection.search import SearchDisplay
from sklopa.inspection.tokens import nearest_tokens

__all__ = [
    "AblationDisplay",
    "HistoryDisplay",
    "PromptDisplay",
    "SearchDisplay",
    "nearest_tokens",
]
