"""The loop, on a module that has nothing to do with text."""

import numpy as np
import pytest
import torch
from helpers import network_of
from torch import nn

from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._batches.rows import Rows, Views
from sklopa._prompt.low_rank import LowRankPrompt
from sklopa._training.course import snapshot
from sklopa._training.loop import Trainer
from sklopa._training.plan import RATE_OF, Plan, optimizer_groups
from sklopa.errors import BatchSizeWarning, OutOfMemory


class Line(nn.Module):
    """y = w x + b, under the names of the parts that have rates of their own."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch):
        return self.head(batch.views.last).squeeze(1)

    def parameter_groups(self):
        yield "head", 1.0, list(self.parameters())


def squared(outputs, target):
    return (outputs - target).square()


@pytest.fixture
def rows():
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    return Rows(views=Views(x), target=x @ torch.tensor([1.0, -2.0]) + 0.5)


def trainer(**options):
    plan = {"max_iter": 20, "batch_size": 16, "learning_rate": 0.05} | options
    return Trainer(Line(), squared, Plan(**plan), seed=0)


def test_loop_learns_and_records_each_epoch(rows):
    history = trainer(max_iter=60).fit(rows)
    losses = [record["loss"] for record in history.epochs]
    assert losses[-1] < 0.05 * losses[0]
    assert [record["epoch"] for record in history.epochs] == list(range(1, len(losses) + 1))


def test_same_seed_gives_the_same_bits(rows):
    one, two = trainer(), trainer()
    one.fit(rows)
    two.fit(rows)
    for name, value in snapshot(one.network).items():
        assert value.equal(two.network.state_dict()[name])


def test_best_validation_state_is_restored(rows):
    made = trainer(max_iter=8, n_iter_no_change=3)
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    states = []

    def validate():
        states.append(snapshot(made.network))
        return next(scores)

    history = made.fit(rows, validate=validate, stop_early=True)
    assert history.best_score == 0.9
    assert len(history.epochs) == 5  # three epochs without a better score after the second
    for name, value in snapshot(made.network).items():
        assert value.equal(states[1][name])


def test_loss_that_stands_still_ends_training(rows):
    still = Rows(views=Views(torch.zeros(8, 2)), target=torch.zeros(8))
    assert len(trainer(max_iter=50, n_iter_no_change=4).fit(still).epochs) == 5


def test_pieces_of_a_batch_give_the_same_step(rows):
    whole, pieces = trainer(batch_size=64), trainer(batch_size=64)
    pieces._rows_at_once = 7
    whole._step(rows, np.arange(64))
    pieces._step(rows, np.arange(64))
    for name, value in snapshot(whole.network).items():
        torch.testing.assert_close(value, snapshot(pieces.network)[name])


def test_weight_two_is_the_row_twice(rows):
    twice = trainer(batch_size=100)
    weighted = trainer(batch_size=100)
    again = Rows(
        views=Views(torch.cat([rows.views.last, rows.views.last[:8]])),
        target=torch.cat([rows.target, rows.target[:8]]),
    )
    weight = torch.ones(64)
    weight[:8] = 2
    twice.fit(again)
    weighted.fit(rows.with_weight(weight * 64 / 72))
    for name, value in snapshot(twice.network).items():
        torch.testing.assert_close(value, snapshot(weighted.network)[name], atol=1e-4, rtol=1e-4)


def test_interrupt_ends_the_loop_with_what_was_learnt(rows):
    def interrupt(record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt
        return False

    history = trainer().fit(rows, on_epoch=interrupt)
    assert history.interrupted
    assert len(history.epochs) == 3


def test_loss_that_is_not_finite_restores_the_last_finite_state(rows):
    made = trainer()
    states = []

    def poison(record):
        states.append(snapshot(made.network))
        if record["epoch"] == 2:
            made.loss = lambda outputs, target: outputs * float("nan")
        return False

    history = made.fit(rows, on_epoch=poison)
    assert history.diverged
    for name, value in snapshot(made.network).items():
        assert value.equal(states[1][name])


def test_task_prompt_and_head_have_rates_of_their_own(make_classifier, reviews):
    def groups(**options):
        network = network_of(make_classifier(**options, max_iter=1).fit(*reviews))
        unit = getattr(network.prompt, "unit", None)
        return {group["name"]: group["lr"] for group in optimizer_groups(network, 1e-3)}, unit

    rates, unit = groups()
    assert rates["task"] == pytest.approx(1e-3 * RATE_OF["task"] * float(unit))
    assert rates["head"] > rates["networks"] == pytest.approx(1e-3 * RATE_OF["networks"])
    assert set(rates) == {"task", "networks", "head"}
    rates, _ = groups(gate="instance")  # networks alone have all of the prompt to learn
    assert rates["only networks"] == pytest.approx(1e-3)
    assert set(rates) == {"only networks", "head"}


def test_lack_of_memory_halves_the_batch_with_a_warning():
    tried = []

    def run(n):
        tried.append(n)
        if n > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return "done"

    with pytest.warns(BatchSizeWarning, match="batch_size=[48]"):
        assert halve_until_it_fits(run, 16, longest=7) == ("done", 4)
    assert tried == [16, 8, 4]


def test_lack_of_memory_for_one_row_raises_with_two_remedies():
    def run(n):
        raise MemoryError("no room")

    with pytest.raises(OutOfMemory, match=r"7 tokens.*max_length.*dtype"):
        halve_until_it_fits(run, 1, longest=7)


def test_other_errors_pass_through():
    def run(n):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        halve_until_it_fits(run, 8, longest=7)


@pytest.mark.parametrize("rank", [0, 2])
def test_the_rate_of_the_task_prompt_grows_with_the_size_of_its_start(rank):
    def rate(scale, outlier=1.0):
        rows = scale * torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
        rows[0, 0] *= outlier
        prompt = LowRankPrompt(
            rows, encoder_width=6, rank=rank, bottleneck=5, gate="sigmoid", dropout=0.0,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return next(g["lr"] for g in optimizer_groups(prompt, 1e-3) if g["name"] == "task")

    assert rate(10.0) == pytest.approx(10 * rate(1.0), rel=1e-5)
    assert rate(1.0, outlier=1000) == pytest.approx(rate(1.0), rel=0.1)  # a median does not mind


def test_an_epoch_is_recorded_with_its_training_score_and_its_rate(rows):
    def credit(outputs, target):
        assert not outputs.requires_grad
        return 1 - squared(outputs, target)

    weight = torch.linspace(0.5, 1.5, 64)
    made = trainer(max_iter=10)
    made.credit = credit
    epochs = made.fit(rows.with_weight(weight)).epochs
    for record in epochs:  # of the same outputs as the loss
        assert record["training_score"] == pytest.approx(1 - record["loss"], abs=1e-6)
    rates = [record["learning_rate"] for record in epochs]
    assert max(rates) <= 0.05
    assert rates[2:] == sorted(rates[2:], reverse=True)  # ten steps of warm-up come before
    assert 0 < rates[-1] < 0.05 / 10


def test_the_score_of_a_batch_in_pieces_is_that_of_the_whole(rows):
    whole, pieces = trainer(batch_size=64, max_iter=1), trainer(batch_size=64, max_iter=1)
    whole.credit = pieces.credit = squared
    pieces._rows_at_once = 7
    scores = [made.fit(rows).epochs[0]["training_score"] for made in (whole, pieces)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_constant_rate_stays_and_an_epoch_ends_with_the_mean_of_its_second_half(rows):
    made, weights = trainer(schedule="constant", max_iter=3), []

    def note(n_rows, loss):
        weights.append(made.network.head.weight.detach().clone())

    history = made.fit(rows, on_batch=note)
    assert len(weights) == 3 * 4  # batches
    assert torch.allclose(made.network.head.weight, (weights[-2] + weights[-1]) / 2)
    assert torch.equal(history.best["head.weight"], made.network.head.weight)
    rates = [record["learning_rate"] for record in history.epochs]
    assert rates == [0.05] * 3
    shorter = trainer(schedule="constant", max_iter=1)
    shorter.fit(rows)  # an epoch does not depend on how many there will be
    assert torch.allclose(shorter.network.head.weight, (weights[2] + weights[3]) / 2)
