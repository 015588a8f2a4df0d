"""What must hold for a model family, measured: for the tests, and for the table that users read."""

import pickle
import tempfile

import numpy as np
import tiny
import torch

from sklopa import Backbone, LoPAClassifier
from sklopa._backbone.prompted import pad_left, with_prompt
from sklopa._batches.modes import own_modes
from sklopa._heads.likelihood import _join, target_logits
from sklopa._heads.writing import Decoding, _session, write_texts
from sklopa._loading.live import live_model
from sklopa._network.build import build_network
from sklopa._network.design import Design
from sklopa._network.prepare import prepare_rows
from sklopa._tokens.batch import TokenBatch

TEXTS = ["the film was good", "bad", "a very awful book and it was not the plot", ""]
LABELS = ["pos", "neg", "neg", "pos"]
PROMPT_LENGTH = 3


def frozen_of(family):
    """The frozen tiny model of a family."""
    return live_model(tiny.backbone(family))


def batch_of(frozen, texts):
    """Texts as one padded batch of tokens."""
    return TokenBatch.collate(frozen.reader(None).read(texts)[0])


def random_prompt(frozen, n, length=PROMPT_LENGTH):
    """One prompt of word embeddings, for n rows."""
    rows = frozen.vocabulary_rows(length, torch.Generator().manual_seed(0))
    return rows.expand(n, -1, -1)


def inputs_of(frozen, texts):
    """Prompted texts, as they enter the backbone."""
    tokens = batch_of(frozen, texts)
    return with_prompt(random_prompt(frozen, len(texts)), frozen.embed(tokens.ids), tokens)


@torch.no_grad()
def words_error(frozen):
    """How far a prompt of word embeddings is from the words themselves, in the last states.

    Zero where positions, token types and relative positions are those of a longer text.
    """
    tokens = batch_of(frozen, TEXTS[:1])
    ids = torch.tensor([[7, 8, 9]])
    together = torch.cat([ids, tokens.ids], dim=1)
    types = {} if tokens.types is None else {"token_type_ids": torch.zeros_like(together)}
    ours = frozen.states(with_prompt(frozen.embed(ids), frozen.embed(tokens.ids), tokens))
    mask = torch.ones_like(together)
    theirs = frozen.base(input_ids=together, attention_mask=mask, **types)[0]
    return (ours - theirs).abs().max().item()


def can_pad_left(frozen):
    """Whether the family is ever told positions behind padding; only decoders need it."""
    return frozen.family.kind == "decoder" or "position_ids" in frozen.accepts


@torch.no_grad()
def padding_error(frozen, side="right"):
    """How far the states of a text in a padded batch are from those of the text alone."""
    together = inputs_of(frozen, TEXTS)
    lengths = together.mask.sum(dim=1).tolist()
    states = frozen.states(pad_left(together) if side == "left" else together)
    errors = []
    for i, (text, n) in enumerate(zip(TEXTS, lengths, strict=True)):
        alone = frozen.states(inputs_of(frozen, [text]))[0]
        among = states[i, -n:] if side == "left" else states[i, :n]
        errors.append((among - alone).abs().max().item())
    return max(errors)


def network_of(frozen):
    """A small network on the backbone, and a batch for it."""
    design = Design(
        frozen.key, frozen.key, n_outputs=2, prompt_length=PROMPT_LENGTH, rank=2, bottleneck=4,
        gate="sigmoid", dropout=0.0, train_encoder=False, max_length=None,
    )  # fmt: skip
    network = build_network(design)
    with torch.no_grad():  # not all ones: a layer norm would make their sum a constant
        weight = network.head.weight
        weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    rows, _ = prepare_rows(network, design, TEXTS)
    return network, rows.batch(np.arange(len(TEXTS)))


@torch.no_grad()
def prompt_effect(frozen):
    """Largest change of an output when the prompt is zeroed."""
    network, batch = network_of(frozen)
    zeros = torch.zeros_like(network.prompts(batch))
    zeroed = network.outputs_behind(zeros, batch)
    return (network(batch) - zeroed).abs().max().item()


def smallest_gradient(frozen):
    """Of the largest entries of all gradients, the smallest; frozen weights must have none."""
    frozen.model.zero_grad(set_to_none=True)  # of other tests that share the model
    with own_modes():
        network, batch = network_of(frozen)
        network(batch).square().sum().backward()
        assert all(p.grad is None and not p.requires_grad for p in frozen.model.parameters())
    return min(p.grad.abs().max().item() for p in network.parameters())


@torch.no_grad()
def head_error(frozen):
    """How far the language-model head on our states is from the logits of the whole model."""
    tokens = batch_of(frozen, TEXTS[:1])
    types = {} if tokens.types is None else {"token_type_ids": tokens.types}
    ours = frozen.lm_logits(frozen.states(with_prompt(None, frozen.embed(tokens.ids), tokens)))
    theirs = frozen.model(input_ids=tokens.ids, attention_mask=tokens.mask, **types).logits
    return (ours - theirs).abs().max().item()


@torch.no_grad()
def longest_states(frozen):
    """States (1, N, D) of the longest input: prompt and text fill the room."""
    n_tokens = (frozen.room or 3 * tiny.POSITIONS) - PROMPT_LENGTH
    words = "good " * (n_tokens - frozen.tokenizer.num_special_tokens_to_add())
    return frozen.states(inputs_of(frozen, [words]))


@torch.no_grad()
def cache_error(frozen):
    """How far logits of cached steps, padded in front, are from those of reading all at once.

    Relative to the largest logit: those of T5 are in the hundreds.
    """
    target = np.array([7, 9, 11, 8])
    sources = frozen.reader(None).read(TEXTS)[0]
    joined = TokenBatch.collate([_join(frozen, source, target) for source in sources])
    prompt = random_prompt(frozen, len(TEXTS))
    at_once = target_logits(frozen, with_prompt(prompt, frozen.embed(joined.ids), joined), joined)
    session = _session(frozen, inputs_of(frozen, TEXTS))
    steps = [session.start()]
    steps += [session.step(torch.full((len(TEXTS),), token)) for token in target[:-1].tolist()]
    error = (torch.stack(steps, dim=1) - at_once).abs().max()
    return (error / at_once.abs().max().clamp(min=1)).item()


@torch.no_grad()
def generation_effect(frozen):
    """Largest change of a first generated token's logits when the prompt is zeroed."""
    tokens = batch_of(frozen, TEXTS)
    prompt = random_prompt(frozen, len(TEXTS))
    embeds = frozen.embed(tokens.ids)
    first = [_session(frozen, with_prompt(p, embeds, tokens)).start() for p in (prompt, 0 * prompt)]
    return (first[0] - first[1]).abs().max().item()


def generated(frozen, texts, **options):
    """Texts that a batch generates."""
    with torch.inference_mode():
        rows = write_texts(frozen, inputs_of(frozen, texts), Decoding(max_new_tokens=5, **options))
    return [text for (text,) in rows]


def fit_from_half_precision(model_type):
    """A classifier on a checkpoint that is stored and held in bfloat16, and its pickle.

    Returns
    -------
    clf : LoPAClassifier
    before, after : ndarrays, its probabilities and those of its pickle
    n_bytes : int, of the pickle
    """
    model, reader = tiny.model(model_type)
    with tempfile.TemporaryDirectory() as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        reader.save_pretrained(folder)
        backbone = Backbone(folder, dtype="bfloat16")
        clf = LoPAClassifier(
            backbone, prompt_length=PROMPT_LENGTH, rank=2, bottleneck=4, max_iter=1, random_state=0
        ).fit(TEXTS, LABELS)
        data = pickle.dumps(clf)
        before, after = (c.predict_proba(TEXTS) for c in (clf, pickle.loads(data)))
        backbone.release()
    return clf, before, after, len(data)
