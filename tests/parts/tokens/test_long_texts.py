"""Texts that are far longer than the limit are cut before they are tokenised, and read alike."""

import random
from functools import lru_cache

import pytest
import tiny
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from sklopa import cache_clear
from sklopa._tokens.template import Template
from sklopa._tokens.texts import TextReader

LIMIT = 24
SOUP = "the film was good, and not a very bad book. 1234567 aaaaaaa ababab café naïve été "


@pytest.fixture(autouse=True)
def _no_cache():
    cache_clear()


def trained(model, trainer, normaliser=None, splitter=None):
    core = Tokenizer(model)
    if normaliser is not None:
        core.normalizer = normaliser
    if splitter is not None:
        core.pre_tokenizer = splitter
    core.train_from_iterator([SOUP * 20, SOUP.upper()], trainer)
    return core


@lru_cache
def core(kind):
    bpe = {"special_tokens": ["[UNK]"], "vocab_size": 200, "show_progress": False}
    unigram = {**bpe, "unk_token": "[UNK]", "vocab_size": 120}
    if kind == "byte_bpe":
        return trained(
            models.BPE(),
            trainers.BpeTrainer(**bpe, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
            splitter=pre_tokenizers.ByteLevel(add_prefix_space=False),
        )  # fmt: skip
    if kind == "whole_bpe":  # all of a text is one word
        return trained(
            models.BPE(unk_token="[UNK]"), trainers.BpeTrainer(**bpe),
            normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        )  # fmt: skip
    if kind == "unigram":
        return trained(
            models.Unigram(), trainers.UnigramTrainer(**unigram), normalizers.NFKC(),
            pre_tokenizers.Metaspace(),
        )  # fmt: skip
    if kind == "whole_unigram":
        return trained(models.Unigram(), trainers.UnigramTrainer(**unigram), normalizers.Strip())
    assert kind == "digits_from_the_right"
    digits = Regex(r"\d{1,3}(?=(\d{3})*(\D|$))|\D+?(?=\d)|\D+")
    return trained(
        models.BPE(unk_token="[UNK]"), trainers.BpeTrainer(**bpe),
        splitter=pre_tokenizers.Split(digits, "isolated"),
    )  # fmt: skip


KINDS = ("byte_bpe", "whole_bpe", "unigram", "whole_unigram", "digits_from_the_right")


def tokenizer(kind, side="right"):
    if kind == "wordpiece":
        made = tiny.tokenizer()
    else:
        made = transformers.PreTrainedTokenizerFast(
            tokenizer_object=core(kind), unk_token="[UNK]", pad_token="[UNK]"
        )
    made.truncation_side = side
    return made


class Counting:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, real):
        self._real, self.seen = real, 0

    def __call__(self, firsts, seconds=None, **options):
        texts = [firsts] if isinstance(firsts, str) else [*firsts]
        self.seen += sum(map(len, texts)) + sum(map(len, seconds or ()))
        return self._real(firsts, seconds, **options)

    def __getattr__(self, name):
        return getattr(self._real, name)


def read(made, row, limit=LIMIT, template=None, **options):
    reader = TextReader(made, name=object(), max_tokens=limit, with_types=False,
                        template=template, **options)  # fmt: skip
    (tokens,), n_cut = reader.read([row])
    return tokens.ids.tolist(), n_cut


def read_whole(*args, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(TextReader, "_deciding", lambda self, row: row)
        return read(*args, **options)


def long_text(seed, n=13_000):
    """A text of words, runs, digits, accents that stand alone, and emoji."""
    draw = random.Random(seed)
    pieces = [
        lambda: "".join(draw.choice("abcdefgh") for _ in range(draw.randint(1, 12))),
        lambda: draw.choice("ab1é ") * draw.randint(1, 400),
        lambda: "ab" * draw.randint(1, 300),
        lambda: "".join(draw.choice("0123456789") for _ in range(draw.randint(1, 900))),
        lambda: "e" + "\u0301" * draw.randint(1, 9),
        lambda: draw.choice(["👩‍👩‍👧", "漢字かな", "\n\n", "...", "[SEP]", " "]),
    ]
    text = ""
    while len(text) < n:
        text += draw.choice(pieces)() + draw.choice(["", " ", "  "])
    return text


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", [*KINDS, "wordpiece"])
def test_a_text_that_is_cut_first_has_the_tokens_of_the_whole(kind, side, monkeypatch):
    made = tokenizer(kind, side)
    for seed in range(3):
        text = long_text(seed)
        found = read(made, text)
        assert found == read_whole(made, text, monkeypatch=monkeypatch)
        assert found[1] == 1
        assert len(found[0]) == LIMIT


RUNS = {
    "one_letter": "a" * 13_001, "a_period": "ab" * 6_500 + "a", "digits": "1234567890" * 1_150,
    "spaces": " " * 13_000 + "good", "no_letter_known": "漢" * 13_000,
}  # fmt: skip


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", [*KINDS, "wordpiece"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_without_an_end_is_read_like_the_whole(run, kind, side, monkeypatch):
    made = tokenizer(kind, side)
    assert read(made, RUNS[run]) == read_whole(made, RUNS[run], monkeypatch=monkeypatch)


def test_only_a_small_part_of_a_long_text_is_tokenised():
    made = Counting(tokenizer("wordpiece"))
    text = "the film was good " * 100_000
    ids, n_cut = read(made, text)
    assert (len(ids), n_cut) == (LIMIT, 1)
    assert made.seen < len(text) / 50


def test_a_long_text_within_the_limit_is_not_counted_as_cut():
    blanks = " " * 100_000
    ids, n_cut = read(tokenizer("wordpiece"), f"good{blanks}film")
    assert (len(ids), n_cut) == (4, 0)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("special_tokens", [False, True])
@pytest.mark.parametrize("rest", ["", " [SEP] bad [MASK]"])
def test_what_looks_like_tokens_far_behind_changes_nothing_of_how_a_text_is_read(
    side, special_tokens, rest, monkeypatch
):
    made = tokenizer("wordpiece", side)
    text = "good [SEP] film " + "the film was good " * 4_000 + rest
    template = Template("it was {text} and {mask}", "[MASK]", 4)
    for options in ({}, {"template": template}):
        options |= {"special_tokens": special_tokens}
        whole = read_whole(made, text, monkeypatch=monkeypatch, **options)
        assert read(made, text, **options) == whole


@pytest.mark.parametrize("limit", [24, 25])
@pytest.mark.parametrize("lengths", [(700, 1), (1, 700), (700, 40), (400, 700), (700, 710),
                                     (710, 700), (700, 700)])  # fmt: skip
def test_both_texts_of_a_pair_keep_what_they_kept(limit, lengths, monkeypatch):
    made = tokenizer("wordpiece")
    row = tuple(f"{word:20}" * n for word, n in zip(("good", "bad"), lengths, strict=True))
    assert read(made, row, limit) == read_whole(made, row, limit, monkeypatch=monkeypatch)
    template = Template("{text} and {text_pair}")
    in_template = read(made, row, limit, template)
    assert in_template == read_whole(made, row, limit, template, monkeypatch=monkeypatch)
