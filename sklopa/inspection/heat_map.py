"""The parts of a `SearchDisplay`: a panel, the scores in it, and the bar beside all panels."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np

from sklopa.inspection.drawing import VERMILION, short, styled
from sklopa.inspection.grid import Cells

_MOST_TICKS = 12
_USUAL, _SMALLEST = 9, 6  # points, of what stands in a cell


def figure_size(cells: Cells, n_rows: int, n_columns: int) -> tuple[float, float]:
    """Width and height in inches at which cells have room for their scores."""
    _, n_y, n_x = cells.candidate.shape
    below = 0.07 * _longest(cells.values[2]) if _is_crowded(cells.values[2]) else 0.0
    width = n_columns * (0.5 + np.clip(0.8 * n_x, 2.0, 6.0)) + 1.6
    return width, n_rows * (0.8 + below + np.clip(0.6 * n_y, 1.6, 5.0))


def draw_panel(display: Any, cells: Cells, i: int, ax: Any, style: dict) -> None:
    """Draw the cells of panel `i`; what was drawn is added to the display."""
    import matplotlib.pyplot as plt
    from matplotlib.image import AxesImage

    scores = cells.of(display.scores)
    low, high = np.nanmin(scores), np.nanmax(scores)
    if low == high:  # one colour, from the middle of the map
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    look = {"vmin": low, "vmax": high, "aspect": "auto", "origin": "lower"}
    look = styled(look, style, AxesImage)
    colours = plt.get_cmap(look["cmap"])
    look["cmap"] = colours if display.larger_is_better else colours.reversed()
    display.images_.append(ax.imshow(scores[i], **look))
    ax.set_facecolor("0.95")
    ax.patch.set(hatch="////", edgecolor="0.8", linewidth=0)
    _draw_ticks(display, cells, ax)
    if display.panel is not None:
        ax.set_title(f"{_end(display.panel)} = {_written(cells.values[0][i])}", fontsize="medium")
    _frame_chosen(display, cells, i, ax)


def write_scores(display: Any, cells: Cells, i: int, ax: Any, values_format: str | None) -> None:
    """Write the scores of panel `i` into its cells, if they fit."""
    scores, image = cells.of(display.scores), display.images_[i]
    values_format = values_format or (".3f" if np.nanmax(np.abs(scores)) < 100 else ".3g")
    words = {}
    for at in map(tuple, np.argwhere(cells.counts[i])):
        score = scores[i][at]
        words[at] = "failed" if np.isnan(score) else format(score, values_format)
        if display.resources is not None:
            words[at] += f"\n({cells.of(display.resources)[i][at]:g})"
    size = _fitting_size(ax, scores[i].shape, list(words.values()))
    if size < _SMALLEST:
        return
    for (row, column), text in words.items():
        score = scores[i, row, column]
        colour = "0.35" if np.isnan(score) else _readable_on(image, score)
        display.texts_.append(
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
        )


def draw_colorbar(display: Any, cells: Cells, axes: Any, n_rows: int) -> None:
    """The bar of scores beside all panels, and what else there is to say of them."""
    failed = np.isnan(cells.of(display.scores))[cells.counts > 0].any()
    notes = {
        "framed: chosen": display.frame_ is not None,
        "hatched: not tried": not failed and not cells.counts.all(),
        "hatched: not tried or failed": failed,
        "best candidate of each cell": cells.counts.max() > 1,
        f"in brackets: {display.resource}": display.resources is not None,
    }
    bar = display.figure_.colorbar(display.images_[0], ax=list(axes), fraction=0.08, pad=0.03)
    height = n_rows * axes[0].get_window_extent().height / display.figure_.dpi  # inches
    lines = [display.score_name, "; ".join(note for note, holds in notes.items() if holds)]
    bar.set_label("\n".join(fill(line, max(12, int(12 * height))) for line in lines if line))
    display.colorbar_ = bar


def _draw_ticks(display: Any, cells: Cells, ax: Any) -> None:
    _, ys, xs = cells.values
    for axis, name, values in ((ax.xaxis, display.x, xs), (ax.yaxis, display.y, ys)):
        places = np.arange(0, len(values), -(-len(values) // _MOST_TICKS))
        axis.set_ticks([] if name is None else places)
        if name is not None:
            axis.set_ticklabels([_written(values[p]) for p in places])
            axis.set_label_text(_end(name))
    if _is_crowded(xs):
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    ax.set_xticks(np.arange(len(xs) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(ys) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5 if max(len(xs), len(ys)) < 20 else 0.4)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)


def _frame_chosen(display: Any, cells: Cells, i: int, ax: Any) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    where = np.argwhere(cells.candidate[i] == display.chosen)
    if display.chosen is None or len(where) == 0:
        return
    row, column = where[0] - 0.5
    look: dict[str, Any] = {"edgecolor": VERMILION, "linewidth": 2.5, "clip_on": False, "zorder": 5}
    display.frame_ = ax.add_patch(Rectangle((column, row), 1, 1, fill=False, **look))
    display.frame_.set_path_effects([Stroke(linewidth=5.5, foreground="white"), Normal()])


def _fitting_size(ax: Any, shape: tuple[int, int], words: list[str]) -> float:
    """The font size in points at which words fit into cells."""
    box, points = ax.get_window_extent(), 72 / ax.figure.dpi
    lines = [text.split("\n") for text in words]
    n_lines, n_characters = max(map(len, lines)), max(len(part) for text in lines for part in text)
    height, width = box.height * points / shape[0], box.width * points / shape[1]
    return min(_USUAL, 0.85 * height / (1.3 * n_lines), 0.8 * width / (0.62 * n_characters))


def _readable_on(image: Any, value: float) -> str:
    """Black or white, whichever has the larger contrast by WCAG 2.1."""
    colour = np.array(image.cmap(image.norm(value))[:3])
    light = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = light @ [0.2126, 0.7152, 0.0722]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _is_crowded(values: list) -> bool:
    """Whether values in a line below the axes would touch."""
    return _longest(values) * min(len(values), _MOST_TICKS) > 30


def _longest(values: list) -> int:
    return max(len(_written(value)) for value in values)


def _written(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else short(value, 16)


def _end(name: str) -> str:
    """The name of a parameter without those of the steps that it belongs to."""
    return name.rpartition("__")[2]
