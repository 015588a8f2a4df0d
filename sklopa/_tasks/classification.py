"""Labels: one class a row, or any number of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sklopa._batches.rows import Rows
from sklopa._heads.linear_start import ProbeRows, logistic_start
from sklopa._inputs.labels import Labels, encode_labels
from sklopa._inputs.weights import apply_class_weight, check_weights
from sklopa._tasks.interface import Start, Targets, Task, as_start
from sklopa.errors import InvalidInput

if TYPE_CHECKING:
    from sklopa._network.fitted import FittedNetwork

# Logit of a class that no training row has, against those that some have.
_ABSENT = -5.0


@dataclass(frozen=True, eq=False)
class LabelTask(Task):
    """Labels of known classes; `SingleLabel` or `SeveralLabels`.

    Parameters
    ----------
    classes : ndarray of shape (C,)
    class_weight : dict, "balanced" or None
    more_to_come : bool
        Whether classes that no row has yet will come, so that none is taken to be rare.
    """

    classes: np.ndarray
    class_weight: dict | str | None = None
    more_to_come: bool = False

    is_multilabel = False

    @property
    def n_outputs(self) -> int:
        """C."""
        return len(self.classes)

    @property
    def start_depends_on(self) -> tuple[Any, ...]:
        """As for any task, and whether absent classes are taken to be rare."""
        return *super().start_depends_on, self.more_to_come

    def encode(self, y: Any, n_rows: int, sample_weight: Any = None, *, name: str = "y") -> Targets:
        """Class indices (n,), or indicators (n, C) of several labels a row."""
        labels = encode_labels(y, self.classes, name=name)
        weights = check_weights(sample_weight, n_rows)
        if labels.is_multilabel != self.is_multilabel:
            kind, other = ("several labels", "one label")[:: 1 if labels.is_multilabel else -1]
            raise InvalidInput(f"{name} has {kind} a row; the model was fitted with {other}.")
        return self._targets(labels, weights, self.classes)

    def _targets(
        self, labels: Labels, weights: np.ndarray, known: np.ndarray | None = None
    ) -> Targets:
        chosen = labels.classes[labels.codes]
        weights = apply_class_weight(weights, chosen, self.class_weight, classes=known)
        return Targets(labels.codes, weights, strata=labels.codes)

    def attach(self, rows: Rows, targets: Targets, network: FittedNetwork) -> Rows:
        """Rows with their class indices, or indicators."""
        return rows.with_target(torch.from_numpy(targets.values))

    def score(self, outputs: np.ndarray, rows: Rows) -> float:
        """Accuracy: the share of rows whose label, or whose labels, are all right."""
        right = self.right(outputs, np.asarray(rows.target))
        return float(np.average(right, weights=rows.weights()))

    def credit(self, outputs: Tensor, target: Any) -> Tensor:
        """1 for a row that is right, else 0, so that the mean is the accuracy."""
        right = self.right(outputs.float().cpu().numpy(), target.cpu().numpy())
        return torch.from_numpy(right).float()

    def codes_of(self, y: Any) -> np.ndarray:
        """What is right for each row, as `chosen` has it; of unseen labels nothing ever is."""
        return encode_labels(y, self.classes, refuse_unseen=False).codes

    def right(self, outputs: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Whether each row (n,) is decided as `codes` has it."""
        return self.chosen(outputs) == codes

    def chosen(self, outputs: np.ndarray) -> np.ndarray:
        """Class indices (n,), or indicators (n, C), of logits (n, C)."""
        return outputs.argmax(axis=1)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Labels (n,) of logits (n, C)."""
        return self.classes[self.chosen(outputs)]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities (n, C), float64, of logits (n, C)."""
        logits = outputs.astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def fitted(self) -> dict[str, Any]:
        """Classes, and whether a row may have several."""
        return {"classes_": self.classes, "_is_multilabel": self.is_multilabel}


class SingleLabel(LabelTask):
    """One class a row: outputs (B, C) are logits, targets (B,) class indices."""

    def loss(self, outputs: Tensor, target: Any) -> Tensor:
        """Cross entropy of each row, (B,)."""
        return F.cross_entropy(outputs, target, reduction="none")

    def reported(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, C)."""
        return outputs.softmax(dim=1)

    def start(self, rows: ProbeRows) -> Start:
        """A regularised linear model of the features. Training rows need not have all classes."""
        n_rows, n_features = rows.features.shape
        weights = torch.zeros(self.n_outputs, n_features, dtype=torch.float32)
        bias = torch.zeros(self.n_outputs, dtype=torch.float32)
        offset = torch.zeros(n_rows, self.n_outputs, dtype=torch.float32)
        present = rows.target.unique()
        if len(present) > 1:
            solved = as_start(logistic_start(rows))
            weights[present], bias[present], offset[:, present] = solved
        absent = ~torch.isin(torch.arange(self.n_outputs), present)
        bias[absent] = bias.min() + (0.0 if self.more_to_come else _ABSENT)
        return weights, bias, offset


class SeveralLabels(LabelTask):
    """Any number of classes a row: outputs (B, C) are logits, targets (B, C) are 0 or 1."""

    is_multilabel = True

    def _targets(
        self, labels: Labels, weights: np.ndarray, known: np.ndarray | None = None
    ) -> Targets:
        if self.class_weight is not None:
            raise InvalidInput(
                f"class_weight={self.class_weight!r} cannot be used where rows have several "
                "labels; use sample_weight, or class_weight=None."
            )
        return Targets(labels.codes, weights)

    def loss(self, outputs: Tensor, target: Any) -> Tensor:
        """Binary cross entropy of each row, (B,): the mean over the classes."""
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(dim=1)

    def reported(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, C), each class by itself."""
        return outputs.sigmoid()

    def start(self, rows: ProbeRows) -> Start:
        """A regularised linear model of the features for each class."""
        columns = [replace(rows, target=column) for column in rows.target.T]
        constant = 0.0 if self.more_to_come else _ABSENT
        starts = [_start_column(column, constant) for column in columns]
        weights, bias, offsets = zip(*starts, strict=True)
        return torch.stack(weights), torch.stack(bias), torch.stack(offsets, dim=1)

    def chosen(self, outputs: np.ndarray) -> np.ndarray:
        """Indicators (n, C), int64."""
        return (outputs > 0).astype(np.int64)

    def right(self, outputs: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Whether all labels of each row (n,) are decided as `codes` has it."""
        return (self.chosen(outputs) == codes).all(axis=1)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Indicators (n, C), int64, of logits (n, C)."""
        return self.chosen(outputs)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities (n, C), float64, each class by itself."""
        return 0.5 * (1 + np.tanh(0.5 * outputs.astype(np.float64)))


def label_task(classes: np.ndarray, is_multilabel: bool, class_weight: Any = None) -> LabelTask:
    """The task of known classes."""
    return (SeveralLabels if is_multilabel else SingleLabel)(classes, class_weight)


def learn_labels(
    y: Any,
    n_rows: int,
    sample_weight: Any,
    class_weight: Any,
    *,
    owner: str,
    classes: np.ndarray | None = None,
) -> tuple[LabelTask, Targets]:
    """The task that y is of, and its targets.

    Parameters
    ----------
    classes : ndarray of shape (C,), default=None
        All that there are; None takes those of y, which must then be two at least.

    Raises
    ------
    InvalidInput
    """
    labels = encode_labels(y, classes)
    weights = check_weights(sample_weight, n_rows)
    task = label_task(labels.classes, labels.is_multilabel, class_weight)
    targets = task._targets(labels, weights, classes)
    seen = labels.codes[targets.weights > 0]
    if classes is None and not labels.is_multilabel and len(np.unique(seen)) < 2:
        left = ""
        if len(labels.classes) > 1:
            zero = "sample_weight" if class_weight is None else f"class_weight={class_weight!r}"
            left = f", as {zero} gives the others weight 0"
        raise InvalidInput(
            f"{owner} needs at least 2 classes; y has one class: "
            f"{labels.classes.tolist()[seen[0]]!r}{left}."
        )
    return task, targets


def _start_column(rows: ProbeRows, absent: float) -> Start:
    """Weights (D,), bias () and offset (n,) of one class against all others.

    `absent` is the logit of a class that no row has.
    """
    column = rows.target
    if column.min() == column.max():  # a class that is always or never there
        constant = torch.tensor(-absent if column[0] > 0 else absent, dtype=torch.float32)
        weights = torch.zeros(rows.features.shape[1], dtype=torch.float32)
        return weights, constant, torch.zeros(len(column), dtype=torch.float32)
    both = SingleLabel(np.arange(2))
    weights, bias, offset = both.start(replace(rows, target=column.long()))
    return weights[1] - weights[0], bias[1] - bias[0], offset[:, 1] - offset[:, 0]
