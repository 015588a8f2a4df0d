"""Rows and a task -> a trained network: the stages between what is prepared and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sklopa._batches.rows import Rows, Views
from sklopa._batches.run import run_rows
from sklopa._heads.linear import LinearHead
from sklopa._heads.linear_start import ProbeRows
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._network.pipe import LoPANetwork
from sklopa._network.prepare import Memory
from sklopa._storage.checkpoint import Checkpoint, KeptFit
from sklopa._tasks.interface import Targets, Task
from sklopa._tokens.truncation import Truncation
from sklopa._training.course import History
from sklopa._training.loop import Trainer
from sklopa._training.plan import Plan
from sklopa._training.progress import FitProgress
from sklopa._training.starts import shared_start, untrained_inputs
from sklopa.errors import FitFailed, InvalidInput


class Examples(NamedTuple):
    """Rows as users gave them, and what is to be learned for each.

    Attributes
    ----------
    rows : sequence of texts, pairs or images
    targets : Targets
    """

    rows: Sequence[Any]
    targets: Targets

    def digests(self) -> list[Any]:
        """What stands for the rows: texts themselves, and digests of images."""
        return [getattr(row, "digest", row) for row in self.rows]

    def plain(self) -> tuple:
        """The same in a form that is equal for equal data."""
        return self.digests(), self.targets.values, self.targets.weights


class TrainingData(NamedTuple):
    """Rows that a network learns from.

    Attributes
    ----------
    learned : Rows with targets and weights
    watched : Rows with targets, or None
    total_weight : float, of the rows that are learned from
    n_truncated : int, texts given to learn from that lost their end
    truncation : Truncation, of all texts
    """

    learned: Rows
    watched: Rows | None
    total_weight: float
    n_truncated: int
    truncation: Truncation


def prepare_data(
    network: FittedNetwork,
    task: Task,
    examples: Examples,
    watched: Examples | None,
    fraction: float | None,
    seed: int,
    memory: Memory,
) -> TrainingData:
    """All that is computed once, before training.

    Parameters
    ----------
    watched : Examples or None
        Rows to watch that the user gave; None holds out a part of the others instead.
    fraction : float or None
        Share of the rows to hold out; None for none.
    """
    rows, truncation = _learnable(network, task, examples, memory, for_steps=True)
    rows = rows.with_group(equal_rows(examples.digests()))
    n_truncated, held_out = truncation.n_cut, None
    weights, strata = examples.targets.weights, examples.targets.strata
    if (weights == 0).any():  # such rows are neither learned from nor watched
        used = np.flatnonzero(weights)
        rows, weights = rows.subset(used), weights[used]
        strata = None if strata is None else strata[used]
    if watched is not None:
        held_out, more = _learnable(network, task, watched, memory)
        truncation += more
    elif fraction is not None:
        train, test = hold_out(len(rows), strata, fraction, seed)
        held_out = weighted(rows.subset(test), weights[test])
        rows, weights = rows.subset(train), weights[train]
    learned = weighted(rows, weights)
    return TrainingData(learned, held_out, float(weights.sum()), n_truncated, truncation)


def _learnable(
    network: FittedNetwork,
    task: Task,
    examples: Examples,
    memory: Memory,
    *,
    for_steps: bool = False,
) -> tuple[Rows, Truncation]:
    rows, truncation = network.prepare(examples.rows, memory, for_steps=for_steps)
    return task.attach(rows, examples.targets, network), truncation


def hold_out(
    n_rows: int, strata: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of rows to learn from, and of rows to watch.

    Raises
    ------
    InvalidInput
        If there are too few rows.
    """
    options: dict[str, Any] = {"test_size": fraction, "random_state": seed}
    try:
        train, test = train_test_split(np.arange(n_rows), stratify=strata, **options)
    except ValueError:  # a class with a single row cannot be on both sides
        try:
            train, test = train_test_split(np.arange(n_rows), **options)
        except ValueError as error:
            raise InvalidInput(
                f"early_stopping cannot hold out {fraction} of {n_rows} rows; give more rows, "
                "X_val, or early_stopping=False."
            ) from error
    return train, test


def weighted(rows: Rows, weights: np.ndarray) -> Rows:
    """Rows without those of weight zero, and with the others' weights scaled to mean one."""
    if (weights == 0).any():
        used = np.flatnonzero(weights)
        rows, weights = rows.subset(used), weights[used]
    return rows.with_weight(torch.from_numpy(weights / weights.mean()).float())


def equal_rows(digests: Sequence[Any]) -> torch.Tensor:
    """A number for each row (n,), the same for rows that are equal."""
    first: dict[Any, int] = {}
    return torch.tensor([first.setdefault(digest, len(first)) for digest in digests])


def start_head(
    network: FittedNetwork, task: Task, data: TrainingData, batch_size: int
) -> TrainingData:
    """Begin as a linear probe: with the best linear reading of what is known without training.

    That is the instance embeddings and, where it helps, the second view of the rows. The states
    behind an untrained prompt at the input tell little more than two views of the same model;
    elsewhere they are read as well. The rows come back with what makes the probe's outputs for
    them honest. A head that has nothing to train stays as it is.
    """
    rows, live = data.learned, network.live()
    head, views = live.head, rows.views
    if not isinstance(head, LinearHead):
        return data
    if views is not None and _views_suffice(network.design, views):
        known = views.joined()
    else:
        live.eval()
        known = untrained_inputs(live, rows, batch_size)
    if not torch.isfinite(known).all():
        raise FitFailed(
            f"The states of {network.design.backbone.model} are not finite. Check its weights, "
            "or use Backbone(..., dtype='float32')."
        )
    width, firsts = known.shape[1], {0}
    if views is not None:
        before = width - views.firsts[-1] - views.last.shape[1]
        firsts |= {before + first for first in views.firsts}
    assert rows.weight is not None  # as `prepare_data` leaves them
    assert rows.target is not None
    weight = rows.weight * (data.total_weight / len(rows))  # as given: weight 2 is the row twice
    solved = ProbeRows(known, rows.target, weight, rows.group, sorted(firsts))
    coef, bias, offset = shared_start(task, solved)
    head.start_from(coef, bias)
    return data._replace(learned=rows.with_offset(offset))


def _views_suffice(design: Design, views: Views) -> bool:
    same_model = design.encoder == design.backbone
    return views.second is not None and same_model and design.depth == "shallow"


def train(
    network: LoPANetwork,
    task: Task,
    data: TrainingData,
    plan: Plan,
    seed: int,
    *,
    stop_early: bool,
    progress: FitProgress,
    checkpoint: Checkpoint | KeptFit | None = None,
) -> History:
    """Run the loop, and close its bar whatever ended it."""
    rows, watched, n_at_once = data.learned, data.watched, plan.batch_size

    def score() -> float:
        assert watched is not None
        network.eval()
        return task.score(run_rows(watched, network, n_at_once, network.device), watched)

    plan = replace(plan, batch_size=min(plan.batch_size, len(rows)))
    trainer = Trainer(network, task.loss, plan, seed, task.credit)
    try:
        return trainer.fit(
            rows,
            validate=None if watched is None else score,
            stop_early=stop_early,
            on_batch=progress.batch,
            on_epoch=progress.epoch,
            on_resume=progress.resume,
            checkpoint=checkpoint,
        )
    finally:
        progress.close()
