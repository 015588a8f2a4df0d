"""What a fitted estimator consists of: a design, and arrays to fill it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sklopa._network.design import Design

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
    """

    def __init__(
        self, design: Design, weights: Mapping[str, np.ndarray], live: LoPANetwork | None = None
    ) -> None:
        self.design, self.weights, self._live = design, dict(weights), live

    @classmethod
    def of(cls, design: Design, network: LoPANetwork) -> FittedNetwork:
        """A network as it stands now."""
        arrays = {k: v.detach().cpu().clone().numpy() for k, v in network.state_dict().items()}
        return cls(design, arrays, network)

    def live(self) -> LoPANetwork:
        """The network itself, built from plain values if it is not there."""
        if self._live is None:
            from sklopa._network.build import fill_network

            self._live = fill_network(self.design, self.weights)
        return self._live

    def stored(self) -> FittedNetwork:
        """The same, as one that was stored meanwhile: its live network is made anew."""
        return FittedNetwork(self.design, self.weights)

    def prepare(
        self, inputs: Sequence[Any], memory: Memory = None, *, for_steps: bool = False
    ) -> PreparedRows:
        """All that is computed once for an input: for predictions, or for training steps."""
        from sklopa._network.prepare import prepare_rows

        return prepare_rows(self.live(), self.design, inputs, memory, for_steps=for_steps)

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
        from sklopa._batches.run import run_rows
        from sklopa._tokens.truncation import Truncation

        done, truncation, device = [], Truncation(), self.live().eval().device
        n_rows = STATE_ROWS if self.design.prompt_layer else BLOCK_ROWS
        for start in range(0, len(inputs), n_rows):
            rows, cut = self.prepare(inputs[start : start + n_rows], memory)
            truncation += cut
            done.append(run_rows(rows, run, batch_size, device, on_rows))
        return np.concatenate(done), truncation
