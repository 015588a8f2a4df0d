"""Instance embeddings: one text, two texts, and what the head makes of them."""

import pickle

import numpy as np
import pytest
import tiny
import torch
from helpers import network_of, weights_of

from sklopa import Backbone, LoPAClassifier, cache_clear, cache_info
from sklopa._embedding.instance import embed_rows
from sklopa._loading.live import live_model


@pytest.fixture(scope="module")
def frozen():
    return live_model(tiny.backbone())


def test_a_pair_is_embedded_text_by_text_and_compared(frozen):
    rows = [("good film", "bad book"), ("red", "a very green plot")]
    u, v = (embed_rows(frozen, list(column), None).last for column in zip(*rows, strict=True))
    expected = torch.cat([(u - v).abs(), u * v], dim=1)
    torch.testing.assert_close(embed_rows(frozen, rows, None).last, expected)
    assert expected.shape == (2, 2 * tiny.WIDTH)


def test_the_order_of_two_texts_does_not_change_their_embedding(frozen):
    there, back = embed_rows(frozen, [("good film", "bad"), ("bad", "good film")], None)
    torch.testing.assert_close(there.last, back.last)


def test_a_text_that_many_pairs_share_is_embedded_once(pairs):
    rows, labels = pairs
    cache_clear()
    LoPAClassifier(tiny.backbone(), prompt_length=3, rank=2, max_iter=1).fit(rows, labels)
    assert cache_info().misses == len({text for row in rows for text in row})


def test_the_head_reads_the_instance_embedding_beside_the_states(make_classifier, reviews):
    clf = make_classifier().fit(*reviews)
    frozen = live_model(clf.model)
    features, embedding = (
        clf.transform(reviews[0]),
        embed_rows(frozen, reviews[0], None, n_views=2).joined(),
    )
    weight, bias = weights_of(clf)["head.weight"], weights_of(clf)["head.bias"]
    logits = np.hstack([features, embedding.numpy()]) @ weight.T + bias
    np.testing.assert_allclose(
        clf.decision_function(reviews[0]), logits[:, 1] - logits[:, 0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "reads"),
    [({}, False), ({"depth": "deep"}, True), ({"encoder": True}, True), ({"rank": 0}, True)],
)
def test_a_start_reads_the_untrained_states_where_views_tell_less(
    options, reads, make_classifier, reviews
):
    if "encoder" in options:
        options = {"encoder": Backbone.from_objects(*tiny.model("distilbert"))}
    clf = make_classifier(learning_rate=1e-12, max_iter=1, **options).fit(*reviews)
    weight = weights_of(clf)["head.weight"]
    assert (np.abs(weight[:, : tiny.WIDTH]).max() > 1e-6) == reads
    assert np.abs(weight).max() > 1e-6


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_other_view_is_that_of_an_earlier_layer_as_long_as_the_last(kind):
    frozen = live_model(Backbone.from_objects(*tiny.model(kind, num_hidden_layers=3)))
    tokens, _ = frozen.reader(None).read(["a good film"])
    with torch.no_grad():
        out = frozen.base(torch.tensor([tokens[0].ids.tolist()]), output_hidden_states=True)
    at = slice(None) if kind == "bert" else slice(-1, None)  # a decoder is read at its last token
    earlier, last = (states[:, at].mean(dim=1) for states in (out.hidden_states[2], out[0]))
    found = embed_rows(frozen, ["a good film"], None, n_views=2).joined()
    torch.testing.assert_close(
        found, torch.cat([earlier * last.norm() / earlier.norm(), last], dim=1)
    )


def test_prompts_are_made_of_the_last_view_alone(make_classifier, reviews):
    clf = make_classifier().fit(*reviews)
    network, wanted = network_of(clf), clf.generate_prompts(reviews[0])
    last = embed_rows(network.frozen, reviews[0], None).last
    with torch.no_grad():
        np.testing.assert_allclose(network.prompt(last).numpy(), wanted, atol=1e-6)


def test_what_was_fitted_when_heads_read_one_view_runs_as_it_did(tiny_folder, reviews, monkeypatch):
    monkeypatch.setattr(LoPAClassifier, "_n_views", 1)
    clf = LoPAClassifier(tiny_folder, prompt_length=3, rank=2, max_iter=1).fit(*reviews)
    monkeypatch.undo()
    wanted, state = clf.predict_proba(reviews[0]), clf.__getstate__()
    del state["_design"]["n_views"]
    clf.__setstate__(state)
    again = pickle.loads(pickle.dumps(clf)).predict_proba(reviews[0])
    np.testing.assert_allclose(again, wanted, atol=1e-6)


def test_prompt_tuning_has_no_instance_embedding(make_classifier, reviews):
    cache_clear()
    clf = make_classifier(rank=0).fit(*reviews)
    assert cache_info().misses == 0
    assert weights_of(clf)["head.weight"].shape == (2, tiny.WIDTH)


@pytest.mark.parametrize(
    "options", [{}, {"rank": 0}, {"prompt_length": 0}, {"train_encoder": True}]
)
def test_pairs_are_learned_in_every_form(make_classifier, pairs, options):
    rows, labels = pairs
    clf = make_classifier(max_iter=2, **options).fit(rows, labels)
    width = 2 * tiny.WIDTH if clf.prompt_length == 0 else tiny.WIDTH
    assert clf.transform(rows).shape == (len(rows), width)
    assert len(clf.get_feature_names_out()) == width
