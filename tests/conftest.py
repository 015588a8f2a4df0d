"""What all tests share: tiny models, and texts whose labels a model can learn."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's library is imported

import numpy as np
import pytest
import silence
import tiny
import torch
from helpers import COLOURS

from sklopa import LoPAClassifier

# Tiny models gain nothing from a second thread, and lose much when both cores are busy.
torch.set_num_threads(1)
silence.install()


def pytest_runtest_setup(item):
    silence.allow_loopback(any(item.get_closest_marker(name) for name in ("server", "vllm")))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A folder with a tiny BERT, for what must be read from files."""
    return tiny.save(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def reviews():
    """24 texts with string labels that follow from one word."""
    texts, labels = [], []
    for thing in ("film", "book", "plot"):
        for word, label in (("good", "pos"), ("fine", "pos"), ("bad", "neg"), ("awful", "neg")):
            texts += [f"the {thing} was {word}", f"a very {word} {thing} and not a red {thing}"]
            labels += [label, label]
    return texts, labels


@pytest.fixture
def make_classifier():
    """A classifier on a tiny live backbone, small and quick."""

    def make(**options):
        options = {
            "model": tiny.backbone(), "prompt_length": 3, "rank": 2, "bottleneck": 8,
            "max_iter": 3, "batch_size": 8, "random_state": 0,
        } | options  # fmt: skip
        return LoPAClassifier(**options)

    return make


@pytest.fixture(scope="session")
def fitted(reviews):
    """A fitted classifier to read from; tests do not change it."""
    texts, labels = reviews
    model = LoPAClassifier(
        tiny.backbone(), prompt_length=3, rank=2, bottleneck=8, max_iter=5, random_state=0
    )
    return model.fit(texts, np.asarray(labels))


@pytest.fixture(scope="session")
def colours():
    """18 texts of three classes, of very different lengths."""
    frames = ["{}", "the {} book", "it was {}", "a {} film and a plot", "not a {} one", "{} " * 9]
    texts = [frame.format(*[colour] * 9) for frame in frames for colour in COLOURS]
    return texts, COLOURS * len(frames)


@pytest.fixture(scope="session")
def fitted3(colours):
    """A fitted classifier of three classes to read from; tests do not change it."""
    clf = LoPAClassifier(
        tiny.backbone(), prompt_length=3, rank=2, bottleneck=8, max_iter=3, random_state=0
    )
    return clf.fit(*colours)


@pytest.fixture(scope="session")
def pairs():
    """Pairs of texts whose label says whether both are the same word."""
    words = ["good", "bad", "film", "book"]
    rows = [(a, b) for a in words for b in words]
    return rows, ["same" if a == b else "other" for a, b in rows]
