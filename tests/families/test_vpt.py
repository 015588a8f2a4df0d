"""rank=0 on images is Visual Prompt Tuning, against its equations written out in tensors."""

import numpy as np
import pytest
import tiny_vision as tiny
import torch
from helpers import weights_of
from torch.nn import functional as F

from sklopa import LoPAImageClassifier
from sklopa._loading.live import live_model

P = 4


# How transformers named a ViT's modules before version 5, and how since. In this order.
_RENAMED = {
    "encoder.layer.": "layers.",
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def todays_name(name):
    for before, since in _RENAMED.items():
        name = name.replace(before, since)
    return name


def vpt_logits(weights, state, pixels, deep):
    """Logits (B, C) of VPT (Jia et al., 2022, eq. 4-8), from arrays alone.

    `weights` are those of a ViT by their names, `state` what was trained.
    """

    weights = {todays_name(name): value for name, value in weights.items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def block(x, i):
        heads, name = 4, f"layers.{i}"
        h = norm(x, f"{name}.layernorm_before")
        q, k, v = (
            linear(h, f"{name}.attention.{part}_proj").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        scores = (q @ k.transpose(2, 3)) / (tiny.WIDTH / heads) ** 0.5
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{name}.attention.o_proj")
        inner = F.gelu(linear(norm(x, f"{name}.layernorm_after"), f"{name}.mlp.fc1"))
        return x + linear(inner, f"{name}.mlp.fc2")

    # Patches are cut, flattened and projected: a convolution whose stride is its width.
    patches = pixels.unfold(2, tiny.PATCH, tiny.PATCH).unfold(3, tiny.PATCH, tiny.PATCH)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, T, 3 * 4 * 4)
    name = "embeddings.patch_embeddings.projection"
    embedded = patches @ weights[f"{name}.weight"].flatten(1).T + weights[f"{name}.bias"]
    token = weights["embeddings.cls_token"].expand(len(pixels), -1, -1)
    x = torch.cat([token, embedded], dim=1) + weights["embeddings.position_embeddings"]
    token, patches = x[:, :1], x[:, 1:]
    for i in range(tiny.LAYERS):
        if i == 0 or deep:  # [x, Z, E] -> [x, P, E]: a new prompt takes the place of the old one
            prompt = state[f"prompt.layers.{i}.task" if deep else "prompt.task"]
            prompt = prompt.expand(len(pixels), -1, -1)
        out = block(torch.cat([token, prompt, patches], dim=1), i)
        token, prompt, patches = out[:, :1], out[:, 1 : 1 + P], out[:, 1 + P :]
    features = norm(token[:, 0], "layernorm")
    return features @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_rank_0_is_visual_prompt_tuning(depth):
    images, labels = tiny.images()
    model = LoPAImageClassifier(
        tiny.backbone(), prompt_length=P, rank=0, depth=depth, max_iter=3, random_state=0
    ).fit(images, labels)
    weights = {n: p.detach() for n, p in live_model(tiny.backbone()).model.named_parameters()}
    state = {name: torch.from_numpy(value) for name, value in weights_of(model).items()}
    pixels = torch.from_numpy(images / 127.5 - 1).float().unsqueeze(1).expand(-1, 3, -1, -1)
    expected = vpt_logits(weights, state, pixels, depth == "deep")
    ours = model.decision_function(images)
    np.testing.assert_allclose(ours, (expected[:, 1] - expected[:, 0]).numpy(), atol=1e-4, rtol=0)


def test_prompts_start_as_the_papers_do_and_are_all_that_is_trained_besides_the_head():
    images, labels = tiny.images()
    frozen = live_model(tiny.backbone())
    rows = frozen.prompt_start(500, torch.Generator().manual_seed(0), deep=True)
    bound = (6 / (3 * tiny.PATCH**2 + tiny.WIDTH)) ** 0.5
    assert rows.shape == (tiny.LAYERS, 500, tiny.WIDTH)
    assert 0.99 * bound < rows.max() <= bound
    assert -bound <= rows.min() < -0.99 * bound
    assert abs(rows.mean()) < 0.01 * bound
    head = 2 * tiny.WIDTH + 2
    for depth, layers in (("shallow", 1), ("deep", tiny.LAYERS)):
        model = LoPAImageClassifier(
            tiny.backbone(), prompt_length=P, rank=0, depth=depth, max_iter=1, random_state=0
        ).fit(images, labels)
        assert model.n_trainable_parameters_ == layers * P * tiny.WIDTH + head
