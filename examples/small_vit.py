"""A small vision transformer for digits, for where no pretrained one can be downloaded."""

import numpy as np
import torch
import transformers
from scipy.ndimage import rotate, shift
from sklearn.datasets import load_digits

SIZE = 32


def digits(wanted, every=slice(None)):
    """scikit-learn's digits of some classes: floats (n, 8, 8) from 0 to 1, and labels."""
    data = load_digits()
    images, labels = data.images[every] / 16, data.target[every]
    chosen = np.isin(labels, list(wanted))
    return images[chosen], labels[chosen]


def moved(images, random, angle=15, pixels=1):
    """Images turned and shifted at random, as floats from 0 to 1."""

    def move(image):
        turned = rotate(image, random.uniform(-angle, angle), reshape=False, order=1)
        return shift(turned, random.uniform(-pixels, pixels, size=2), order=1)

    return np.clip([move(image) for image in images], 0, 1)


def pretrain(folder, classes=range(5), epochs=60, seed=0, every=slice(None), change=None):
    """Train a vision transformer on digits of some classes and save it to a folder.

    `every` chooses images, and `change` is what is done to those that it sees. It has 16 patches,
    4 layers of width 64, and takes less than a second an epoch on a core.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    random = np.random.RandomState(seed)
    images, labels = digits(classes, every)
    images = images if change is None else change(images)
    config = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
        image_size=SIZE, patch_size=8, num_labels=len(classes), hidden_dropout_prob=0.0,
    )  # fmt: skip
    processor = transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.ViTForImageClassification(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
        steps = epochs * -(-len(images) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
        for _ in range(epochs):
            shades = (255 * moved(images, random)).astype(np.uint8)
            colour = list(np.repeat(shades[..., None], 3, axis=3))
            pixels = torch.from_numpy(np.stack(processor(images=colour)["pixel_values"])).float()
            for chunk in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                model(pixels[chunk], labels=torch.from_numpy(labels)[chunk]).loss.backward()
                optimizer.step()
                schedule.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
