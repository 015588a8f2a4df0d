"""What several test modules compare with."""

import copy
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import sklopa
from sklopa.errors import SklopaError

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 logits that were computed in other batches
COLOURS = ["red", "green", "blue"]


def named(value):
    """A value as the name of a test: the same in each process that collects it."""
    text = repr(sorted(value, key=repr)) if isinstance(value, set) else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def weights_of(estimator):
    """The trained values of a fitted estimator, by name."""
    return estimator._fitted_network().weights


def design_of(estimator):
    """What shapes its network."""
    return estimator._fitted_network().design


def network_of(estimator):
    """The live network of a fitted estimator."""
    return estimator._fitted_network().live()


def rows_of(estimator, X):
    """Rows that its network can run on."""
    fitted = estimator._fitted_task()
    return fitted.network.prepare(fitted.read(X).rows).rows


def with_weights(estimator, weights):
    """A copy of a fitted estimator that holds other weights."""
    other = copy.copy(estimator)
    other.__setstate__(estimator.__getstate__() | {"_weights": weights})
    return other


def assert_same_state(one, other):
    """Both hold the same trained values, bit for bit."""
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


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


_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
"""


def printed_without(packages, code):
    """What code prints in a new process in which these packages are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.replace("{absent}", repr(packages)) + code],
        capture_output=True, text=True, check=False, cwd=Path(sklopa.__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
