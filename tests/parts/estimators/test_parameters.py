"""The docstrings of the estimators say what is declared, in equal words for equal names."""

import inspect
import re
from dataclasses import fields

import pytest
from numpydoc.docscrape import ClassDoc

from sklopa import LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa._estimators.parameters import rules_of

KINDS = (LoPAClassifier, LoPARegressor, LoPAGenerator, LoPAImageClassifier)
# Parameters that mean something else in one estimator than in another.
DIFFER = {
    "model", "prompt_length", "rank", "gate", "bottleneck", "depth", "encoder", "train_encoder",
    "learning_rate", "early_stopping", "chat_template",
}  # fmt: skip


def documented(kind):
    return {p.name: p for p in ClassDoc(kind, config={})["Parameters"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_documented_and_none_else(kind):
    assert set(documented(kind)) == set(inspect.signature(kind).parameters) == set(rules_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_documented_defaults_are_those_that_are_declared(kind):
    for field in fields(kind):
        said = re.search(r"default=(.+)$", documented(kind)[field.name].type)
        assert said, field.name
        assert eval(said.group(1)) == field.default, field.name


@pytest.mark.parametrize("kind", KINDS)
def test_documented_choices_are_those_that_are_allowed(kind):
    rules = rules_of(kind)
    for name, parameter in documented(kind).items():
        if choices := re.match(r"\{(.+?)\}", parameter.type):
            for choice in eval(f"[{choices.group(1)}]"):
                assert rules[name].accepts(choice), (name, choice)


def test_equal_parameters_are_described_in_equal_words():
    said = {}
    for kind in KINDS:
        for name, parameter in documented(kind).items():
            said.setdefault(name, set()).add((parameter.type, *parameter.desc))
    differing = {name for name, texts in said.items() if len({t[1:] for t in texts}) > 1}
    assert differing == DIFFER & differing
    assert differing <= DIFFER


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_that_are_documented_are_those_that_a_fit_sets(kind):
    said = {
        name.strip()
        for p in ClassDoc(kind, config={})["Attributes"]
        for name in p.name.split(",")
    }  # fmt: skip
    public = {name for name in kind._fitted_rules if not name.startswith("_")}
    assert said == public - ({"feature_names_in_"} if kind._reads == "images" else set())


def test_a_subclass_with_parameters_of_its_own_fits(make_classifier, reviews):
    class Small(LoPAClassifier):
        def __init__(self, rank=2):
            super().__init__(model=make_classifier().model, rank=rank, prompt_length=3)

    clf = Small(rank=1).fit(*reviews)
    assert clf.get_params() == {"rank": 1}
    assert clf.predict(reviews[0]).shape == (len(reviews[0]),)
