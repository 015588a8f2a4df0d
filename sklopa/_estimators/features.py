"""What estimators with a head on pooled states share: those states as features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.model_selection import KFold, StratifiedKFold

from sklopa._inputs.columns import to_array
from sklopa._inputs.seeds import draw_seeds
from sklopa.errors import InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Self


class FeaturesMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """`transform`, for estimators whose head reads pooled states; not for use by itself."""

    cv: Any

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> np.ndarray:
        """Fit, and give each row of X features that have not seen its label.

        The features of a row are made behind a prompt that was fitted on the other parts of X
        (cross-fitting). What is fitted on them, a later step of a pipeline for instance, then
        meets the same kind of features in training as in `predict`. Those of a prompt that has
        learned the row's label tell it back, and later steps trust them too much.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val
            As in `fit`.

        Returns
        -------
        ndarray of shape (n, D), float32
            As `transform` gives them. With ``cv=5`` it takes five more fits, each on four fifths
            of the rows, and is not ``fit(X, y).transform(X)``; with ``cv=False`` it is.

        Raises
        ------
        InvalidInput
            If the rows cannot be parted as `cv` asks; and all that `fit` raises.

        Notes
        -----
        It pays where a later step weighs these features against other columns. Where there are
        none ``cv=False`` is as good, and a later linear step without a chosen penalty does better
        with it, since features of different fits differ.

        Each of these fits begins with the same prompt where `random_state` is a number, and
        keeps no checkpoint. Without a prompt features know nothing of y, and X is fitted once.
        """
        self.fit(X, y, sample_weight, X_val, y_val)
        network = self._fitted_network()
        if self.cv is False or isinstance(self.cv, np.bool_) or network.design.is_probe:
            return self._features(X)
        inputs = self._read_known(X)
        codes = self._task().encode(y, len(inputs)).values
        targets = y.tocsr() if hasattr(y, "tocsr") else to_array(y, "y")
        weights = None if sample_weight is None else to_array(sample_weight, "sample_weight")
        features: np.ndarray | None = None
        for train, test in self._parts(codes):
            part = replace(inputs, rows=[inputs.rows[i] for i in train])
            rest = replace(inputs, rows=[inputs.rows[i] for i in test])
            other = self._unfitted()
            other.fit(
                part, targets[train], None if weights is None else weights[train], X_val, y_val
            )
            made = other._run_inputs(rest, other._fitted_network().live().features)
            features = (
                np.empty((len(inputs), made.shape[1]), made.dtype) if features is None else features
            )
            features[test] = made
        assert features is not None  # there are two parts at least
        return features

    def _parts(self, codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows to fit on and rows to make features of; of the latter each row once."""
        splitter = self.cv
        if not hasattr(splitter, "split"):
            kind = StratifiedKFold if codes.ndim == 1 and codes.dtype.kind == "i" else KFold
            seed = draw_seeds(self.random_state).split
            splitter = kind(int(self.cv), shuffle=True, random_state=seed)
        try:
            parts = list(splitter.split(np.zeros(len(codes)), codes))
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"fit_transform cannot part {len(codes)} rows with cv={self.cv!r}: {error} "
                "Give more rows, fewer parts, or cv=False for features that have seen y."
            ) from error
        if sorted(np.concatenate([test for _, test in parts])) != list(range(len(codes))):
            raise InvalidInput(
                f"fit_transform needs a splitter that holds out each row once; cv={self.cv!r} "
                "does not."
            )
        yield from parts

    def _unfitted(self) -> Self:
        """An estimator to fit on a part of the rows."""
        return clone(self).set_params(warm_start=False, checkpoint_dir=None, checkpoint_every=None)

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

        See Also
        --------
        fit_transform : Features of the training rows, for later steps to be fitted on.
        """
        return self._features(X)

    def _features(self, X: Any) -> np.ndarray:
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
