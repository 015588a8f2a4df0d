"""What fits share: linear starts of equal rows, and states that more epochs go on from."""

import warnings

import numpy as np
import pytest
import tiny
from helpers import assert_same_state, weights_of
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold

from sklopa import LoPAClassifier, LoPAGenerator, LoPARegressor, cache_clear, cache_info
from sklopa._cache import process
from sklopa._tasks import classification
from sklopa._training import starts
from sklopa._training.loop import Trainer


@pytest.fixture(autouse=True)
def _no_cache():
    cache_clear()


@pytest.fixture
def count(monkeypatch):
    """Counts calls of a function where it is looked up."""

    def counted(owner, name):
        real, calls = getattr(owner, name), []

        def noted(*args, **options):
            calls.append(args)
            return real(*args, **options)

        monkeypatch.setattr(owner, name, noted)
        return calls

    return counted


@pytest.fixture
def epochs(count):
    """Grows by one with each epoch that is trained."""
    return count(Trainer, "epoch")


FOLDS = KFold(2, shuffle=True, random_state=0)


# ---------------------------------------------------------------- linear starts


def test_a_fold_has_one_linear_start_for_all_candidates(make_classifier, reviews, count):
    solved = count(classification, "logistic_start")
    grid = {"rank": [1, 2], "prompt_length": [2, 3], "learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(make_classifier(max_iter=1), grid, cv=FOLDS, refit=False)
    search.fit(*reviews)
    assert len(solved) == 2  # folds
    assert 0 < cache_info().fits_bytes < cache_info().fits_max_bytes
    cache_clear()
    assert cache_info().fits_bytes == 0


def test_states_behind_an_untrained_prompt_are_those_of_the_same_prompt(
    make_classifier, reviews, count
):
    computed = count(starts, "run_rows")

    def fit(**options):
        make_classifier(rank=0, max_iter=1, **options).fit(*reviews)
        return len(computed)

    assert fit() == 1
    assert fit(learning_rate=0.1, weight_decay=0.1) == 1
    assert fit(random_state=1) == 2
    assert fit(prompt_length=4) == 3
    assert fit(batch_size=4) == 4


@pytest.mark.parametrize("kind", ["classes", "rank_0", "several", "numbers"])
def test_a_shared_start_changes_no_bit(make_classifier, reviews, kind):
    texts, labels = reviews
    y = {"several": [{label, "all"} for label in labels]}.get(kind, labels)
    options = {"rank": 0} if kind == "rank_0" else {}
    make = make_classifier
    if kind == "numbers":
        y = np.arange(len(texts), dtype=float)

        def make(**options):
            return LoPARegressor(
                tiny.backbone(), prompt_length=3, rank=2, max_iter=3, random_state=0, **options
            )

    alone = make(**options).fit(texts, y)
    cache_clear()
    make(**options, learning_rate=0.1).fit(texts, y)
    assert_same_state(make(**options).fit(texts, y), alone)


@pytest.mark.parametrize("what", ["weights", "labels", "rows", "values"])
def test_other_rows_have_a_start_of_their_own(make_classifier, reviews, what):
    texts, labels = reviews
    labels = np.array(labels)
    first = make_classifier().fit(texts, labels)
    data = {
        "weights": (texts, labels, np.arange(1.0, 25.0)),
        "labels": (texts, np.roll(labels, 1)),
        "rows": (texts[4:], labels[4:]),
        "values": ([f"{text} red" for text in texts], labels),
    }[what]
    other = make_classifier().fit(*data)
    cache_clear()
    assert_same_state(make_classifier().fit(*data), other)
    assert not np.array_equal(weights_of(other)["head.weight"], weights_of(first)["head.weight"])


# ---------------------------------------------------------------- fits that go on


KINDS = {
    "plain": {},
    "early_stopping": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.5},
    "loss_stops_it": {"n_iter_no_change": 1, "tol": 10.0},
    "rank_0": {"rank": 0},
    "deep": {"depth": "deep", "gate": "concat"},
    "later_layer": {"prompt_layer": 1, "weight_decay": 0.1},
    "train_encoder": {"train_encoder": True},
    "one_batch": {"batch_size": 100},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_with_more_epochs_goes_on_with_the_bits_of_one_fit(
    make_classifier, reviews, epochs, kind
):
    def fit(max_iter):
        clf = make_classifier(schedule="constant", max_iter=max_iter, **KINDS[kind]).fit(*reviews)
        trained = len(epochs)
        epochs.clear()
        return clf, trained

    whole, in_all = fit(4)
    cache_clear()
    parts = [fit(n) for n in (1, 3, 4)]
    assert sum(trained for _, trained in parts) == in_all == whole.n_iter_
    assert_same_state(parts[-1][0], whole)
    for one, other in zip(parts[-1][0].history_, whole.history_, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    again, trained = fit(4)
    assert trained == 0
    assert_same_state(again, whole)
    shorter, trained = fit(1)  # the further state is of no use to it, and stays
    assert trained == 1
    assert_same_state(shorter, parts[0][0])
    assert fit(4)[1] == 0


def test_a_generator_goes_on_too(epochs):
    texts = ["the film was good", "the book was bad"] * 4

    def fit(max_iter):
        return LoPAGenerator(
            tiny.backbone("gpt2"), prompt_length=3, rank=2, max_new_tokens=3, random_state=0,
            schedule="constant", max_iter=max_iter,
        ).fit(texts, texts)  # fmt: skip

    whole = fit(3)
    cache_clear()
    epochs.clear()
    fit(1)
    assert_same_state(fit(3), whole)
    assert len(epochs) == 3


def test_a_seed_a_number_and_a_constant_schedule_are_needed(make_classifier, reviews, epochs):
    for options in ({"random_state": None}, {"random_state": np.random.RandomState(0)},
                    {"schedule": "linear"}):  # fmt: skip
        options = {"schedule": "constant", "max_iter": 2} | options
        epochs.clear()
        make_classifier(**options).fit(*reviews)
        make_classifier(**options).fit(*reviews)
        assert len(epochs) == 4


OTHERS = {
    "rate": ({"learning_rate": 1e-2}, {}), "seed": ({"random_state": 1}, {}),
    "weights": ({}, {"sample_weight": np.arange(1.0, 25.0)}),
    "classes": ({"class_weight": {"pos": 2.0, "neg": 1.0}}, {}),
    "model": ({"model": tiny.backbone("roberta")}, {}),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_other_fits_begin_anew(make_classifier, reviews, epochs, what):
    options, given = OTHERS[what]
    make_classifier(schedule="constant", max_iter=2).fit(*reviews)
    epochs.clear()
    make_classifier(**{"schedule": "constant", "max_iter": 2} | options).fit(*reviews, **given)
    assert len(epochs) == 2
    texts, labels = reviews
    make_classifier(schedule="constant", max_iter=2).fit(texts[2:], labels[2:])
    assert len(epochs) == 4


def test_callbacks_are_told_of_each_epoch(make_classifier, reviews, epochs):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    from test_callbacks import Recorder

    make_classifier(schedule="constant", max_iter=2).fit(*reviews)
    epochs.clear()
    make_classifier(schedule="constant", max_iter=2).set_callbacks(Recorder()).fit(*reviews)
    assert len(epochs) == 2


def test_what_is_kept_is_bounded_and_the_oldest_goes(make_classifier, reviews, epochs, monkeypatch):
    clf = make_classifier(schedule="constant", max_iter=1).fit(*reviews)
    monkeypatch.setattr(process.FITS, "max_bytes", cache_info().fits_bytes + 2000)
    for seed in range(1, 5):
        clf.set_params(random_state=seed).fit(*reviews)
        assert cache_info().fits_bytes <= cache_info().fits_max_bytes
    epochs.clear()
    clf.set_params(random_state=0).fit(*reviews)
    assert len(epochs) == 1


def halving(make_classifier, reviews, **options):
    grid = {"rank": [0, 2], "learning_rate": [1e-3, 1e-1]}
    base = make_classifier(schedule="constant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HalvingGridSearchCV(
            base, grid, cv=FOLDS, resource="max_iter", factor=2, min_resources=1,
            max_resources=4, random_state=0, **options,
        ).fit(*reviews)  # fmt: skip


def test_halving_trains_each_candidate_from_where_it_stood(
    make_classifier, reviews, epochs, monkeypatch
):
    resumed = halving(make_classifier, reviews, refit=False)
    n_folds = FOLDS.get_n_splits()
    assert resumed.n_resources_ == [1, 2, 4]
    # Four candidates for one epoch, two of them for one more, and one for two more.
    assert len(epochs) == n_folds * (4 * 1 + 2 * 1 + 1 * 2)
    cache_clear()
    epochs.clear()
    monkeypatch.setattr(LoPAClassifier, "_resumes", lambda self: False)
    anew = halving(make_classifier, reviews, refit=False)
    assert len(epochs) == n_folds * (4 * 1 + 2 * 2 + 1 * 4)
    assert resumed.best_params_ == anew.best_params_
    assert resumed.cv_results_["mean_test_score"].tolist() == (
        anew.cv_results_["mean_test_score"].tolist()
    )


@pytest.mark.stress
def test_workers_of_a_search_train_anew_and_find_the_same(make_classifier, tiny_folder, reviews):
    def make(**options):
        return make_classifier(model=tiny_folder, **options)

    here = halving(make, reviews)
    cache_clear()
    there = halving(make, reviews, n_jobs=2)
    assert there.best_params_ == here.best_params_
    assert_same_state(there.best_estimator_, here.best_estimator_)
    np.testing.assert_array_equal(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
