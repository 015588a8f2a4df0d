"""What several test modules compare with."""

from contextlib import contextmanager

import numpy as np
import pytest

from sklopa.errors import SklopaError

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 logits that were computed in other batches
COLOURS = ["red", "green", "blue"]


def assert_same_state(one, other):
    """Both hold the same trained values, bit for bit."""
    assert one._weights.keys() == other._weights.keys()
    for name, value in one._weights.items():
        np.testing.assert_array_equal(value, other._weights[name], err_msg=name)


@contextmanager
def raises(builtin, *parts):
    """A `SklopaError` that is also the builtin a caller would catch, and names `parts`."""
    with pytest.raises(SklopaError) as caught:
        yield caught
    assert isinstance(caught.value, builtin)
    text = str(caught.value)
    assert not [part for part in parts if part not in text], text
    assert "np." not in text  # numbers and texts are shown as users write them


# A few families of each kind, for claims that need no more than that.
SOME_ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "deberta-v2", "modernbert")
SOME_DECODERS = ("gpt2", "llama", "qwen3", "gpt_neox", "codegen", "phi", "gemma", "opt")
SOME_OF_BOTH = ("bart", "t5")
