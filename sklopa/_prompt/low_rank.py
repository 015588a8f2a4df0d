"""Instance embedding -> soft prompt: the low-rank prompt of LoPA. Pure mathematics."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class LowRankPrompt(nn.Module):
    r"""A soft prompt for each instance, :math:`Z = Z_S \odot \sigma(U V^\top)`.

    .. math:: U = W_{u2} \tanh(W_{u1} e), \quad V = W_{v2} \tanh(W_{v1} e), \quad Z_I = U V^\top

    with `e` the instance embedding, :math:`U` (P, R), :math:`V` (D, R), and the task prompt
    :math:`Z_S` (P, D) shared by all instances. Jain et al., *Prompt Tuning Strikes Back:
    Customizing Foundation Models with Low-Rank Prompt Adaptation*, NeurIPS 2024, eq. 2-4.

    Parameters
    ----------
    rows : Tensor of shape (P, D)
        Word embeddings of the frozen backbone that the prompt starts from. The *gated* prompt
        starts with their norms, whatever the gate.
    encoder_width : int
        E, the width of the instance embedding.
    rank : int
        R >= 0. With 0 there is no instance part and Z = Z_S, which is prompt tuning
        (Lester et al., 2021).
    bottleneck : int
        H, the hidden width of the two networks.
    gate : {"sigmoid", "add", "max", "concat", "instance"}
        How Z_S and Z_I meet. "concat" gives 2 P rows. "instance" drops Z_S, which is IDPG
        (Wu et al., 2022) in low-rank form.
    dropout : float
        Share of the instance embedding that is dropped in training.
    generator : torch.Generator
        Source of the starting weights and of the dropout masks; the global one is not used.

    Attributes
    ----------
    unit : Tensor of shape ()
        Size of a usual value of Z_S at its start. How far a step of training moves Z_S is counted
        in it, as models differ by orders of magnitude in the size of their embeddings.
    """

    def __init__(
        self,
        rows: Tensor,
        *,
        encoder_width: int,
        rank: int,
        bottleneck: int,
        gate: str,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.length, self.width = rows.shape
        self.rank, self.gate, self.dropout = rank, gate, dropout
        self.generator = generator
        start = rows * _undo_gate(rows, gate, rank)
        self.unit: Tensor
        self.task = None if gate == "instance" else nn.Parameter(start)
        self.register_buffer("unit", _typical_size(start))
        self.u: nn.Sequential | None = None
        self.v: nn.Sequential | None = None
        if rank > 0:
            self.u = _bottleneck_network(encoder_width, bottleneck, self.length * rank, generator)
            self.v = _bottleneck_network(encoder_width, bottleneck, self.width * rank, generator)
            if gate in ("concat", "instance"):
                self._start_instance_part_at(rows)

    @property
    def n_rows(self) -> int:
        """Rows of the prompt that `forward` returns: P, or 2 P for "concat"."""
        return self.length * 2 if self.gate == "concat" and self.rank else self.length

    def forward(self, embedding: Tensor) -> Tensor:
        """Soft prompts (B, n_rows, D) for instance embeddings (B, E)."""
        if self.task is None:
            return self._instance_part(self._drop(embedding))
        if self.rank == 0:
            return self.task.expand(embedding.shape[0], -1, -1)
        instance = self._instance_part(self._drop(embedding))  # (B, P, D)
        if self.gate == "sigmoid":
            return self.task * torch.sigmoid(instance)
        if self.gate == "add":
            return self.task + instance
        if self.gate == "max":
            return torch.maximum(self.task.expand_as(instance), instance)
        return torch.cat([self.task.expand_as(instance), instance], dim=1)  # "concat"

    @property
    def has_task(self) -> bool:
        """Whether there is a task prompt Z_S."""
        return self.task is not None

    def task_only(self, n: int) -> Tensor:
        """The prompt (n, n_rows, D) with the instance part at rest (Z_I = 0)."""
        assert self.task is not None  # asked of prompts that have one; see `has_task`
        rows = self.task * (0.5 if self.gate == "sigmoid" and self.rank else 1.0)
        if self.gate == "max" and self.rank:
            rows = rows.clamp(min=0)
        if self.n_rows > self.length:
            rows = torch.cat([rows, torch.zeros_like(rows)])
        return rows.expand(n, -1, -1)

    def parameter_groups(self) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """Parts that learn at rates of their own, each with the unit of its rate; see `Trainer`."""
        if self.task is not None:
            yield "task", float(self.unit), [self.task]
        networks = [p for part in (self.u, self.v) if part is not None for p in part.parameters()]
        if networks:
            yield "networks" if self.has_task else "only networks", 1.0, networks

    def _instance_part(self, embedding: Tensor) -> Tensor:
        assert self.u is not None  # rank > 0
        assert self.v is not None
        u = self.u(embedding).view(-1, self.length, self.rank)
        v = self.v(embedding).view(-1, self.width, self.rank)
        return u @ v.transpose(1, 2)  # (B, P, D)

    def _drop(self, embedding: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return embedding
        drawn = self.generator
        keep = torch.rand(
            embedding.shape, generator=drawn, dtype=torch.float32, device=drawn.device
        )
        kept = (keep >= self.dropout).to(embedding.device)
        return embedding * kept / (1 - self.dropout)

    @torch.no_grad()
    def _start_instance_part_at(self, rows: Tensor) -> None:
        """Biases that make Z_I start at word embeddings, as it is fed in without a Z_S.

        The columns of V are the first R rows, and row p of U picks one of them.
        """
        assert self.u is not None  # rank > 0
        assert self.v is not None
        which = torch.arange(self.length) % self.rank
        picks = torch.nn.functional.one_hot(which, self.rank)
        start = rows[: self.rank]
        columns = torch.zeros(self.width, self.rank, dtype=torch.float32)
        columns[:, : len(start)] = start.T
        _bias_of(self.u).copy_(picks.flatten().float())
        _bias_of(self.v).copy_(columns.flatten())


def _typical_size(rows: Tensor) -> Tensor:
    """Size of a usual value in `rows`: their standard deviation, were they normal.

    Of the median, since some language models have a few values hundreds of times as large.
    """
    return rows.abs().median() / 0.6745


def _undo_gate(rows: Tensor, gate: str, rank: int) -> Tensor:
    """Factor (P, 1) that gives the gated rows the norm of `rows` while Z_I is still near 0."""
    if rank == 0 or gate in ("add", "concat"):
        return torch.ones(len(rows), 1, dtype=torch.float32)
    gated = rows * 0.5 if gate == "sigmoid" else rows.clamp(min=0)
    return rows.norm(dim=1, keepdim=True) / gated.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _bottleneck_network(
    n_in: int, n_hidden: int, n_out: int, generator: torch.Generator
) -> nn.Sequential:
    """Linear -> tanh -> linear, with the usual uniform start drawn from `generator`."""
    layers = [_linear(n_in, n_hidden, generator), nn.Tanh(), _linear(n_hidden, n_out, generator)]
    return nn.Sequential(*layers)


def _bias_of(network: nn.Sequential) -> Tensor:
    """Bias of the last layer."""
    last = network[-1]
    assert isinstance(last, nn.Linear)  # as `_bottleneck_network` makes it
    return last.bias


@torch.no_grad()
def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float32)
    bound = n_in**-0.5
    for parameter in (layer.weight, layer.bias):
        start = torch.rand(
            parameter.shape, generator=generator, dtype=torch.float32, device=generator.device
        )
        parameter.copy_((2 * start - 1) * bound)
    return layer
