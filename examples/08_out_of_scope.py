# %% [markdown]
# # Texts that are out of scope
#
# A classifier answers everything, also what it was not made for. Here it learns six intents and
# meets messages of two others, and small talk. Two things can tell them apart: how likely the
# likeliest intent is, and how near a text is to those that were learned from. Where to cut is
# chosen on held-out messages that are in scope, so that few of those are lost.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import train_test_split

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

X, y = load_intents(return_X_y=True)
unknown = np.isin(y, ["product_question", "reset_password"])
small_talk = [
    "what will the weather be like tomorrow?", "tell me a joke", "who won the match last night?",
    "play some jazz please", "how do I bake bread without yeast", "good morning everyone",
    "is it true that cats dream?", "set a timer for ten minutes", "translate tree into French",
    "my neighbour's dog barks all night", "I really liked that film", "what is 17 times 23",
]  # fmt: skip
X_train, X_rest, y_train, y_rest = train_test_split(
    X[~unknown], y[~unknown], train_size=150, stratify=y[~unknown], random_state=0
)
X_held, X_test, y_held, y_test = train_test_split(
    X_rest, y_rest, test_size=0.5, stratify=y_rest, random_state=0
)

# %%
clf = LoPAClassifier(prompt_layer=4, bottleneck=32, batch_size=16, random_state=0)
clf.fit(X_train, y_train)


def unit(texts):
    """Adapted features of length one."""
    features = clf.transform(texts)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


known = unit(X_train)
ways = {
    "probability of the likeliest intent": lambda texts: clf.predict_proba(texts).max(axis=1),
    "nearness to three known texts": lambda texts: np.sort(unit(texts) @ known.T)[:, -3:].mean(1),
}
others = {"other intents": X[unknown], "small talk": small_talk}
found, cuts = {}, {}
right = clf.predict(X_test) == y_test
print(f"accuracy in scope: {right.mean():.3f}")
for way, measure in ways.items():
    cuts[way] = np.quantile(measure(X_held), 0.05)  # loses 1 in 20 of those in scope
    found[way] = {"in scope": measure(X_test)} | {k: measure(v) for k, v in others.items()}
    print(f"\n{way}, cut at {cuts[way]:.2f}")
    for name, values in found[way].items():
        print(f"    {name:<14} refused {np.mean(values < cuts[way]):.0%} of {len(values)}")
    answered = found[way]["in scope"] >= cuts[way]
    print(f"    accuracy in scope where answered {right[answered].mean():.3f}")

# %% [markdown]
# A network is sure of itself far from what it has seen, so its probability says little there.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
for axis, (way, values) in zip(axes, found.items(), strict=False):
    axis.boxplot(list(values.values()), widths=0.6, medianprops={"color": "#D55E00"})
    axis.axhline(cuts[way], color="k", linestyle=":")
    axis.set_xticks([1, 2, 3], labels=list(values), fontsize="small")
    axis.set_title(way, fontsize="medium")
inside = len(X_test)
for way, values in found.items():
    outside = np.concatenate([values[name] for name in others])
    RocCurveDisplay.from_predictions(
        np.repeat([1, 0], [inside, len(outside)]),
        np.concatenate([values["in scope"], outside]),
        name=way.split()[0], ax=axes[2],
    )  # fmt: skip
axes[2].set(xlabel="share of others answered", ylabel="share in scope answered")
figure.savefig("08_out_of_scope.png", dpi=100)
