"""`LoPAGenerator`: texts in, texts out, from a frozen language model."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from sklopa._batches.modes import in_own_modes
from sklopa._estimators.base import BaseLoPA
from sklopa._estimators.parameters import TextParameters, parameter, replaced
from sklopa._inputs.rules import BOOLEAN, NONE, TEMPERATURE, TEXTS, integer, one_of, real
from sklopa._inputs.seeds import draw_seeds
from sklopa._loading.description import Backbone, as_backbone
from sklopa._network.fitted import FittedNetwork
from sklopa._public import public
from sklopa._training.progress import rows_bar
from sklopa.errors import InvalidParameter, UnsupportedBackbone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sklopa._heads.writing import Decoding
    from sklopa._tasks.interface import Targets, Task
    from sklopa._tasks.writing import Writing


@public("sklopa")
@dataclass(eq=False, repr=False)
class LoPAGenerator(BaseLoPA, TextParameters):
    """Generate a text for each text with a frozen language model and a soft prompt for each.

    The prompt stands in front of the source text, which the backbone then continues (a decoder)
    or answers (an encoder-decoder). Only the prompt and the two small networks that make it for
    each instance are trained.

    Parameters
    ----------
    model : str, Path or Backbone, default="HuggingFaceTB/SmolLM2-135M-Instruct"
        The frozen backbone: a hub id, a local folder, or a :class:`Backbone` for its options.
    prompt_length : int, default=50
        P >= 0, rows in front of the text. More rows can say more and cost time, since each is
        read like a token, and room in what a server is sent. Texts want more of them than labels
        do; a classifier has 10. 0 means no prompt: the frozen model as it is.
    rank : int, default=4
        0 <= R <= P, rank of the instance-dependent part. 0 makes one prompt for all texts,
        which is prompt tuning.
    gate : {"sigmoid", "add", "max", "concat", "instance"}, default="sigmoid"
        How the task prompt Z_S and the instance part Z_I = U V^T meet. "sigmoid" is the method:
        Z_S * sigmoid(Z_I). "add", "max" and "concat" use Z_I as it is; "concat" takes 2 P rows.
        "instance" drops Z_S, which is IDPG.
    bottleneck : int, default=32
        H, hidden width of the two small networks that make U and V. Most trainable parameters are
        here: their number grows with H (2 E + R (P + D)).
    dropout : float, default=0.1
        Share of the instance embedding that is dropped in training, in [0, 1).
    depth : {"shallow", "deep"}, default="shallow"
        "shallow" has one prompt, at the input. "deep" has one for each layer, which takes the
        place of the prompt's states there: more to train, and no plain input that a server
        could be sent.
    encoder : str, Path or Backbone, default=None
        Model that makes the instance embedding; None is the frozen backbone itself.
    train_encoder : bool, default=False
        Train (a private copy of) the encoder too. All of its weights then count as trainable,
        and are stored with the generator.
    max_length : int, default=None
        Token limit of a text; None is what the backbone allows minus the prompt.
    max_iter : int, default=5
        Epochs at most.
    batch_size : int, default=8
        Rows in a training step, and in a chunk of a prediction (which does not change it).
    learning_rate : float, default=1e-3
        At the default a step moves the task prompt by a third of the size of its values, whatever
        the scale of the model's embeddings. The instance networks learn at 0.3 of this rate.
    schedule : {"linear", "constant"}, default="linear"
        "linear": the rate rises over the first tenth of the steps, and then falls to zero at the
        end of `max_iter`. "constant": it rises over ten steps (or one epoch) and stays, and each
        epoch ends with the mean of the weights of its second half. Nothing then depends on
        `max_iter`; so with an integer `random_state`, a fit goes on where an equal fit with fewer
        epochs ended in this process, with the result of one fit. Halving searches over
        ``resource="max_iter"`` and pruned trials thus train each candidate's epochs once.
    weight_decay : float, default=0.0
        Decoupled weight decay (AdamW) on all that is trained.
    early_stopping : bool, default=False
        Hold out rows (or use `X_val`), stop when their log-likelihood no longer rises, and go
        back to the best epoch. Otherwise training stops when the loss no longer falls.
    validation_fraction : float, default=0.1
        Share of the rows to hold out for `early_stopping`.
    n_iter_no_change : int, default=5
        Epochs without an improvement of `tol` after which training stops.
    tol : float, default=1e-4
        See `n_iter_no_change`.
    warm_start : bool, default=False
        Whether `fit` goes on from the present state instead of starting anew.
    memory : str, Path or joblib.Memory, default=None
        Folder that keeps instance embeddings, for later processes and for workers of a search.
    checkpoint_dir : str or Path, default=None
        Folder for the state of a long fit, written each epoch. The same fit started again, after
        whatever stopped it, goes on from there and ends with the same bits on a CPU. With a larger
        `max_iter` it goes on for more epochs, at the learning rates that those have.
    checkpoint_every : int, default=None
        Write that state after so many steps too, and not only after each epoch.
    nulls : {"error", "empty"}, default="error"
        What to do with missing texts: refuse them, or read them as empty ones.
    special_tokens : bool, default=False
        Whether texts may hold tokens of the model, such as ``[SEP]`` or ``<|im_end|>``. Otherwise
        they are read as the text that they are, and cannot end a turn or forge a mask.
    initial_text : str, default=None
        Text whose tokens the rows of the prompt start at, as many as there are rows: from its
        beginning again where it has fewer. An instruction, for instance, or rows that show what
        is asked. None starts at words drawn at random.
    random_state : int, RandomState or None, default=None
        Same integer, same machine: same bits.
    verbose : int, default=0
        1 shows a progress bar with loss, rows a second and the time left.
    max_new_tokens : int, default=64
        Longest text that `predict` and `sample` write, in tokens.
    num_beams : int, default=1
        Beams of a beam search in `predict`, 256 at most; 1 takes the likeliest token at each step.
    do_sample : bool, default=False
        Whether `predict` draws tokens at random instead.
    temperature : float, default=1.0
        Divides the logits before drawing; below 1 is bolder, above 1 wilder.
    top_p : float, default=1.0
        Draw from the fewest tokens that have this probability together.
    stop : str or list of str, default=None
        Texts that end a row; they are cut off, with all behind them.
    chat_template : {"auto", None}, default="auto"
        "auto" makes a source what a user says in the tokenizer's chat template, where there is
        one, with the prompt at the start of that message; None feeds the text as it is.
    max_target_length : int, default=None
        Token limit of a training target; None is what the backbone leaves room for.

    Attributes
    ----------
    n_features_in_ : int
        1 for texts, 2 for text pairs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X was a frame.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Validation log-likelihood of each epoch.
    best_validation_score_ : float or None
        The best of them.
    history_ : list of dict
        All that is known of each epoch: loss, seconds, learning rate of the last step, training
        score (of the batches as they were trained on) and validation score.
    n_trainable_parameters_ : int
        Number of trainable parameters.
    n_truncated_ : int
        Training texts that were longer than the token limit.
    dtype_, device_ : str
        Precision and device of the frozen backbone.
    backbone_revision_ : str or None
        Commit of the checkpoint on the hub.

    References
    ----------
    A. Jain, S. Chaudhuri, T. Reps, C. Jermaine. "Prompt Tuning Strikes Back: Customizing
    Foundation Models with Low-Rank Prompt Adaptation." NeurIPS 2024. arXiv:2405.15282.

    Examples
    --------
    >>> from sklopa import LoPAGenerator
    >>> model = LoPAGenerator(max_new_tokens=40, random_state=0)
    >>> model.fit(["name[Aromi]"], ["This is Aromi."]).predict(["name[Zizzi]"])  # doctest: +SKIP
    array(['This is Zizzi.'], dtype=object)
    """

    model: str | PathLike | Backbone = replaced("model", "HuggingFaceTB/SmolLM2-135M-Instruct")
    _: KW_ONLY
    prompt_length: int = replaced("prompt_length", 50)
    bottleneck: int = replaced("bottleneck", 32)
    max_iter: int = replaced("max_iter", 5)
    batch_size: int = replaced("batch_size", 8)
    max_new_tokens: int = parameter(64, integer(1))
    num_beams: int = parameter(1, integer(1, 256))
    do_sample: bool = parameter(False, BOOLEAN)
    temperature: float = parameter(1.0, TEMPERATURE)
    top_p: float = parameter(1.0, real(0, 1, open_low=True, open_high=False))
    stop: str | list[str] | None = parameter(None, TEXTS | NONE)
    chat_template: str | None = parameter("auto", one_of("auto") | NONE)
    max_target_length: int | None = parameter(None, integer(1) | NONE)

    # ------------------------------------------------------------------ predicting

    def predict(self, X: Any) -> np.ndarray:
        """One generated text a row.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        ndarray of shape (n,), object
        """
        return self._generate(X, self._task().decoding, 1)[:, 0]

    def sample(self, X: Any, n_samples: int) -> np.ndarray:
        """Draw several texts a row; each source is read once, however many are drawn.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)
        n_samples : int

        Returns
        -------
        ndarray of shape (n, n_samples), object

        Raises
        ------
        InvalidParameter
            If `n_samples` is not a positive integer.
        """
        if not integer(1).accepts(n_samples):
            raise InvalidParameter(
                f"sample: n_samples must be {integer(1).allowed}; got {n_samples!r}"
            )
        drawing = replace(self._task().decoding, do_sample=True, num_beams=1)
        return self._generate(X, drawing, n_samples)

    @in_own_modes
    def log_likelihood(self, X: Any, y: Any = None) -> np.ndarray:
        """Mean log-probability of a token of each target, its end token included.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)
        y : array-like of shape (n,)
            Target texts.

        Returns
        -------
        ndarray of shape (n,), float32
        """
        from sklopa._batches.run import check_finite, run_rows

        network, inputs, task = self._fitted_network(), self._read_known(X), self._task()
        self._check_targets(y, len(inputs))
        targets = task.encode(y, len(inputs))
        with self._threads(len(inputs)):
            rows, truncation = network.prepare(inputs.rows, self._memory_folder)
            truncation.warn()
            live = network.live().eval()
            learned = task.attach(rows, targets, network)
            values = run_rows(learned, live, self.batch_size, live.device)
        return check_finite(values, network.design.backbone.model)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Share of rows whose generated text is the target, up to white space."""
        from sklopa.metrics import exact_match_score

        written = self.predict(X)
        self._check_targets(y, len(written))
        return exact_match_score(y, written, sample_weight=sample_weight)

    # ------------------------------------------------------------------ what is learned

    def _ignored(self) -> Iterator[tuple[str, str]]:
        yield from super()._ignored()
        if self.do_sample and self.num_beams > 1:
            yield f"num_beams={self.num_beams}", "with do_sample=True: beams are not drawn"

    def _learn_task(self, y: Any, n_rows: int, sample_weight: Any) -> tuple[Writing, Targets]:
        task = self._task()
        return task, task.encode(y, n_rows, sample_weight)

    def _task(self) -> Writing:
        from sklopa._heads.writing import Decoding
        from sklopa._tasks.writing import Writing

        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        decoding = Decoding(
            max_new_tokens=self.max_new_tokens,
            num_beams=1 if self.do_sample else self.num_beams,
            do_sample=self.do_sample,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(stop),
        )
        return Writing(self.max_target_length, decoding)

    def _words(self, task: Task, n_columns: int) -> dict[str, Any]:
        from sklopa._loading.live import live_language_model
        from sklopa._tokens.template import chat_template
        from sklopa._tokens.texts import special_texts

        frozen = live_language_model(as_backbone(self.model))
        if frozen.family.kind == "encoder":
            raise UnsupportedBackbone(
                f"{frozen.name!r} is a {frozen.config.model_type} encoder, which cannot generate "
                "text. Use a causal or encoder-decoder language model, such as "
                "'HuggingFaceTB/SmolLM2-135M-Instruct'."
            )
        frozen.require_lm_head()
        template = None
        if self.chat_template:
            pattern = "{text}" if n_columns == 1 else "{text}\n{text_pair}"
            prompted = self.prompt_length > 0
            template = chat_template(frozen.tokenizer, pattern, prompted=prompted)
        return {
            "template": template,
            "generates": True,
            "special_texts": special_texts(frozen.tokenizer),
            "reserved": self._longest if frozen.family.kind == "decoder" else 0,
        }

    @property
    def _longest(self) -> int:
        """Positions that are kept free for what is written."""
        return max(self.max_new_tokens, self.max_target_length or 0)

    @in_own_modes
    def _generate(self, X: Any, decoding: Decoding, n_samples: int) -> np.ndarray:
        """Texts (n, n_samples), object."""
        import torch

        from sklopa._backbone.language import as_language_model
        from sklopa._batches.run import in_order, run_in_batches
        from sklopa._heads.writing import write_texts
        from sklopa._network.build import check_room

        self._check_parameters()
        network, inputs = self._fitted_network(), self._read_known(X)
        if network.design.reserved < self._longest and network.design.reserved:
            longer = replace(network.design, reserved=self._longest)  # than was asked for in `fit`
            check_room(longer, type(self).__name__, self._reads)
            network = FittedNetwork(longer, network.weights, network.live())
        rows, truncation = network.prepare(inputs.rows, self._memory_folder)
        truncation.warn()
        live, generator = network.live().eval(), None
        frozen = as_language_model(live.frozen)
        if decoding.do_sample:  # greedy texts move no generator that was given
            generator = torch.Generator().manual_seed(draw_seeds(self.random_state).start)

        def run(indices: np.ndarray) -> list[list[str]]:
            batch = rows.batch(indices).to(live.device)
            return write_texts(frozen, live.inputs(batch), decoding, generator, n_samples)

        with self._threads(len(rows)), rows_bar(self, len(rows)) as on_rows:
            parts = run_in_batches(rows.lengths, self.batch_size, run, on_rows)
            texts = in_order(len(rows), parts)
        out = np.empty((len(texts), n_samples), dtype=object)
        out[:] = texts
        return out
