"""Visual prompts, a linear probe and full fine-tuning on the same frozen vision transformer.

    python benchmarks/images.py

needs no download: it first trains a small vision transformer on scikit-learn's digits 0 to 4,
freezes it, and then compares on digits 5 to 9, which it has never seen. With `--task turned` it
is trained on one half of all digits, lying on their side and dark on light, and reads the other
half, which stand and are light on dark.

    python benchmarks/images.py --model google/vit-base-patch16-224-in21k --data-dir DIR

runs on a checkpoint and on DIR/train/CLASS/*.png (or .jpg) and DIR/test/CLASS/*.

Linear probe, LoPA and full fine-tuning read the class token and the quarters of an image; VPT and
the first line read the class token alone, as published. "Later layer" is two thirds up.

Every method may choose among three learning rates, on a fifth of the training rows of the first
seed, and is then trained on all of them; its seconds are those of that last training.
"""

import argparse
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
from harness import Runs, machine, mean_of, print_header, print_row

sys.path.append(str(Path(__file__).parents[1] / "examples"))

TASKS = {
    "classes": "digits 5 to 9, on a transformer trained on digits 0 to 4",
    "turned": "digits, on a transformer trained on others that lie and are dark on light",
}
LATER = "later"  # stands for a layer until the model is known
METHODS = {
    "logistic regression on the class token": None,
    "linear probe": {"prompt_length": 0},
    "VPT-shallow": {"rank": 0},
    "VPT-deep": {"rank": 0, "depth": "deep"},
    "LoPA": {},
    "LoPA, later layer": {"prompt_layer": LATER},
    "LoPA-deep": {"depth": "deep"},
    "full fine-tuning": None,
}
# What each method may choose its learning rate from: prompts and heads that start from nothing want
# higher ones than what begins at a linear model. Of the logistic regression the penalty is chosen,
# by cross-validation.
RATES = {
    "logistic regression on the class token": (0.0,),
    "VPT-shallow": (3e-3, 1e-2, 3e-2),
    "VPT-deep": (3e-3, 1e-2, 3e-2),
    "full fine-tuning": (1e-4, 3e-4, 1e-3),
}
RATES_FROM_A_START = (1e-3, 3e-3, 1e-2)


class ClassToken:
    """Logistic regression on the frozen class token, its penalty chosen in five folds."""

    def __init__(self, model, seed):
        self.model, self.seed = model, seed

    def fit(self, X, y):
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from sklopa import LoPAImageClassifier

        embed = LoPAImageClassifier(
            self.model, prompt_length=0, max_iter=1, cv=False, random_state=self.seed
        )
        regression = LogisticRegressionCV(cv=5, max_iter=2000, random_state=self.seed)
        self.pipe = make_pipeline(embed, StandardScaler(), regression).fit(X, y)
        self.n_trainable_parameters_ = regression.coef_.size + regression.intercept_.size
        return self

    def score(self, X, y):
        return self.pipe.score(X, y)


class FullFineTuning:
    """A linear layer on the states of a copy of the tower, all of it trained.

    It reads the class token and the mean of the patches in each quarter.
    """

    def __init__(self, model, learning_rate, max_iter, seed):
        self.model, self.learning_rate, self.max_iter, self.seed = (
            model, learning_rate, max_iter, seed,
        )  # fmt: skip

    def fit(self, X, y):
        import torch

        from sklopa import load_model

        model, self.processor = load_model(self.model)
        self.classes_, codes = np.unique(y, return_inverse=True)
        torch.manual_seed(self.seed)
        tower = deepcopy(model).float().requires_grad_(True)
        head = torch.nn.Linear(5 * model.config.hidden_size, len(self.classes_))
        self.net = torch.nn.ModuleDict({"tower": tower, "head": head}).to(model.device)
        groups = [
            {"params": self.net["tower"].parameters(), "lr": self.learning_rate},
            {"params": self.net["head"].parameters(), "lr": 10 * self.learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = self.max_iter * -(-len(X) // 32)
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, steps, pct_start=0.1)
        pixels, targets = self.pixels(X), torch.from_numpy(codes)
        for _ in range(self.max_iter):
            for chunk in torch.randperm(len(pixels)).split(32):
                optimizer.zero_grad()
                outputs = self.outputs(pixels[chunk])
                torch.nn.functional.cross_entropy(outputs.cpu(), targets[chunk]).backward()
                optimizer.step()
                schedule.step()
        self.n_trainable_parameters_ = sum(p.numel() for p in self.net.parameters())
        return self

    def pixels(self, X):
        from PIL import Image

        def rgb(image):
            if isinstance(image, Path):
                return Image.open(image).convert("RGB")
            return Image.fromarray(np.rint(255 * image).astype(np.uint8)).convert("RGB")

        images = [rgb(image) for image in X]
        return self.processor(images=images, return_tensors="pt")["pixel_values"]

    def outputs(self, pixels):
        import torch

        device = next(self.net.parameters()).device
        states = self.net["tower"](pixels.to(device)).last_hidden_state
        side = int(states.shape[1] ** 0.5)  # patches come last, behind class token and registers
        patches = states[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        quarters = torch.nn.functional.adaptive_avg_pool2d(patches, 2).flatten(1)
        return self.net["head"](torch.cat([states[:, 0], quarters], dim=1))

    def score(self, X, y):
        import torch

        pixels = self.pixels(X)
        with torch.inference_mode():
            found = [self.outputs(part).argmax(1).cpu() for part in pixels.split(64)]
        return float((self.classes_[torch.cat(found).numpy()] == y).mean())


def make(options, method, rate, seed):
    """An untrained classifier."""
    from sklopa import LoPAImageClassifier, load_model

    if method == "full fine-tuning":
        return FullFineTuning(options.model, rate, options.epochs, seed)
    if METHODS[method] is None:
        return ClassToken(options.model, seed)
    parameters = dict(METHODS[method])
    if parameters.get("prompt_layer") == LATER:
        config = load_model(options.model)[0].config
        n_layers = getattr(config, "vision_config", config).num_hidden_layers
        parameters["prompt_layer"] = n_layers * 2 // 3
    return LoPAImageClassifier(
        options.model, **parameters, learning_rate=rate, max_iter=options.epochs,
        n_iter_no_change=options.epochs, random_state=seed,
    )  # fmt: skip


def load_task(options, seed):
    """Training and test images with their labels."""
    from sklearn.model_selection import train_test_split

    if options.data_dir:
        return (*read_folder(options, "train", seed), *read_folder(options, "test", seed))
    from small_vit import digits

    if options.task == "turned":
        images, labels = digits(range(10), slice(1, None, 2))
    else:
        images, labels = digits(range(5, 10))
    parts = train_test_split(images, labels, test_size=0.5, stratify=labels, random_state=seed)
    X_train, X_test, y_train, y_test = parts
    keep = options.rows or len(X_train)
    return X_train[:keep], y_train[:keep], X_test, y_test


def read_folder(options, split, seed):
    """Files and the names of the folders that they are in."""
    files = sorted(p for p in Path(options.data_dir, split).glob("*/*") if p.is_file())
    order = np.random.RandomState(seed).permutation(len(files))
    files = [files[i] for i in order[: options.rows or None]]
    return files, np.array([path.parent.name for path in files])


def run(options, method, seed):
    """Choose a rate, train once, and test; a dictionary of figures."""
    from sklearn.model_selection import train_test_split

    X, y, X_test, y_test = load_task(options, seed)
    fit, watch = train_test_split(np.arange(len(X)), test_size=0.2, stratify=y, random_state=seed)

    def pick(where):
        return X[where] if isinstance(X, np.ndarray) else [X[i] for i in where]

    def watched(rate):
        return make(options, method, rate, seed).fit(pick(fit), y[fit]).score(pick(watch), y[watch])

    rates = RATES.get(method, RATES_FROM_A_START)
    rate = options.rate or (max(rates, key=watched) if len(rates) > 1 else rates[0])
    started = time.perf_counter()
    model = make(options, method, rate, seed).fit(X, y)
    return {
        "seconds": time.perf_counter() - started,
        "accuracy": 100 * model.score(X_test, y_test),
        "parameters": model.n_trainable_parameters_,
        "rate": rate,
    }


def pretrained(options):
    """Folder of the transformer that the task goes with, trained if it is not there."""
    from small_vit import pretrain

    folder = Path(tempfile.gettempdir(), f"sklopa-digits-vit-{options.pretrain_epochs}")
    how = {}
    if options.task == "turned":
        folder = folder.with_name(f"{folder.name}-turned")
        how = {"classes": range(10), "every": slice(0, None, 2), "change": lying_dark_on_light}
    if not (folder / "preprocessor_config.json").exists():
        pretrain(folder, epochs=options.pretrain_epochs, **how)
    return str(folder)


def lying_dark_on_light(images):
    return 1 - np.rot90(images, axes=(1, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub id or folder; default: trained here")
    parser.add_argument("--task", choices=TASKS, default="classes")
    parser.add_argument("--data-dir", help="folder with train/CLASS/* and test/CLASS/*")
    parser.add_argument("--rows", type=int, default=0, help="training rows; 0 takes all")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--pretrain-epochs", type=int, default=60)
    parser.add_argument("--rate", type=float, help="learning rate; default: chosen as said above")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    runs = Runs(run, parser)
    options = runs.options
    change = {"methods": None} | ({} if options.model else {"model": pretrained(options)})
    task = options.data_dir or TASKS[options.task]
    print(f"{task}, {options.seeds} seeds, {options.epochs} epochs; {machine()}\n")
    print_header("method", "accuracy", "spread", "parameters", "s to fit", "learning rate")
    first = options.first_seed
    for method in options.methods:
        done = [runs(method, first, **change)]
        for seed in range(first + 1, first + options.seeds):
            done.append(runs(method, seed, **change, rate=done[0]["rate"]))
        mean = mean_of(done)
        print_row(
            method,
            f"{mean['accuracy']:.2f}",
            f"{np.std([r['accuracy'] for r in done]):.2f}",
            f"{mean['parameters']:,.0f}",
            f"{mean['seconds']:.1f}",
            f"{done[0]['rate']:g}" if done[0]["rate"] else "",
        )


if __name__ == "__main__":
    main()
