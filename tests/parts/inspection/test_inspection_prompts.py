"""`PromptDisplay`: where rows stand, what colours say, and what is said of prompts all alike."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import tiny
from matplotlib.colors import to_hex
from test_inspection import KINDS, TEXTS, data, fitted, make

from sklopa import LoPAClassifier
from sklopa.errors import InvalidInput
from sklopa.inspection import PromptDisplay
from sklopa.inspection.prompts import principal_plane

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito, "Color Universal Design" (2008), figure 16.
OKABE_ITO = {
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
}  # fmt: skip
GREY = "#b8b8b8"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def legend_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def colours_of(display):
    return [to_hex(scatter.get_facecolor()[0]) for scatter in display.scatters_]


def blobs(n_classes, n=400):
    random = np.random.RandomState(0)
    labels = np.arange(n) % n_classes
    return random.randn(n_classes, 2)[labels] + random.randn(n, 2) / 9, labels


def assert_nothing_overlaps(display):
    """All words are inside the figure, and the legend beside the axes."""
    display.figure_.canvas.draw()
    legend, page = display.legend_.get_window_extent(), display.figure_.bbox
    assert page.x0 <= legend.x0 <= legend.x1 <= page.x1
    assert page.y0 <= legend.y0 <= legend.y1 <= page.y1
    assert legend.x0 > display.ax_.get_window_extent().x1
    boxes = [text.get_window_extent() for text in display.legend_.get_texts()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert display.ax_.get_window_extent().width > 150


# ---------------------------------------------------------------------- where rows stand


@pytest.mark.parametrize("kind", KINDS)
def test_rows_stand_in_the_plane_in_which_their_prompts_differ_most(kind):
    X, _ = data(kind)
    display = PromptDisplay.from_estimator(fitted(kind), X)
    prompts = fitted(kind).generate_prompts(X).reshape(len(X), -1).astype(np.float64)
    u, s, _ = np.linalg.svd(prompts - prompts.mean(axis=0), full_matrices=False)
    shares = (s**2 / (s**2).sum())[:2]
    np.testing.assert_allclose(display.explained_variance_ratio, shares, atol=1e-6)
    expected = np.abs(u[:, :2] * s[:2])  # the sign of an axis is free
    np.testing.assert_allclose(np.abs(display.coordinates), expected, atol=1e-5)
    assert display.ax_.get_xlabel() == f"first component ({shares[0]:.0%} of variance)"
    assert display.ax_.get_ylabel() == f"second component ({shares[1]:.0%} of variance)"
    (scatter,) = display.scatters_
    np.testing.assert_array_equal(scatter.get_offsets(), display.coordinates)
    assert display.legend_ is display.colorbar_ is display.text_ is None


def test_all_points_are_within_the_limits():
    display = PromptDisplay.from_estimator(fitted(), *data("classifier"))
    for values, (low, high) in zip(
        display.coordinates.T, (display.ax_.get_xlim(), display.ax_.get_ylim()), strict=True
    ):
        assert low < values.min() < values.max() < high


@pytest.mark.parametrize("options", [{"depth": "deep"}, {"gate": "concat"}, {"gate": "instance"}])
def test_prompts_of_any_shape_are_looked_at_whole(options):
    X, y = data("classifier")
    clf = make("classifier", **options).fit(X, y)
    display = PromptDisplay.from_estimator(clf, X, y)
    flat = clf.generate_prompts(X).reshape(len(X), -1)
    total = flat.astype(np.float64).var(axis=0, ddof=1).sum()
    drawn = display.coordinates.var(axis=0, ddof=1)
    np.testing.assert_allclose(drawn / total, display.explained_variance_ratio, rtol=1e-4)


def test_two_rows_differ_along_one_axis():
    display = PromptDisplay.from_estimator(fitted(), TEXTS[:2])
    np.testing.assert_allclose(display.explained_variance_ratio, [1, 0], atol=1e-6)
    assert display.text_ is None


def test_vectors_of_one_number_have_one_axis():
    coordinates, shares = principal_plane(np.array([[1.0], [2.0], [4.0]]))
    assert shares.tolist() == [1, 0]
    assert coordinates[:, 1].tolist() == [0, 0, 0]


# ---------------------------------------------------------------------- prompts that do not differ


@pytest.mark.parametrize("kind", KINDS)
def test_rank_0_is_said_in_words(kind):
    X, y = data(kind)
    display = PromptDisplay.from_estimator(make(kind, rank=0, max_iter=1).fit(X, y), X, y)
    assert f"rank=0: one prompt for all {len(X)} rows" in display.text_.get_text()
    assert not display.scatters_


def test_rank_0_is_what_was_fitted_and_not_what_was_set_since():
    X, y = data("classifier")
    clf = make("classifier", rank=0, max_iter=1).fit(X, y).set_params(rank=2)
    assert "rank=0" in PromptDisplay.from_estimator(clf, X).note


@pytest.mark.parametrize("kind", KINDS)
def test_no_prompt_is_said_in_words(kind):
    X, y = data(kind)
    display = PromptDisplay.from_estimator(make(kind, prompt_length=0, max_iter=1).fit(X, y), X, y)
    assert "prompt_length=0: no prompt is made" in display.text_.get_text()


@pytest.mark.parametrize(
    ("X", "words"),
    [(TEXTS[:1], "one row has nothing to differ from"), (TEXTS[:1] * 4, "all 4 prompts are equal")],
)
def test_rows_that_are_alike_are_said_to_be(X, words):
    assert PromptDisplay.from_estimator(fitted(), X).text_.get_text() == words


@pytest.mark.parametrize("options", [{"rank": 0}, {"prompt_length": 0}])
def test_the_words_fit_into_the_picture(options):
    X, y = data("classifier")
    display = PromptDisplay.from_estimator(make("classifier", max_iter=1, **options).fit(X, y), X)
    display.figure_.canvas.draw()
    words, box = display.text_.get_window_extent(), display.ax_.get_window_extent()
    assert box.x0 < words.x0 < words.x1 < box.x1
    assert box.y0 < words.y0 < words.y1 < box.y1


# ---------------------------------------------------------------------- colours


@pytest.mark.parametrize("kind", ["classifier", "images", "generator"])
def test_each_class_has_its_points_its_look_and_its_name(kind):
    X, y = data(kind)
    display = PromptDisplay.from_estimator(fitted(kind), X, y)
    assert legend_of(display) == sorted(set(y))
    for name, scatter in zip(sorted(set(y)), display.scatters_, strict=True):
        expected = display.coordinates[np.asarray(y) == name]
        np.testing.assert_array_equal(scatter.get_offsets(), expected)
    assert len(set(colours_of(display))) == 2
    assert set(colours_of(display)) <= OKABE_ITO


def test_labels_that_the_classifier_does_not_know_are_coloured_too():
    X, y = data("classifier")
    display = PromptDisplay.from_estimator(fitted(), [*X, "red"], [*y, "something else"])
    assert legend_of(display) == ["neg", "pos", "something else"]


def test_ten_classes_have_ten_looks():
    coordinates, labels = blobs(10)
    display = PromptDisplay(coordinates, [0.5, 0.2], labels=labels).plot()
    assert legend_of(display) == [str(i) for i in range(10)]
    shapes = [scatter.get_paths()[0].vertices.tolist() for scatter in display.scatters_]
    assert len({str(shape) for shape in shapes}) == 10
    assert set(colours_of(display)) == OKABE_ITO
    assert_nothing_overlaps(display)


def test_of_150_classes_the_most_frequent_are_named_and_all_are_drawn():
    X = [f"{a} {b}" for a in tiny.WORDS for b in tiny.WORDS][:150]
    y = [f"class {i:03}" for i in range(150)]
    clf = LoPAClassifier(
        tiny.backbone(), prompt_length=3, rank=2, bottleneck=8, max_iter=1, random_state=0
    ).fit(X, y)
    often = [f"class {i:03}" for i in range(5, 150, 15)]
    rows = X + [X[y.index(name)] + " good" for name in often]
    display = PromptDisplay.from_estimator(clf, rows, y + often)
    assert legend_of(display) == [*often, "140 others"]
    assert display.legend_.get_title().get_text() == "10 most frequent\nof 150 classes"
    assert [len(scatter.get_offsets()) for scatter in display.scatters_] == [2] * 10 + [140]
    assert colours_of(display)[-1] == GREY
    assert GREY not in colours_of(display)[:-1]
    assert display.scatters_[-1].get_zorder() < min(s.get_zorder() for s in display.scatters_[:-1])
    assert_nothing_overlaps(display)


@pytest.mark.parametrize(("n_classes", "most"), [(10, 10), (150, 10), (30, 20)])
def test_long_names_fit_beside_the_axes_and_are_told_apart(n_classes, most):
    coordinates, codes = blobs(n_classes, 900)
    name = "{0} a name that is as long as the longest one that anybody ever gave to a class {0}"
    labels = np.array([name.format(code) for code in codes])
    display = PromptDisplay(coordinates, [0.5, 0.2], labels=labels).plot(max_classes=most)
    assert_nothing_overlaps(display)
    shown = legend_of(display)
    assert len(set(shown)) == len(shown) == most + (n_classes > most)


def test_names_alike_at_both_ends_are_numbered():
    labels = np.array([f"{'a' * 60}{i}{'z' * 60}" for i in range(3)])
    display = PromptDisplay(blobs(3)[0][:3], [0.5, 0.2], labels=labels).plot()
    assert [name[:3] for name in legend_of(display)] == ["0: ", "1: ", "2: "]


@pytest.mark.filterwarnings("error")
def test_names_are_shown_as_they_are_written():
    labels = np.array([r"$\no maths$", "_private", "two\nlines", "50% & more"])
    display = PromptDisplay(blobs(4)[0][:4], [0.5, 0.2], labels=labels).plot()
    display.figure_.canvas.draw()  # where mathematics would be read
    shown = [name.replace(r"\$", "$") for name in legend_of(display)]
    assert shown == [r"$\no maths$", "50% & more", "_private", "two lines"]


def test_numbers_are_shown_as_a_scale_with_their_name():
    X, y = data("regressor")
    display = PromptDisplay.from_estimator(fitted("regressor"), X, pd.Series(y, name="stars"))
    (scatter,) = display.scatters_
    assert scatter.get_array().tolist() == y
    assert scatter.get_cmap().name == "viridis"
    assert scatter.get_clim() == (min(y), max(y))
    assert display.colorbar_.ax.get_ylabel() == "stars"
    assert PromptDisplay.from_estimator(fitted("regressor"), X, y).colorbar_.ax.get_ylabel() == "y"
    assert display.legend_ is None


def test_whole_numbers_are_a_scale_for_a_regressor_and_classes_for_others():
    X, _ = data("regressor")
    y = [1, 2, 3] * 4
    assert PromptDisplay.from_estimator(fitted("regressor"), X, y).colorbar_ is not None
    assert legend_of(PromptDisplay.from_estimator(fitted(), X, y)) == ["1", "2", "3"]
    assert legend_of(PromptDisplay.from_estimator(fitted(), X, [1.0, 2.0] * 6)) == ["1.0", "2.0"]


def test_each_combination_of_several_labels_is_a_class():
    X, y = data("several labels")
    clf = fitted("several labels")
    assert legend_of(PromptDisplay.from_estimator(clf, X, y)) == ["a", "a + b", "b", "none"]
    matrix = [[int(name in row) for name in ("a", "b")] for row in y]
    assert legend_of(PromptDisplay.from_estimator(clf, X, matrix)) == ["a", "a + b", "b", "none"]


def test_y_that_does_not_fit_is_refused():
    X, y = data("classifier")
    with pytest.raises(InvalidInput, match="X has 12 rows and y has 11"):
        PromptDisplay.from_estimator(fitted(), X, y[1:])
    with pytest.raises(InvalidInput, match="y has 2 columns and rows are coloured by one"):
        PromptDisplay.from_estimator(fitted("regressor"), X, [[1.0, 2.0]] * 12)
    assert plt.get_fignums() == []
