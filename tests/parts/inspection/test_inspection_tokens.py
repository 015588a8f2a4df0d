"""`nearest_tokens`: the words that a brute-force search finds."""

import sys

import numpy as np
import pandas as pd
import pytest
import tiny
from test_inspection import TEXTS, data, fitted, make

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa._loading.live import live_model
from sklopa.errors import InvalidParameter, UnsupportedBackbone
from sklopa.inspection import nearest_tokens, tokens

COLUMNS = ["row", "word", "token", "cosine"]


def still(family="bert", **options):
    """A classifier that learned nothing, so that its prompt is the words it started from."""
    options = {"prompt_length": 4, "rank": 0, "max_iter": 1, "random_state": 0} | options
    clf = LoPAClassifier(tiny.backbone(family), learning_rate=1e-12, **options)
    return clf.fit(*data("classifier"))


def by_hand(frozen, rows, k):
    """Tokens and cosines (m, k) by one large product."""
    table = frozen.embedding.weight.detach().double().numpy()
    length = np.linalg.norm(table, axis=1) * np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows.astype(np.float64) @ table.T / length
    cosines[:, frozen.tokenizer.all_special_ids] = -np.inf
    order = np.argsort(-cosines, axis=1)[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


@pytest.mark.parametrize("family", ["bert", "gpt2", "gemma", "t5"])
@pytest.mark.parametrize("options", [{}, {"depth": "deep"}, {"gate": "add", "rank": 2}])
def test_a_prompt_that_starts_from_words_is_nearest_to_them(family, options):
    found = nearest_tokens(still(family, **options), k=1)
    assert list(found.columns) == COLUMNS
    assert found["row"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found["cosine"], 1, atol=1e-5)
    reader = live_model(tiny.backbone(family)).tokenizer
    vocabulary = reader.get_vocab()
    assert [vocabulary[word] for word in found["word"]] == found["token"].tolist()
    assert not set(found["token"]) & set(reader.all_special_ids)


@pytest.mark.parametrize("k", [1, 5])
def test_the_words_of_rows_are_those_of_their_prompts(k):
    X, _ = data("classifier")
    found = nearest_tokens(fitted(), X, k=k)
    prompts = fitted().generate_prompts(X)
    n, length, width = prompts.shape
    ids, cosines = by_hand(live_model(tiny.backbone()), prompts.reshape(-1, width), k)
    assert list(found.columns) == ["text", *COLUMNS]
    np.testing.assert_array_equal(found["text"], np.repeat(np.arange(n), length * k))
    np.testing.assert_array_equal(found["row"], np.tile(np.repeat(np.arange(length), k), n))
    np.testing.assert_array_equal(found["token"].to_numpy().reshape(-1, k), ids)
    np.testing.assert_allclose(found["cosine"].to_numpy().reshape(-1, k), cosines, atol=1e-5)


def test_of_deep_prompts_the_first_layer_is_looked_at():
    X, y = data("classifier")
    clf = make("classifier", depth="deep").fit(X, y)
    rows = clf.generate_prompts(X[:2])[:, 0].reshape(-1, tiny.WIDTH)
    found = nearest_tokens(clf, X[:2], k=2)
    ids = by_hand(live_model(tiny.backbone()), rows, 2)[0]
    np.testing.assert_array_equal(found["token"].to_numpy().reshape(-1, 2), ids)


def test_parts_of_the_vocabulary_are_put_together(monkeypatch):
    whole = nearest_tokens(fitted(), TEXTS, k=4)
    monkeypatch.setattr(tokens, "_CHUNK", 7)
    pd.testing.assert_frame_equal(nearest_tokens(fitted(), TEXTS, k=4), whole)


def test_all_words_are_found_and_no_more_where_k_is_large():
    reader = live_model(tiny.backbone()).tokenizer
    found = nearest_tokens(fitted(), k=10**6)
    n_words = len(reader) - len(reader.all_special_ids)
    assert found.groupby("row").size().tolist() == [n_words] * 3
    assert found.groupby("row")["cosine"].is_monotonic_decreasing.all()


def test_a_table_longer_than_the_vocabulary_gives_no_words_that_are_not_there():
    made, reader = tiny.model("bert", vocab_size=len(tiny.tokenizer()) + 500)
    clf = LoPAClassifier(
        Backbone.from_objects(made, reader), prompt_length=3, rank=0, max_iter=1, random_state=0
    ).fit(*data("classifier"))
    assert nearest_tokens(clf, k=50)["token"].max() < len(reader)


def test_a_generator_and_a_regressor_have_words_too():
    assert len(nearest_tokens(fitted("regressor"), k=2)) == 3 * 2
    model = LoPAGenerator(tiny.backbone("t5"), prompt_length=2, rank=1, bottleneck=4, max_iter=1)
    assert len(nearest_tokens(model.fit(TEXTS, TEXTS), TEXTS, k=2)) == len(TEXTS) * 2 * 2


def test_without_pandas_the_same_comes_as_a_list(monkeypatch):
    expected = nearest_tokens(fitted(), TEXTS, k=2).to_dict("records")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert nearest_tokens(fitted(), TEXTS, k=2) == expected


def test_gate_instance_has_the_words_of_rows_only():
    X, y = data("classifier")
    clf = make("classifier", gate="instance").fit(X, y)
    with pytest.raises(InvalidParameter, match=r"gate='instance' has no task prompt.*give X"):
        nearest_tokens(clf)
    assert len(nearest_tokens(clf, X, k=1)) == len(X) * 3


def test_what_has_no_words_is_refused():
    with pytest.raises(UnsupportedBackbone, match=r"needs a model of texts.*reads images"):
        nearest_tokens(fitted("images"))
    X, y = data("classifier")
    clf = make("classifier", prompt_length=0, max_iter=1).fit(X, y)
    for rows in (None, X):
        with pytest.raises(InvalidParameter, match="prompt_length=0 leaves no prompt"):
            nearest_tokens(clf, rows)


@pytest.mark.parametrize("k", [0, -1, 1.0, "5", True, None])
def test_k_is_a_count(k):
    with pytest.raises(InvalidParameter, match="k must be an integer >= 1; got"):
        nearest_tokens(fitted(), k=k)
