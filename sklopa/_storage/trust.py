"""What restored state may contain. Archives, checkpoints, skops files and pickles all come here.

A stranger wrote the file until it is shown otherwise. What is stored is a list of names, each with
a rule; whatever is not on it is refused, and nothing here has an effect besides its answer. What
only the caller can allow (folders to write to, code that comes with a model) is never restored.
It imports no torch, so that unpickling stays light.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import fields, replace
from string import Formatter
from typing import Any

import numpy as np

from sklopa._inputs.rules import check_parameters
from sklopa._loading.description import Backbone, Permitted
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._storage.record import Schema
from sklopa._storage.single_values import (
    STORED_REQUESTS,
    as_refused,
    check_generator_state,
    check_requests,
    check_training,
    plain_requests,
    refused,
    shown,
)
from sklopa._tokens.template import Template

# Parameters that name folders of one machine; a stranger's would be written to.
FOLDERS = frozenset({"memory", "checkpoint_dir"})
OUTPUT = "_sklearn_output_config"  # of `set_output`
TRAINING = "_training"  # what `partial_fit` goes on from
# What earlier versions kept beside, and nothing reads any more.
_FORMER = frozenset({"_truncation"})
_NETWORK = ("_design", "_weights", "_models")
_OUTPUTS = [{}, *({"transform": kind} for kind in ("default", "pandas", "polars", None))]
_LABELS = (
    str, bytes, bool, int, float, np.generic, datetime.date, type(None), tuple,
)  # fmt: skip


# ---------------------------------------------------------------- state of pickles and skops


def trusted_state(
    schema: Schema, state: Mapping[str, Any] | Permitted
) -> tuple[dict[str, Any], FittedNetwork | None, dict[str, dict]]:
    """What an estimator may take over from its state, its network, and its requests.

    Parameters
    ----------
    schema : Schema
    state : dict, as `__getstate__` gives it
        Or a `Permitted`, which only formats that run code can hold.

    Raises
    ------
    InvalidArchive
        If it holds a name that is not known, or a value that breaks a rule.
    """
    rest: dict[str, Any] = {}
    if isinstance(state, Permitted):
        rest, state = state.rest, state.plain
    try:
        values = {name: value for name, value in state.items() if name not in _FORMER}
        design, weights, models = (values.pop(name, None) for name in _NETWORK)
        requests = check_requests(plain_requests(values))
        for name, value in values.items():
            _check_one(schema, name, value)
        values |= dict.fromkeys(FOLDERS & values.keys())
        if design is None or weights is None:
            return values | rest, None, requests
        attributes = {k: v for k, v in values.items() if k in schema.attributes}
        network = FittedNetwork(
            _as_design(design), check_weights(weights), models=_check_models(models)
        )
        check_network(schema, attributes, network)
    except Exception as error:  # a hostile value may break anything
        raise as_refused(error) from error
    return values | rest, network, requests


def as_pickled(schema: Schema, state: dict[str, Any]) -> dict[str, Any] | Permitted:
    """State for a pickle: plain, with whatever `trusted_state` would not take kept apart."""
    rest = {}
    for name, value in state.items():
        if name in (*_NETWORK, STORED_REQUESTS):
            continue
        try:
            if name in FOLDERS and value is not None:
                raise refused("it names a folder to write to")
            _check_one(schema, name, value)
        except Exception:  # a rule may stumble over what a user put there
            rest[name] = value
    plain = {name: value for name, value in state.items() if name not in rest}
    return Permitted(plain, rest) if rest else plain


def _check_one(schema: Schema, name: str, value: Any) -> None:
    if name == OUTPUT:
        if value not in _OUTPUTS:
            raise refused(f"{OUTPUT} is {shown(value)}")
        return
    if name == TRAINING:
        check_training(value)
        return
    rule = schema.parameters.get(name) or schema.attributes.get(name)
    if rule is None:
        if schema.knows(name):
            return
        raise refused(f"{name!r} is no parameter and no fitted attribute of {schema.kind}")
    if name in FOLDERS:
        return  # whatever it is, it is dropped
    if not rule.accepts(value):
        raise refused(f"{name} must be {rule.allowed}; it is {shown(value)}")
    if isinstance(value, np.random.RandomState):
        check_generator_state(value.get_state(legacy=True))
    if name == "classes_":
        _check_labels(value)


# ---------------------------------------------------------------- records


def check_record(schema: Schema, parameters: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Raise unless the values of an archive are what its class knows, and nothing else.

    Raises
    ------
    InvalidArchive
    """
    if FOLDERS & set(parameters):
        raise refused("it names folders to write to")
    odd = [name for name in parameters if name not in schema.parameters]
    if odd:
        raise refused(f"{odd[0]!r} is no parameter of {schema.kind}")
    check_requests(attributes.get(STORED_REQUESTS, {}))
    odd = [name for name in attributes if name not in {*schema.attributes, STORED_REQUESTS, OUTPUT}]
    if odd:
        raise refused(f"{odd[0]!r} is no fitted attribute")
    for name, value in (parameters | attributes).items():
        if name != STORED_REQUESTS:
            _check_one(schema, name, value)
    _check_complete(schema, attributes)


def check_network(schema: Schema, attributes: dict[str, Any], network: FittedNetwork) -> None:
    """Raise unless attributes, design and weights belong together.

    What only the frozen model can tell (its width, its vocabulary) is checked where it is loaded.
    """
    design = network.design
    _check_complete(schema, attributes)
    # A template is a text as a parameter, and an object in the design.
    shared = vars(design).keys() & schema.parameters.keys() - {"template"}
    rules = {name: schema.parameters[name] for name in shared}
    check_parameters("its design", vars(design), rules)
    for name in {
        "max_length",
        "prompt_layer",
        "special_tokens",
    } - schema.parameters.keys():  # as nothing sets them
        if getattr(design, name) != getattr(Design, name):
            raise refused(f"its design has {name}={getattr(design, name)!r}")
    for name in ("pairs", "generates"):
        if type(getattr(design, name)) is not bool:
            raise refused(f"its design has {name}={getattr(design, name)!r}")
    for name, least in (("n_outputs", 0), ("reserved", 0), ("n_views", 1)):
        if type(getattr(design, name)) is not int or getattr(design, name) < least:
            said = {"reserved": "keeps", "n_views": "reads"}.get(name, "has")
            what = {"reserved": "positions free", "n_views": "views of a row"}.get(name, "outputs")
            raise refused(f"its design {said} {getattr(design, name)!r} {what}")
    if design.n_views > schema.n_views:
        raise refused(f"its design reads {design.n_views!r} views of a row")
    if not isinstance(design.backbone, Backbone) or not isinstance(design.encoder, Backbone):
        raise refused("its design names no model")
    check_sizes(design, network.weights)
    _check_outputs(design, attributes)
    _check_words(design)


def check_sizes(design: Design, weights: Mapping[str, np.ndarray], width: int = 1) -> None:
    """Refuse a design that would take more memory than its weights.

    Parameters
    ----------
    width : int, of a prompt's rows, where it is known
    """
    n_stored = sum(value.size for value in weights.values())
    n_rank = design.rank * design.prompt_length
    n_trained = design.n_outputs if design.word_ids is None else 0  # words are not trained
    least = [n_trained, design.prompt_length if design.gate != "instance" else 0]
    if design.reads_instances:
        least += [design.bottleneck * max(n_rank, design.rank * width)]
    if max(least) > n_stored:
        raise refused(f"its design asks for {max(least)} values, and {n_stored} are stored")


def check_weights(weights: Any) -> dict[str, np.ndarray]:
    """Trained values by name, all of them finite and float32."""
    if not isinstance(weights, Mapping):
        raise refused("its weights are no table")
    for name, value in weights.items():
        is_array = isinstance(name, str) and isinstance(value, np.ndarray)
        if not is_array or value.dtype != np.float32 or not np.isfinite(value).all():
            kind = getattr(value, "dtype", type(value).__name__)
            raise refused(f"weights {name} are {kind}, or not all of them are finite")
    return dict(weights)


def _check_models(models: Any) -> dict[str, Any] | None:
    """What is told of frozen models: tables of texts."""
    if models is None:
        return None
    fine = isinstance(models, dict) and all(
        isinstance(name, str)
        and isinstance(told, dict)
        and all(isinstance(k, str) and isinstance(v, (str, type(None))) for k, v in told.items())
        for name, told in models.items()
    )
    if not fine:
        raise refused("what it tells of its models is no table of texts")
    return models


def _as_design(values: Any) -> Design:
    """The design of plain values, as `Design.as_dict` gives them."""
    values, template = dict(values), values["template"]
    for name in ("word_ids", "special_texts"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    odd = values.keys() - {f.name for f in fields(Design)}
    if odd or not (template is None or isinstance(template, dict)):
        raise refused(f"its design has {sorted(odd) or 'a template'} that cannot be read")
    return Design.from_dict(values)


def _check_complete(schema: Schema, attributes: Mapping[str, Any]) -> None:
    lacking = sorted(set(schema.attributes) - schema.optional - set(attributes))
    if lacking:
        raise refused(f"it lacks what a fitted {schema.kind} has: {', '.join(lacking)}")


def _check_outputs(design: Design, fitted: Mapping[str, Any]) -> None:
    """Raise unless what stands for the outputs of the network is there for each of them."""
    found = {
        "classes": len(fitted.get("classes_", range(design.n_outputs))),
        "columns": fitted.get("n_outputs_", design.n_outputs),
        "means": len(fitted.get("_target_mean", range(design.n_outputs))),
        "scales": len(fitted.get("_target_scale", range(design.n_outputs))),
    }
    for name, n in found.items():
        if n != design.n_outputs:
            raise refused(f"it has {n} {name} and {design.n_outputs} outputs")
    names = fitted.get("feature_names_in_")
    if names is not None and len(names) != fitted["n_features_in_"]:
        raise refused(f"it has {len(names)} names of {fitted['n_features_in_']} columns")
    if "_target_scale" in fitted and not (fitted["_target_scale"] > 0).all():
        raise refused("a scale of its targets is not above 0")


def _check_labels(labels: np.ndarray) -> None:
    odd = [x for x in labels.tolist() if not isinstance(x, _LABELS)] if labels.size else []
    if odd:
        raise refused(f"classes_ has a label {shown(odd[0])}")


def _check_words(design: Design) -> None:
    words, template, special = design.word_ids, design.template, design.special_texts
    if type(special) is not tuple or not all(type(text) is str and text for text in special):
        raise refused("a token of its model is no text")
    if words is not None:
        if not all(type(word) is int and word >= 0 for word in words):
            raise refused("a word of its verbaliser is no token")
        if len(words) != design.n_outputs:
            raise refused(f"it has {len(words)} words and {design.n_outputs} outputs")
    if template is not None:
        check_template(template)


def check_template(template: Template) -> None:
    """Raise unless a template is a text that asks for texts alone.

    Raises
    ------
    InvalidArchive
    """
    texts = dict.fromkeys(("pattern", "joint", "behind", "trims"), str)
    marks = {"mask_token": (str, type(None)), "mask_id": (int, type(None)), "special_tokens": bool}
    kinds: dict[str, Any] = texts | marks | {"before": (str, type(None))}
    if not all(isinstance(getattr(template, name), kind) for name, kind in kinds.items()):
        raise refused("its template is no text")
    for _, name, form, conversion in Formatter().parse(template.pattern):
        if name not in (None, "text", "text_pair", "mask") or form or conversion:
            raise refused(f"its template {template.pattern[:40]!r} asks for more than texts")


# ---------------------------------------------------------------- what the caller allows


def permitted(network: FittedNetwork, model: Any, encoder: Any) -> FittedNetwork:
    """The network with code that comes with its models allowed, where the parameters allow it.

    Restored state never has `trust_remote_code`; who gives the same model again with it, through
    ``set_params(model=Backbone(..., trust_remote_code=True))``, has allowed it.
    """
    given = {"backbone": model, "encoder": model if encoder is None else encoder}
    allowed: dict[str, Any] = {}
    for name, described in given.items():
        kept = getattr(network.design, name)
        if not isinstance(described, Backbone) or kept.trust_remote_code:
            continue
        if described.trust_remote_code and replace(described, trust_remote_code=False) == kept:
            allowed[name] = described
    if not allowed:
        return network
    return network.of_design(replace(network.design, **allowed))
