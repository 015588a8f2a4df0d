# %% [markdown]
# # Search, and look at what was found
#
# One fit's history beside a search over rank and prompt length; then the same search by successive
# halving, and with Optuna. All candidates share one copy of the frozen model, and each text is
# embedded once.
#
#     pip install -e ".[demo,inspection,optuna]"

# %%
import warnings

import matplotlib.pyplot as plt
from optuna.distributions import FloatDistribution, IntDistribution
from optuna_integration import OptunaSearchCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedShuffleSplit,
    train_test_split,
)

from sklopa import LoPAClassifier, cache_info
from sklopa.datasets import load_intents
from sklopa.inspection import HistoryDisplay, SearchDisplay

X, y = load_intents(return_X_y=True)
few = 32  # messages: 4 of each of the 8 intents
X_few, X_rest, y_few, y_rest = train_test_split(X, y, train_size=few, stratify=y, random_state=0)

# %%
options = {"prompt_layer": 4, "bottleneck": 32, "batch_size": 4, "random_state": 0}
clf = LoPAClassifier(max_iter=8, early_stopping=True, **options)
clf.fit(X_few, y_few, X_val=X_rest[:120], y_val=y_rest[:120])

grid = {"rank": [0, 2, 4], "prompt_length": [4, 8, 12]}
folds = StratifiedShuffleSplit(2, train_size=few, test_size=80, random_state=0)
base = LoPAClassifier(max_iter=3, **options)
search = GridSearchCV(base, grid, cv=folds, refit=False).fit(X, y)
print(f"best: {search.best_params_}, accuracy {search.best_score_:.3f}")
print(f"texts embedded in all: {cache_info().misses}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
HistoryDisplay.from_estimator(clf, ax=left)
SearchDisplay.from_search(search, ax=right)
figure.savefig("03_search.png", dpi=100)

# %% [markdown]
# ## Successive halving
# Candidates get one epoch at first; the best third goes on to three. Epochs are the resource. With
# a constant schedule nothing depends on how many there will be, so each goes on where it stood.

# %%
fold = StratifiedShuffleSplit(1, train_size=few, test_size=80, random_state=0)
steady = LoPAClassifier(schedule="constant", **options)
halving = HalvingGridSearchCV(
    steady, grid, cv=fold, resource="max_iter", min_resources=1, max_resources=3, refit=False
)
halving.fit(X, y)
print(f"halving: {halving.n_candidates_} candidates, best {halving.best_params_}")

# %% [markdown]
# ## Optuna
# Draws candidates where a grid would list them, also between its points.

# %%
space = {
    "rank": IntDistribution(0, 4),
    "prompt_length": IntDistribution(4, 12),
    "learning_rate": FloatDistribution(3e-4, 3e-3, log=True),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Optuna calls its class experimental
    drawn = OptunaSearchCV(base, space, n_trials=4, cv=fold, refit=False, random_state=0)
    drawn.fit(X, y)
print(f"Optuna: best {drawn.best_params_}, accuracy {drawn.best_score_:.3f}")
