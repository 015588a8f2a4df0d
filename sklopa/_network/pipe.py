"""The pipe in one module: instance embedding -> prompt -> frozen backbone -> head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import as_language_model
from sklopa._backbone.prompted import PromptedBatch
from sklopa._batches.rows import Batch
from sklopa._embedding.trained import TrainedEncoder
from sklopa._heads.head import Head, StateHead
from sklopa._prompt.deep import DeepPrompt
from sklopa._prompt.low_rank import LowRankPrompt


class LoPANetwork(nn.Module):
    """Prompt, head and (where it is trained) encoder around a shared frozen backbone.

    Its parameters are exactly what is trained; the frozen model is held, not owned.
    """

    head: Head

    def __init__(
        self,
        frozen: Frozen[Any],
        prompt: LowRankPrompt | DeepPrompt | None,
        head: Head,
        encoder: TrainedEncoder | None = None,
        embedder: Frozen[Any] | None = None,
    ) -> None:
        super().__init__()
        self._frozen, self._embedder = frozen, embedder
        self.prompt, self.head, self.encoder = prompt, head, encoder
        self.to(frozen.device)

    @property
    def frozen(self) -> Frozen[Any]:
        """The frozen model, in the precision of training steps while it is trained."""
        frozen = self._frozen.in_use()
        return frozen.in_steps if self.training else frozen

    @property
    def embedder(self) -> Frozen[Any]:
        """The frozen model that makes instance embeddings, in the precision of predictions."""
        model = self._frozen.plain if self._embedder is None else self._embedder
        return model.in_use()

    def models(self) -> dict[str, Frozen[Any]]:
        """The frozen models that are read, each once; "encoder" where that is another one."""
        plain = self._frozen.plain
        return {"backbone": plain} | ({} if self.embedder is plain else {"encoder": self.embedder})

    @property
    def device(self) -> torch.device:
        return self.frozen.device

    @property
    def n_trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameter_groups(self) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """What is trained, part by part: name, unit of its rate, parameters; see `Trainer`."""
        for part in (self.prompt, self.head, self.encoder):
            if part is not None:
                yield from part.parameter_groups()

    def forward(self, batch: Batch) -> Tensor:
        """Outputs (B, C); of a head that writes (B,)."""
        if batch.tokens is None:  # a linear probe: the frozen features came with the batch
            return self.head(self.head_inputs(batch))
        return self.outputs_behind(self.prompts(batch), batch)

    def outputs_behind(self, prompt: Tensor | None, batch: Batch) -> Tensor:
        """Outputs behind prompts of the caller's choice."""
        return self.head.read(self.frozen, prompt, batch)

    def head_inputs(self, batch: Batch) -> Tensor:
        """What a head of states reads: adapted features, and the views of the row beside them."""
        if batch.tokens is None:
            assert batch.views is not None  # what a row without tokens consists of
            return batch.views.joined()
        return self._state_head.inputs(self.features(batch), batch.views)

    def features(self, batch: Batch) -> Tensor:
        """Adapted features (B, D); without a prompt, the instance embeddings."""
        if batch.tokens is None:
            assert batch.views is not None  # what a row without tokens consists of
            return batch.views.last
        states = self.frozen.states_behind(self.prompts(batch), batch.tokens)  # (B, T, D)
        return self._state_head.features(states, batch)

    def inputs(self, batch: Batch) -> PromptedBatch:
        """What a frozen model of texts reads: the embedded tokens with the prompts among them."""
        frozen = as_language_model(self.frozen)
        return frozen.inputs_behind(self.prompts(batch), batch.texts)

    def prompts(self, batch: Batch) -> Tensor | None:
        """Soft prompts (B, P, D), or (B, L, P, D) if deep; None where there is no prompt."""
        if self.prompt is None:
            return None
        if self.encoder is not None:
            return self.prompt(self.encoder(batch.encoder_tokens))
        if batch.views is None:  # nothing depends on the instance
            return self.prompt(torch.empty(len(batch), 0, dtype=torch.float32, device=self.device))
        return self.prompt(batch.views.last)

    @property
    def _state_head(self) -> StateHead:
        assert isinstance(self.head, StateHead)  # of estimators that have features
        return self.head
