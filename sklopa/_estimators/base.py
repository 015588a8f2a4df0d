"""What every estimator is: checked parameters, a design, arrays to fill it, and a way to run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory
from sklearn.base import BaseEstimator

from sklopa._inputs.rules import (
    BOOLEAN,
    NONE,
    PATH,
    RANDOM_STATE,
    check_parameters,
    instance_of,
    integer,
    one_of,
    real,
)
from sklopa._inputs.texts import check_texts
from sklopa._loading.description import Backbone
from sklopa._training.progress import CallbackSupportMixin, rows_bar
from sklopa._version import __version__
from sklopa.errors import InvalidInput, InvalidParameter, NotFitted

_MODEL = PATH | instance_of(Backbone, named="a Backbone")
_LIVE = ("_network", "_trainer")  # torch objects, never pickled; rebuilt from the rest

COMMON_RULES = {
    "model": _MODEL,
    "prompt_length": integer(0),
    "rank": integer(0),
    "gate": one_of("sigmoid", "add", "max", "concat", "instance"),
    "bottleneck": integer(1),
    "depth": one_of("shallow", "deep"),
    "dropout": real(0, 1),
    "encoder": _MODEL | NONE,
    "train_encoder": BOOLEAN,
    "max_iter": integer(1),
    "batch_size": integer(1),
    "learning_rate": real(0, open_low=True),
    "weight_decay": real(0),
    "early_stopping": BOOLEAN,
    "validation_fraction": real(0, 1, open_low=True),
    "n_iter_no_change": integer(1),
    "tol": real(0),
    "warm_start": BOOLEAN,
    "memory": PATH | instance_of(Memory, named="a joblib.Memory") | NONE,
    "checkpoint_dir": PATH | NONE,
    "checkpoint_every": integer(1) | NONE,
    "random_state": RANDOM_STATE,
    "verbose": integer(0) | BOOLEAN,
}
# Of estimators that read texts.
TEXT_RULES = {"max_length": integer(1) | NONE, "nulls": one_of("error", "empty")}


# Rows that are prepared at once for a prediction: memory does not grow with their number.
_BLOCK_ROWS = 8192


class BaseLoPA(CallbackSupportMixin, BaseEstimator):
    """What the estimators share besides fitting; not for use by itself.

    A fitted estimator is plain data: a `Design` (what to build) and `_weights` (arrays to fill
    it with). The live network is made from them when it is needed, and never pickled.
    """

    _rules = COMMON_RULES | TEXT_RULES
    _reads = "texts"
    _n_views = 1  # of a row, for a linear head to read

    # What else than design and weights a fitted estimator cannot do without.
    _needed: tuple[str, ...] = ("n_features_in_",)

    # ------------------------------------------------------------------ checks

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_parameters(owner, self.get_params(deep=False), self._rules)
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

    def _read_inputs(self, X: Any) -> Any:
        """X as rows: texts, unless an estimator reads something else."""
        return check_texts(X, self.nulls)

    def _check_inputs(self, X: Any, *, reset: bool) -> Any:
        inputs = self._read_inputs(X)
        if reset:
            self.n_features_in_ = inputs.n_columns
            self.__dict__.pop("feature_names_in_", None)
            if inputs.names is not None:
                self.feature_names_in_ = inputs.names
        elif inputs.n_columns != self.n_features_in_:
            raise InvalidInput(
                f"X has {inputs.n_columns} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input (1 for texts, 2 for text pairs)."
            )
        elif inputs.names is not None and hasattr(self, "feature_names_in_"):
            self._check_names(inputs.names)
        return inputs

    @property
    def _has_pairs(self) -> bool:
        """Whether a row is two texts."""
        return self.n_features_in_ == 2

    def _check_names(self, names: np.ndarray) -> None:
        if list(names) != list(self.feature_names_in_):
            raise InvalidInput(
                "The feature names should match those that were passed during fit: fitted with "
                f"{list(self.feature_names_in_)}, got {list(names)}."
            )

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFitted(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' before "
                "using this method."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_weights")

    # ------------------------------------------------------------------ after fit

    def _live_network(self) -> Any:
        """The network of a fitted estimator, built from plain data if it is not there."""
        if getattr(self, "_network", None) is None:
            from sklopa._network.build import restore

            self._network = restore(self._design, self._weights)
        return self._network

    def _prepare(self, inputs: Any, block: slice = slice(None)) -> tuple[Any, tuple]:
        """All that is computed once for a row, and what there is to say of truncation."""
        from sklopa._network.prepare import prepare_rows

        rows = inputs.rows[block]
        return prepare_rows(self._live_network(), self._design, rows, self._memory_folder)

    @property
    def _memory_folder(self) -> Any:
        # Of a joblib.Memory only the folder counts: what is kept there is kept for each input.
        return getattr(self.memory, "location", self.memory)

    def _keep_network(self) -> None:
        """The live network as arrays: what makes the estimator fitted, and what is pickled."""
        self._weights = self._network_arrays()
        self._sklopa_version = __version__

    def _network_arrays(self) -> dict[str, np.ndarray]:
        from sklopa._training.loop import snapshot

        return {name: value.numpy() for name, value in snapshot(self._network).items()}

    def _run(self, X: Any, what: str) -> np.ndarray:
        """What the network makes of every row of X: outputs, features or prompts."""
        from sklopa._batches.run import run_rows
        from sklopa._tokens.texts import warn_truncated

        self._check_fitted()
        inputs, network = self._check_inputs(X, reset=False), self._live_network()
        run = {"outputs": network, "features": network.features, "prompts": network.prompts}
        done, n_truncated = [], 0
        with rows_bar(self, len(inputs)) as on_rows:
            for start in range(0, len(inputs), _BLOCK_ROWS):
                rows, truncation = self._prepare(inputs, slice(start, start + _BLOCK_ROWS))
                n_truncated += truncation[0]
                done.append(run_rows(network, rows, run[what], self.batch_size, on_rows))
        warn_truncated(n_truncated, len(inputs), truncation[2])
        return np.concatenate(done)

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
        self._check_fitted()
        if self._design.n_rows == 0:
            n_rows = len(self._check_inputs(X, reset=False))
            width = self._live_network().frozen.prompt_width
            return np.zeros((n_rows, 0, width), dtype=np.float32)
        return self._run(X, "prompts")

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

        self._check_fitted()
        if not PATH.accepts(path):
            raise InvalidParameter(f"save: path must be {PATH.allowed}; got {path!r}")
        save(self, Path(path), include_backbone)

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

        self._check_fitted()
        return push(self, repo_id, private=private, token=token, scores=scores)

    # ------------------------------------------------------------------ pickling and tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state = {name: value for name, value in state.items() if name not in _LIVE}
        if "_design" in state:  # as values, so that readers have fewer classes to trust
            state["_design"] = state["_design"].as_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_design" in state:
            from sklopa._network.build import Design

            self._design = Design.from_dict(state["_design"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.requires_fit = True
        return tags
