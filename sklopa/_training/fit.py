"""How an estimator comes to its weights: the stages of `fit`, the same for all of them."""

from __future__ import annotations

import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from sklopa._estimators.base import BaseLoPA
from sklopa._inputs.targets import check_lengths
from sklopa._loading.description import as_backbone
from sklopa._training.progress import FitProgress, with_callbacks
from sklopa.errors import FitFailed, InvalidInput, InvalidParameter, UnsupportedBackbone


class TrainedLoPA(BaseLoPA):
    """`fit` as a list of stages; not for use by itself.

    An estimator adds what it learns from: `_check_targets` (y as the user gave it -> targets and
    sample weights), `_start` (a fresh network for such targets), `_learnable` (inputs and
    targets -> rows with something to learn), `_start_head`, `_objective` and `_score_rows`.
    """

    @with_callbacks
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> TrainedLoPA:
        """Learn a prompt; the backbone stays as it is.

        Parameters
        ----------
        X : array-like of n rows
            Texts (list, tuple, array, Series, one-column frame), or text pairs (two columns, or
            a list of 2-tuples).
        y : array-like of shape (n,)
            What to learn for each row: labels, numbers or texts, as the estimator has it. A
            classifier also takes an indicator matrix (n, C) or a list of label sets, and then
            trains one yes-or-no output for each class.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows. A row of weight 0 is left out; 2 counts like the row twice.
        X_val, y_val : default=None
            Rows to watch for `early_stopping` in place of a held-out part of X.

        Returns
        -------
        self

        Raises
        ------
        InvalidInput, InvalidType, InvalidParameter
            If data or parameters cannot be used; the text names row or parameter.
        BackboneNotFound, UnsupportedBackbone
            If there is no such model, or it cannot do what is asked of it.
        FitFailed
            If the loss is not finite.
        """
        self._check_parameters()
        inputs = self._check_inputs(X, reset=True)
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        check_lengths(len(inputs), y=y)
        targets, weights = self._check_targets(inputs, y, sample_weight, known=goes_on)
        digests = _digests(inputs.rows)
        data = (digests, targets, weights, *self._as_plain(X_val, y_val))
        with self._open_checkpoint(data) as checkpoint:
            seeds = self._seeds() if checkpoint is None else checkpoint.draw_seeds(self._seeds())
            start_seed, batch_seed, split_seed = seeds
            if goes_on:
                self._network = None  # made again, as in an estimator that was stored meanwhile
            else:
                self._start(targets, start_seed)
            rows = self._learnable(inputs, targets).with_group(equal_rows(digests))
            self.n_truncated_ = self._truncation[0]
            held_out = self._hold_out(rows, weights, targets, X_val, y_val, split_seed)
            rows, weights, watched = held_out
            self._warn_truncated()
            rows = weighted(rows, weights)
            if self.n_iter_ == 0:
                rows = self._start_head(rows, float(weights.sum()))
            self._train(rows, watched, batch_seed, data=(X, y), checkpoint=checkpoint)
        return self

    def _start_head(self, rows: Any, total_weight: float) -> Any:
        """Rows as they are, unless an estimator has a head that can be solved before training."""
        return rows

    # ------------------------------------------------------------------ stages of fit

    def _seeds(self) -> np.ndarray:
        """Seeds of the network's start, of the batches, and of the validation split."""
        return check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)

    def _as_plain(self, X_val: Any, y_val: Any) -> tuple:
        """Rows to watch in a form that is equal for equal data."""
        rows = None if X_val is None else self._check_inputs(X_val, reset=False).rows
        return _digests(rows), getattr(y_val, "tolist", lambda: y_val)()

    def _open_checkpoint(self, data: tuple) -> AbstractContextManager:
        """What keeps the state of this fit on disk; None where nobody asked for it."""
        if self.checkpoint_dir is None:
            return nullcontext()
        from sklopa._storage.checkpoint import identify, open_checkpoint

        return open_checkpoint(
            Path(self.checkpoint_dir), self.checkpoint_every, identify(self, data)
        )

    def _model_contents(self) -> list[dict[str, str]]:
        """Hashes of the frozen models that a fit reads."""
        from sklopa._loading.live import load

        models = [self.model] if self.encoder is None else [self.model, self.encoder]
        return [load(as_backbone(model)).content for model in models]

    def _design_network(self, n_outputs: int, **words: Any) -> Any:
        from sklopa._network.build import Design

        backbone = as_backbone(self.model)
        return Design(
            backbone=backbone,
            encoder=backbone if self.encoder is None else as_backbone(self.encoder),
            n_outputs=n_outputs,
            prompt_length=self.prompt_length,
            rank=self.rank,
            bottleneck=self.bottleneck,
            gate=self.gate,
            depth=self.depth,
            dropout=self.dropout,
            train_encoder=self.train_encoder,
            max_length=getattr(self, "max_length", None),  # images have none
            pairs=self._has_pairs,
            n_views=1 if self.train_encoder or words.get("word_ids") else self._n_views,
            **words,
        )

    def _start_network(self, design: Any, seed: int) -> Any:
        """A fresh network, or the present one where a fit goes on from it."""
        from sklopa._network.build import build

        self._check_room(design)
        self._network, self._design = build(design, int(seed)), design
        self._trainer = None
        frozen = self._network.frozen
        self.dtype_ = str(frozen.dtype).removeprefix("torch.")
        self.device_ = str(frozen.device)
        self.backbone_revision_ = frozen.revision
        self.n_trainable_parameters_ = self._network.n_trainable
        self.n_iter_, self.loss_curve_, self.history_ = 0, [], []
        self.validation_scores_ = self.best_validation_score_ = None
        return self._network

    def _check_room(self, design: Any) -> None:
        from sklopa._loading.live import load

        frozen = load(design.backbone)
        encoder = load(design.encoder) if design.reads_instances else frozen
        for model in (frozen, encoder):
            if model.reads != self._reads:
                raise UnsupportedBackbone(
                    f"{model.name!r} reads {model.reads}, and {type(self).__name__} needs a model "
                    f"that reads {self._reads}."
                )
        if design.rank > frozen.prompt_width:
            raise InvalidParameter(
                f"{type(self).__name__}: parameter rank must be at most {frozen.prompt_width}, "
                f"the width of {design.backbone.model}; got {design.rank}"
            )
        if frozen.room is None:
            return
        is_pair = self._has_pairs and design.template is None
        taken = design.n_rows + design.reserved
        if taken + frozen.tokenizer.num_special_tokens_to_add(is_pair) + 1 > frozen.room:
            names, kept = "parameter prompt_length", ""
            if design.reserved:
                names = "parameters prompt_length, max_new_tokens and max_target_length"
                kept = f", and {design.reserved} are kept for what is written"
            raise InvalidParameter(
                f"{type(self).__name__}: {names} must leave room for text; "
                f"{design.backbone.model} reads {frozen.room} positions and the prompt takes "
                f"{design.n_rows}{kept}"
            )

    def _hold_out(
        self,
        rows: Any,
        weights: np.ndarray,
        targets: Any,
        X_val: Any,
        y_val: Any,
        seed: int,
    ) -> tuple[Any, np.ndarray, Any]:
        """Rows to learn from with their weights, and rows to watch (None if there are none)."""
        if X_val is not None:
            watched = self._check_inputs(X_val, reset=False)
            check_lengths(len(watched), y_val=y_val)
            known = self._check_targets(watched, y_val, None, known=True, name="y_val")[0]
            (n_cut, n_rows, limit), held_out = self._truncation, self._learnable(watched, known)
            self._truncation = (n_cut + self._truncation[0], n_rows + len(watched), limit)
            return rows, weights, held_out
        if y_val is not None:
            raise InvalidInput("y_val was given without X_val; give both, or neither.")
        if not self.early_stopping:
            return rows, weights, None
        train, test = self._split_indices(len(rows), self._strata(targets), int(seed))
        return rows.subset(train), weights[train], rows.subset(test)

    def _warn_truncated(self) -> None:
        from sklopa._tokens.texts import warn_truncated

        warn_truncated(*self._truncation)

    def _strata(self, targets: Any) -> np.ndarray | None:
        """Groups that a held-out part should represent; None for no groups."""
        return None

    def _split_indices(
        self, n: int, strata: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        options = {"test_size": self.validation_fraction, "random_state": seed}
        try:
            return train_test_split(np.arange(n), stratify=strata, **options)
        except ValueError:  # a class with a single row cannot be on both sides
            pass
        try:
            return train_test_split(np.arange(n), **options)
        except ValueError as error:
            raise InvalidInput(
                f"early_stopping cannot hold out {self.validation_fraction} of {n} rows; give "
                "more rows, X_val, or early_stopping=False."
            ) from error

    def _train(
        self, rows: Any, validation: Any, batch_seed: int, *, data: tuple, checkpoint: Any
    ) -> None:
        """Run the loop, then keep what it found, whatever ended it."""
        from sklopa._training.loop import Trainer

        network = self._live_network()
        self._trainer = None  # that of partial_fit, which has a constant rate
        plan = self._plan(min(self.batch_size, len(rows)))
        trainer = Trainer(network, self._objective.loss, plan, int(batch_seed))
        progress = FitProgress(
            self, max_iter=self.max_iter, n_rows=len(rows), fitted_state=self._fitted_state,
            X=data[0], y=data[1],
        )  # fmt: skip
        try:
            history = trainer.fit(
                rows,
                validate=None if validation is None else lambda: self._score_rows(validation),
                stop_early=self.early_stopping,
                on_batch=progress.batch,
                on_epoch=progress.epoch,
                checkpoint=checkpoint,
            )
        finally:
            progress.close()
        self._keep_history(history)
        self._report(history)
        progress.end()

    def _train_one_epoch(self, rows: Any, batch_seed: int) -> None:
        """One pass at a constant rate; the optimizer lives on while its plan is the same."""
        from sklopa._training.loop import History, Trainer

        network, plan = self._live_network(), self._plan(self.batch_size)
        if not network.n_trainable:
            return self._keep_network()
        if getattr(self, "_trainer", None) is None or self._trainer.plan != plan:
            self._trainer = Trainer(network, self._objective.loss, plan, int(batch_seed))
        trainer, started = self._trainer, time.perf_counter()
        self._network = self._trainer = None  # a pass that breaks off changes nothing
        loss = trainer.epoch(rows)
        if not np.isfinite(loss):
            return self._report(History(diverged=True))
        self._network, self._trainer = network, trainer
        seconds = time.perf_counter() - started
        record = {"epoch": self.n_iter_ + 1, "loss": loss, "seconds": seconds}
        return self._keep_history(History(epochs=[record]))

    def _plan(self, batch_size: int) -> Any:
        from sklopa._training.loop import Plan

        return Plan(
            max_iter=self.max_iter,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    def _keep_history(self, history: Any) -> None:
        records = self.history_ + history.epochs  # a warm start goes on counting
        self.history_ = [record | {"epoch": i} for i, record in enumerate(records, 1)]
        self.loss_curve_ = [record["loss"] for record in self.history_]
        self.n_iter_ = len(self.history_)
        scores = [r["validation_score"] for r in self.history_ if "validation_score" in r]
        if scores:
            self.validation_scores_, self.best_validation_score_ = scores, max(scores)
        if history.epochs or history.interrupted or not self._network.n_trainable:
            self._keep_network()

    def _report(self, history: Any) -> None:
        if history.diverged:
            self._network = None  # made again from the weights that are kept
            kept = "The estimator keeps the state of the epoch before."
            fate = kept if self.__sklearn_is_fitted__() else "The estimator is not fitted."
            raise FitFailed(
                f"The training loss is not finite in epoch {self.n_iter_ + 1}. {fate} "
                f"Lower learning_rate (now {self.learning_rate}) or scale the targets."
            )
        if history.interrupted:
            warnings.warn(
                f"Training was interrupted in epoch {self.n_iter_ + 1} of {self.max_iter}; the "
                "best state so far is kept.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _fitted_state(self) -> dict[str, Any]:
        """Attributes of the estimator as fitted at this moment, for callbacks."""
        return {"_weights": self._network_arrays(), "_design": self._design}


def _digests(rows: Any) -> list | None:
    """What stands for rows: texts themselves, and digests of images."""
    return None if rows is None else [getattr(row, "digest", row) for row in rows]


def equal_rows(digests: list) -> Any:
    """A number for each row (n,), the same for rows that are equal."""
    import torch

    first: dict[Any, int] = {}
    return torch.tensor([first.setdefault(digest, len(first)) for digest in digests])


def weighted(rows: Any, weights: np.ndarray) -> Any:
    """Rows without those of weight zero, and with the others' weights scaled to mean one."""
    import torch

    used = np.flatnonzero(weights > 0)
    rows = rows if len(used) == len(weights) else rows.subset(used)
    scaled = weights[used] / weights[used].mean()
    return rows.with_weight(torch.from_numpy(scaled).float())
