"""What all classifiers share: labels in, labels and probabilities out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin

from sklopa._batches.modes import in_own_modes
from sklopa._estimators.base import BaseLoPA
from sklopa._estimators.features import FeaturesMixin
from sklopa._estimators.parameters import ClassParameters
from sklopa._inputs.labels import check_classes
from sklopa._inputs.rules import BOOLEAN, COLUMN
from sklopa._inputs.seeds import Seeds, draw_seeds
from sklopa._inputs.weights import check_weights
from sklopa._network.fitted import FittedNetwork
from sklopa.errors import InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Self

    from sklopa._batches.rows import Rows, Views
    from sklopa._tasks.classification import LabelTask
    from sklopa._tasks.interface import Targets
    from sklopa._training.loop import Trainer
    from sklopa._training.plan import Plan


class ClassifierBase(ClassifierMixin, FeaturesMixin, BaseLoPA, ClassParameters):
    """Labels and logits, whatever the inputs are; not for use by itself."""

    _fitted_rules: ClassVar = BaseLoPA._fitted_rules | {
        "classes_": COLUMN,
        "_is_multilabel": BOOLEAN,
    }

    # ------------------------------------------------------------------ fitting

    def _learn_task(
        self, y: Any, n_rows: int, sample_weight: Any, classes: np.ndarray | None = None
    ) -> tuple[LabelTask, Targets]:
        from sklopa._tasks.classification import learn_labels

        owner = type(self).__name__
        return learn_labels(
            y, n_rows, sample_weight, self.class_weight, owner=owner, classes=classes
        )

    def _task(self) -> LabelTask:
        from sklopa._tasks.classification import label_task

        return label_task(self.classes_, self._is_multilabel, self.class_weight)

    @in_own_modes
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """One more epoch, on these rows, at a constant learning rate.

        The first call begins as `fit` does, with a linear reading of its rows. A pickle goes on
        as if it had not been one; what `save` writes predicts alike, and goes on with a new
        optimizer.

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
        from sklopa._batches.threads import threads

        self._check_parameters()
        with threads(self.random_state):
            self._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        """What `partial_fit` does, once its parameters are checked."""
        from sklopa._training import fit as stages

        first = not self.__sklearn_is_fitted__()
        inputs = self._read_inputs(X) if first else self._read_known(X)
        self._check_targets(y, len(inputs))
        labels = self._check_classes(classes, y)
        if first:
            task, targets = self._learn_task(y, len(inputs), sample_weight, labels)
        else:
            task = self._task()
            targets = task.encode(y, len(inputs), sample_weight)
            self._check_unchanged(self._design(task, inputs))
        seeds = draw_seeds(self.random_state)
        network = self._fresh_network(task, inputs, seeds.start) if first else self._network
        trainer = None if first else self._trainer_for(self._plan())
        if trainer is None and not first:
            network = network.stored()  # as it would be after a pickle
        examples = stages.Examples(inputs.rows, targets)
        data = stages.prepare_data(
            network, task, examples, None, None, seeds.split, self._memory_folder
        )
        data.truncation.warn()
        if first:
            coming = replace(task, more_to_come=True)
            data = stages.start_head(network, coming, data, int(self.batch_size))
        done = [] if first else self.history_
        record = self._train_one_epoch(network, task, data.learned, seeds, len(done) + 1, trainer)
        records = done + record
        self._become(self._attributes(network, task, inputs, data.n_truncated, not first, records))

    def _trainer_for(self, plan: Plan) -> Trainer | None:
        """The optimizer of the call before, if it has the same plan."""
        trainer = getattr(self, "_trainer", None)
        return None if trainer is None or trainer.plan != plan else trainer

    def _check_classes(self, classes: Any, y: Any) -> np.ndarray | None:
        """The labels of `partial_fit`: told in the first call, and the same from then on."""
        first = not self.__sklearn_is_fitted__()
        if classes is None:
            if first:
                raise InvalidInput(
                    "classes must be passed on the first call to partial_fit: all labels that "
                    "will ever come."
                )
            return None
        return check_classes(classes, y, None if first else self.classes_)

    def _train_one_epoch(
        self,
        network: FittedNetwork,
        task: LabelTask,
        rows: Rows,
        seeds: Seeds,
        epoch: int,
        trainer: Trainer | None,
    ) -> list[dict[str, float]]:
        """One pass at a constant rate; the optimizer lives on while its plan is the same."""
        from sklopa._training.course import Course, History
        from sklopa._training.loop import Trainer

        live, plan = network.live(), self._plan()
        if not live.n_trainable:
            self._trainer = None
            return []
        if trainer is None:
            trainer = Trainer(live, task.loss, plan, seeds.batches, task.credit)
            kept = vars(self).get("_training")
            # Earlier versions wrote no schedule, and an epoch by itself has none.
            if kept is not None and {"schedule": plan.schedule} | kept["plan"] == vars(plan):
                trainer.go_on_from(kept)
        started, course = time.perf_counter(), Course()
        if self.__sklearn_is_fitted__():  # a pass that breaks off changes nothing
            self._network, self._trainer = network.stored(), None
        loss = trainer.epoch(rows, course=course)
        if not np.isfinite(loss):
            self._report(History(diverged=True))
        self._trainer = trainer
        record = {"epoch": epoch, "loss": loss, "seconds": time.perf_counter() - started}
        record["learning_rate"] = plan.learning_rate
        return [record if course.score is None else record | {"training_score": course.score}]

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
        outputs = self._outputs(X)
        return self._task().decide(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n, C). Rows sum to one, except for multilabel."""
        outputs = self._outputs(X)
        return self._task().probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, (n, C)."""
        return np.log(self.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (n, C); for two classes (n,), positive for ``classes_[1]``."""
        logits = self._outputs(X)
        if len(self.classes_) == 2 and not self._is_multilabel:
            return logits[:, 1] - logits[:, 0]
        return logits

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy: the share of rows whose label, or whose labels, are all right.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes.
        y : array-like of shape (n,), indicator matrix (n, C), or list of label sets
            Of the kind that `fit` took.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        float
        """
        outputs, task = self._outputs(X), self._task()
        self._check_targets(y, len(outputs))
        right = task.right(outputs, task.codes_of(y))
        return float(np.average(right, weights=check_weights(sample_weight, len(right))))

    def ablate(
        self, X: Any, y: Any = None, X_train: Any = None, y_train: Any = None
    ) -> dict[str, float]:
        """Does the prompt help here? Accuracy with it, and with something else in its place.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes; rows that were not trained on tell the most.
        y : array-like of shape (n,), or indicator matrix (n, C)
        X_train, y_train : default=None
            The rows that the estimator was fitted on, for a linear probe that has learned from
            the same ones. A fitted estimator does not keep them.

        Returns
        -------
        dict of str to float
            Accuracy with the "prompt" as fitted; with "no prompt"; with "another row's prompt",
            that of a neighbour in the batch; with the "task prompt alone", Z_S without its
            instance part; and of a "linear probe", a logistic regression on the frozen model's
            embeddings of `X_train`. Without them it is a "linear probe, cross-validated" on the
            rows of X: that is another thing, since it learns from four fifths of these rows, and
            from none that the estimator was fitted on. What there is not in a fitted estimator is
            left out, as is the probe for several labels a row.
        """
        right = self._right_rows(X, y, X_train, y_train)
        return {name: float(rows.mean()) for name, rows in right.items()}

    @in_own_modes
    def _right_rows(
        self, X: Any, y: Any, X_train: Any = None, y_train: Any = None
    ) -> dict[str, np.ndarray]:
        """Which rows are right (n,), in the ways that `ablate` compares."""
        from sklopa._batches.run import run_rows
        from sklopa._network.ablation import ablations, right_by_probe

        network, inputs, task = self._fitted_network(), self._read_known(X), self._task()
        self._check_targets(y, len(inputs))
        if (X_train is None) != (y_train is None):
            raise InvalidInput("X_train and y_train belong together; give both, or neither.")
        codes = task.encode(y, len(inputs)).values
        if len(inputs) < 2:
            raise InvalidInput("ablate compares rows with one another; X has 1 row, give more.")
        with self._threads(len(inputs)):
            rows, truncation = network.prepare(inputs.rows, self._memory_folder)
            truncation.warn()
            live, n_at_once = network.live().eval(), max(2, int(self.batch_size))  # another row
            right = {
                name: task.right(run_rows(rows, run, n_at_once, live.device), codes)
                for name, run in ablations(live).items()
            }
            if task.is_multilabel:
                return right
            views, _ = self._embedded(X, y)
            if X_train is None:
                return right | {"linear probe, cross-validated": right_by_probe(views, codes)}
            trained = self._embedded(X_train, y_train)
            return right | {"linear probe": right_by_probe(views, codes, trained)}

    def _embedded(self, X: Any, y: Any) -> tuple[Views, np.ndarray]:
        """What the frozen model makes of rows without a prompt, and their class indices."""
        from sklopa._network.prepare import embed_inputs

        inputs = self._read_known(X)
        self._check_targets(y, len(inputs))
        codes = self._task().encode(y, len(inputs)).values
        live, design = self._network.live().eval(), self._network.design
        return embed_inputs(live, design, inputs.rows, self._memory_folder), codes

    # ------------------------------------------------------------------ what scikit-learn asks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
