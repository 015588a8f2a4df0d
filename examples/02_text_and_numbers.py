# %% [markdown]
# # A text column beside numbers
#
# Which messages should a person answer by phone? That hangs on what the customer writes and on
# two numbers: what the order is worth, and how long ago it was placed. The messages come with the
# package; numbers and answers are drawn here. A `ColumnTransformer` turns each column into
# features, and gradient boosting decides on all of them.
#
#     pip install -e ".[demo,inspection]" pandas

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn import set_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

frame = load_intents(as_frame=True).frame
random = np.random.RandomState(0)
frame["value"] = random.lognormal(4, 0.8, len(frame)).round(2)
frame["days"] = random.randint(0, 60, len(frame))
money = frame["intent"].isin(["payment_problem", "refund_status", "return_item"])
parcel = frame["intent"].isin(["track_order", "change_address", "cancel_order"])
by_phone = money & (frame["value"] > 40) | parcel & (frame["days"] < 30)
answer = np.where(by_phone ^ (random.rand(len(frame)) < 0.03), "phone", "mail")
X = frame[["text", "value", "days"]]
X_train, X_test, y_train, y_test = train_test_split(
    X, answer, train_size=200, stratify=answer, random_state=0
)
print(X_train.head(3).to_string(index=False))

# %% [markdown]
# ## Both kinds of column
# `LoPAClassifier` is a transformer, too: its features are the states of the frozen model behind
# the learned prompt. `fit_transform`, which the `ColumnTransformer` calls, gives each row those
# of a fit that has not seen its label; three folds are enough here. With metadata routing, each
# step says whether it wants the weights of rows: recent orders count twice, for the prompt and
# for the trees.

# %%
set_config(enable_metadata_routing=True)
text = LoPAClassifier(prompt_layer=4, cv=3, random_state=0)
trees = HistGradientBoostingClassifier(max_iter=60, random_state=0)
text.set_fit_request(sample_weight=True)
trees.set_fit_request(sample_weight=True)
numbers = ["value", "days"]
weights = np.where(X_train["days"] < 14, 2, 1)


def with_trees(*columns):
    """Accuracy of trees on the features of some columns."""
    model = make_pipeline(ColumnTransformer(list(columns)), clone(trees))
    return model.fit(X_train, y_train, sample_weight=weights).score(X_test, y_test)


text_alone = clone(text).fit(X_train["text"], y_train, sample_weight=weights)
scores = {
    "numbers": with_trees(("numbers", "passthrough", numbers)),
    "text": text_alone.score(X_test["text"], y_test),
    "text and numbers": with_trees(("text", text, "text"), ("numbers", "passthrough", numbers)),
}
for name, score in scores.items():
    print(f"{name:<17} accuracy {score:.3f} on {len(X_test)} new messages")

# %%
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
bars = axis.barh(list(scores), list(scores.values()), color="#0072B2")
axis.bar_label(bars, fmt="%.2f", padding=3)
chance = (y_test == "mail").mean()
axis.axvline(max(chance, 1 - chance), color="k", linestyle=":", label="the commoner answer, always")
axis.set(xlim=(0, 1), xlabel="accuracy on new messages")
figure.legend(loc="outside upper right", fontsize="small")
figure.savefig("02_text_and_numbers.png", dpi=110)
