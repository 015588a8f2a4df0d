"""What all tests share: tiny models, and texts whose labels a model can learn."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import tiny

from sklopa import LoPAClassifier

# Tiny models gain nothing from a second thread, and lose much when both cores are busy.
torch.set_num_threads(1)


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
