"""y and what stands beside it, as the estimators ask for it: one door to three modules."""

from sklopa._inputs.columns import check_lengths
from sklopa._inputs.labels import Labels, check_classes, encode_labels
from sklopa._inputs.numeric import Numbers, check_numbers, restore, standardise
from sklopa._inputs.weights import apply_class_weight, check_weights

__all__ = [
    "Labels",
    "Numbers",
    "apply_class_weight",
    "check_classes",
    "check_lengths",
    "check_numbers",
    "check_weights",
    "encode_labels",
    "restore",
    "standardise",
]
