"""The pipe in one module: instance embedding -> prompt -> frozen backbone -> head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._embedding.instance import TrainedEncoder
from sklopa._heads.linear import LinearHead, VerbalizerHead
from sklopa._prompt.low_rank import DeepPrompt, LowRankPrompt
from sklopa._tokens.batch import Batch, PromptedBatch


class LoPANetwork(nn.Module):
    """Prompt, head and (where it is trained) encoder around a shared frozen backbone.

    Its parameters are exactly what is trained; the frozen model is held, not owned.
    """

    def __init__(
        self,
        frozen: Frozen,
        prompt: LowRankPrompt | DeepPrompt | None,
        head: LinearHead | VerbalizerHead | None,
        encoder: TrainedEncoder | None = None,
        n_views: int = 1,
    ) -> None:
        super().__init__()
        self._frozen = (frozen,)  # in a tuple, so that its weights do not become ours
        self.prompt, self.head, self.encoder = prompt, head, encoder
        self.n_views = n_views
        self.to(frozen.device)

    @property
    def frozen(self) -> Frozen:
        """The frozen model, in the precision of training steps while it is trained."""
        return self._frozen[0].in_steps if self.training else self._frozen[0]

    @property
    def device(self) -> torch.device:
        return self.frozen.device

    @property
    def n_trainable(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, batch: Batch) -> Tensor:
        """Outputs (B, C)."""
        return self.head(self.head_inputs(batch))

    def head_inputs(self, batch: Batch) -> Tensor:
        """What the head reads: adapted features, and the views of the row beside them.

        The frozen model's own view of a row is known anyway; with it the head can never know
        less than a linear probe does.
        """
        if batch.tokens is None:  # a linear probe: the frozen features came with the batch
            return batch.embedding
        return self.head.inputs(self.features(batch), batch.embedding)

    def features(self, batch: Batch) -> Tensor:
        """Adapted features (B, D)."""
        if batch.tokens is None:
            return self.instances(batch)
        return self.features_behind(self.prompts(batch), batch)

    def features_behind(self, prompt: Tensor | None, batch: Batch) -> Tensor:
        """Features (B, D) behind prompts of the caller's choice."""
        states = self.frozen.states_behind(prompt, batch.tokens)  # (B, T, D)
        return self.head.features(states, batch.tokens)

    def inputs(self, batch: Batch) -> PromptedBatch:
        """What a frozen model of texts reads: prompts in front of the embedded tokens."""
        return self.frozen.inputs_behind(self.prompts(batch), batch.tokens)

    def prompts(self, batch: Batch) -> Tensor | None:
        """Soft prompts (B, P, D), or (B, L, P, D) if deep; None where there is no prompt."""
        if self.prompt is None:
            return None
        if self.encoder is not None:
            return self.prompt(self.encoder(batch.encoder_tokens))
        if batch.embedding is None:  # nothing depends on the instance
            return self.prompt(torch.empty(len(batch.tokens), 0, device=self.device))
        return self.prompt(self.instances(batch))

    def instances(self, batch: Batch) -> Tensor:
        """Instance embeddings (B, E), the last of the views of a row."""
        return batch.embedding.chunk(self.n_views, dim=1)[-1]
