"""What a fitted estimator consists of, in a few lines: for a terminal and for a notebook."""

from __future__ import annotations

import html
from typing import Any

from sklopa.inspection.fitted import design_of, score_name

Line = tuple[str, str]


def summary_lines(estimator: Any) -> list[Line]:
    """Name and text of each line. Nothing is loaded for it."""
    design = design_of(estimator)
    lines = [("backbone", _backbone(estimator, design.backbone))]
    if design.reads_instances and design.encoder != design.backbone:
        lines.append(("encoder", design.encoder.model))
    lines += [
        ("prompt", _prompt(design)),
        ("trainable", _trainable(estimator)),
        ("epochs", _epochs(estimator)),
        ("score", _score(estimator)),
    ]
    if estimator._reads == "texts":
        lines.append(("truncated", _truncated(estimator.n_truncated_)))
    return lines


def as_text(title: str, lines: list[Line]) -> str:
    """Lines below each other, their names in a column."""
    width = max(len(name) for name, _ in lines)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in lines)])


def as_html(lines: list[Line]) -> str:
    """Lines as the rows of a table, everything in it escaped."""
    cell = 'style="text-align: left; padding: 0 1em 0 0; border: 0; background: none"'
    rows = [
        f"<tr><th {cell}>{html.escape(name)}</th><td {cell}>{html.escape(text)}</td></tr>"
        for name, text in lines
    ]
    return f'<table class="sklopa-summary" style="margin: 0.5em 0">{"".join(rows)}</table>'


def _backbone(estimator: Any, backbone: Any) -> str:
    revision = estimator.backbone_revision_ or backbone.revision
    at = "" if revision is None else f", revision {revision}"
    return f"{backbone.model}{at}, frozen, {estimator.dtype_} on {estimator.device_}"


def _prompt(design: Any) -> str:
    if design.n_rows == 0:
        return "none"
    rows = f"{design.n_rows} row{'s' if design.n_rows > 1 else ''}"
    where = f" from layer {design.prompt_layer}" if design.prompt_layer else ""
    where = f"{where}, one for each layer" if design.depth == "deep" else where
    made = f"rank {design.rank}, gate {design.gate}" if design.rank else "the same for all rows"
    return f"{rows}{where}, {made}"


def _trainable(estimator: Any) -> str:
    n_bytes = sum(value.nbytes for value in estimator._fitted_network().weights.values())
    return f"{estimator.n_trainable_parameters_:,} parameters, {_size(n_bytes)}"


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}" if unit != "bytes" else f"{n_bytes} bytes"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


def _epochs(estimator: Any) -> str:
    return f"{estimator.n_iter_} (max_iter={estimator.max_iter})"


def _score(estimator: Any) -> str:
    name, said = score_name(estimator), []
    if estimator.history_ and "training_score" in estimator.history_[-1]:
        said.append(f"training {name} {estimator.history_[-1]['training_score']:.3f}")
    if estimator.validation_scores_:
        best = estimator.best_validation_score_
        scores = [record.get("validation_score") for record in estimator.history_]
        said.append(f"best validation {name} {best:.3f} in epoch {scores.index(best) + 1}")
    if not said and estimator.loss_curve_:
        said.append(f"training loss {estimator.loss_curve_[-1]:.4f}")
    return ", ".join(said) or "none: nothing was trained"


def _truncated(n: int) -> str:
    return f"{n:,} training text{'' if n == 1 else 's'}" if n else "no training text"
