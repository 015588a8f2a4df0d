"""What every estimator is: checked parameters, `fit` as a list of stages, and a way to run."""

from __future__ import annotations

import copyreg
import warnings
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from sklopa._batches.modes import in_own_modes
from sklopa._estimators.parameters import PromptParameters, rules_of
from sklopa._inputs.columns import check_lengths, check_same_columns
from sklopa._inputs.rules import (
    COLUMN,
    NONE,
    NUMBER,
    PATH,
    SCORE,
    TEXT,
    Rule,
    as_plain,
    check_parameters,
    integer,
    list_of,
    table_of,
)
from sklopa._inputs.seeds import draw_seeds
from sklopa._inputs.texts import Texts, check_texts
from sklopa._loading.description import LiveBackbone, as_backbone
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._training.progress import CallbackSupportMixin, FitProgress, rows_bar, with_callbacks
from sklopa._version import __version__
from sklopa.errors import FitFailed, InvalidInput, InvalidParameter, NotFitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from sklopa._batches.rows import Batch
    from sklopa._inputs.images import Images
    from sklopa._storage.checkpoint import Checkpoint, KeptFit
    from sklopa._storage.record import Record, Schema
    from sklopa._tasks.fitted import FittedTask
    from sklopa._tasks.interface import Targets, Task
    from sklopa._training.course import History
    from sklopa._training.fit import Examples
    from sklopa._training.loop import Trainer
    from sklopa._training.plan import Plan

    Inputs = Texts | Images

# Parameters that a `Design` takes over; images have no `max_length`, generators no `prompt_layer`.
_SHAPING = (
    "prompt_length", "rank", "bottleneck", "gate", "depth", "dropout", "train_encoder",
    "max_length", "prompt_layer", "special_tokens",
)  # fmt: skip
# What a fit that goes on leaves as it was, whatever the parameters ask for.
_KEPT = ("n_outputs", "n_views", "reserved", "special_texts")
_LIVE = ("_network", "_trainer")  # never pickled; made again from plain values


class BaseLoPA(CallbackSupportMixin, BaseEstimator, PromptParameters):
    """What the estimators share; not for use by itself.

    What is learned is a `Task`, what is stored a `FittedNetwork`. An estimator says which task y
    is of (`_learn_task`), which task it was fitted on (`_task`), and what a network for it needs
    (`_words`).
    """

    _reads: ClassVar[str] = "texts"
    _n_views: ClassVar[int] = 1  # of a row, for a linear head to read

    # What a fitted estimator holds besides its network, and what each may be. Pickles, archives
    # and checkpoints hold these and nothing else.
    _fitted_rules: ClassVar[dict[str, Rule]] = {
        "n_features_in_": integer(1),
        "feature_names_in_": COLUMN,
        "n_iter_": integer(0),
        "loss_curve_": list_of(NUMBER),
        "validation_scores_": list_of(SCORE) | NONE,
        "best_validation_score_": SCORE | NONE,
        "history_": list_of(table_of(SCORE)),
        "n_trainable_parameters_": integer(0),
        "n_truncated_": integer(0),
        "dtype_": TEXT,
        "device_": TEXT,
        "backbone_revision_": TEXT | NONE,
        "_sklopa_version": TEXT,
    }
    _optional: ClassVar[frozenset[str]] = frozenset({"feature_names_in_"})

    _network: FittedNetwork
    _trainer: Trainer | None

    # ------------------------------------------------------------------ what each estimator says

    @abstractmethod
    def _learn_task(self, y: Any, n_rows: int, sample_weight: Any) -> tuple[Task, Targets]:
        """The task that y is of, and its targets."""

    @abstractmethod
    def _task(self) -> Task:
        """The task of a fitted estimator."""

    def _words(self, task: Task, n_columns: int) -> dict[str, Any]:
        """The parts of a design that only a network which reads or writes words has."""
        return {}

    # ------------------------------------------------------------------ fitting

    @with_callbacks
    @in_own_modes
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
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
            Rows to watch for `early_stopping` in place of a held-out part of X. Without
            `early_stopping` their score of each epoch is kept, and decides nothing.

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
            If the loss is not finite. An estimator that was fitted before stays as it was.
        KeyboardInterrupt
            On Ctrl-C, after the best state so far was kept: the estimator can be used.
        """
        from sklopa._batches.threads import threads

        self._check_parameters()
        self._warn_of_ignored()
        with threads(self.random_state):
            self._fit(X, y, sample_weight, X_val, y_val)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> None:
        """What `fit` does, once its parameters are checked."""
        from sklopa._training import fit as stages

        inputs = self._rows_of(X)
        self._check_targets(y, len(inputs))
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        if goes_on:
            self._check_columns(inputs)
            task = self._task()
            targets = task.encode(y, len(inputs), sample_weight)
            self._check_unchanged(self._design(task, inputs))
        else:
            task, targets = self._learn_task(y, len(inputs), sample_weight)
        examples = stages.Examples(inputs.rows, targets)
        watched = self._read_watched(task, inputs, X_val, y_val)
        with self._open_checkpoint(task, examples, watched, goes_on) as checkpoint:
            seeds = draw_seeds(self.random_state)
            seeds = seeds if checkpoint is None else checkpoint.keep_seeds(seeds)
            if goes_on:
                network = self._network.stored()
            else:
                network = self._fresh_network(task, inputs, seeds.start)
            fraction = self.validation_fraction if self.early_stopping else None
            data = stages.prepare_data(
                network, task, examples, watched, fraction, seeds.split, self._memory_folder
            )
            data.truncation.warn()
            if not goes_on:
                data = stages.start_head(network, task, data, int(self.batch_size))
            keep = partial(self._attributes, network, task, inputs, data.n_truncated, goes_on)
            progress = FitProgress(
                self, max_iter=self.max_iter, n_rows=len(data.learned), fitted_state=keep, X=X, y=y
            )
            history = stages.train(
                network.live(), task, data, self._plan(), seeds.batches,
                stop_early=self.early_stopping, progress=progress, checkpoint=checkpoint,
            )  # fmt: skip
        if history.epochs or history.interrupted or not network.live().n_trainable:
            self._become(keep((self.history_ if goes_on else []) + history.epochs))
        self._trainer = None  # that of partial_fit, which has a constant rate
        self._report(history)
        progress.end()

    def _read_watched(self, task: Task, inputs: Inputs, X_val: Any, y_val: Any) -> Examples | None:
        """Rows to watch that the user gave; None if there are none."""
        from sklopa._training.fit import Examples

        if X_val is None:
            if y_val is not None:
                raise InvalidInput("y_val was given without X_val; give both, or neither.")
            return None
        watched = self._read_inputs(X_val)
        check_same_columns(watched, inputs.n_columns, inputs.names, type(self).__name__)
        check_lengths(len(watched), y_val=y_val)
        return Examples(watched.rows, task.encode(y_val, len(watched), name="y_val"))

    def _open_checkpoint(
        self, task: Task, examples: Examples, watched: Examples | None, goes_on: bool
    ) -> AbstractContextManager[Checkpoint | KeptFit | None]:
        """What keeps the state of this fit: on disk where that is asked for, or in the process."""
        on_disk = self.checkpoint_dir is not None
        if not on_disk and not self._resumes():
            return nullcontext()
        from sklopa._loading.live import live_model
        from sklopa._storage.checkpoint import KeptFit, identify, open_checkpoint

        models = [self.model] if self.encoder is None else [self.model, self.encoder]
        live = [live_model(as_backbone(model)) for model in models]
        told = [
            m.content if on_disk else {"identity": m.identity, "dtype": f"{m.dtype}"} for m in live
        ]
        identity = identify(
            type(self).__name__,
            self.get_params(deep=False),
            data=(task.fitted(), examples.plain(), None if watched is None else watched.plain()),
            start=self._network.weights if goes_on else None,
            models=told,
        )
        if self.checkpoint_dir is None:
            return nullcontext(KeptFit(identity, int(self.max_iter)))
        return open_checkpoint(Path(self.checkpoint_dir), self.checkpoint_every, identity)

    def _resumes(self) -> bool:
        """Whether a fit is one with equal fits of fewer epochs, which it can go on from.

        Callbacks are told of each epoch, and may end a fit, so with them each fit is one by itself.
        """
        is_one = self.schedule == "constant" and isinstance(self.random_state, (int, np.integer))
        return is_one and not getattr(self, "_skl_callbacks", None)

    def _fresh_network(self, task: Task, inputs: Inputs, seed: int) -> FittedNetwork:
        """An untrained network for a task."""
        from sklopa._network.build import build_network, check_room

        design = self._design(task, inputs)
        check_room(design, type(self).__name__, self._reads)
        text = getattr(self, "initial_text", None)  # images have none
        return FittedNetwork(design, {}, build_network(design, seed, text))

    def _design(self, task: Task, inputs: Inputs) -> Design:
        """The network that the parameters ask for."""
        pairs = isinstance(inputs.rows[0], tuple)
        backbone, words = as_backbone(self.model), self._words(task, 2 if pairs else 1)
        return Design(
            backbone=backbone,
            encoder=backbone if self.encoder is None else as_backbone(self.encoder),
            n_outputs=task.n_outputs,
            pairs=pairs,
            n_views=1 if self.train_encoder or words.get("word_ids") else self._n_views,
            **self._plain(*_SHAPING),
            **words,
        )

    def _check_unchanged(self, design: Design) -> None:
        """Raise where the parameters ask for another network than the one to go on from."""
        then, now = vars(self._network.design), vars(design)
        said = {"backbone": "model", "word_ids": "verbalizer"}
        changed = [
            f"{said.get(name, name)}={now[name]!r} (was {then[name]!r})"
            for name in now
            if name not in _KEPT and now[name] != then[name]
        ]
        if changed:
            raise InvalidParameter(
                f"{type(self).__name__} cannot go on from its present state with other parameters: "
                f"{', '.join(changed)}. Set them back, or start anew with warm_start=False or a "
                "clone."
            )

    def _plan(self) -> Plan:
        from sklopa._training.plan import Plan

        return Plan(
            **self._plain(*(field.name for field in fields(Plan) if field.name != "warmup"))
        )

    def _plain(self, *names: str) -> dict[str, Any]:
        """Parameters by name, those that this estimator has; numpy's numbers as Python's."""
        return {name: as_plain(getattr(self, name)) for name in names if hasattr(self, name)}

    def _attributes(
        self,
        network: FittedNetwork,
        task: Task,
        inputs: Inputs,
        n_truncated: int,
        goes_on: bool,
        records: list[dict[str, float]] | None = None,
    ) -> dict[str, Any]:
        """What makes the estimator as fitted as the network is at this moment."""
        live, records = network.live(), records or []
        history = [record | {"epoch": i} for i, record in enumerate(records, 1)]
        scores = [record["validation_score"] for record in history if "validation_score" in record]
        names = getattr(self, "feature_names_in_", None) if goes_on else inputs.names
        return {
            **task.fitted(),
            **({} if names is None else {"feature_names_in_": names}),
            "n_features_in_": inputs.n_columns,
            "n_iter_": len(history),
            "loss_curve_": [record["loss"] for record in history],
            "validation_scores_": scores or None,
            "best_validation_score_": max(scores, default=None),
            "history_": history,
            "n_trainable_parameters_": live.n_trainable,
            "n_truncated_": n_truncated,
            "dtype_": str(live.frozen.dtype).removeprefix("torch."),
            "device_": str(live.frozen.device),
            "backbone_revision_": live.frozen.revision,
            "_sklopa_version": __version__,
            "_network": FittedNetwork.of(network.design, live),
        }

    def _become(self, attributes: dict[str, Any]) -> None:
        """Take what a fit found in place of what was there before."""
        for name in (*self._fitted_rules, "_network", "_training"):
            self.__dict__.pop(name, None)
        self.__dict__.update(attributes)

    def _report(self, history: History) -> None:
        """Say how training ended, if it was not as planned."""
        epoch = len(history.epochs) + 1
        if history.diverged:
            fate = "is not fitted"
            if self.__sklearn_is_fitted__():
                fate = "keeps the state of the epoch before" if history.epochs else "is as before"
            raise FitFailed(
                f"The training loss is not finite in epoch {epoch}. The estimator {fate}. "
                f"Lower learning_rate (now {self.learning_rate}) or scale the targets."
            )
        if history.interrupted:
            warnings.warn(
                f"Training was interrupted in epoch {epoch} of {self.max_iter}; the best state so "
                "far is kept.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of `fit`
            )
            raise KeyboardInterrupt  # goes on, so that a script or a search stops

    # ------------------------------------------------------------------ checks

    def _check_parameters(self) -> None:
        owner, rules = type(self).__name__, rules_of(type(self))
        check_parameters(owner, {name: getattr(self, name) for name in rules}, rules)
        if self.rank > self.prompt_length > 0:
            raise InvalidParameter(
                f"{owner}: parameter rank must be at most prompt_length; "
                f"got rank={self.rank} and prompt_length={self.prompt_length}"
            )
        if self.gate == "instance" and self.rank == 0 and self.prompt_length > 0:
            raise InvalidParameter(
                f"{owner}: gate='instance' has no task prompt, so rank=0 leaves no prompt at all; "
                "use rank >= 1, or another gate for plain prompt tuning"
            )

    def _ignored(self) -> Iterator[tuple[str, str]]:
        """Parameters that were given and have no effect, each with what takes it away."""
        if self.prompt_length == 0 or self.rank == 0:
            alike = "rank=0" if self.prompt_length else "prompt_length=0"
            if self.train_encoder:
                yield "train_encoder=True", f"with {alike}: no prompt is made of an instance"
            elif self.encoder is not None:
                yield "encoder", f"with {alike}: no prompt is made of an instance"
        text = getattr(self, "initial_text", None)
        if text is not None and self.prompt_length == 0:
            yield f"initial_text={text!r}", "with prompt_length=0: there is no prompt to start"
        if self.checkpoint_every is not None and self.checkpoint_dir is None:
            yield f"checkpoint_every={self.checkpoint_every}", "without checkpoint_dir"
        if self.memory is not None and isinstance(self.model, LiveBackbone):
            yield f"memory={self._memory_folder!r}", "on live objects, which no file stands for"

    def _warn_of_ignored(self) -> None:
        for what, why in self._ignored():
            text = f"{type(self).__name__}: parameter {what} has no effect {why}."
            warnings.warn(text, stacklevel=4)  # the caller of `fit`

    def _check_targets(self, y: Any, n_rows: int) -> None:
        """Raise unless there is a target for each row of X."""
        if y is None:
            raise InvalidInput(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        check_lengths(n_rows, y=y)

    def _read_inputs(self, X: Any) -> Inputs:
        """X as rows: texts, unless an estimator reads something else."""
        return check_texts(X, getattr(self, "nulls", "error"))

    def _rows_of(self, X: Any) -> Inputs:
        """X as rows, also where it has been read."""
        is_read = hasattr(X, "rows") and hasattr(X, "n_columns")
        return X if is_read else self._read_inputs(X)

    def _read_known(self, X: Any) -> Inputs:
        """X as rows of the kind that the estimator was fitted on."""
        inputs = self._read_inputs(X)
        self._check_columns(inputs)
        return inputs

    def _check_columns(self, inputs: Inputs) -> None:
        names = getattr(self, "feature_names_in_", None)
        check_same_columns(inputs, self.n_features_in_, names, type(self).__name__)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    # ------------------------------------------------------------------ after fit

    def _fitted_network(self) -> FittedNetwork:
        """What was trained: all that storing, serving and looking inside need.

        Raises
        ------
        NotFitted
        """
        if not self.__sklearn_is_fitted__():
            raise NotFitted(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' before "
                "using this method."
            )
        from sklopa._storage.trust import permitted

        self._network = permitted(self._network, self.model, self.encoder)
        return self._network

    def _fitted_task(self) -> FittedTask:
        """All that others need to predict as this estimator does."""
        from sklopa._tasks.fitted import FittedTask

        return FittedTask(
            owner=type(self).__name__,
            reads=self._reads,
            network=self._fitted_network(),
            task=self._task(),
            dtype=self.dtype_,
            read=self._read_known,
            memory=self._memory_folder,
            random_state=self.random_state,
        )

    @property
    def _memory_folder(self) -> Any:
        # Of a joblib.Memory only the folder counts: what is kept there is kept for each input.
        return getattr(self.memory, "location", self.memory)

    def _outputs(self, X: Any) -> np.ndarray:
        """Outputs of the network for each row, (n, C)."""
        return self._run(X, self._fitted_network().live())

    def _run(self, X: Any, run: Callable[[Batch], Any]) -> np.ndarray:
        """What the network, or a method of it, makes of each row of X."""
        self._fitted_network()
        return self._run_inputs(self._read_known(X), run)

    def _run_inputs(self, inputs: Inputs, run: Callable[[Batch], Any]) -> np.ndarray:
        """The same of rows that have been read."""
        network = self._fitted_network()
        with self._threads(len(inputs)), rows_bar(self, len(inputs)) as on_rows:
            values, truncation = network.run(
                inputs.rows, run, batch_size=int(self.batch_size), memory=self._memory_folder,
                on_rows=on_rows,
            )  # fmt: skip
        truncation.warn()
        return values

    def _threads(self, n_rows: int) -> AbstractContextManager[None]:
        """Within this context torch has as many threads as serve a prediction of so many rows."""
        from sklopa._batches.threads import threads

        return threads(self.random_state, n_rows)

    def generate_prompts(self, X: Any) -> np.ndarray:
        """The soft prompt that is made for each row.

        Parameters
        ----------
        X : array-like of n rows
            Of the kind that `fit` takes.

        Returns
        -------
        ndarray of shape (n, P, D), float32
            P rows of backbone width D (2 P rows with ``gate="concat"``); (n, L, P, D) with
            ``depth="deep"``.
        """
        network = self._fitted_network()
        if network.design.n_rows == 0:
            n_rows = len(self._read_known(X))
            width = network.live().frozen.prompt_width
            return np.zeros((n_rows, 0, width), dtype=np.float32)
        return self._run(X, network.live().prompts)

    # ------------------------------------------------------------------ showing itself

    def summary(self) -> str:
        """What is adapted, trained and stored, in a few lines.

        Returns
        -------
        str
            Lines on the backbone, the prompt, what is trained, the epochs, the score, and texts
            that were truncated. A notebook shows them below scikit-learn's view of the estimator.

        Raises
        ------
        NotFitted
            Before `fit`.

        Examples
        --------
        >>> print(clf.summary())  # doctest: +SKIP
        LoPAClassifier
          backbone   sentence-transformers/all-MiniLM-L6-v2, frozen, float32 on cpu
          prompt     10 rows, rank 4, gate sigmoid
          trainable  ... parameters, ... kB
          epochs     6 (max_iter=6)
          score      training accuracy ...
          truncated  no training text
        """
        from sklopa._estimators.summary import as_text, summary_lines

        self._fitted_network()
        return as_text(type(self).__name__, summary_lines(self))

    # scikit-learn links parameters, and shows what they mean, where there is a page of them.
    _doc_link_module: ClassVar[str] = "sklopa"
    _doc_link_template: ClassVar[str] = "https://arxiv.org/abs/2405.15282"

    def _html_repr(self) -> str:
        """The view in a notebook: scikit-learn's own, and the summary below it."""
        from sklearn.utils import estimator_html_repr

        from sklopa._estimators.summary import as_html, summary_lines

        view = estimator_html_repr(self)
        return f"{view}{as_html(summary_lines(self))}" if self.__sklearn_is_fitted__() else view

    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        bundle = super()._repr_mimebundle_(**options)
        return bundle | ({"text/html": self._html_repr()} if "text/html" in bundle else {})

    # ------------------------------------------------------------------ storing

    def save(self, path: str | PathLike, include_backbone: bool = False) -> None:
        """Write the fitted estimator as JSON and safetensors; `sklopa.load` reads it.

        No pickle is in it, and reading it runs no code. Whatever interrupts the writing, the
        old archive or the new one is there.

        Parameters
        ----------
        path : str or Path
            A folder, or a zip file if it ends in ``.zip``. An older archive there is replaced.
        include_backbone : bool, default=False
            Put the frozen model into the folder too, so that it loads with no network.

        Raises
        ------
        NotFitted
            Before `fit`.
        InvalidInput
            If a label or a parameter cannot be written without a pickle.
        NotWritten
            If the disk refuses.
        """
        from sklopa._storage.save import save

        record = self._as_record()
        if not PATH.accepts(path):
            raise InvalidParameter(f"save: path must be {PATH.allowed}; got {path!r}")
        save(record, Path(path), include_backbone)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        scores: dict[str, float] | None = None,
    ) -> str:
        """Write the fitted estimator into a hub repository, with a model card.

        ``sklopa.load(repo_id)`` reads it. The frozen model is named there, and not uploaded.

        Parameters
        ----------
        repo_id : str
            "user/name". Made if it is not there.
        private : bool, default=None
            Whether a new repository is private; None is the account's own default.
        token : str, default=None
            Access token; None takes the one of ``hf auth login``. It is stored nowhere.
        scores : dict, default=None
            Test scores for the card, by name.

        Returns
        -------
        str
            Address of the repository.

        Raises
        ------
        NotFitted
            Before `fit`.
        NotWritten
            If the hub refuses.
        """
        from sklopa._storage.hub import push

        return push(self._as_record(), repo_id, private=private, token=token, scores=scores)

    def _as_record(self) -> Record:
        """The fitted estimator in plain values."""
        from sklopa._storage.record import Record
        from sklopa._storage.save import check_record
        from sklopa._storage.single_values import plain, requests_of
        from sklopa._storage.trust import OUTPUT

        network = self._fitted_network()
        names = [name for name in (*self._fitted_rules, OUTPUT) if hasattr(self, name)]
        record = Record(
            type(self).__name__,
            plain(self.get_params(deep=False)),
            {name: plain(getattr(self, name)) for name in names},
            network,
            requests_of(self),
        )
        check_record(record, self._schema())
        return record

    @classmethod
    def _from_record(cls, record: Record) -> Self:
        """The estimator that `_as_record` gave the values of."""
        from sklopa._storage.single_values import give_requests

        estimator = cls(**record.parameters)
        estimator._become({**record.attributes, "_network": record.network})
        give_requests(estimator, record.requests)
        return estimator

    @classmethod
    def _schema(cls) -> Schema:
        """What records of this estimator may hold."""
        from sklopa._storage.record import Schema

        return Schema(
            cls.__name__,
            parameters=rules_of(cls),
            attributes=cls._fitted_rules,
            optional=cls._optional,
            n_views=cls._n_views,
            reads=cls._reads,
            check=lambda parameters: cls(**parameters)._check_parameters(),
            is_ours=_is_ours(cls),
            knows=lambda name: not _is_ours(cls) and not hasattr(cls, name),
        )

    # ------------------------------------------------------------------ pickling and tags

    def __getstate__(self) -> dict[str, Any]:
        from sklopa._storage.single_values import REQUESTS, STORED_REQUESTS, requests_of

        state = super().__getstate__()
        state = {name: value for name, value in state.items() if name not in _LIVE}
        if requests := requests_of(self):  # as values, so that readers have less to trust
            state = {k: v for k, v in state.items() if k != REQUESTS}
            state[STORED_REQUESTS] = requests
        if self.__sklearn_is_fitted__():
            if (trainer := getattr(self, "_trainer", None)) is not None:
                state["_training"] = trainer.state()
            state["_design"] = self._network.design.as_dict()
            state["_weights"] = self._network.weights
            if (models := self._network.models()) is not None:
                state["_models"] = models
        return state

    def __reduce__(self) -> Any:
        from sklopa._storage.trust import as_pickled

        state = as_pickled(self._schema(), self.__getstate__())
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def __setstate__(self, state: Any) -> None:
        from sklopa._storage.single_values import give_requests
        from sklopa._storage.trust import trusted_state

        values, network, requests = trusted_state(self._schema(), state)
        super().__setstate__(values)
        if network is not None:
            self._network = network
        give_requests(self, requests)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.requires_fit = True
        return tags


def _is_ours(kind: type) -> bool:
    """Whether a class is one of the library's, and not a user's subclass."""
    return kind.__module__.split(".")[0] == "sklopa"
