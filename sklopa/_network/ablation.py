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


def right_by_probe(
    views: Views, codes: np.ndarray, trained: tuple[Views, np.ndarray] | None = None
) -> np.ndarray:
    """Whether each row (n,) is right by a logistic regression on its views.

    As in the start of a head, a view that does not help is left out.

    Parameters
    ----------
    views : Views of n rows
    codes : ndarray of shape (n,), their class indices
    trained : Views and class indices of the rows to fit it on
        None cross-validates it on the n rows, in up to five parts.
    """
    features = views.joined()
    if trained is not None:
        return _decided(trained[0], trained[1], features) == codes
    right = np.zeros(len(codes), dtype=bool)
    for train, test in KFold(min(5, len(codes)), shuffle=True, random_state=0).split(codes):
        some = views[torch.from_numpy(train)]
        right[test] = _decided(some, codes[train], features[test]) == codes[test]
    return right


def _decided(views: Views, codes: np.ndarray, features: Tensor) -> np.ndarray:
    """Class indices of `features` (m, D) by a logistic regression on rows with views and codes."""
    known = views.joined()
    classes, inverse = np.unique(codes, return_inverse=True)
    if len(classes) < 2:
        return np.full(len(features), classes[0])
    weight, target = torch.ones(len(known), dtype=torch.float32), torch.from_numpy(inverse)
    probe = logistic_start(ProbeRows(known, target, weight, firsts=views.firsts))
    outputs = features.double().numpy() @ probe.coef.T + probe.intercept
    return classes[outputs.argmax(axis=1)]
