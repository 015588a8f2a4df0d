"""Does the prompt help here? The same fitted network, with other prompts in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.model_selection import KFold
from torch import Tensor

from sklopa._heads.linear_start import ProbeRows, logistic_start
from sklopa._network.pipe import LoPANetwork
from sklopa._tokens.batch import Batch

Run = Callable[[Batch], Tensor]


def ablations(network: LoPANetwork) -> dict[str, Run]:
    """Ways to run a network, by name; each gives outputs (B, C).

    "another row's prompt" takes that of the next row of the batch.
    """

    def behind(choose: Callable[[Batch], Tensor | None]) -> Run:
        def run(batch: Batch) -> Tensor:
            features = network.features_behind(choose(batch), batch)
            return network.head(network.head.inputs(features, batch.embedding))

        return run

    ways: dict[str, Run] = {"prompt": network}
    if network.prompt is None:
        return ways
    ways["no prompt"] = behind(lambda batch: None)
    ways["another row's prompt"] = behind(lambda batch: network.prompts(batch).roll(1, dims=0))
    if network.prompt.has_task:
        task_only = network.prompt.task_only
        ways["task prompt alone"] = behind(lambda batch: task_only(len(batch.tokens)))
    return ways


def probe_accuracy(features: Tensor, codes: np.ndarray, n_views: int) -> float:
    """Accuracy of a logistic regression on features (n, n_views E), cross-validated.

    In up to five parts. As in the start of a head, a view that does not help is left out.
    """
    firsts, hits = range(0, features.shape[1], features.shape[1] // n_views), []
    for train, test in KFold(min(5, len(codes)), shuffle=True, random_state=0).split(codes):
        classes, target = np.unique(codes[train], return_inverse=True)
        if len(classes) < 2:
            decided = np.full(len(test), classes[0])
        else:
            weight, target = torch.ones(len(train)), torch.from_numpy(target)
            probe = logistic_start(ProbeRows(features[train], target, weight, firsts=firsts))
            outputs = features[test].double().numpy() @ probe.coef.T + probe.intercept
            decided = classes[outputs.argmax(axis=1)]
        hits += (decided == codes[test]).tolist()
    return float(np.mean(hits))
