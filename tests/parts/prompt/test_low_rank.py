"""The low-rank prompt against an independent restatement of its formula."""

import numpy as np
import pytest
import torch

from sklopa._prompt import GATES
from sklopa._prompt.low_rank import LowRankPrompt

P, D, E, H = 4, 12, 6, 5


def make(rank=2, gate="sigmoid", dropout=0.0, length=P):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(length, D, generator=generator)
    prompt = LowRankPrompt(
        rows, encoder_width=E, rank=rank, bottleneck=H, gate=gate, dropout=dropout,
        generator=generator,
    )  # fmt: skip
    return prompt.eval(), rows


def combine(gate, z_s, z_i):
    if gate == "sigmoid":
        return z_s / (1 + np.exp(-z_i))
    if gate == "add":
        return z_s + z_i
    if gate == "max":
        return np.maximum(z_s, z_i)
    return np.vstack([z_s, z_i]) if gate == "concat" else z_i


def restated(prompt, embedding, gate, rank):
    """Z in plain numpy, loop by loop, from the equations of the paper."""
    w = {name: value.detach().double().numpy() for name, value in prompt.state_dict().items()}
    out = []
    for e in embedding.double().numpy():
        u = w["u.2.weight"] @ np.tanh(w["u.0.weight"] @ e + w["u.0.bias"]) + w["u.2.bias"]
        v = w["v.2.weight"] @ np.tanh(w["v.0.weight"] @ e + w["v.0.bias"]) + w["v.2.bias"]
        z_i = np.zeros((P, D))
        for p in range(P):
            for d in range(D):
                for r in range(rank):
                    z_i[p, d] += u[p * rank + r] * v[d * rank + r]
        out.append(combine(gate, w.get("task"), z_i))
    return np.array(out)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("gate", GATES)
def test_prompt_equals_the_papers_formula(gate, rank):
    prompt, _ = make(rank, gate)
    embedding = torch.randn(5, E, generator=torch.Generator().manual_seed(1))
    expected = restated(prompt, embedding, gate, rank)
    np.testing.assert_allclose(prompt(embedding).detach().numpy(), expected, atol=1e-5)
    assert prompt(embedding).shape == (5, prompt.n_rows, D)


def test_rank_zero_is_plain_prompt_tuning():
    prompt, rows = make(rank=0)
    out = prompt(torch.randn(3, E))
    torch.testing.assert_close(out, rows.expand(3, -1, -1))
    assert [name for name, _ in prompt.named_parameters()] == ["task"]


def test_instance_gate_at_full_rank_starts_at_the_given_rows():
    prompt, rows = make(rank=P, gate="instance")
    assert prompt.task is None
    start = prompt(torch.zeros(1, E))[0]
    cosine = torch.nn.functional.cosine_similarity(start, rows)
    assert cosine.min() > 0.8


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_gated_rows_start_with_the_norm_of_embeddings(gate, rank):
    if gate == "instance" and rank == 0:
        return  # no prompt at all; the estimator refuses it
    prompt, rows = make(rank, gate)
    norms = prompt(0.1 * torch.randn(20, E)).norm(dim=2)
    assert norms.min() > 0.5 * rows.norm(dim=1).min()
    assert norms.max() < 1.6 * rows.norm(dim=1).max()


def test_parameter_count_is_the_papers():
    prompt, _ = make(rank=3)
    expected = P * D + 2 * (E * H + H) + (H * P * 3 + P * 3) + (H * D * 3 + D * 3)
    assert sum(p.numel() for p in prompt.parameters()) == expected


def test_prompt_depends_on_the_instance_only_where_rank_is_positive():
    embedding = torch.randn(2, E)
    assert not torch.allclose(*make(rank=2)[0](embedding))
    assert torch.allclose(*make(rank=0)[0](embedding))


def test_dropout_acts_in_training_only_and_leaves_the_global_generator_alone():
    prompt, _ = make(dropout=0.5)
    embedding = torch.randn(4, E)
    assert torch.equal(prompt(embedding), prompt(embedding))
    before = torch.get_rng_state()
    prompt.train()
    assert not torch.equal(prompt(embedding), prompt(embedding))
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_reach_every_parameter():
    for gate in GATES:
        prompt, _ = make(rank=2, gate=gate)
        prompt(torch.randn(3, E)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in prompt.parameters())


@pytest.mark.parametrize("gate", ["sigmoid", "add", "max", "concat"])
def test_task_part_alone_is_the_prompt_with_the_instance_part_at_rest(gate):
    prompt, _ = make(rank=2, gate=gate)
    for network in (prompt.u, prompt.v):
        torch.nn.init.zeros_(network[-1].weight)
        torch.nn.init.zeros_(network[-1].bias)
    torch.testing.assert_close(prompt.task_only(3), prompt(torch.randn(3, E)))
