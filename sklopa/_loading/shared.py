"""`load_model`: the live model that estimators share, for those who want to run it themselves."""

from __future__ import annotations

from os import PathLike
from typing import Any

from sklopa._loading.description import Backbone, as_backbone


def load_model(model: str | PathLike | Backbone) -> tuple[Any, Any]:
    """The live frozen model of a description, and its tokenizer or image processor.

    They are those that all estimators of the process share: look at them and run them, but do not
    change them.

    Parameters
    ----------
    model : str, Path or Backbone
        What estimators take as `model`.

    Returns
    -------
    model : transformers PreTrainedModel
    tokenizer : transformers tokenizer, or image processor

    Raises
    ------
    BackboneNotFound, UnsupportedBackbone
        If there is no such model, or it cannot take soft prompts.

    Examples
    --------
    >>> import sklopa
    >>> model, tokenizer = sklopa.load_model("FacebookAI/roberta-base")  # doctest: +SKIP
    """
    from sklopa._loading.live import live_model

    frozen = live_model(as_backbone(model))
    return frozen.model, frozen.reads_with
