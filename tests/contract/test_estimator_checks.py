"""scikit-learn's estimator checks, all of them: rows of numbers are read as words or as pixels."""

from dataclasses import replace
from unittest import SkipTest

import numpy as np
import pytest
import tiny
import tiny_vision
import torch
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import validate_data

from sklopa import Backbone, LoPAClassifier, LoPAImageClassifier, LoPARegressor
from sklopa._inputs.images import check_images
from sklopa._inputs.texts import Texts

FIELD = 4  # pixels along the side of a number's field in an image
N_FIELDS = tiny_vision.SIZE // FIELD

# Folders in the working directory of these tests, so that they pickle. The regressor is given
# a model that is wide enough to tell ten numbers apart.
MODEL, WIDE_MODEL, IMAGE_MODEL = "tiny-bert", "wide-bert", "tiny-vit"

# A check that is listed here must fail: one that passes fails the run (xfail_strict).
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "Compares to 7 digits after training. A row that counts twice and the same row twice "
        "have equal gradients but for the order of float32 sums, and AdamW divides a gradient by "
        "its own size, so that rounding of small gradients becomes steps of full length. "
        "test_integer_weights_count_like_repeated_rows has the tolerance that holds."
    ),
} | dict.fromkeys(
    ("check_transformer_general", "check_transformer_data_not_an_array"),
    "Asks that fit_transform gives what fit and transform give. It is cross-fitted, as that of "
    "TargetEncoder is: the features of a row come from a fit that has not seen its label. "
    "test_checks_of_transformers_hold_without_cross_fitting runs both checks with cv=False.",
)
EXPECTED_OF_REGRESSOR = EXPECTED_FAILURES | {
    "check_methods_subset_invariance": (
        "Compares to 7 digits, as predictions are float64. They come from float32 outputs, whose "
        "last digits depend on the rows beside them. "
        "test_predictions_do_not_depend_on_the_batch has the tolerance that holds."
    ),
}

# Epochs of the checks that ask how well it has learned, or compare what two long fits come to; to
# all others it is the same after a few.
SHORT, LONG = 3, 30
EPOCHS = {
    "check_classifiers_train": 10,
    "check_regressors_train": LONG,
    "check_sample_weight_equivalence_on_dense_data": LONG,
}

# scikit-learn runs these on its own estimators, and not on those of others.
MORE_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
]


class _ReadsNumbers:
    """Rows of numbers are read as what the estimator reads."""

    def _read_inputs(self, X):
        return self._rewritten(validate_data(self, X, reset=True, dtype=np.float64))

    def _read_known(self, X):
        return self._rewritten(validate_data(self, X, reset=False, dtype=np.float64))

    def _rewritten(self, X):
        """Texts of one word a number: its column's letter and a bin."""
        bins = (8 + 16 / np.pi * np.arctan(X)).clip(0, 15).astype(int)
        letters = "abcdefghijklmnopqrst"
        rows = [" ".join(f"{letters[j % 20]}{n}" for j, n in enumerate(row)) for row in bins]
        return Texts(rows, X.shape[1], getattr(self, "feature_names_in_", None))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        return tags


# Nothing else differs from the classes that are tested.
class NumericLoPAClassifier(_ReadsNumbers, LoPAClassifier):
    __doc__ = LoPAClassifier.__doc__


class NumericLoPARegressor(_ReadsNumbers, LoPARegressor):
    __doc__ = LoPARegressor.__doc__


class NumericLoPAImageClassifier(_ReadsNumbers, LoPAImageClassifier):
    __doc__ = LoPAImageClassifier.__doc__

    def _rewritten(self, X):
        """Images of one grey field a number, over and over until the image is full."""
        shades = (127.5 + 255 / np.pi * np.arctan(X)).astype(np.uint8)
        fields = np.stack([np.resize(row, (N_FIELDS, N_FIELDS)) for row in shades])
        images = check_images(fields.repeat(FIELD, axis=1).repeat(FIELD, axis=2))
        names = getattr(self, "feature_names_in_", None)
        return replace(images, n_columns=X.shape[1], names=names)


KINDS = [NumericLoPAClassifier, NumericLoPARegressor, NumericLoPAImageClassifier]
# The classifier's checks run each time, those of the others where there is time.
ONE_FIRST = [KINDS[0], *(pytest.param(kind, marks=pytest.mark.stress) for kind in KINDS[1:])]


MODELS = {
    NumericLoPAClassifier: MODEL,
    NumericLoPARegressor: WIDE_MODEL,
    # In float64, so that no rounding depends on the rows beside one: scikit-learn compares values
    # near zero by their relative difference.
    NumericLoPAImageClassifier: Backbone(IMAGE_MODEL, dtype="float64"),
}


def make(kind=NumericLoPAClassifier, max_iter=SHORT):
    return kind(
        MODELS[kind], prompt_length=2, rank=1, bottleneck=4, dropout=0.0,
        max_iter=max_iter, batch_size=64, learning_rate=5e-3, cv=2, random_state=0,
    )  # fmt: skip


def expected_failures(estimator):
    regresses = isinstance(estimator, LoPARegressor)
    return EXPECTED_OF_REGRESSOR if regresses else EXPECTED_FAILURES


@pytest.fixture(autouse=True, scope="module")
def _surroundings(tmp_path_factory):
    """The model's folder, and one thread: more of them only wait for each other here."""
    folder, threads = tmp_path_factory.mktemp("checks"), torch.get_num_threads()
    tiny.save(folder / MODEL)
    tiny.save(folder / WIDE_MODEL, hidden_size=4 * tiny.WIDTH, num_hidden_layers=1)
    tiny_vision.save(folder / IMAGE_MODEL)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SCIPY_ARRAY_API", "1")  # else the array API checks skip themselves
        yield
    torch.set_num_threads(threads)


def run(check, *arguments):
    try:
        check(*arguments)
    except SkipTest as reason:
        pytest.fail(f"The check did not run: {reason}")


def run_for_its_epochs(check, estimator):
    epochs = EPOCHS.get(estimator_checks._check_name(check), SHORT)
    run(check, clone(estimator).set_params(max_iter=epochs))


@parametrize_with_checks([make()], expected_failed_checks=expected_failures)
def test_estimator_check_of_scikit_learn_holds(estimator, check):
    run_for_its_epochs(check, estimator)


@pytest.mark.stress
@parametrize_with_checks(
    [make(kind) for kind in KINDS[1:]], expected_failed_checks=expected_failures
)
def test_estimator_check_of_scikit_learn_holds_for_numbers_and_images(estimator, check):
    run_for_its_epochs(check, estimator)


@pytest.mark.parametrize("kind", ONE_FIRST)
@pytest.mark.parametrize("name", ["general", "data_not_an_array"])
def test_checks_of_transformers_hold_without_cross_fitting(name, kind):
    estimator = make(kind).set_params(cv=False)
    run(getattr(estimator_checks, f"check_transformer_{name}"), kind.__name__, estimator)


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("kind", ONE_FIRST)
@pytest.mark.parametrize("name", MORE_CHECKS)
def test_check_that_scikit_learn_runs_on_its_own_estimators_holds(name, kind):
    run(getattr(estimator_checks, name), kind.__name__, make(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_no_tag_takes_a_check_out_of_the_suite(kind):
    tags = get_tags(make(kind))
    assert not any([tags._skip_test, tags.no_validation, tags.non_deterministic])
    assert not (tags.classifier_tags or tags.regressor_tags).poor_score
    generated = estimator_checks_generator(make(kind))
    names = [estimator_checks._check_name(check) for _, check in generated]
    assert len(names) > 60
    trained = "check_classifiers_train" if tags.classifier_tags else "check_regressors_train"
    kinds = {trained, "check_transformer_general", "check_estimators_nan_inf"}
    assert kinds | expected_failures(make(kind)).keys() <= set(names)
    assert trained in EPOCHS


def test_integer_weights_count_like_repeated_rows():
    rng = np.random.RandomState(42)
    X, y, weights = rng.rand(15, 30), rng.randint(0, 3, 15), rng.randint(0, 5, 15)
    weighted = make(max_iter=LONG).fit(X, y, sample_weight=weights)
    repeated = make(max_iter=LONG).fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=2e-3, rtol=0
    )
