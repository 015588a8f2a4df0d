"""`LoPARegressor`: numbers of any size, one or several columns, texts and pairs."""

import pickle

import numpy as np
import pytest
import tiny
from helpers import CLOSE, assert_same_state, raises
from sklearn.base import clone, is_regressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from sklopa import LoPAClassifier, LoPARegressor

STARS = {"good": 5.0, "fine": 4.0, "bad": 2.0, "awful": 1.0}


@pytest.fixture(scope="module")
def rated():
    """24 texts with a number that follows from one word."""
    texts = [f"the {thing} was {word}" for thing in ("film", "book", "plot") for word in STARS]
    texts += [f"a very {word} {thing}" for thing in ("film", "book", "plot") for word in STARS]
    return texts, np.array([next(STARS[w] for w in STARS if w in text) for text in texts])


def make(**options):
    options = {
        "model": tiny.backbone(), "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 5,
        "batch_size": 8, "random_state": 0,
    } | options  # fmt: skip
    return LoPARegressor(**options)


def test_numbers_that_follow_from_a_word_are_learned(rated):
    model = make(max_iter=15, n_iter_no_change=15).fit(*rated)
    assert is_regressor(model)
    predicted = model.predict(rated[0])
    assert predicted.shape == rated[1].shape
    assert predicted.dtype == np.float64
    assert model.score(*rated) == pytest.approx(r2_score(rated[1], predicted))
    assert model.score(*rated) > 0.95
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("unit", [1e300, 1e-300])
def test_the_score_does_not_depend_on_the_unit_of_the_numbers(rated, unit):
    texts, numbers = rated
    score = make().fit(texts, numbers).score(texts, numbers)
    scaled = make().fit(texts, numbers * unit).score(texts, numbers * unit)
    assert scaled == pytest.approx(score, abs=1e-4)
    assert score < 0.9999


def test_a_prompt_learns_more_than_the_head_alone(rated):
    assert make(max_iter=15).fit(*rated).score(*rated) > make(
        prompt_length=0, max_iter=15
    ).fit(*rated).score(*rated)  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "shift"),
    [
        (1e6, 1e9),
        (-1e-6, 0.0),
        (1.0, -50.0),
        (1e300, 0.0),
        (-1e-300, 0.0),
        (3e307, -1e308),
        (1e-315, 0),
    ],
)
def test_targets_of_any_size_give_the_same_model(rated, factor, shift):
    texts, y = rated
    plain, other = make().fit(texts, y), make().fit(texts, factor * y + shift)
    back = (other.predict(texts) - shift) / factor
    np.testing.assert_allclose(back, plain.predict(texts), atol=1e-3)


def test_several_columns_are_learned_together_each_in_its_own_units(rated):
    texts, y = rated
    both = np.column_stack([y, 1e4 - 1e3 * y])
    model = make(max_iter=10).fit(texts, both)
    assert model.n_outputs_ == 2
    assert model.predict(texts).shape == both.shape
    assert r2_score(both, model.predict(texts), multioutput="raw_values").min() > 0.9
    with raises(ValueError, "y_val has 1 columns", "fitted with 2"):
        make().fit(texts, both, X_val=texts, y_val=y)


def test_a_single_column_matrix_is_a_list_of_numbers(rated):
    texts, y = rated
    with pytest.warns(UserWarning, match="column-vector"):
        model = make().fit(texts, y[:, None])
    assert_same_state(model, make().fit(texts, y))
    assert model.predict(texts).shape == y.shape


@pytest.mark.parametrize("value", [7.0, 1e300, -1e-300, 0.0])
def test_constant_targets_are_predicted_as_they_are(rated, value):
    predicted = make().fit(rated[0], [value] * 24).predict(rated[0])
    np.testing.assert_allclose(predicted, value, rtol=0.02)


def test_weights_from_the_least_to_the_largest_train_a_model(rated):
    for weights in (np.geomspace(1e-12, 1e12, 24), np.full(24, 1e-12), np.full(24, 1e12)):
        predicted = make().fit(*rated, sample_weight=weights).predict(rated[0])
        assert np.isfinite(predicted).all()


def test_truth_values_are_numbers(rated):
    texts, y = rated
    model = make().fit(texts, y > 3)
    np.testing.assert_array_equal(model.predict(texts), make().fit(texts, y > 3.0).predict(texts))
    assert model.score(texts, y > 3) > 0


def test_a_row_of_weight_zero_is_left_out_of_the_units_too(rated):
    texts, y = rated
    odd = np.append(y, 1e6)
    weights = np.append(np.ones(len(y)), 0.0)
    assert_same_state(make().fit([*texts, "red"], odd, weights), make().fit(texts, y))


def test_early_stopping_watches_r2_and_goes_back_to_the_best_epoch(rated):
    model = make(early_stopping=True, validation_fraction=0.25).fit(*rated)
    assert model.best_validation_score_ == max(model.validation_scores_) <= 1
    watched = make(early_stopping=True, max_iter=8).fit(*rated, X_val=rated[0], y_val=rated[1])
    assert watched.score(*rated) == pytest.approx(watched.best_validation_score_, abs=1e-5)


def test_warm_start_goes_on_in_the_units_of_the_first_fit(rated):
    texts, y = rated
    model = make(warm_start=True).fit(texts, y)
    before = model.predict(texts)
    model.set_params(learning_rate=1e-9).fit(texts, y * 100)
    np.testing.assert_allclose(model.predict(texts), before, atol=1e-3)
    assert model.n_iter_ == 10


def test_pairs_and_features_work_as_in_the_classifier(pairs):
    rows, labels = pairs
    y = np.array([float(label == "same") for label in labels])
    model = make().fit(rows, y)
    assert model.n_features_in_ == 2
    assert model.transform(rows).shape == (len(rows), tiny.WIDTH)
    assert model.generate_prompts(rows).shape == (len(rows), 3, tiny.WIDTH)
    assert model.get_feature_names_out()[0] == "loparegressor0"


def test_predictions_do_not_depend_on_the_batch(rated):
    model = make().fit(*rated)
    together = model.predict(rated[0])
    alone = [model.set_params(batch_size=1).predict([text])[0] for text in rated[0]]
    np.testing.assert_allclose(together, alone, **CLOSE)


def test_pickle_clone_and_search(rated, tiny_folder):
    model = make(model=tiny_folder).fit(*rated)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(rated[0]), model.predict(rated[0]))
    assert len(pickle.dumps(model)) < 8 * model.n_trainable_parameters_ + 100_000
    search = GridSearchCV(clone(model), {"rank": [0, 2]}, cv=2, error_score="raise").fit(*rated)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("y", "parts"),
    [
        (None, ["requires y to be passed"]),
        (["a"] * 24, ["y must hold numbers", "'a'"]),
        ([1.0] * 23 + [np.nan], ["y contains NaN or infinity: row 23 has nan"]),
        ([1.0] * 23 + [np.inf], ["row 23 has inf"]),
        ([1.0] * 23, ["24 rows", "y has 23"]),
        (np.zeros((24, 2, 2)), ["y must hold numbers"]),
        (["1.5"] * 24, ["y must hold numbers", "row 0", "'1.5'", "float(value)"]),
        ([1j] * 24, ["y must hold numbers", "1j", "complex"]),
        (np.arange(24).astype("M8[D]"), ["y must hold numbers", "1970-01-01", "numpy.timedelta64"]),
        (np.arange(24).astype("m8[s]"), ["y must hold numbers", "timedelta64", "unit of time"]),
        (np.ma.array(np.arange(24.0), mask=np.arange(24) == 5), ["NaN or infinity: row 5"]),
        ([10**400] * 24, ["infinity", "row 0"]),
    ],
    ids=[
        "none",
        "text",
        "nan",
        "inf",
        "short",
        "3d",
        "number_as_text",
        "complex",
        "dates",
        "durations",
        "masked",
        "too_large",
    ],
)
def test_targets_that_are_no_numbers_are_refused(rated, y, parts):
    with raises(ValueError, *parts):
        make().fit(rated[0], y)


def test_the_regressor_has_the_classifiers_parameters_but_those_of_labels():
    only = LoPAClassifier().get_params().keys() - LoPARegressor().get_params().keys()
    assert only == {"head", "template", "chat_template", "verbalizer", "class_weight"}
    shared, known = LoPARegressor().get_params(), LoPAClassifier().get_params()
    assert {k for k in shared if shared[k] != known[k]} == {"learning_rate"}
