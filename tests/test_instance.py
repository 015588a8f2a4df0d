"""Instance embeddings: one text, two texts, and what the head makes of them."""

import numpy as np
import pytest
import tiny
import torch

from sklopa import LoPAClassifier, cache_clear, cache_info
from sklopa._instance import embed_rows
from sklopa._loading import load


@pytest.fixture(scope="module")
def frozen():
    return load(tiny.backbone())


def test_a_pair_is_embedded_text_by_text_and_compared(frozen):
    rows = [("good film", "bad book"), ("red", "a very green plot")]
    u, v = (embed_rows(frozen, list(column), None) for column in zip(*rows, strict=True))
    expected = torch.cat([(u - v).abs(), u * v], dim=1)
    torch.testing.assert_close(embed_rows(frozen, rows, None), expected)
    assert expected.shape == (2, 2 * tiny.WIDTH)


def test_the_order_of_two_texts_does_not_change_their_embedding(frozen):
    there, back = embed_rows(frozen, [("good film", "bad"), ("bad", "good film")], None)
    torch.testing.assert_close(there, back)


def test_a_text_that_many_pairs_share_is_embedded_once(pairs):
    rows, labels = pairs
    cache_clear()
    LoPAClassifier(tiny.backbone(), prompt_length=3, rank=2, max_iter=1).fit(rows, labels)
    assert cache_info().misses == len({text for row in rows for text in row})


def test_the_head_reads_the_instance_embedding_beside_the_states(make_classifier, reviews):
    clf = make_classifier().fit(*reviews)
    features, embedding = clf.transform(reviews[0]), embed_rows(load(clf.model), reviews[0], None)
    weight, bias = clf._weights["head.weight"], clf._weights["head.bias"]
    logits = np.hstack([features, embedding.numpy()]) @ weight.T + bias
    np.testing.assert_allclose(
        clf.decision_function(reviews[0]), logits[:, 1] - logits[:, 0], atol=1e-5
    )


def test_prompt_tuning_has_no_instance_embedding(make_classifier, reviews):
    cache_clear()
    clf = make_classifier(rank=0).fit(*reviews)
    assert cache_info().misses == 0
    assert clf._weights["head.weight"].shape == (2, tiny.WIDTH)


@pytest.mark.parametrize(
    "options", [{}, {"rank": 0}, {"prompt_length": 0}, {"train_encoder": True}]
)
def test_pairs_are_learned_in_every_form(make_classifier, pairs, options):
    rows, labels = pairs
    clf = make_classifier(max_iter=2, **options).fit(rows, labels)
    width = 2 * tiny.WIDTH if clf.prompt_length == 0 else tiny.WIDTH
    assert clf.transform(rows).shape == (len(rows), width)
    assert len(clf.get_feature_names_out()) == width
