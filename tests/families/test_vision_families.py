"""Every family of vision towers: the prompt stands behind the class token, and matters."""

import pytest
import tiny_vision as tiny
import torch
from helpers import raises
from transformers import AutoConfig, AutoModel

from sklopa import Backbone
from sklopa._backbone.vision_families import REFUSED_VISION, VISION_FAMILIES, vision_family_of
from sklopa._batches.modes import own_modes
from sklopa._inputs.images import check_images
from sklopa._loading.live import live_model
from sklopa.errors import UnsupportedBackbone

P = 3
IMAGES = tiny.images(4)[0]
BOTH_TOWERS = {"clip", "siglip"}  # as the vision tower alone, once it is loaded


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def frozen(request):
    return live_model(tiny.backbone(request.param))


def pixels_of(frozen, images=IMAGES):
    rows, _ = frozen.reader().read(check_images(images).rows)
    return rows[0].collate(rows)


def rows_of(frozen, *, deep=False):
    rows = frozen.prompt_start(P, torch.Generator().manual_seed(0), deep=deep)
    return 3 * rows.expand(len(IMAGES), *rows.shape)


def test_every_family_of_the_table_is_tested():
    assert set(tiny.FAMILIES) | BOTH_TOWERS == set(VISION_FAMILIES)


def test_without_a_prompt_states_and_features_are_the_models_own(frozen):
    pixels = pixels_of(frozen)
    with torch.no_grad():
        ours = frozen.states_behind(None, pixels)
        arguments = frozen.family.arguments(frozen.base, pixels.values)
        theirs = frozen.model(pixels.values, **arguments)
        features = frozen.pool(ours, pixels)
    assert torch.equal(ours, theirs[0])
    pooled = getattr(theirs, "pooler_output", None)
    if pooled is None or frozen.config.model_type in ("vit", "deit"):  # a layer of its own on top
        pooled = theirs[0][:, 0]
    torch.testing.assert_close(features, pooled, atol=1e-6, rtol=0)


def test_the_second_view_is_the_mean_of_each_quarter_of_the_patches(frozen):
    pixels = pixels_of(frozen)
    with torch.no_grad():
        seen = frozen.unprompted(pixels)
    prefix, side = tiny.PREFIX.get(frozen.config.model_type, 1), tiny.SIZE // tiny.PATCH
    grid = seen.last[:, prefix:].reshape(len(IMAGES), side, side, tiny.WIDTH)
    half = side // 2
    quarters = [grid[:, :half, :half], grid[:, :half, half:]]
    quarters += [grid[:, half:, :half], grid[:, half:, half:]]
    expected = torch.cat([quarter.mean(dim=(1, 2)) for quarter in quarters], dim=1)
    torch.testing.assert_close(seen.second, expected, atol=1e-6, rtol=0)
    assert seen.second.shape[1] == frozen.second_width


@pytest.mark.parametrize(("n_down", "n_across"), [(3, 5), (1, 1), (1, 4)])
def test_quarters_of_an_uneven_grid_share_the_patches_in_its_middle(n_down, n_across):
    frozen = live_model(tiny.backbone("dinov2"))
    values = torch.zeros(2, 3, n_down * tiny.PATCH, n_across * tiny.PATCH)
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, tiny.WIDTH, n_down, n_across, generator=generator)
    states = torch.cat([torch.zeros(2, 1, tiny.WIDTH), patches.flatten(2).transpose(1, 2)], dim=1)
    expected = torch.nn.functional.adaptive_avg_pool2d(patches, 2)  # (B, D, 2, 2)
    expected = expected.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(frozen._quarters(states, values), expected, atol=1e-6, rtol=0)


def test_layers_see_own_rows_then_the_prompt_then_patches(frozen):
    prefix = tiny.PREFIX.get(frozen.config.model_type, 1)
    seen, prompt = [], rows_of(frozen, deep=True)
    lists = [m for m in frozen.base.modules() if isinstance(m, torch.nn.ModuleList)]
    layers = next(m for m in lists if len(m) == tiny.LAYERS)
    hooks = [
        layer.register_forward_hook(lambda m, args, out: seen.append(args[0])) for layer in layers
    ]
    with torch.no_grad():
        frozen.states_behind(None, pixels_of(frozen))
        frozen.states_behind(prompt, pixels_of(frozen))
    for hook in hooks:
        hook.remove()
    plain, prompted = seen[0], seen[tiny.LAYERS]
    assert plain.shape == (len(IMAGES), prefix + tiny.N_PATCHES, tiny.WIDTH)
    expected = torch.cat([plain[:, :prefix], prompt[:, 0], plain[:, prefix:]], dim=1)
    assert torch.equal(prompted, expected)
    for layer, states in enumerate(seen[tiny.LAYERS :]):
        assert torch.equal(states[:, prefix : prefix + P], prompt[:, layer])


def test_each_layers_rows_matter_and_get_gradients(frozen):
    pixels, rows = pixels_of(frozen), rows_of(frozen, deep=True).requires_grad_()
    weight = torch.randn(frozen.width, generator=torch.Generator().manual_seed(2))

    def features(prompt):
        return frozen.pool(frozen.states_behind(prompt, pixels), pixels)

    with own_modes():
        frozen.in_use()
        (features(rows) @ weight).square().sum().backward()
        assert all(p.grad is None and not p.requires_grad for p in frozen.model.parameters())
    assert (rows.grad.abs().amax(dim=(0, 2, 3)) > 1e-7).all()
    with torch.no_grad():
        before = features(rows)
        for layer in range(tiny.LAYERS):
            changed = rows.detach().clone()
            changed[:, layer] = changed[:, layer].flip(-1)
            assert (features(changed) - before).abs().max() > 1e-5


def test_the_order_of_prompt_rows_does_not_matter_as_they_have_no_position(frozen):
    pixels, rows = pixels_of(frozen), rows_of(frozen)
    with torch.no_grad():
        ours = frozen.states_behind(rows, pixels)
        turned = frozen.states_behind(rows.flip(1), pixels)
    torch.testing.assert_close(ours, turned, atol=1e-4, rtol=0)


def test_an_image_does_not_depend_on_its_neighbours(frozen):
    rows = rows_of(frozen, deep=True)
    with torch.no_grad():
        together = frozen.states_behind(rows, pixels_of(frozen))
        alone = frozen.states_behind(rows[:1], pixels_of(frozen, IMAGES[1:2]))
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_folder_gives_the_same_features_as_the_live_model(tmp_path, family):
    live = live_model(tiny.backbone(family))
    read = live_model(Backbone(tiny.save(tmp_path, family), dtype="float32"))
    with torch.no_grad():
        ours, theirs = (
            m.pool(m.states_behind(None, pixels_of(m)), pixels_of(m)) for m in (read, live)
        )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_of_two_towers_the_one_that_sees_is_used(tmp_path, family):
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    config = AutoConfig.for_model(family, vision_config=tiny._COMMON, text_config=text)
    both = AutoModel.from_config(config).eval()
    both.save_pretrained(tmp_path)
    tiny.processor().save_pretrained(tmp_path)
    live = live_model(Backbone.from_objects(both, tiny.processor()))
    read = live_model(Backbone(tmp_path, dtype="float32"))
    assert len(list(read.model.parameters())) < len(list(both.parameters()))
    pixels = pixels_of(live)
    with torch.no_grad():
        ours, theirs = (m.pool(m.states_behind(rows_of(m), pixels), pixels) for m in (read, live))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_masked_autoencoder_sees_whole_images_from_a_folder(tmp_path):
    model = tiny.model("vit_mae", mask_ratio=0.75)
    with raises(ValueError, "mask_ratio=0.75", "model.config.mask_ratio = 0.0"):
        live_model(Backbone.from_objects(model, tiny.processor()))
    read = live_model(Backbone(tiny.save(tmp_path, "vit_mae", mask_ratio=0.75)))
    with torch.no_grad():
        states = read.states_behind(None, pixels_of(read))
    assert states.shape == (len(IMAGES), 1 + tiny.N_PATCHES, tiny.WIDTH)


def test_towers_with_windows_are_refused_by_name_with_the_reason():
    for model_type, reason in REFUSED_VISION.items():
        with pytest.raises(UnsupportedBackbone, match=f"'{model_type}' model.*{reason[:20]}.*vit"):
            vision_family_of(AutoConfig.for_model(model_type), "some/model")


def test_half_precision_gives_float32_states(tmp_path):
    frozen = live_model(Backbone(tiny.save(tmp_path), dtype="bfloat16"))
    pixels = pixels_of(frozen)
    states = frozen.states_behind(rows_of(frozen), pixels)
    assert frozen.dtype == torch.bfloat16
    assert states.dtype == frozen.pool(states, pixels).dtype == torch.float32


def test_images_of_another_size_than_the_models_are_refused_with_both_sizes():
    frozen = live_model(Backbone.from_objects(tiny.model(image_size=32), tiny.processor()))
    with raises(ValueError, "16 x 16", "32 x 32", "processor's size"):
        frozen.states_behind(None, pixels_of(frozen))


def test_a_model_of_one_channel_is_refused():
    with raises(ValueError, "1 channels"):
        live_model(Backbone.from_objects(tiny.model(num_channels=1), tiny.processor()))
