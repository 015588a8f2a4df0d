"""`LoPAClassifier`: texts and labels in, labels and probabilities out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sklopa._estimators.classifying import ClassifierBase
from sklopa._estimators.onnx import OnnxMixin
from sklopa._estimators.parameters import TextParameters, parameter
from sklopa._inputs.rules import NONE, instance_of, one_of
from sklopa._loading.description import as_backbone
from sklopa._public import public
from sklopa.errors import InvalidParameter

if TYPE_CHECKING:
    from sklopa._tasks.interface import Task


@public("sklopa")
@dataclass(eq=False, repr=False)
class LoPAClassifier(OnnxMixin, ClassifierBase, TextParameters):
    """Classify texts with a frozen language model and a soft prompt for each text.

    LoPA (low-rank prompt adaptation) puts P learned rows in front of the embedded text. The rows
    are made for each text from its embedding; the language model itself never changes. What is
    trained is small, so a fitted classifier pickles in a few megabytes or less, and any number
    of them share one copy of the model in memory.

    Parameters
    ----------
    model : str, Path or Backbone, default="sentence-transformers/all-MiniLM-L6-v2"
        The frozen backbone: a hub id, a local folder, or a :class:`Backbone` for its options.
    prompt_length : int, default=10
        P >= 0, rows in front of the text. More rows can say more and cost time, since each is
        read like a token. 0 means no prompt: a linear probe on the frozen features.
    rank : int, default=4
        0 <= R <= P, rank of the instance-dependent part. 0 makes one prompt for all texts,
        which is prompt tuning.
    gate : {"sigmoid", "add", "max", "concat", "instance"}, default="sigmoid"
        How the task prompt Z_S and the instance part Z_I = U V^T meet. "sigmoid" is the method:
        Z_S * sigmoid(Z_I). "add", "max" and "concat" use Z_I as it is; "concat" takes 2 P rows.
        "instance" drops Z_S, which is IDPG.
    bottleneck : int, default=16
        H, hidden width of the two small networks that make U and V. Most trainable parameters are
        here: their number grows with H (2 E + R (P + D)).
    prompt_layer : int, default=0
        Layer whose input the prompt joins. 0 is the method as published. At a later layer those
        below run once for a row, without the prompt, and training does not touch them: it is
        faster, and a server that takes input embeddings cannot be sent such a prompt. With
        ``depth="deep"`` there is a prompt for each layer from there on.
    cv : int, splitter or False, default=5
        How `fit_transform` parts the rows, so that the features of each come from a fit that has
        not seen its label. False gives those of the one fit on all rows. Nothing else reads it.
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
        and are stored with the classifier.
    head : {"linear", "verbalizer"}, default="linear"
        "linear" trains a linear layer on the pooled states of the text and, unless ``rank=0``, on
        its embedding and an earlier layer's view of it. "verbalizer" trains the prompt alone and
        reads one word a class from the model's own vocabulary: at the mask of
        a masked language model, or after the template for a causal one.
    template : str, default=None
        For ``head="verbalizer"``: text with ``{text}``, ``{text_pair}`` for pairs, and ``{mask}``
        for masked language models. None puts the mask behind the text.
    chat_template : {"auto", None}, default="auto"
        For ``head="verbalizer"`` on a causal language model whose tokenizer has a chat template:
        "auto" makes the template's text what a user says, with the prompt at the start of that
        message, and the label word the answer to it. None reads the word behind the text itself.
    verbalizer : dict, default=None
        ``{label: word}`` for ``head="verbalizer"``. None takes the labels themselves.
    max_length : int, default=None
        Token limit of a text; None is what the backbone allows minus the prompt.
    max_iter : int, default=6
        Epochs at most.
    batch_size : int, default=32
        Rows in a training step, and in a chunk of a prediction (which does not change it).
    learning_rate : float, default=1e-3
        Of the head. At the default a step moves the task prompt by a third of the size of its
        values, whatever the scale of the model's embeddings. The instance networks learn at 0.3
        of this rate.
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
        Hold out rows (or use `X_val`), stop when their accuracy no longer rises, and go back to
        the best epoch. Otherwise training stops when the loss no longer falls.
    validation_fraction : float, default=0.1
        Share of the rows to hold out for `early_stopping`.
    n_iter_no_change : int, default=5
        Epochs without an improvement of `tol` after which training stops.
    tol : float, default=1e-4
        See `n_iter_no_change`.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as everywhere in scikit-learn.
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

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels; for multilabel the names of the columns.
    n_features_in_ : int
        1 for texts, 2 for text pairs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X was a frame.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Validation accuracy of each epoch.
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
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> texts, labels = load_intents(return_X_y=True)
    >>> clf = LoPAClassifier(random_state=0).fit(texts, labels)  # doctest: +SKIP
    >>> clf.predict(["where is my parcel?"])  # doctest: +SKIP
    array(['track_order'], dtype=object)
    """

    _: KW_ONLY
    head: str = parameter("linear", one_of("linear", "verbalizer"))
    template: str | None = parameter(None, instance_of(str, named="a text") | NONE)
    chat_template: str | None = parameter("auto", one_of("auto") | NONE)
    verbalizer: dict | None = parameter(
        None, instance_of(dict, named="a dict {label: word}") | NONE
    )

    _n_views: ClassVar[int] = 2

    def _check_parameters(self) -> None:
        super()._check_parameters()
        given = [name for name in ("template", "verbalizer") if getattr(self, name) is not None]
        if self.head == "linear" and given:
            raise InvalidParameter(
                f"{type(self).__name__}: parameter {given[0]} is for head='verbalizer', and "
                "head='linear' would ignore it; give that head, or leave it out"
            )

    def _words(self, task: Task, n_columns: int) -> dict[str, Any]:
        if self.head == "linear":
            return {}
        from sklopa._heads.label_words import make_template, word_ids
        from sklopa._loading.live import live_language_model
        from sklopa._tokens.template import chat_template
        from sklopa._tokens.texts import special_texts

        frozen, labels = live_language_model(as_backbone(self.model)), task.fitted()["classes_"]
        template, chat = make_template(frozen, self.template, n_columns), None
        if self.chat_template and frozen.family.kind == "decoder":
            prompted = self.prompt_length > 0
            chat = chat_template(frozen.tokenizer, template.pattern, prompted=prompted)
        words = word_ids(frozen, labels.tolist(), self.verbalizer, answers=chat is not None)
        special = special_texts(frozen.tokenizer)
        return {"template": chat or template, "word_ids": words, "special_texts": special}
