"""What a fitted estimator consists of: a design, and arrays to fill it with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sklopa._batches.modes import in_own_modes
from sklopa._network.design import Design
from sklopa.errors import ArchiveWarning

if TYPE_CHECKING:
    from sklopa._batches.rows import Batch
    from sklopa._network.pipe import LoPANetwork
    from sklopa._network.prepare import Memory, PreparedRows
    from sklopa._tokens.truncation import Truncation

# Rows that are prepared at once for a prediction: memory does not grow with their number.
BLOCK_ROWS = 8192
# The same with their states below the prompt, which take far more than tokens do.
STATE_ROWS = 512


class FittedNetwork:
    """A design and weights: all that is stored. The live network is made from them.

    Parameters
    ----------
    design : Design
    weights : dict of {name: ndarray}
    live : LoPANetwork, default=None
        A network of this design that holds these weights, where there is one already.
    models : dict, default=None
        What is known of the frozen models of the fit, as `models` gives it. Whoever makes the
        network live is told if they are others now.
    """

    def __init__(
        self,
        design: Design,
        weights: Mapping[str, np.ndarray],
        live: LoPANetwork | None = None,
        models: dict[str, Any] | None = None,
    ) -> None:
        self.design, self.weights, self._live = design, dict(weights), live
        self._models = models

    @classmethod
    @in_own_modes
    def of(cls, design: Design, network: LoPANetwork) -> FittedNetwork:
        """A network as it stands now."""
        arrays = {k: v.detach().cpu().clone().numpy() for k, v in network.state_dict().items()}
        return cls(design, arrays, network)

    @in_own_modes
    def live(self) -> LoPANetwork:
        """The network itself, built from plain values if it is not there."""
        if self._live is None:
            from sklopa._network.build import fill_network

            self._live = fill_network(self.design, self.weights)
            self._warn_of_others(self._live)
        return self._live

    def stored(self) -> FittedNetwork:
        """The same, as one that was stored meanwhile: its live network is made anew."""
        return FittedNetwork(self.design, self.weights, models=self._models)

    def of_design(self, design: Design) -> FittedNetwork:
        """The same weights in another design, as one that was stored."""
        return FittedNetwork(design, self.weights, models=self._models)

    def models(self) -> dict[str, Any] | None:
        """What a pickle holds of the frozen models: their digests, and transformers' version."""
        if self._models is None and self._live is not None:
            from sklopa._network.models import told_of, version_of_transformers

            told = told_of(self._live.models())
            self._models = {**told, "versions": {"transformers": version_of_transformers()}}
        return self._models

    def _warn_of_others(self, live: LoPANetwork) -> None:
        """Warn if the frozen models are not those of the fit."""
        if self._models is None:
            return
        from sklopa._network.models import compare

        version = self._models.get("versions", {}).get("transformers")
        for name, frozen in live.models().items():
            wrong, other = compare(name, self._models.get(name, {}), frozen, version)
            if wrong or other:
                advice = " Predictions are those of another model; give it back." if wrong else ""
                warnings.warn(f"{wrong or other}{advice}", ArchiveWarning, stacklevel=2)

    @in_own_modes
    def prepare(
        self, inputs: Sequence[Any], memory: Memory = None, *, for_steps: bool = False
    ) -> PreparedRows:
        """All that is computed once for an input: for predictions, or for training steps."""
        from sklopa._network.prepare import prepare_rows

        return prepare_rows(self.live(), self.design, inputs, memory, for_steps=for_steps)

    @in_own_modes
    def run(
        self,
        inputs: Sequence[Any],
        run: Callable[[Batch], Any],
        *,
        batch_size: int,
        memory: Memory = None,
        on_rows: Callable[[int], Any] = lambda n_rows: None,
    ) -> tuple[np.ndarray, Truncation]:
        """What `run` makes of every input, (n, ...) float32, and what was truncated.

        Parameters
        ----------
        inputs : sequence of texts, pairs or images
        run : callable of a batch
            The live network, or a method of it.
        """
        from sklopa._batches.run import check_finite, run_rows
        from sklopa._tokens.truncation import Truncation

        done, truncation, device = [], Truncation(), self.live().eval().device
        n_rows = STATE_ROWS if self.design.prompt_layer else BLOCK_ROWS
        for start in range(0, len(inputs), n_rows):
            rows, cut = self.prepare(inputs[start : start + n_rows], memory)
            truncation += cut
            done.append(run_rows(rows, run, batch_size, device, on_rows))
        return check_finite(np.concatenate(done), self.design.backbone.model), truncation
