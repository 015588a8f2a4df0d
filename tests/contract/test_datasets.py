"""Claims about the data set that ships with the package."""

import collections
import doctest
import importlib.resources
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

import sklopa.datasets
from sklopa.datasets import load_intents
from sklopa.errors import MissingDependency


@pytest.fixture(scope="module")
def intents():
    return load_intents()


def test_intents_is_a_bunch_of_two_object_arrays_of_str(intents):
    assert isinstance(intents, Bunch)
    for array in (intents.data, intents.target):
        assert isinstance(array, np.ndarray)
        assert array.dtype == object
        assert array.shape == (408,)
        assert all(type(value) is str for value in array)
    assert intents.frame is None


def test_intents_have_eight_balanced_classes(intents):
    counts = collections.Counter(intents.target)
    assert len(counts) == 8
    assert set(counts.values()) == {51}


def test_intents_target_names_are_the_sorted_labels(intents):
    assert type(intents.target_names) is list
    assert intents.target_names == sorted(set(intents.target))


def test_intents_have_no_duplicates_even_ignoring_case_and_punctuation(intents):
    keys = ["".join(c for c in text.casefold() if c.isalnum()) for text in intents.data]
    assert len(set(keys)) == len(keys)


def test_intents_messages_have_3_to_25_words_and_no_stray_whitespace(intents):
    lengths = [len(text.split()) for text in intents.data]
    assert (min(lengths), max(lengths)) == (3, 25)
    assert all(text == " ".join(text.split()) for text in intents.data)


def test_intents_contain_non_ascii_text(intents):
    assert sum(not text.isascii() for text in intents.data) >= 10
    assert any("Zoë" in text for text in intents.data)


def test_intents_are_shuffled_so_that_the_first_rows_hold_every_class(intents):
    assert set(intents.target[:50]) == set(intents.target_names)


def test_intents_description_states_the_licence_and_every_class(intents):
    assert "BSD-3-Clause" in intents.DESCR
    assert all(name in intents.DESCR for name in intents.target_names)


def test_intents_filename_and_data_module_locate_the_file(intents):
    path = importlib.resources.files(intents.data_module) / intents.filename
    assert path.read_text(encoding="utf-8").startswith("text,intent\n")


def test_return_X_y_gives_the_same_arrays(intents):
    X, y = load_intents(return_X_y=True)
    np.testing.assert_array_equal(X, intents.data)
    np.testing.assert_array_equal(y, intents.target)


def test_as_frame_gives_series_and_a_frame_with_the_same_values(intents):
    pd = pytest.importorskip("pandas")
    bunch = load_intents(as_frame=True)
    assert isinstance(bunch.data, pd.Series)
    assert isinstance(bunch.target, pd.Series)
    assert list(bunch.frame.columns) == ["text", "intent"]
    assert bunch.frame.shape == (408, 2)
    assert bunch.data.dtype == bunch.target.dtype == object
    np.testing.assert_array_equal(bunch.data.to_numpy(), intents.data)
    np.testing.assert_array_equal(bunch.target.to_numpy(), intents.target)


def test_as_frame_with_return_X_y_gives_two_series():
    pd = pytest.importorskip("pandas")
    X, y = load_intents(return_X_y=True, as_frame=True)
    assert isinstance(X, pd.Series)
    assert X.name == "text"
    assert isinstance(y, pd.Series)
    assert y.name == "intent"


def test_only_as_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    load_intents()
    with pytest.raises(MissingDependency, match="pandas"):
        load_intents(as_frame=True)


def test_parameters_are_keyword_only():
    with pytest.raises(TypeError):
        load_intents(True)


def test_each_call_gives_arrays_of_its_own(intents):
    other = load_intents()
    other.data[0] = "changed"
    assert load_intents().data[0] == intents.data[0] != "changed"


def test_examples_in_the_docstring_run():
    result = doctest.testmod(sklopa.datasets)
    assert result.attempted > 0
    assert result.failed == 0


def test_tfidf_finds_intents_neither_trivial_nor_hopeless(intents):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    accuracy = cross_val_score(model, intents.data, intents.target, cv=folds).mean()
    print(f"TF-IDF + logistic regression, 5-fold accuracy: {accuracy:.3f}")
    assert 0.70 < accuracy < 0.97
