"""`LoPAImageClassifier`: images and labels in, labels and probabilities out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

from sklopa._estimators.classifying import ClassifierBase
from sklopa._estimators.onnx import OnnxMixin
from sklopa._estimators.parameters import replaced
from sklopa._inputs.images import Images, check_images
from sklopa._loading.description import Backbone
from sklopa._public import public
from sklopa.errors import BackboneNotFound

if TYPE_CHECKING:
    from sklopa._estimators.base import Inputs
    from sklopa._network.fitted import FittedNetwork
    from sklopa._tasks.interface import Task


@public("sklopa")
@dataclass(eq=False, repr=False)
class LoPAImageClassifier(OnnxMixin, ClassifierBase):
    """Classify images with a frozen vision transformer and a soft prompt for each image.

    P learned rows stand between the class token and the patches of the embedded image. With
    ``rank=0`` they are the same for all images, which is visual prompt tuning (VPT); with
    ``rank>0`` they are made for each image from its embedding, as LoPA makes them for texts. The
    vision transformer never changes, and any number of classifiers share one copy of it.

    A linear layer reads the image as the model was trained to be read, by its class token for one.
    Where ``rank>0`` and no encoder is trained, and in a linear probe, it also reads what the model
    makes of the image without a prompt: that embedding, and the mean of the patches in each quarter
    of the image, which tell where things are. VPT reads the prompted image alone, as published.

    Parameters
    ----------
    model : str, Path or Backbone, default="google/vit-base-patch16-224-in21k"
        The frozen backbone: a hub id, a local folder, or a :class:`Backbone` for its options.
        Images are made ready by the model's own image processor.
    prompt_length : int, default=10
        P >= 0, rows between the class token and the patches. 0 means no prompt: a linear probe on
        the frozen features.
    rank : int, default=4
        0 <= R <= P, rank of the instance-dependent part. 0 is VPT.
    gate : {"sigmoid", "add", "max", "concat", "instance"}, default="sigmoid"
        How the task prompt Z_S and the instance part Z_I = U V^T meet, as in `LoPAClassifier`.
    bottleneck : int, default=16
        H, hidden width of the two small networks that make U and V.
    depth : {"shallow", "deep"}, default="shallow"
        "shallow" has one prompt, at the first layer. "deep" has one for each layer, which takes
        the place of the prompt's states there.
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
    encoder : str, Path or Backbone, default=None
        Vision model that makes the instance embedding; None is the frozen backbone itself.
    train_encoder : bool, default=False
        Train (a private copy of) the encoder too. All of its weights then count as trainable,
        and are stored with the classifier.
    max_iter : int, default=10
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
    random_state : int, RandomState or None, default=None
        Same integer, same machine: same bits.
    verbose : int, default=0
        1 shows a progress bar with loss, rows a second and the time left.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels; for multilabel the names of the columns.
    n_features_in_ : int
        1: an image a row.
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
        0; images are resized, not cut.
    dtype_, device_ : str
        Precision and device of the frozen backbone.
    backbone_revision_ : str or None
        Commit of the checkpoint on the hub.

    Notes
    -----
    X is a list (tuple, Series, object array) of PIL images, arrays or :class:`pathlib.Path` of
    image files, or an array (n, height, width) or (n, height, width, 3). Arrays hold uint8 values,
    or floats from 0 to 1. Grey images are read as colour images. Files are read a batch at a time.

    Nothing is changed at random on the way. Augmentation is a transformer in front, in a Pipeline.

    References
    ----------
    M. Jia et al. "Visual Prompt Tuning." ECCV 2022. arXiv:2203.12119.

    A. Jain, S. Chaudhuri, T. Reps, C. Jermaine. "Prompt Tuning Strikes Back: Customizing
    Foundation Models with Low-Rank Prompt Adaptation." NeurIPS 2024. arXiv:2405.15282.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sklopa import LoPAImageClassifier
    >>> files = sorted(Path("photos").glob("*/*.jpg"))
    >>> clf = LoPAImageClassifier(depth="deep", rank=0, random_state=0)
    >>> clf.fit(files, [file.parent.name for file in files])  # doctest: +SKIP
    """

    model: str | PathLike | Backbone = replaced("model", "google/vit-base-patch16-224-in21k")
    _: KW_ONLY
    max_iter: int = replaced("max_iter", 10)

    _reads: ClassVar[str] = "images"
    _n_views: ClassVar[int] = 2

    def _read_inputs(self, X: Any) -> Images:
        return check_images(X)

    def _fresh_network(self, task: Task, inputs: Inputs, seed: int) -> FittedNetwork:
        try:
            return super()._fresh_network(task, inputs, seed)
        except BackboneNotFound as error:
            raise BackboneNotFound(
                f"{error} No package carries a vision model; where there is no connection, "
                "examples/small_vit.py trains a small one."
            ) from error.__cause__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = False
        tags.input_tags.three_d_array = True
        return tags
