"""Texts to tokens: limits, templates, batches, and each text once."""

import numpy as np
import pytest
import tiny
import torch

from sklopa._batches.order import inference_chunks, training_batches
from sklopa._cache.process import TextCache
from sklopa._heads.label_words import make_template, word_ids
from sklopa._loading.live import live_model
from sklopa._tokens.batch import TokenBatch, Tokens
from sklopa._tokens.texts import TextReader
from sklopa.errors import InvalidParameter


@pytest.fixture(scope="module")
def masked():
    return live_model(tiny.backbone("bert"))


@pytest.fixture(scope="module")
def causal():
    return live_model(tiny.backbone("gpt2"))


def test_long_text_keeps_its_start_and_its_special_tokens(masked):
    (tokens,), cut = masked.reader(6).read(["good bad fine awful film book"])
    words = masked.tokenizer.convert_ids_to_tokens(tokens.ids)
    assert words == ["[CLS]", "good", "bad", "fine", "awful", "[SEP]"]
    assert cut == 1


def test_pairs_carry_token_types(masked):
    (tokens,), _ = masked.reader(None).read([("good", "bad film")])
    assert tokens.types.tolist() == [0, 0, 0, 1, 1, 1]


def test_empty_text_of_a_tokenizer_without_special_tokens_is_one_token(causal):
    (tokens,), _ = causal.reader(None).read([""])
    assert len(tokens) == 1


def test_each_distinct_text_is_tokenised_once():
    calls = []
    real = tiny.tokenizer()

    class Counting:
        all_special_ids = real.all_special_ids

        def __call__(self, texts, *args, **kwargs):
            calls.extend(texts)
            return real(texts, *args, **kwargs)

    def read(limit, texts):
        reader = TextReader(Counting(), name="counting", max_tokens=limit, with_types=True)
        return reader.read(texts)

    read(None, ["good", "bad", "good"])
    read(None, ["bad", "fine"])
    assert sorted(calls) == ["bad", "fine", "good"]
    read(9, ["good", "bad"])  # as under no limit
    assert len(calls) == 3
    (cut,), n_cut = read(2, ["good"])
    assert (len(cut), n_cut) == (2, 1)
    calls.clear()
    assert read(2, ["good"])[1] == 1
    assert not calls


def test_template_keeps_its_mask_when_the_text_is_too_long(masked):
    template = make_template(masked, "it was {mask} : {text} not a book", 1)
    (tokens,), cut = masked.reader(12, template).read(["very " * 50])
    words = masked.tokenizer.convert_ids_to_tokens(tokens.ids)
    assert len(tokens) <= 12
    assert words[tokens.slot] == "[MASK]"
    assert words[-4:-1] == ["not", "a", "book"]
    assert cut == 1


@pytest.mark.parametrize("pattern", ["{text}", "{mask}", "{text} {mask} {else}", "{text} {mask"])
def test_template_with_wrong_slots_is_refused(masked, pattern):
    with pytest.raises(InvalidParameter, match="template"):
        make_template(masked, pattern, 1)


def test_label_words_must_be_single_tokens_of_a_masked_model(masked):
    assert len(set(word_ids(masked, ["p", "n"], {"p": "good", "n": "bad"}))) == 2
    with pytest.raises(InvalidParameter, match="'splendid' is not one token"):
        word_ids(masked, ["p", "n"], {"p": "splendid", "n": "bad"})
    with pytest.raises(InvalidParameter, match="no word for label 'n'"):
        word_ids(masked, ["p", "n"], {"p": "good"})


def test_label_words_must_begin_differently(causal):
    with pytest.raises(InvalidParameter, match="begin with the same token"):
        word_ids(causal, [0, 1], {0: "good film", 1: "good book"})


def test_collate_pads_on_the_right_and_counts_the_slot_from_the_left():
    rows = [Tokens(np.array([5, 6, 7])), Tokens(np.array([8]), slot=0)]
    batch = TokenBatch.collate(rows)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.slot.tolist() == [2, 0]


def test_training_batches_cover_each_row_once_with_little_padding():
    rng = np.random.RandomState(0)
    lengths = rng.randint(1, 100, size=1000)
    batches = training_batches(lengths, 16, torch.Generator().manual_seed(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    computed = sum(lengths[b].max() * len(b) for b in batches)
    assert computed < 1.1 * lengths.sum()
    again = training_batches(lengths, 16, torch.Generator().manual_seed(0))
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_inference_chunks_start_with_the_longest_rows():
    lengths = np.array([3, 9, 1, 5])
    chunks = [chunk.tolist() for chunk in inference_chunks(lengths, 2)]
    assert chunks == [[1, 3], [0, 2]]
    assert list(inference_chunks(np.array([]), 2)) == []


def test_cache_stays_within_its_bytes_and_counts():
    cache = TextCache(max_bytes=300)

    def compute(rows):
        yield from enumerate(rows)

    assert cache.compute("n", ["a", "b", "a"], compute, lambda _: 100) == ["a", "b", "a"]
    assert cache.info()[:3] == (0, 2, 200)
    cache.compute("n", ["b", "c", "d"], compute, lambda _: 100)
    assert cache.info()[:3] == (1, 4, 300)
    assert cache.compute("other", ["b"], compute, lambda _: 100) == ["b"]
    assert cache.info().misses == 5


def test_pair_and_joined_text_are_different_texts():
    cache = TextCache(max_bytes=1000)
    seen = []

    def compute(rows):
        seen.extend(rows)
        yield from enumerate(rows)

    cache.compute("n", [("ab", "c"), ("a", "bc"), "abc"], compute, lambda _: 1)
    assert len(seen) == 3
