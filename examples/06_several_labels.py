# %% [markdown]
# # Several labels a text
#
# Customers ask for two things in one message. Each text here is one message or two of the
# package's, and its labels are what they ask for. `y` is a list of label sets; an indicator matrix
# or a frame of zeros and ones will do as well. Each label gets an answer of its own, yes or no.
#
#     pip install -e ".[demo,inspection]"

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import classification_report
from sklearn.preprocessing import MultiLabelBinarizer

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

texts, intents = load_intents(return_X_y=True)
half = len(texts) // 2
random = np.random.RandomState(0)


def joined(rows, n):
    """Texts of one message or two, and the set of what they ask for."""
    picked = [random.choice(rows, size=random.choice([1, 2]), replace=False) for _ in range(n)]
    return [" ".join(texts[p]) for p in picked], [set(intents[p]) for p in picked]


X_train, y_train = joined(np.arange(half), 240)
X_test, y_test = joined(np.arange(half, len(texts)), 120)
print(X_train[0], "->", sorted(y_train[0]))

# %%
clf = LoPAClassifier(prompt_layer=4, bottleneck=32, batch_size=16, random_state=0)
clf.fit(X_train, y_train)
binarizer = MultiLabelBinarizer(classes=clf.classes_).fit(y_train)
truth = binarizer.transform(y_test)
print(classification_report(truth, clf.predict(X_test), target_names=clf.classes_, zero_division=0))
print(f"all labels of a text right: {clf.score(X_test, y_test):.3f}")

# %% [markdown]
# ## Look
# Chances of each label for a few new texts. What a text does ask for is framed.

# %%
shown = [i for i in range(len(X_test)) if len(y_test[i]) == 2][:8]
chances = clf.predict_proba([X_test[i] for i in shown])
figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
image = axis.imshow(chances, vmin=0, vmax=1, cmap="Blues", aspect="auto")
for row, column in zip(*np.nonzero(truth[shown]), strict=True):
    corner = (column - 0.46, row - 0.44)
    axis.add_patch(plt.Rectangle(corner, 0.92, 0.88, fill=False, edgecolor="#D55E00", lw=2))
shorts = [X_test[i] if len(X_test[i]) < 50 else X_test[i][:47] + "..." for i in shown]
axis.set_yticks(range(len(shown)), labels=shorts, fontsize="small")
axis.set_xticks(
    range(len(clf.classes_)), labels=clf.classes_, rotation=30, ha="right", fontsize="small"
)
figure.colorbar(image, label="probability")
figure.savefig("06_several_labels.png", dpi=100)
