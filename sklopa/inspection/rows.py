"""Which rows a fitted classifier has right, with its prompt and with other things in its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa._inputs.targets import check_lengths
from sklopa.inspection.fitted import design_of, live_network


def right_rows(classifier: Any, X: Any, y: Any) -> dict[str, np.ndarray]:
    """Row by row what `ablate` gives the means of.

    Parameters
    ----------
    classifier : fitted classifier of sklopa
    X : array-like of n rows
    y : array-like of shape (n,), or indicator matrix (n, C)

    Returns
    -------
    dict of str to ndarray of shape (n,), bool
        Whether each row is right, in the ways of `ablate` and in its order.
    """
    from sklopa._batches.run import run_rows
    from sklopa._network.ablation import ablations
    from sklopa._network.prepare import embed_inputs

    inputs = classifier._check_inputs(X, reset=False)
    check_lengths(len(inputs), y=y)
    labels, _ = classifier._check_targets(inputs, y, None, known=True)
    rows, network = classifier._learnable(inputs, labels), live_network(classifier)
    n_at_once = max(2, classifier.batch_size)  # a row needs another beside it
    right = {}
    for name, run in ablations(network).items():
        outputs = run_rows(network, rows, run, n_at_once)
        decided = (outputs > 0) if labels.is_multilabel else outputs.argmax(axis=1)
        same = decided == labels.codes
        right[name] = same.all(axis=1) if labels.is_multilabel else same
    if labels.is_multilabel:
        return right
    design = design_of(classifier)
    features = embed_inputs(design, inputs.rows, classifier._memory_folder)
    return right | {"linear probe": _right_by_probe(features, labels.codes, design.n_views)}


def _right_by_probe(features: Any, codes: np.ndarray, n_views: int) -> np.ndarray:
    """Row by row what `probe_accuracy` gives the mean of."""
    import torch
    from sklearn.model_selection import KFold

    from sklopa._heads.linear_start import ProbeRows, logistic_start

    firsts = range(0, features.shape[1], features.shape[1] // n_views)
    right = np.zeros(len(codes), dtype=bool)
    for train, test in KFold(min(5, len(codes)), shuffle=True, random_state=0).split(codes):
        classes, target = np.unique(codes[train], return_inverse=True)
        decided = np.full(len(test), classes[0])
        if len(classes) > 1:
            weight, target = torch.ones(len(train)), torch.from_numpy(target)
            probe = logistic_start(ProbeRows(features[train], target, weight, firsts=firsts))
            outputs = features[test].double().numpy() @ probe.coef.T + probe.intercept
            decided = classes[outputs.argmax(axis=1)]
        right[test] = decided == codes[test]
    return right
