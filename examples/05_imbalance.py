# %% [markdown]
# # A rare class: weights, thresholds, calibration
#
# One message in twenty says that paying failed. Three things help, and all three are
# scikit-learn's: weights of classes, a threshold that is chosen on held-out messages, and
# probabilities that keep what they promise.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.metrics import brier_score_loss, f1_score, make_scorer, precision_score, recall_score
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

RARE = "payment_problem"
X, intents = load_intents(return_X_y=True)
kept = np.flatnonzero(intents != RARE)
kept = np.sort([*kept, *np.flatnonzero(intents == RARE)[:24]])
X, y = X[kept], np.where(intents[kept] == RARE, RARE, "other")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
print(f"{(y_train == RARE).sum()} of {len(y_train)} messages to learn from are rare")

# %% [markdown]
# ## Weights and a threshold
# Labels are words here, so scores have to be told which of them is the positive one: `pos_label`.

# %%
options = {
    "prompt_layer": 4, "bottleneck": 32, "batch_size": 16, "max_iter": 4, "random_state": 0,
}  # fmt: skip
plain = LoPAClassifier(**options)
score = make_scorer(f1_score, pos_label=RARE)
models = {
    "as it is": plain,
    'class_weight="balanced"': LoPAClassifier(class_weight="balanced", **options),
    "threshold by cross-validation": TunedThresholdClassifierCV(plain, scoring=score, cv=2),
}
for name, model in models.items():
    found = model.fit(X_train, y_train).predict(X_test)
    figures = [f(y_test, found, pos_label=RARE) for f in (precision_score, recall_score, f1_score)]
    print("{:<30} precision {:.2f}, recall {:.2f}, F1 {:.2f}".format(name, *figures))
print(f"threshold: {models['threshold by cross-validation'].best_threshold_:.2f}")

# %% [markdown]
# ## Probabilities
# `CalibratedClassifierCV` fits on folds and maps probabilities on the held-out ones.

# %%
calibrated = CalibratedClassifierCV(plain, method="sigmoid", cv=2).fit(X_train, y_train)
chances = {"as it is": plain, "calibrated": calibrated}
chances = {
    name: model.predict_proba(X_test)[:, list(model.classes_).index(RARE)]
    for name, model in chances.items()
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
for name, chance in chances.items():
    brier = brier_score_loss(y_test == RARE, chance)
    label = f"{name} (Brier score {brier:.3f})"
    CalibrationDisplay.from_predictions(y_test == RARE, chance, n_bins=4, name=label, ax=left)
left.set(xlabel=f"predicted probability of {RARE}", ylabel="share of it among them")
left.legend(loc="lower right", fontsize="small")

cuts = np.linspace(0.02, 0.98, 49)
for f, style in ((precision_score, "--"), (recall_score, ":"), (f1_score, "-")):
    values = [f(y_test == RARE, chances["as it is"] >= cut, zero_division=np.nan) for cut in cuts]
    right.plot(cuts, values, style, label=f.__name__.partition("_")[0])
tuned = models["threshold by cross-validation"].best_threshold_
right.axvline(tuned, color="k", linewidth=0.8, label="chosen threshold")
right.set(xlabel="threshold", ylabel="score on new messages", ylim=(0, 1.03))
right.legend(loc="lower left", fontsize="small")
figure.savefig("05_imbalance.png", dpi=100)
