# %% [markdown]
# # Few labels, and when to stop
#
# How many labelled messages does it take? Learning curves of a logistic regression on the frozen
# model's embeddings and of a learned prompt, from two messages an intent upwards; and a fit that
# stops early, on messages of your own choice.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents
from sklopa.inspection import HistoryDisplay

X, y = load_intents(return_X_y=True)
X_pool, X_test, y_pool, y_test = train_test_split(X, y, test_size=200, stratify=y, random_state=0)

# %% [markdown]
# ## Learning curves
# `prompt_length=0` leaves no prompt; what `transform` gives then are the frozen embeddings.

# %%
embed = LoPAClassifier(prompt_length=0, max_iter=1).fit(X_pool, y_pool).transform
sizes = [16, 32, 64, 128]
curves = {"logistic regression on embeddings": [], "learned prompt": []}
for size in sizes:
    X_few, _, y_few, _ = train_test_split(
        X_pool, y_pool, train_size=size, stratify=y_pool, random_state=0
    )
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe = GridSearchCV(linear, {"logisticregression__C": np.logspace(-5, 0, 6)}, cv=2)
    probe.fit(embed(X_few), y_few)
    prompt = LoPAClassifier(prompt_layer=4, bottleneck=32, batch_size=8, random_state=0)
    prompt.fit(X_few, y_few)
    found = probe.score(embed(X_test), y_test), prompt.score(X_test, y_test)
    for scores, score in zip(curves.values(), found, strict=True):
        scores.append(score)
    print(f"{size:>4} messages: probe {found[0]:.3f}, learned prompt {found[1]:.3f}")

# %% [markdown]
# ## Stop early
# Messages to watch may be your own; without `X_val`, a part of X is held out. The estimator goes
# back to its best epoch.

# %%
stopped = LoPAClassifier(
    prompt_layer=4, bottleneck=32, batch_size=8, max_iter=30,
    early_stopping=True, n_iter_no_change=3, random_state=0,
)  # fmt: skip
stopped.fit(X_few, y_few, X_val=X_test[:100], y_val=y_test[:100])
print(f"stopped after {stopped.n_iter_} of {stopped.max_iter} epochs; ", end="")
print(f"best of them: epoch {1 + int(np.argmax(stopped.validation_scores_))}")
print(f"on messages that were not watched: {stopped.score(X_test[100:], y_test[100:]):.3f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
for (name, scores), style in zip(curves.items(), ("o--", "s-"), strict=True):
    left.plot(sizes, scores, style, label=name)
left.set(xscale="log", xlabel="labelled messages (8 intents)", ylabel="accuracy")
left.set_xticks(sizes, labels=sizes)
left.minorticks_off()
left.legend(loc="lower right")
left.set_title("Learning curves")
HistoryDisplay.from_estimator(stopped, ax=right)
figure.savefig("04_few_labels.png", dpi=100)
