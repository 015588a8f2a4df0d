"""Which frozen models a network reads, and whether they are those that it was fitted on.

Caches, archives, checkpoints and pickles go by the same digests, `Frozen.content`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from sklopa._backbone.frozen import Frozen
from sklopa._loading.description import Backbone
from sklopa._loading.live import live_model
from sklopa._network.design import Design

# What is compared of two models: always, where transformers is as it was (another version may
# write the same configuration otherwise), and where the weights are held alike.
_ALWAYS, _SAME_VERSION, _SAME_DTYPE = (
    ("shapes", "vocabulary"),
    ("configuration", "reader"),
    "weights",
)


def models_of(design: Design) -> dict[str, Backbone]:
    """Descriptions of the frozen models that a design reads, each once."""
    models = {"backbone": design.backbone}
    if design.reads_instances and design.encoder != design.backbone:
        models["encoder"] = design.encoder
    return models


def live_models(design: Design) -> dict[str, Frozen[Any]]:
    """The frozen models that a design reads, loaded."""
    return {name: live_model(used) for name, used in models_of(design).items()}


def told_of(live: Mapping[str, Frozen[Any]]) -> dict[str, dict[str, Any]]:
    """What is stored of the models that an estimator was fitted on."""
    return {
        name: {"dtype": _name_of(frozen), "revision": frozen.revision, **frozen.content}
        for name, frozen in live.items()
    }


def _name_of(frozen: Frozen[Any]) -> str:
    return str(frozen.dtype).removeprefix("torch.")


def version_of_transformers() -> str:
    """The version that configurations and tokenizers are written by."""
    return importlib.metadata.version("transformers")


def compare(
    name: str, then: Mapping[str, Any], frozen: Frozen[Any], version: str | None
) -> tuple[str | None, str | None]:
    """What is wrong with a model, and what may make outputs differ slightly.

    Parameters
    ----------
    name : {"backbone", "encoder"}
    then : what was stored of the model of then
    frozen : the model of now
    version : str or None, of transformers at that time
    """
    now = told_of({name: frozen})[name]
    same_version = version == version_of_transformers()
    then_dtype = str(then.get("dtype")).removeprefix("torch.")
    same_dtype = then_dtype == now["dtype"]
    told = [*_ALWAYS, *(_SAME_VERSION if same_version else ())]
    told += [_SAME_DTYPE] if same_dtype else []
    # Archives that were written before these were told have neither.
    known = {what: now[what] for what in _SAME_VERSION} | dict(then)
    differ = [what for what in told if known.get(what) != now[what]]
    if differ:
        return (
            f"The {name} is not the one that the estimator was fitted on: {frozen.name!r} here "
            f"has other {' and '.join(differ)} (revision {now['revision']}, fitted on "
            f"{then.get('revision')})."
        ), None
    if same_dtype:
        return None, None
    return None, (
        f"The {name} was held in {then_dtype} at fit and is in {now['dtype']} here; outputs "
        "may differ slightly. Backbone(..., dtype=) sets it."
    )
