# %% [markdown]
# # Pairs of texts, and numbers
#
# Do two messages ask for the same? A classifier says yes or no, a regressor how close they are.
# X is a list of 2-tuples or a frame of two columns. Each text of a pair is embedded by itself, and
# the two are compared, so a text that stands in many pairs is embedded once.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from sklopa import LoPAClassifier, LoPARegressor, cache_info
from sklopa.datasets import load_intents

texts, intents = load_intents(return_X_y=True)
families = [
    {"cancel_order", "change_address", "track_order"},
    {"payment_problem", "refund_status", "return_item"},
    {"product_question"},
    {"reset_password"},
]
random = np.random.RandomState(0)


def closeness(one, other):
    """2 for the same intent, 1 for two of a family, 0 for others."""
    return 2 if one == other else int(any({one, other} <= family for family in families))


def draw(rows, n):
    """Pairs, a third of them of each closeness."""
    pairs, numbers = [], []
    for wanted in np.resize([0, 1, 2], n):
        one, other = random.choice(rows, 2, replace=False)
        while closeness(intents[one], intents[other]) != wanted:
            one, other = random.choice(rows, 2, replace=False)
        pairs.append((texts[one], texts[other]))
        numbers.append(wanted)
    return pairs, np.array(numbers)


X_train, y_train = draw(np.arange(150), 240)
X_test, y_test = draw(np.arange(150, 300), 120)
print(X_train[2], "->", y_train[2])

# %%
options = {"prompt_layer": 4, "bottleneck": 32, "batch_size": 16, "random_state": 0}
same = np.array(["different", "same"], dtype=object)
clf = LoPAClassifier(**options).fit(X_train, same[(y_train == 2).astype(int)])
right = clf.score(X_test, same[(y_test == 2).astype(int)])
print(f"same or different: accuracy {right:.3f} on new pairs")

regressor = LoPARegressor(**options).fit(X_train, y_train)
probe = LoPARegressor(prompt_length=0, random_state=0).fit(X_train, y_train)
found = regressor.predict(X_test)
print(f"how close: rank correlation {spearmanr(found, y_test).statistic:.3f}, ", end="")
print(f"without a prompt {spearmanr(probe.predict(X_test), y_test).statistic:.3f}")
print(f"texts embedded in all: {cache_info().misses}")

# %%
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
names = ["of other families", "of one family", "the same intent"]
parts = [found[y_test == value] for value in range(3)]
axis.boxplot(parts, orientation="horizontal", widths=0.6, medianprops={"color": "#D55E00"})
axis.set_yticks([1, 2, 3], labels=names)
axis.set(xlabel="predicted closeness of new pairs", xticks=[0, 1, 2])
figure.savefig("07_pairs_and_numbers.png", dpi=110)
