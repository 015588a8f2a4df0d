"""`LoPARegressor`: texts and numbers in, numbers out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin

from sklopa._estimators.base import BaseLoPA
from sklopa._estimators.features import FeaturesMixin
from sklopa._estimators.onnx import OnnxMixin
from sklopa._estimators.parameters import LayerParameters, TextParameters, replaced
from sklopa._inputs.rules import VECTOR, integer
from sklopa._public import public

if TYPE_CHECKING:
    from sklopa._tasks.interface import Targets
    from sklopa._tasks.regression import Regression


@public("sklopa")
@dataclass(eq=False, repr=False)
class LoPARegressor(
    OnnxMixin, RegressorMixin, FeaturesMixin, BaseLoPA, LayerParameters, TextParameters
):
    """Predict numbers from texts with a frozen language model and a soft prompt for each text.

    The same as :class:`LoPAClassifier` with squared error in the place of cross entropy. The
    targets are standardised inside, so numbers of any size will do; several columns are learned
    together, each with equal weight.

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
        and are stored with the regressor.
    max_length : int, default=None
        Token limit of a text; None is what the backbone allows minus the prompt.
    max_iter : int, default=6
        Epochs at most.
    batch_size : int, default=32
        Rows in a training step, and in a chunk of a prediction (which does not change it).
    learning_rate : float, default=5e-4
        Of the head. At the default a step moves the task prompt by a sixth of the size of its
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
        Hold out rows (or use `X_val`), stop when their R2 no longer rises, and go back to
        the best epoch. Otherwise training stops when the loss no longer falls.
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

    Attributes
    ----------
    n_outputs_ : int
        K, columns of y.
    n_features_in_ : int
        1 for texts, 2 for text pairs.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X was a frame.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Validation R2 of each epoch.
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
    >>> from sklopa import LoPARegressor
    >>> pairs = [("a cat sat", "a cat was sitting"), ("a cat sat", "it rains")]
    >>> model = LoPARegressor(random_state=0).fit(pairs, [4.8, 0.2])  # doctest: +SKIP
    >>> model.predict([("a dog barks", "a dog is barking")])  # doctest: +SKIP
    array([4.1])
    """

    _: KW_ONLY
    learning_rate: float = replaced("learning_rate", 5e-4)

    _n_views: ClassVar[int] = 2
    _fitted_rules: ClassVar = BaseLoPA._fitted_rules | {
        "n_outputs_": integer(1),
        "_target_mean": VECTOR,
        "_target_scale": VECTOR,
    }

    def predict(self, X: Any) -> np.ndarray:
        """Number of each text, in the units of y.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        ndarray of shape (n,), or (n, K) where y had several columns, float64
        """
        outputs = self._outputs(X)
        return self._task().decide(outputs)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R2, the coefficient of determination, of the predictions; for numbers of any size.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)
        y : array-like of shape (n,) or (n, K)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        float
            1 at best; the mean over the columns of y.
        """
        task, outputs = self._task(), self._outputs(X)
        self._check_targets(y, len(outputs))
        return task.score_of(outputs, task.encode(y, len(outputs), sample_weight))

    def _learn_task(self, y: Any, n_rows: int, sample_weight: Any) -> tuple[Regression, Targets]:
        from sklopa._tasks.regression import learn_numbers

        return learn_numbers(y, n_rows, sample_weight)

    def _task(self) -> Regression:
        from sklopa._tasks.regression import Regression

        return Regression(self._target_mean, self._target_scale)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
