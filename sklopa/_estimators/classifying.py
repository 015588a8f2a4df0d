"""What all classifiers share: labels in, labels and probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from sklopa._estimators.headed import HeadedLoPA
from sklopa._inputs.rules import NONE, instance_of, one_of
from sklopa._inputs.targets import (
    Labels,
    apply_class_weight,
    check_lengths,
    check_weights,
    encode_labels,
)
from sklopa._training.fit import weighted
from sklopa.errors import InvalidInput

CLASS_RULES = {
    "class_weight": instance_of(dict, named="a dict") | one_of("balanced") | NONE,
}


class ClassifyingLoPA(ClassifierMixin, HeadedLoPA):
    """Labels and logits, whatever the inputs are; not for use by itself."""

    _needed = ("n_features_in_", "classes_", "_is_multilabel")

    # ------------------------------------------------------------------ fitting

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> ClassifyingLoPA:
        """One more epoch, on these rows, at a constant learning rate.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (C,), default=None
            All labels that will ever come. Needed in the first call only.

        Returns
        -------
        self
        """
        self._check_parameters()
        first = not self.__sklearn_is_fitted__()
        inputs = self._check_inputs(X, reset=first)
        check_lengths(len(inputs), y=y)
        self._check_classes(classes, first)
        labels, weights = self._check_targets(inputs, y, sample_weight, known=True)
        start_seed, batch_seed, _ = self._seeds()
        if first:
            self._start(labels, start_seed)
        rows = weighted(self._learnable(inputs, labels), weights)
        self.n_truncated_ = self._truncation[0]
        self._warn_truncated()
        self._train_one_epoch(rows, batch_seed)
        return self

    # ------------------------------------------------------------------ predicting

    def predict(self, X: Any) -> np.ndarray:
        """Label of each row.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes.

        Returns
        -------
        ndarray of shape (n,), or indicator matrix (n, C) for multilabel
        """
        return self._decide(self._run(X, "outputs"))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n, C). Rows sum to one, except for multilabel."""
        return self._probabilities(self._run(X, "outputs"))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, (n, C)."""
        return np.log(self.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (n, C); for two classes (n,), positive for ``classes_[1]``."""
        logits = self._run(X, "outputs")
        if len(self.classes_) == 2 and not self._is_multilabel:
            return logits[:, 1] - logits[:, 0]
        return logits

    def ablate(self, X: Any, y: Any) -> dict[str, float]:
        """Does the prompt help here? Accuracy with it, and with something else in its place.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes; rows that were not trained on tell the most.
        y : array-like of shape (n,), or indicator matrix (n, C)

        Returns
        -------
        dict of str to float
            Accuracy with the "prompt" as fitted; with "no prompt"; with "another row's prompt",
            that of a neighbour in the batch; with the "task prompt alone", Z_S without its
            instance part; and of a "linear probe", a logistic regression on the frozen model's
            embeddings of these rows, cross-validated. What there is not in a fitted estimator
            is left out, as is the probe for several labels a row.
        """
        from sklopa._batches.run import run_rows
        from sklopa._network.ablation import ablations, probe_accuracy
        from sklopa._network.prepare import embed_inputs

        self._check_fitted()
        inputs = self._check_inputs(X, reset=False)
        check_lengths(len(inputs), y=y)
        labels, _ = self._check_targets(inputs, y, None, known=True)
        rows, network = self._learnable(inputs, labels), self._live_network()
        n_at_once = max(2, self.batch_size)  # a row needs another beside it
        truth = self._decide(labels.codes) if self._is_multilabel else self.classes_[labels.codes]
        scores = {}
        for name, run in ablations(network).items():
            decided = self._decide(run_rows(network, rows, run, n_at_once))
            scores[name] = float(accuracy_score(truth, decided))
        if self._is_multilabel:
            return scores
        features = embed_inputs(self._design, inputs.rows, self._memory_folder)
        accuracy = probe_accuracy(features, labels.codes, self._design.n_views)
        return scores | {"linear probe": accuracy}

    # ------------------------------------------------------------------ steps, in calling order

    def _check_classes(self, classes: Any, first: bool) -> None:
        """The labels of `partial_fit`: told in the first call, and the same from then on."""
        if classes is None:
            if first:
                raise InvalidInput(
                    "classes must be passed on the first call to partial_fit: all labels that "
                    "will ever come."
                )
            return
        given = np.unique(np.asarray(classes))
        if first:
            self.classes_ = given
            self.__dict__.pop("_is_multilabel", None)
        elif not np.array_equal(given, self.classes_):
            raise InvalidInput(
                f"classes={given.tolist()!r} is not the same as on the last call to partial_fit, "
                f"which had {self.classes_.tolist()!r}."
            )

    def _check_targets(
        self, inputs: Any, y: Any, sample_weight: Any, *, known: bool = False, name: str = "y"
    ) -> tuple[Labels, np.ndarray]:
        labels = encode_labels(y, self.classes_ if known else None, name=name)
        weights = check_weights(sample_weight, len(inputs))
        if known and labels.is_multilabel != getattr(self, "_is_multilabel", labels.is_multilabel):
            kind, other = ("several labels", "one label")[:: 1 if labels.is_multilabel else -1]
            raise InvalidInput(f"{name} has {kind} a row; the model was fitted with {other}.")
        if labels.is_multilabel and self.class_weight is not None:
            raise InvalidInput(
                f"class_weight={self.class_weight!r} cannot be used where rows have several "
                "labels; use sample_weight, or class_weight=None."
            )
        if not labels.is_multilabel:
            weights = apply_class_weight(weights, labels.classes[labels.codes], self.class_weight)
        seen = labels.codes[weights > 0]
        if not known and not labels.is_multilabel and len(np.unique(seen)) < 2:
            raise InvalidInput(
                f"{type(self).__name__} needs at least 2 classes; y has one class: "
                f"{labels.classes.tolist()[seen[0]]!r}."
            )
        return labels, weights

    def _start(self, labels: Labels, seed: int) -> None:
        self.classes_, self._is_multilabel = labels.classes, labels.is_multilabel
        design = self._design_network(len(labels.classes), **self._label_words())
        self.__dict__.pop("_weights", None)
        self._start_network(design, seed)

    def _label_words(self) -> dict[str, Any]:
        """The parts of the design that only a head of label words has."""
        return {}

    def _learnable(self, inputs: Any, labels: Labels) -> Any:
        import torch

        rows, self._truncation = self._prepare(inputs)
        return rows.with_target(torch.from_numpy(labels.codes))

    def _strata(self, labels: Labels) -> np.ndarray | None:
        return None if labels.is_multilabel else labels.codes

    @property
    def _objective(self) -> Any:
        from sklopa._tasks.objectives import BinaryCrossEntropy, CrossEntropy

        return BinaryCrossEntropy() if self._is_multilabel else CrossEntropy(len(self.classes_))

    def _score_rows(self, rows: Any) -> float:
        from sklopa._batches.run import run_rows

        outputs = run_rows(self._network, rows, self._network, self.batch_size)
        decided = (outputs > 0) if self._is_multilabel else outputs.argmax(axis=1)
        return float(accuracy_score(rows.target.numpy(), decided))

    def _decide(self, logits: np.ndarray) -> np.ndarray:
        if self._is_multilabel:
            return (logits > 0).astype(np.int64)
        return self.classes_[logits.argmax(axis=1)]

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        logits = logits.astype(np.float64)
        if self._is_multilabel:
            return 0.5 * (1 + np.tanh(0.5 * logits))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    # ------------------------------------------------------------------ what scikit-learn asks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
