"""Does the prompt help here? The same fitted network, with other prompts in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.model_selection import KFold
from torch import Tensor

from sklopa._batches.rows import Batch, Views
from sklopa._heads.linear_start import ProbeRows, logistic_start
from sklopa._network.pipe import LoPANetwork

Run = Callable[[Batch], Tensor]


def ablations(network: LoPANetwork) -> dict[str, Run]:
    """Ways to run a network, by name; each gives outputs (B, C).

    "another row's prompt" takes that of the next row of the batch.
    """

    def behind(choose: Callable[[Batch], Tensor | None]) -> Run:
        def run(batch: Batch) -> Tensor:
            return network.outputs_behind(choose(batch), batch)

        return run

    ways: dict[str, Run] = {"prompt": network}
    prompt = network.prompt
    if prompt is None:
        return ways
    ways["no prompt"] = behind(lambda batch: None)
    ways["another row's prompt"] = behind(lambda batch: _rolled(network.prompts(batch)))
    if prompt.has_task:
        ways["task prompt alone"] = behind(lambda batch: prompt.task_only(len(batch)))
    return ways


def _rolled(prompts: Tensor | None) -> Tensor | None:
    return None if prompts is None else prompts.roll(1, dims=0)


def right_by_probe(views: Views, codes: np.ndarray) -> np.ndarray:
    """Whether each row (n,) is right by a logistic regression on its views, cross-validated.

    In up to five parts. As in the start of a head, a view that does not help is left out.
    """
    features, right = views.joined(), np.zeros(len(codes), dtype=bool)
    firsts = range(0, features.shape[1], views.last.shape[1])
    for train, test in KFold(min(5, len(codes)), shuffle=True, random_state=0).split(codes):
        classes, inverse = np.unique(codes[train], return_inverse=True)
        decided = np.full(len(test), classes[0])
        if len(classes) > 1:
            weight, target = torch.ones(len(train), dtype=torch.float32), torch.from_numpy(inverse)
            probe = logistic_start(ProbeRows(features[train], target, weight, firsts=firsts))
            outputs = features[test].double().numpy() @ probe.coef.T + probe.intercept
            decided = classes[outputs.argmax(axis=1)]
        right[test] = decided == codes[test]
    return right
