"""sklopa: adapt a frozen foundation model the scikit-learn way.

>>> from sklopa import LoPAClassifier
>>> LoPAClassifier(rank=2)
LoPAClassifier(rank=2)
"""

from sklopa import _earlier, datasets, errors, inspection, metrics, serving  # noqa: F401
from sklopa._cache.process import CacheInfo, cache_clear, cache_info
from sklopa._estimators.classifier import LoPAClassifier
from sklopa._estimators.generator import LoPAGenerator
from sklopa._estimators.image_classifier import LoPAImageClassifier
from sklopa._estimators.load import load
from sklopa._estimators.regressor import LoPARegressor
from sklopa._loading.description import Backbone
from sklopa._loading.shared import load_model
from sklopa._onnx.predictor import OnnxPredictor
from sklopa._version import __version__

__all__ = [
    "Backbone",
    "CacheInfo",
    "LoPAClassifier",
    "LoPAGenerator",
    "LoPAImageClassifier",
    "LoPARegressor",
    "OnnxPredictor",
    "__version__",
    "cache_clear",
    "cache_info",
    "datasets",
    "errors",
    "inspection",
    "load",
    "load_model",
    "metrics",
    "serving",
]
