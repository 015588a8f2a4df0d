# %% [markdown]
# # Find wrong labels
#
# Labels made by people are wrong now and then. Here one in ten is exchanged on purpose. Every
# message is then judged by a model that has not learned from it (`cross_val_predict`), and those
# whose label is least likely are looked at first.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_val_predict

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

X, truth = load_intents(return_X_y=True)
X, truth, X_test, y_test = X[:240], truth[:240], X[240:], truth[240:]
random = np.random.RandomState(0)
classes = np.unique(truth)
wrong = np.zeros(len(X), dtype=bool)
wrong[random.choice(len(X), len(X) // 10, replace=False)] = True
y = truth.copy()
y[wrong] = [random.choice(classes[classes != label]) for label in truth[wrong]]

# %%
clf = LoPAClassifier(prompt_layer=4, bottleneck=32, batch_size=16, max_iter=3, random_state=0)
chances = cross_val_predict(clf, X, y, cv=4, method="predict_proba")
given = chances[np.arange(len(y)), np.searchsorted(classes, y)]
order = np.argsort(given)  # the least likely label first
for i in order[:5]:
    guess = classes[chances[i].argmax()]
    print(f"{given[i]:.2f}  {y[i]}, or rather {guess}?  {X[i]!r}")
n = int(wrong.sum())
print(f"of the {n} looked at first, {wrong[order[:n]].sum()} are wrong")

# %% [markdown]
# ## Does it matter?
# The labels that were looked at are put right, and the model is fitted once more.

# %%
mended = y.copy()
looked_at = order[: 2 * n]
mended[looked_at] = truth[looked_at]
for name, labels in (("as they came", y), ("mended", mended), ("all right", truth)):
    print(f"labels {name:<13} accuracy {clf.fit(X, labels).score(X_test, y_test):.3f}")

# %%
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
looked = np.arange(1, len(y) + 1)
axis.plot(looked, np.cumsum(wrong[order]), label="least likely label first")
axis.plot(looked, looked * n / len(y), "k:", label="in any order")
axis.set(xlabel="messages looked at", ylabel="wrong labels found", ylim=(0, None))
axis.legend()
figure.savefig("09_wrong_labels.png", dpi=110)
