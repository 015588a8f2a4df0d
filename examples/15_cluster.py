# %% [markdown]
# # Search on a cluster
#
# A search hands out its fits through joblib, so a Dask cluster runs them. Here two processes of
# this machine are the workers; for a real cluster, `Client("scheduler:8786")` is all that changes.
#
#     pip install -e ".[demo,dask,inspection]"

# %%
import tempfile
import time

import joblib
import matplotlib.pyplot as plt
from distributed import Client
from distributed.deploy import SubprocessCluster
from sklearn.model_selection import GridSearchCV

import sklopa
from sklopa import LoPAClassifier
from sklopa.datasets import load_intents
from sklopa.inspection import SearchDisplay

X, y = load_intents(return_X_y=True)
X, y = X[:80], y[:80]

# %% [markdown]
# ## Workers
# One thread each, as torch would use all cores from each of several threads. Every worker holds
# one copy of the frozen model, however many fits it does.

# %%
cluster = SubprocessCluster(
    scheduler_kwargs={"dashboard": False},
    worker_kwargs={"nthreads": 1, "dashboard": False}, n_workers=2, silence_logs=40,
)  # fmt: skip
client = Client(cluster)
client.wait_for_workers(2)

# %% [markdown]
# ## Search
# `memory=` is a folder that all workers see: what one has embedded, the others read. Where a worker
# dies, its fits are done again by another.

# %%
base = LoPAClassifier(
    prompt_layer=4, bottleneck=32, batch_size=16, max_iter=2, memory=tempfile.mkdtemp(),
    random_state=0,
)  # fmt: skip
search = GridSearchCV(base, {"rank": [0, 4], "prompt_length": [5, 10]}, cv=2, refit=False)
started = time.perf_counter()
with joblib.parallel_config("dask"):
    search.fit(X, y)
seconds = time.perf_counter() - started
fits = search.cv_results_["mean_fit_time"].sum() * search.n_splits_
print(f"fits that take {fits:.0f} s one after the other were done in {seconds:.0f} s")
print(f"best: {search.best_params_}, accuracy {search.best_score_:.3f}")
embedded = {worker: info.misses for worker, info in client.run(sklopa.cache_info).items()}
print(f"texts embedded by each worker: {sorted(embedded.values())} of {len(X)}")
client.close()
cluster.close()

# %%
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
SearchDisplay.from_search(search, ax=axis)
figure.savefig("15_cluster.png", dpi=110)
