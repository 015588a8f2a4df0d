"""The training loop. It knows rows, batches and losses, and nothing of texts or labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._batches.order import training_batches
from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._batches.rows import Batch, Rows
from sklopa._inputs.rules import integer
from sklopa._training.course import (
    Course,
    History,
    State,
    Watch,
    check,
    snapshot,
    take_up_generators,
    take_up_moments,
    take_up_parts,
    take_up_weights,
)
from sklopa._training.gpu_turns import turn_on
from sklopa._training.plan import Plan, optimizer_groups

_CLIP_NORM = 1.0
# Steps until the full rate, at the least: AdamW's first steps know no more of a gradient than its
# sign, and move all values as far as they may.
_WARM_STEPS = 10


class Trainer:
    """AdamW on the network's own parameters, with warm-up, decay and gradient clipping.

    Parameters
    ----------
    network : nn.Module called with a `Batch`, with `device` and `parameter_groups`
    loss : callable (outputs, target) -> (B,)
    plan : Plan
    seed : int, of the order of the batches
    credit : callable (outputs, target) -> (B,), default=None
        Its mean over the rows, each in its batch as it is trained on, is the training score.
    """

    def __init__(
        self,
        network: Any,
        loss: Callable[[Tensor, Any], Tensor],
        plan: Plan,
        seed: int,
        credit: Callable[[Tensor, Any], Tensor] | None = None,
    ) -> None:
        self.network, self.loss, self.plan, self.credit = network, loss, plan, credit
        self.generator = torch.Generator().manual_seed(seed)
        groups = optimizer_groups(network, plan.learning_rate)
        self.has_work = bool(groups)  # a verbaliser without a prompt has nothing to train
        groups = groups or [{"params": [torch.empty(0, dtype=torch.float32)]}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
        self._rows_at_once = plan.batch_size
        self._earned = 0.0  # credit of the last batch

    def fit(
        self,
        rows: Rows,
        *,
        validate: Callable[[], float] | None = None,
        stop_early: bool = False,
        on_batch: Callable[[int, float], None] = lambda n_rows, loss: None,
        on_epoch: Callable[[dict], bool] = lambda record: False,
        on_resume: Callable[[int], None] = lambda n_rows: None,
        checkpoint: Any = None,
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
        on_resume : callable
            Told how many rows were done before, where `checkpoint` has a state.
        checkpoint : Checkpoint, optional
            Has the state to go on from, and is given those on the way.
        """
        history, course = History(), Course()
        if not self.has_work:
            return history
        watch = Watch(self.plan.n_iter_no_change, self.plan.tol)
        n_batches = -(-len(rows) // self.plan.batch_size)
        schedule = self._schedule(n_batches)
        parts = (course, history, watch, schedule)
        if checkpoint is not None:
            with checkpoint.reading():
                self._set_state(checkpoint.state, *parts)
            on_resume((course.epoch - 1) * len(rows) + course.done * self.plan.batch_size)

        def after_batch(n_rows: int, loss: float) -> None:
            if self.plan.is_constant and course.done > n_batches // 2:
                self._add_weights(course)
            on_batch(n_rows, loss)
            within = course.done < n_batches  # at its end, an epoch is written as a whole
            if checkpoint is not None and within and checkpoint.is_due(schedule.last_epoch):
                checkpoint.write(self._get_state(*parts))

        try:
            while course.epoch <= self.plan.max_iter and not course.is_over:
                started = time.perf_counter()
                loss = self.epoch(rows, schedule=schedule, course=course, on_batch=after_batch)
                if not np.isfinite(loss):
                    history.diverged = True
                    break
                record = {"epoch": course.epoch, "loss": loss}
                record["seconds"] = time.perf_counter() - started
                record["learning_rate"] = self._rate(schedule)
                record |= {} if course.score is None else {"training_score": course.score}
                present = self._take_mean(course)
                record |= {} if validate is None else {"validation_score": validate()}
                history.epochs.append(record)
                self._keep(history, record, stop_early)
                stop = watch.is_over(record["validation_score"] if stop_early else -loss)
                course.epoch, course.is_over = course.epoch + 1, on_epoch(record) or stop
                self._go_back_to(present)
                if checkpoint is not None:
                    checkpoint.write(self._get_state(*parts))
        except KeyboardInterrupt:
            history.interrupted = True
        self._leave(history, stop_early)
        return history

    def _leave(self, history: History, stop_early: bool) -> None:
        """Give the network the state that training ends with, if that is not the present one."""
        elsewhere = stop_early or history.diverged or history.interrupted or self.plan.is_constant
        if history.best is not None and elsewhere:
            self.network.load_state_dict(history.best)

    def epoch(
        self,
        rows: Rows,
        *,
        schedule: Any = None,
        course: Course | None = None,
        on_batch: Callable = lambda n_rows, loss: None,
    ) -> float:
        """One pass over the rows; the mean loss of a row, NaN as soon as it is not finite."""
        course = course or Course()
        self.network.train()
        course.order = self.generator.get_state()
        batches = training_batches(rows.lengths, self.plan.batch_size, self.generator)
        with turn_on(self.network.device):
            for indices in batches[course.done :]:
                loss = self._step(rows, indices)
                if not np.isfinite(loss):
                    return float("nan")
                if schedule is not None:
                    schedule.step()
                course.done, course.total = course.done + 1, course.total + loss * len(indices)
                course.credit += self._earned
                on_batch(len(indices), loss)
        self.network.eval()
        mean = course.total / len(rows)
        course.score = None if self.credit is None else course.credit / len(rows)
        course.done, course.total, course.order, course.credit = 0, 0.0, None, 0.0
        return mean

    # ------------------------------------------------------------------ to stop and go on

    def state(self) -> dict[str, Any]:
        """All but the network that more epochs depend on, in plain values and arrays."""
        moments = self.optimizer.state_dict()["state"]
        return {
            "plan": dict(vars(self.plan)),
            "order": self.generator.get_state().numpy(),
            "dropout": [g.get_state().numpy() for g in self._dropout_generators()],
            "moments": {
                str(i): {name: value.cpu().numpy().copy() for name, value in of_one.items()}
                for i, of_one in moments.items()
            },
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave, for a network of the same weights.

        Raises
        ------
        InvalidArchive
        """
        moments = {
            int(i): {name: torch.tensor(value) for name, value in of_one.items()}
            for i, of_one in state["moments"].items()
        }
        generators = [torch.tensor(value) for value in (state["order"], *state["dropout"])]
        take_up_moments(moments, self.optimizer)
        take_up_generators(generators, [self.generator, *self._dropout_generators()])

    def _get_state(self, course: Course, history: History, watch: Watch, schedule: Any) -> dict:
        """All that the rest of the training depends on, in plain values and tensors."""
        order = self.generator.get_state() if course.order is None else course.order
        return {
            "network": snapshot(self.network),
            "optimizer": {"state": self.optimizer.state_dict()["state"]},
            "schedule": {"last_epoch": schedule.last_epoch},
            "generators": [g.get_state() for g in self._dropout_generators()],
            "course": vars(course) | {"order": order},
            "history": vars(history),
            "watch": vars(watch),
            "rows_at_once": self._rows_at_once,
        }

    def _set_state(
        self, state: dict | None, course: Course, history: History, watch: Watch, schedule: Any
    ) -> None:
        """Take up what `_get_state` gave, or refuse it."""
        if state is None:  # nothing was kept yet
            return
        n_steps, n_at_once = state["schedule"]["last_epoch"], state["rows_at_once"]
        check("its number of steps", n_steps, integer(0))
        check("its number of rows at once", n_at_once, integer(1))
        take_up_parts(state, course, history, watch, self.network)
        take_up_weights(state["network"], self.network)
        take_up_moments(state["optimizer"]["state"], self.optimizer)
        take_up_generators(
            [*state["generators"], course.order], [*self._dropout_generators(), self.generator]
        )
        self._rows_at_once = n_at_once
        schedule.load_state_dict(
            schedule.state_dict() | {"last_epoch": n_steps, "_step_count": n_steps + 1}
        )
        rates = zip(
            self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        )
        for group, base, factor in rates:
            group["lr"] = base * factor(n_steps)

    def _dropout_generators(self) -> list[torch.Generator]:
        parts = (vars(module).get("generator") for module in self.network.modules())
        return [part for part in parts if part is not None]

    def _step(self, rows: Rows, indices: np.ndarray) -> float:
        """One update. Pieces of a batch that does not fit add up to the same gradient."""

        def backward(rows_at_once: int) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            total, self._earned = 0.0, 0.0
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
        outputs = self.network(batch)
        outputs = outputs if batch.offset is None else outputs + batch.offset
        losses = self.loss(outputs, batch.target)
        if self.credit is not None:
            earned = self.credit(outputs.detach(), batch.target).cpu()
            self._earned += float(
                earned.sum() if batch.weight is None else earned @ batch.weight.cpu()
            )
        return losses.sum() if batch.weight is None else (losses * batch.weight).sum()

    def _rate(self, schedule: Any) -> float:
        """`plan.learning_rate` as it was in the last step."""
        return self.plan.learning_rate * schedule.lr_lambdas[0](schedule.last_epoch - 1)

    def _add_weights(self, course: Course) -> None:
        """Count the weights as they are towards their mean over the epoch."""
        weights = {name: p.detach() for name, p in self.network.named_parameters()}
        if course.sums is None:
            course.sums, course.n_summed = {name: p.clone() for name, p in weights.items()}, 1
            return
        for name, total in course.sums.items():
            total += weights[name].to(total.device)
        course.n_summed += 1

    def _take_mean(self, course: Course) -> State:
        """Give the network the mean of its weights, and return those that it goes on from."""
        if course.sums is None:
            return {}
        present = snapshot(self.network)
        means = {name: total / course.n_summed for name, total in course.sums.items()}
        self.network.load_state_dict(present | means)
        course.sums, course.n_summed = None, 0
        return present

    def _go_back_to(self, present: State) -> None:
        """Train on from these weights, if they are not there anyway."""
        if present:
            self.network.load_state_dict(present)

    def _schedule(self, n_batches: int) -> torch.optim.lr_scheduler.LambdaLR:
        if self.plan.is_constant:
            n_warm = min(_WARM_STEPS, n_batches)
            rising = lambda step: min((step + 1) / n_warm, 1.0)  # noqa: E731
            return torch.optim.lr_scheduler.LambdaLR(self.optimizer, rising)
        n_steps = self.plan.max_iter * n_batches
        warm = max(1, round(self.plan.warmup * n_steps), min(_WARM_STEPS, n_steps // 2))

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
