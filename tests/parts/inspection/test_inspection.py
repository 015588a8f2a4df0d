"""What all of `sklopa.inspection` promises, whatever is looked at."""

import copy
import doctest
import importlib
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_vision
from matplotlib.colors import to_hex
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sklopa
from sklopa import LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa.errors import InvalidType, MissingDependency, NotFitted
from sklopa.inspection import (
    AblationDisplay,
    HistoryDisplay,
    PromptDisplay,
    SearchDisplay,
    nearest_tokens,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEXTS = [
    "the film was good",
    "a bad book",
    "it was fine",
    "awful plot",
    "good and fine",
    "not good",
]
TARGETS = {
    "classifier": ["pos", "neg", "pos", "neg", "pos", "neg"],
    "several labels": [{"a"}, {"b"}, {"a", "b"}, set(), {"a"}, {"b"}],
    "regressor": [1.0, -1.0, 0.5, -2.0, 1.5, -0.5],
    "generator": ["yes", "no", "yes", "no", "yes", "no"],
    "images": ["standing", "lying"] * 3,
}
KINDS = list(TARGETS)


def data(kind):
    if kind == "images":
        return list(tiny_vision.images(6)[0]), TARGETS[kind]
    return TEXTS * 2, TARGETS[kind] * 2


def make(kind, **options):
    options = {
        "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 3, "batch_size": 4,
        "random_state": 0,
    } | options  # fmt: skip
    if kind == "images":
        return LoPAImageClassifier(tiny_vision.backbone(), **options)
    if kind == "generator":
        return LoPAGenerator(tiny.backbone("gpt2"), max_new_tokens=3, **options)
    maker = LoPARegressor if kind == "regressor" else LoPAClassifier
    return maker(tiny.backbone(), **options)


@lru_cache
def fitted(kind="classifier", watched=True):
    X, y = data(kind)
    return make(kind).fit(X, y, X_val=X, y_val=y) if watched else make(kind).fit(X, y)


@lru_cache
def searched():
    search = GridSearchCV(make("classifier", max_iter=1), {"rank": [0, 1]}, cv=2)
    return search.fit(*data("classifier"))


DRAW = {
    "history": lambda **style: HistoryDisplay.from_estimator(fitted(), **style),
    "prompts": lambda **style: PromptDisplay.from_estimator(fitted(), *data("classifier"), **style),
    "ablation": lambda **style: AblationDisplay.from_estimator(
        fitted(), *data("classifier"), n_bootstraps=20, **style
    ),
    "search": lambda **style: SearchDisplay.from_search(searched(), y=None, **style),
}
STYLES = {"history": "loss_kw", "prompts": "scatter_kw", "ablation": "bar_kw", "search": "im_kw"}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


# ---------------------------------------------------------------------- scikit-learn's convention


@pytest.mark.parametrize("name", DRAW)
def test_axes_that_are_given_are_drawn_in_and_no_figure_opens(name):
    figure = matplotlib.figure.Figure()  # pyplot knows nothing of it
    ours, other = figure.subplots(1, 2)
    display = DRAW[name](ax=ours)
    assert display.ax_ is ours
    assert display.figure_ is figure
    assert ours.has_data()
    assert not other.has_data()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", DRAW)
def test_without_axes_one_figure_opens_and_drawing_again_goes_elsewhere(name):
    display = DRAW[name]()
    first = display.figure_
    assert plt.get_fignums() == [first.number]
    assert display.ax_ in first.axes
    assert display.plot(plt.figure().add_subplot()) is display
    assert display.figure_ is not first


@pytest.mark.parametrize("name", DRAW)
def test_a_drawing_that_fails_leaves_no_figure_behind(name):
    with pytest.raises(AttributeError, match="nonsense"):
        DRAW[name](**{STYLES[name]: {"nonsense": 1}})
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", DRAW)
def test_style_goes_to_the_artists_under_its_short_names_too(name):
    display = DRAW[name](**{STYLES[name]: {"alpha": 0.25, "zorder": 7}})
    artists = {
        "history": lambda: [display.loss_line_],
        "prompts": lambda: display.scatters_,
        "ablation": lambda: display.bars_.patches,
        "search": lambda: display.images_,
    }[name]()
    assert {(artist.get_alpha(), artist.get_zorder()) for artist in artists} == {(0.25, 7)}
    if name == "history":
        line = HistoryDisplay([2.0, 1.0]).plot(loss_kw={"c": "red", "lw": 4}).loss_line_
        assert (to_hex(line.get_color()), line.get_linewidth()) == ("#ff0000", 4)


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_the_error_says_how_to_get_it(name, monkeypatch):
    display = DRAW[name]()
    for module in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, module, None)
    for draw in (DRAW[name], display.plot):
        with pytest.raises(MissingDependency, match=r"Display.*pip install matplotlib") as caught:
            draw()
        assert isinstance(caught.value, ImportError)


def test_without_matplotlib_nothing_is_computed_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setattr(LoPAClassifier, "generate_prompts", lambda *_: pytest.fail("it ran"))
    with pytest.raises(MissingDependency):
        PromptDisplay.from_estimator(fitted(), TEXTS)


def test_importing_sklopa_does_not_import_matplotlib():
    code = (
        "import json, sys, sklopa, sklopa.inspection;"
        "print(json.dumps([m for m in ('matplotlib', 'torch') if m in sys.modules]))"
    )
    path = os.environ | {"PYTHONPATH": str(Path(sklopa.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=path, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", ["history", "prompts", "ablation", "search", "tokens"])
def test_the_examples_in_the_docstrings_hold(name):
    module = importlib.import_module(f"sklopa.inspection.{name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


# ---------------------------------------------------------------------- what may be looked at


LOOK = {
    "history": HistoryDisplay.from_estimator,
    "prompts": lambda estimator: PromptDisplay.from_estimator(estimator, TEXTS),
    "ablation": lambda estimator: AblationDisplay.from_estimator(estimator, *data("classifier")),
    "tokens": nearest_tokens,
}


@pytest.mark.parametrize("name", LOOK)
def test_what_is_not_fitted_and_what_is_not_ours_is_refused(name):
    with pytest.raises(NotFitted, match="LoPAClassifier instance is not fitted"):
        LOOK[name](make("classifier"))
    with pytest.raises(InvalidType, match="got LogisticRegression"):
        LOOK[name](LogisticRegression())
    assert plt.get_fignums() == []


def test_a_pipeline_is_looked_into_and_its_first_steps_are_applied():
    X, y = data("classifier")
    loud = [text.upper() + "!" for text in X]
    pipe = make_pipeline(FunctionTransformer(lambda rows: [r.strip("!").lower() for r in rows]))
    pipe = make_pipeline(*pipe.named_steps.values(), make("classifier")).fit(loud, y)
    alone = make("classifier").fit(X, y)
    np.testing.assert_array_equal(
        PromptDisplay.from_estimator(pipe, loud).coordinates,
        PromptDisplay.from_estimator(alone, X).coordinates,
    )
    assert AblationDisplay.from_estimator(pipe, loud, y).scores == alone.ablate(X, y)
    assert list(HistoryDisplay.from_estimator(pipe).losses) == alone.loss_curve_


def test_a_search_stands_for_its_best_estimator():
    best = searched().best_estimator_
    assert list(HistoryDisplay.from_estimator(searched()).losses) == best.loss_curve_


def test_a_search_without_a_best_estimator_is_refused():
    search = GridSearchCV(make("classifier", max_iter=1), {"rank": [0]}, cv=2, refit=False)
    for unfitted in (search, search.fit(*data("classifier"))):
        with pytest.raises(NotFitted, match="GridSearchCV instance has no best_estimator_"):
            HistoryDisplay.from_estimator(unfitted)


def test_inputs_and_estimator_stay_as_they_were():
    frame = pd.DataFrame({"text": TEXTS * 2})
    labels = pd.Series(TARGETS["classifier"] * 2, name="mood")
    clf = make("classifier").fit(frame, labels)
    before = frame.copy(), labels.copy(), clf.predict_proba(frame), copy.deepcopy(clf.history_)
    HistoryDisplay.from_estimator(clf)
    PromptDisplay.from_estimator(clf, frame, labels)
    AblationDisplay.from_estimator(clf, frame, labels)
    nearest_tokens(clf, frame, k=1)
    pd.testing.assert_frame_equal(frame, before[0])
    pd.testing.assert_series_equal(labels, before[1])
    np.testing.assert_array_equal(clf.predict_proba(frame), before[2])
    assert clf.history_ == before[3]
