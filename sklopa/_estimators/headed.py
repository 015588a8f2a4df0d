"""What classifier and regressor share: a head on pooled states, and those states as features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklopa._training.fit import TrainedLoPA
from sklopa.errors import FitFailed


class HeadedLoPA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TrainedLoPA):
    """An estimator whose head reads pooled states; not for use by itself."""

    _n_views = 2

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
        return self._run(X, "features")

    def _start_head(self, rows: Any, total_weight: float) -> Any:
        """Begin as a linear probe: with the best linear reading of what is known without training.

        That is the instance embeddings and, where it helps, the earlier view of the rows. The
        states behind an untrained prompt at the input tell little more than two views of the same
        model; elsewhere they are read as well. The rows come back with what makes the probe's
        outputs for them honest.
        """
        network, design, beside = self._network, self._design, rows.embedding
        if design.word_ids is not None:
            return rows
        import torch

        from sklopa._batches.run import run_rows
        from sklopa._heads.linear_start import ProbeRows

        two_views = beside is not None and network.n_views > 1
        if two_views and design.encoder == design.backbone and design.depth == "shallow":
            known = beside
        else:
            states = run_rows(network, rows, network.head_inputs, self.batch_size)
            known = torch.from_numpy(states)
        if not torch.isfinite(known).all():
            raise FitFailed(
                f"The states of {design.backbone.model} are not finite. Check its weights, "
                "or use Backbone(..., dtype='float32')."
            )
        weight = rows.weight * (total_weight / len(rows))  # as given: weight 2 is the row twice
        width, n_beside = known.shape[1], 0 if beside is None else beside.shape[1]
        views = range(width - n_beside, width, max(1, n_beside // network.n_views))
        solved = ProbeRows(known, rows.target, weight, rows.group, sorted({0, *views}))
        *start, offset = self._objective.start(solved)
        network.head.start_from(*start)
        return rows.with_offset(offset)

    @property
    def _n_features_out(self) -> int:
        network = self._live_network()
        if self._design.is_probe:
            return self._design.instance_width(network.frozen)
        return network.frozen.width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32
        return tags
