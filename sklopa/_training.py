"""The training loop. It knows rows, batches and losses, and nothing of texts or labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sklopa._batch import Batch
from sklopa._batching import training_batches
from sklopa._device import seeded_generator
from sklopa._memory import halve_until_it_fits
from sklopa._rows import Rows

State = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    max_iter : int, epochs
    batch_size : int, rows a step
    learning_rate : float
        Of the instance networks; `rate_of` scales it for the other parts.
    weight_decay : float
    n_iter_no_change, tol
        Stop after this many epochs in a row without an improvement of at least `tol`.
    warmup : float
        Share of all steps over which the rate rises from zero; it then falls to zero.
    """

    max_iter: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    n_iter_no_change: int = 5
    tol: float = 1e-4
    warmup: float = 0.1


# Learning rates of the parts, as multiples of `learning_rate`: the task prompt is a handful of
# vectors that must travel far, and has to move faster than the networks behind it.
RATE_OF = {"task": 10.0, "head": 3.0, "encoder": 0.02, "networks": 1.0}
_CLIP_NORM = 1.0


@dataclass
class History:
    """What happened, one record an epoch."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: State | None = None
    best_score: float | None = None
    interrupted: bool = False
    diverged: bool = False


class Trainer:
    """AdamW on the network's own parameters, with warm-up, decay and gradient clipping.

    Parameters
    ----------
    network : nn.Module called with a `Batch`, with `device`
    loss : callable (outputs, target) -> (B,)
    plan : Plan
    seed : int, of the order of the batches
    """

    def __init__(self, network: nn.Module, loss: Callable, plan: Plan, seed: int) -> None:
        self.network, self.loss, self.plan = network, loss, plan
        self.generator = seeded_generator(seed)
        groups = parameter_groups(network, plan.learning_rate)
        self.optimizer = (
            torch.optim.AdamW(groups, weight_decay=plan.weight_decay) if groups else None
        )
        self._rows_at_once = plan.batch_size

    def fit(
        self,
        rows: Rows,
        *,
        validate: Callable[[], float] | None = None,
        stop_early: bool = False,
        on_batch: Callable[[int, float], None] = lambda n_rows, loss: None,
        on_epoch: Callable[[dict], bool] = lambda record: False,
    ) -> History:
        """Train for up to `plan.max_iter` epochs.

        Parameters
        ----------
        validate : callable
            Score of the network as it stands, higher is better.
        stop_early : bool
            Stop on that score and restore the best state; else stop on the training loss.
        on_batch, on_epoch : callables
            Told of progress; `on_epoch` may return True to stop.
        """
        history = History()
        if self.optimizer is None:  # a verbaliser without a prompt
            return history
        watch = _Plateau(self.plan.n_iter_no_change, self.plan.tol)
        n_batches = -(-len(rows) // self.plan.batch_size)
        schedule = self._schedule(self.plan.max_iter * n_batches)
        try:
            for epoch in range(1, self.plan.max_iter + 1):
                started = time.perf_counter()
                loss = self.epoch(rows, schedule=schedule, on_batch=on_batch)
                if not np.isfinite(loss):
                    history.diverged = True
                    break
                record = {"epoch": epoch, "loss": loss, "seconds": time.perf_counter() - started}
                if validate is not None:
                    record["validation_score"] = validate()
                history.epochs.append(record)
                self._keep(history, record, stop_early)
                stop = watch.is_over(record["validation_score"] if stop_early else -loss)
                if on_epoch(record) or stop:
                    break
        except KeyboardInterrupt:
            history.interrupted = True
        if history.best is not None and (stop_early or history.diverged or history.interrupted):
            self.network.load_state_dict(history.best)
        return history

    def epoch(
        self, rows: Rows, *, schedule=None, on_batch: Callable = lambda n_rows, loss: None
    ) -> float:
        """One pass over the rows; the mean loss of a row, NaN as soon as it is not finite."""
        self.network.train()
        total = 0.0
        for indices in training_batches(rows.lengths, self.plan.batch_size, self.generator):
            loss = self._step(rows, indices)
            if not np.isfinite(loss):
                return float("nan")
            if schedule is not None:
                schedule.step()
            total += loss * len(indices)
            on_batch(len(indices), loss)
        self.network.eval()
        return total / len(rows)

    def _step(self, rows: Rows, indices: np.ndarray) -> float:
        """One update. Pieces of a batch that does not fit add up to the same gradient."""

        def backward(rows_at_once: int) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for start in range(0, len(indices), rows_at_once):
                batch = rows.batch(indices[start : start + rows_at_once])
                loss = self._sum_of_losses(batch.to(self.network.device)) / len(indices)
                loss.backward()
                total += loss.item()
            return total

        loss, self._rows_at_once = halve_until_it_fits(
            backward, self._rows_at_once, rows.longest(indices)
        )
        if np.isfinite(loss):
            parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
            self.optimizer.step()
        return loss

    def _sum_of_losses(self, batch: Batch) -> Tensor:
        losses = self.loss(self.network(batch), batch.target)
        return losses.sum() if batch.weight is None else (losses * batch.weight).sum()

    def _schedule(self, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
        warm = max(1, round(self.plan.warmup * n_steps))

        def factor(step: int) -> float:
            return min((step + 1) / warm, max(0.0, (n_steps - step) / max(1, n_steps - warm)))

        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def _keep(self, history: History, record: dict, stop_early: bool) -> None:
        """Remember the state to go back to: the best one, or the last finite one."""
        score = record.get("validation_score")
        better = history.best_score is None or (score is not None and score > history.best_score)
        if better or not stop_early:
            history.best = snapshot(self.network)
        if better:
            history.best_score = score


class _Plateau:
    """Counts epochs without an improvement, as `MLPClassifier` does."""

    def __init__(self, patience: int, tol: float) -> None:
        self.patience, self.tol = patience, tol
        self.best, self.count = -np.inf, 0

    def is_over(self, score: float) -> bool:
        self.count = 0 if score > self.best + self.tol else self.count + 1
        self.best = max(self.best, score)
        return self.count >= self.patience


def parameter_groups(network: nn.Module, learning_rate: float) -> list[dict]:
    """Parameters by the part they belong to, each with its rate."""
    parts: dict[str, list] = {name: [] for name in RATE_OF}
    for module_name, module in network.named_children():
        for name, parameter in module.named_parameters():
            part = module_name if module_name in RATE_OF else "networks"
            of_task = module_name == "prompt" and name.split(".")[-1] == "task"
            parts["task" if of_task else part].append(parameter)
    return [
        {"params": members, "lr": learning_rate * RATE_OF[name], "name": name}
        for name, members in parts.items()
        if members
    ]


def snapshot(network: nn.Module) -> State:
    """A copy of all trained tensors on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
