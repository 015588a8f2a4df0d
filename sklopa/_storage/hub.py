"""Saved estimators on a model hub: a repository is a saved folder with a card beside it."""

from __future__ import annotations

import json
import re
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any

from sklopa._loading.hub import hub_address, hub_answers
from sklopa._storage.files import MANIFEST
from sklopa._storage.record import Record
from sklopa._storage.save import save
from sklopa.errors import ArchiveNotFound, NotWritten

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_TASKS = {
    "LoPAClassifier": "text-classification",
    "LoPAGenerator": "text-generation",
    "LoPAImageClassifier": "image-classification",
}


def looks_like_repository(path: str | PathLike) -> bool:
    """Whether what is not there as a path may be the id of a repository.

    The hub is asked for "user/name" alone, as it is written: a path that is missing stays one.
    """
    if not isinstance(path, str) or path.lower().endswith(".zip") or Path(path).exists():
        return False
    return _REPOSITORY.fullmatch(path) is not None


def fetch(repo_id: str, revision: str | None) -> Path:
    """Folder of the files of a repository, from the cache where they are there already.

    Raises
    ------
    ArchiveNotFound
        If there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    answers = hub_answers()
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[MANIFEST, "weights-*.safetensors"],
            local_files_only=not answers,
        )
    except Exception as error:  # a client's errors are of many kinds
        reason = (
            f"the hub has no such repository or cannot be reached: {str(error).splitlines()[0]}"
        )
        if not answers:
            reason = f"it is not in the hub's cache, and {hub_address()} does not answer."
        raise ArchiveNotFound(f"There is no file or folder {repo_id!r}, and {reason}") from error
    return Path(folder)


def push(
    record: Record, repo_id: str, *, private: bool | None, token: str | None, scores: dict | None
) -> str:
    """Write an estimator and its card into a repository; returns its address.

    Raises
    ------
    NotWritten
        If the hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "archive")
        save(record, folder, include_backbone=False)
        card = model_card(record, scores, _licence_of(api, record.network.design.backbone.model))
        (folder / "README.md").write_text(card, encoding="utf-8")
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                delete_patterns="weights-*.safetensors",  # those of an archive before
                commit_message=f"{record.kind}, written by sklopa",
            )
        except Exception as error:  # a client's errors are of many kinds
            raise NotWritten(
                f"{repo_id!r} could not be written: {str(error).splitlines()[0]} "
                "Check the id, and that you are logged in (hf auth login, or token=)."
            ) from error
    return str(address)


def _licence_of(api: Any, model: str) -> str | None:
    """Licence that the hub knows of a model; None where it knows none."""
    if not _REPOSITORY.fullmatch(model) or Path(model).exists():
        return None
    try:
        data = api.model_info(model).card_data
        return data.get("license") if data else None
    except Exception:  # a card without a licence is better than none
        return None


def model_card(record: Record, scores: dict | None, licence: str | None) -> str:
    """README of a repository: what was fitted, on what, how well."""
    kind, model = record.kind, record.network.design.backbone.model
    on_hub = _REPOSITORY.fullmatch(model) and not Path(model).exists()
    head = {"library_name": "sklopa", "tags": ["sklopa", "lopa", "soft-prompt"]}
    head |= {"pipeline_tag": _TASKS[kind]} if kind in _TASKS else {}
    head |= {"base_model": model} if on_hub else {}
    head |= {"license": licence} if licence else {}
    named = f"[{model}](https://huggingface.co/{model})" if on_hub else "a model that is not public"
    parts = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        f"# {kind}",
        f"A soft prompt for {named}, which stays as it is. Licence of that model: "
        f"{licence or 'not known'}.",
        _table("Task", _facts(record.attributes)),
        _table("Scores", _scores(record.attributes) | (scores or {})),
        _table(
            "Parameters", {k: repr(v) for k, v in sorted(_parameters(record.parameters).items())}
        ),
        "```python\nimport sklopa\n\nmodel = sklopa.load(THIS_REPOSITORY)\n```\n",
    ]
    return "\n".join(parts)


def _facts(fitted: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "trainable parameters": f"{fitted['n_trainable_parameters_']:,}",
        "epochs": fitted["n_iter_"],
        "revision of the model": fitted["backbone_revision_"],
    }
    if "classes_" in fitted:
        labels = [str(label) for label in fitted["classes_"][:20]]
        more = ", ..." if len(fitted["classes_"]) > len(labels) else ""
        facts["labels"] = ", ".join(labels) + more
    return {name: value for name, value in facts.items() if value is not None}


def _scores(fitted: dict[str, Any]) -> dict[str, Any]:
    scores = {"training loss": fitted["loss_curve_"][-1]} if fitted["loss_curve_"] else {}
    if fitted["best_validation_score_"] is not None:
        scores["best validation score"] = fitted["best_validation_score_"]
    return scores


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    hidden = {"model", "encoder", "memory", "checkpoint_dir", "checkpoint_every", "verbose"}
    return {name: value for name, value in parameters.items() if name not in hidden}


def _table(title: str, rows: dict[str, Any]) -> str:
    shown = {k: f"{v:.4f}" if isinstance(v, float) else str(v) for k, v in rows.items()}
    lines = [f"| {name} | {value.replace('|', '/')} |" for name, value in shown.items()]
    return "\n".join([f"\n## {title}\n", "| | |", "|---|---|", *lines, ""])
