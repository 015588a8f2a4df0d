# %% [markdown]
# # Teach a frozen vision transformer new digits
#
# A small vision transformer knows the digits 0 to 4. Frozen, with a prompt among its patches, it
# learns to tell 5 to 9 apart. We search depth and rank of the prompt, put a random
# augmentation in front, and look at what is still wrong. It needs no download.
#
#     pip install -e ".[images,inspection]"
#
# No pretrained vision model comes with a package, so `small_vit.py` beside this file trains one.
# With a hub, or a folder, it is `LoPAImageClassifier("google/vit-base-patch16-224")`.

# %%
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from small_vit import digits, moved, pretrain

from sklopa import LoPAImageClassifier, cache_info

started = time.perf_counter()
folder = tempfile.mkdtemp()
pretrain(folder, epochs=30)
print(f"a transformer that knows 0 to 4, after {time.perf_counter() - started:.0f} s\n")

images, labels = digits(range(5, 10))
X_train, X_test, y_train, y_test = train_test_split(
    images, labels, train_size=240, stratify=labels, random_state=0
)

# %% [markdown]
# ## Search
# All candidates share one copy of the model, and each image is embedded once.

# %%
search = GridSearchCV(
    LoPAImageClassifier(folder, prompt_length=4, max_iter=12, learning_rate=3e-3, random_state=0),
    {"depth": ["shallow", "deep"], "rank": [0, 2]},
    cv=2,
    verbose=1,
)
search.fit(X_train, y_train)
for score, params in sorted(
    zip(search.cv_results_["mean_test_score"], search.cv_results_["params"], strict=True),
    key=lambda result: -result[0],
):
    print(f"    {score:.3f}  {params}")
print(f"images embedded in all: {cache_info().misses}")
probe = LoPAImageClassifier(folder, prompt_length=0, learning_rate=1e-2, random_state=0)
probe.fit(X_train, y_train)
print(f"on new images: linear probe {probe.score(X_test, y_test):.3f}, ", end="")
print(f"best of the search {search.score(X_test, y_test):.3f}\n")

# %% [markdown]
# ## Augment
# What is random stands in front, in a transformer of its own: it moves images in `fit`, and leaves
# them as they are in `predict`. Each image comes several times, moved otherwise each time.
# Whether that pays is for the score to say: these images have 8 x 8 pixels, and moving blurs them.


# %%
class Moved(TransformerMixin, BaseEstimator):
    """Half of the images turned and shifted at random in `fit`, none of them in `predict`."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y=None):
        return self

    def fit_transform(self, X, y=None):
        random = np.random.RandomState(self.random_state)
        chosen = random.rand(len(X)) < 0.5
        return np.where(chosen[:, None, None], moved(X, random, angle=10, pixels=0.5), X)

    def transform(self, X):
        return X


pipe = make_pipeline(Moved(), search.best_estimator_)
copies = 2
pipe.fit(np.tile(X_train, (copies, 1, 1)), np.tile(y_train, copies))
print(f"with {copies} moved copies of each image: {pipe.score(X_test, y_test):.3f}")

# %% [markdown]
# ## Look
# The surest and the least sure answers.

# %%
chances = pipe.predict_proba(X_test)
order = np.argsort(chances.max(axis=1))
shown = [*order[-8:], *order[:8]]
figure, axes = plt.subplots(2, 8, figsize=(9, 2.9), layout="constrained")
for axis, i in zip(axes.flat, shown, strict=True):
    guess = pipe.classes_[chances[i].argmax()]
    axis.imshow(X_test[i], cmap="gray_r")
    axis.set_title(f"{guess} ({chances[i].max():.0%})", color="k" if guess == y_test[i] else "r")
    axis.set_axis_off()
figure.savefig("11_images.png", dpi=100)
print(f"done in {time.perf_counter() - started:.0f} s; wrong answers are red in the picture")
