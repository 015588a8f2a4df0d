"""A pipeline goes through skops, with two classes at most for the reader to trust."""

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklopa import Backbone, LoPAClassifier

TEXTS = ["the film was good", "not a very bad plot", "", "red"]
SMALL = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 1, "random_state": 0}
KINDS = {
    "plain": {},
    "backbone": {"as_backbone": True},
    "verbalizer": {"head": "verbalizer", "verbalizer": {"pos": "good", "neg": "bad"}},
    "deep": {"depth": "deep"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_round_trips_with_two_trusted_classes(tiny_folder, reviews, tmp_path, kind):
    options = dict(KINDS[kind])
    model = Backbone(tiny_folder) if options.pop("as_backbone", False) else tiny_folder
    pipe = make_pipeline(FunctionTransformer(), LoPAClassifier(model, **SMALL, **options))
    expected = pipe.fit(*reviews).predict_proba(TEXTS)
    skops.io.dump(pipe, tmp_path / "pipe.skops")
    trusted = skops.io.get_untrusted_types(file=tmp_path / "pipe.skops")
    assert set(trusted) <= {"sklopa.LoPAClassifier", "sklopa.Backbone"}
    loaded = skops.io.load(tmp_path / "pipe.skops", trusted=trusted)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(loaded.predict(TEXTS), pipe.predict(TEXTS))
