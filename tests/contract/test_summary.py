"""A fitted estimator says what it is made of, in a terminal and in a notebook."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import faults
import numpy as np
import pytest
import sklearn
import tiny
import tiny_vision
from helpers import weights_of

import sklopa
from sklopa import Backbone, LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa.errors import NotFitted, TruncationWarning

TEXTS = ["good film", "bad film", "fine book", "awful book"] * 4
NAMES = ["backbone", "prompt", "trainable", "epochs", "score", "truncated"]


def lines(estimator):
    title, *rest = estimator.summary().splitlines()
    assert title == type(estimator).__name__
    return dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in rest)


def make(kind, **options):
    options = faults.SMALL | {"max_iter": 2} | options
    if kind == "images":
        return LoPAImageClassifier(tiny_vision.backbone(), **options).fit(*tiny_vision.images())
    if kind == "generator":
        model = LoPAGenerator(tiny.backbone("gpt2"), max_new_tokens=2, **options)
        return model.fit(TEXTS, TEXTS)
    if kind == "regressor":
        return LoPARegressor(tiny.backbone(), **options).fit(TEXTS, np.arange(16.0))
    return LoPAClassifier(tiny.backbone(), **options).fit(TEXTS, ["a", "b"] * 8)


@pytest.mark.parametrize(
    ("kind", "score"),
    [
        ("classifier", "accuracy"), ("regressor", "R²"), ("generator", "log-likelihood"),
        ("images", "accuracy"),
    ],
)  # fmt: skip
def test_each_line_says_what_the_attributes_say(kind, score):
    model = make(kind, early_stopping=True)
    said = lines(model)
    assert list(said) == [name for name in NAMES if kind != "images" or name != "truncated"]
    assert said["backbone"].startswith("<live ")
    assert f"{model.dtype_} on {model.device_}" in said["backbone"]
    assert f"{model.n_trainable_parameters_:,} parameters" in said["trainable"]
    n_bytes = sum(value.nbytes for value in weights_of(model).values())
    number, unit = said["trainable"].split(", ")[-1].split()
    assert float(number) * {"bytes": 1, "kB": 1e3}[unit] == pytest.approx(n_bytes, rel=6e-3)
    assert said["epochs"] == f"{model.n_iter_} (max_iter=2)"
    assert f"training {score} {model.history_[-1]['training_score']:.3f}" in said["score"]
    best = 1 + int(np.argmax(model.validation_scores_))
    text = f"best validation {score} {model.best_validation_score_:.3f} in epoch {best}"
    assert text in said["score"]


def test_other_designs_are_told_apart(tiny_folder):
    other = Backbone(tiny_folder)
    assert lines(make("classifier", rank=0))["prompt"].endswith("the same for all rows")
    assert lines(make("classifier", prompt_length=0))["prompt"] == "none"
    assert "one for each layer" in lines(make("classifier", depth="deep"))["prompt"]
    assert "from layer 1" in lines(make("classifier", prompt_layer=1))["prompt"]
    assert lines(make("classifier", encoder=other))["encoder"] == tiny_folder
    words = make("classifier", head="verbalizer", prompt_length=0, verbalizer={"a": "a", "b": "it"})
    assert lines(words)["score"] == "none: nothing was trained"


def test_the_revision_is_the_one_that_was_read():
    model = make("classifier")
    model.backbone_revision_ = "abc123"
    assert "revision abc123" in lines(model)["backbone"]


def test_truncated_texts_are_counted():
    assert lines(make("classifier"))["truncated"] == "no training text"
    clf = LoPAClassifier(tiny.backbone(), **faults.SMALL, max_iter=1, max_length=4)
    with pytest.warns(TruncationWarning):
        clf.fit(["good", "bad film and book"], ["a", "b"])
    assert lines(clf)["truncated"] == "1 training text"


def test_there_is_no_summary_before_fit():
    with pytest.raises(NotFitted, match="LoPAClassifier"):
        LoPAClassifier().summary()


# ---------------------------------------------------------------- in a notebook


class Cells(HTMLParser):
    """The texts of the cells of our table, and all tags."""

    def __init__(self, view):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(view)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def table(view):
    found = re.findall(r'<table class="sklopa-summary".*?</table>', view, re.DOTALL)
    assert len(found) <= 1
    return Cells(found[0]) if found else None


def views(model):
    return [model._repr_html_(), model._repr_mimebundle_()["text/html"]]


@pytest.mark.parametrize("kind", ["classifier", "regressor", "generator", "images"])
def test_a_notebook_shows_the_same_below_the_view_of_scikit_learn(kind):
    model = make(kind)
    for view in views(model):
        assert "sk-top-container" in view.split('class="sklopa-summary"')[0]
        cells = table(view).cells
        assert dict(zip(cells[::2], cells[1::2], strict=True)) == lines(model)
    assert model._repr_mimebundle_()["text/plain"] == repr(model)


def test_before_fit_and_as_text_there_is_no_table():
    assert [table(view) for view in views(LoPAClassifier())] == [None, None]
    with sklearn.config_context(display="text"):
        assert "text/html" not in make("classifier")._repr_mimebundle_()
        assert not hasattr(LoPAClassifier(), "_repr_html_")


def test_everything_in_the_table_is_escaped(tmp_path):
    folder = tiny.save(tmp_path / "<script>alert(1)</script>&")
    clf = LoPAClassifier(folder, **faults.SMALL, max_iter=1).fit(TEXTS, ["a", "b"] * 8)
    clf.backbone_revision_ = clf.dtype_ = clf.device_ = '"><img src=x>'
    for view in views(clf):
        assert "script>alert" not in view.replace("&lt;script&gt;alert", "")
        assert set(table(view).tags) <= {"table", "tr", "th", "td"}
        assert folder in table(view).cells[1]


def test_parameters_are_explained_where_a_mouse_rests_on_them():
    view = LoPAClassifier()._repr_html_()
    if "param-doc-description" not in view:
        version = tuple(map(int, sklearn.__version__.split(".")[:2]))
        assert version < (1, 8), "scikit-learn shows what parameters mean since 1.8"
        return
    assert "P &gt;= 0, rows in front of the text" in view


# ---------------------------------------------------------------- bars


def test_bars_have_names_of_their_own_and_go_when_they_are_done(capsys):
    make("classifier", verbose=1).predict(TEXTS)
    told = capsys.readouterr().err
    assert "LoPAClassifier fit:" in told
    assert "LoPAClassifier rows:" in told
    assert "\n" not in told  # a bar that stays ends its line


_NOTEBOOK = """
import sys, types, warnings
warnings.simplefilter("always")
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipykernel.zmqshell"] = types.SimpleNamespace()
sys.modules["ipywidgets"] = None  # it cannot be imported
import %s
"""


def _told_on_import(module):
    code = _NOTEBOOK % module
    folder = Path(sklopa.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_a_notebook_without_ipywidgets_imports_without_a_warning():
    assert "TqdmWarning" in _told_on_import("tqdm.auto")  # what there is to be silent of
    assert "Warning" not in _told_on_import("sklopa")
