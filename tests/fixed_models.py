"""Tiny models whose weights no version of a library changes, for files that earlier code wrote."""

import zlib

import numpy as np
import tiny
import tiny_vision
import torch

TEXTS = ["good film", "bad film", "fine book", "awful book"] * 3
LABELS = ["pos", "neg"] * 6
NUMBERS = np.arange(12.0)
SMALL = {"max_iter": 1, "prompt_length": 2, "rank": 1, "bottleneck": 2, "random_state": 0}
FOLDERS = {"classifier": "bert", "regressor": "bert", "generator": "gpt2", "images": "vit"}


def write(folder):
    """Put all models under a folder, by the names in `FOLDERS`."""
    for name in ("bert", "gpt2"):
        model, reader = tiny.model(name)
        _fill(model).save_pretrained(folder / name)
        reader.save_pretrained(folder / name)
    _fill(tiny_vision.model()).save_pretrained(folder / "vit")
    tiny_vision.processor().save_pretrained(folder / "vit")


def rows_of(kind):
    """What an estimator of that kind predicts from."""
    return tiny_vision.images()[0][:4] if kind == "images" else TEXTS[:4]


def outputs_of(kind, estimator):
    """What it gives for them."""
    if kind == "generator":
        return estimator.log_likelihood(rows_of(kind), TEXTS[:4])
    return getattr(estimator, "decision_function", estimator.predict)(rows_of(kind))


@torch.no_grad()
def _fill(model):
    """Weights that follow from their names."""
    for name, value in sorted(model.named_parameters()):
        random = np.random.RandomState(zlib.crc32(name.encode()))
        scale = 0.3 if value.ndim > 1 else 0.1
        drawn = random.uniform(-scale, scale, size=tuple(value.shape)) + (value.ndim == 1) * 0.5
        value.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return model
