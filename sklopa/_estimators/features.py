"""What estimators with a head on pooled states share: those states as features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin


class FeaturesMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """`transform`, for estimators whose head reads pooled states; not for use by itself."""

    def transform(self, X: Any) -> np.ndarray:
        """Adapted features: the states behind the prompt, pooled over each row.

        Without a prompt they are the instance embeddings.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes.

        Returns
        -------
        ndarray of shape (n, D), float32
            (n, 2 D) for text pairs without a prompt.
        """
        return self._run(X, self._fitted_network().live().features)

    @property
    def _n_features_out(self) -> int:
        network = self._fitted_network()
        frozen = network.live().frozen
        return network.design.instance_width(frozen) if network.design.is_probe else frozen.width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32
        return tags
