"""What all displays share: matplotlib, once something is drawn, axes, colours, and short names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import numpy as np

from sklopa.errors import MissingDependency

# The palette of Okabe and Ito (2008), which people of any colour vision can tell apart.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#000000"
GREY = "#B8B8B8"
_COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW, BLACK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")  # ten: 40 pairs with the colours


def look_of(i: int) -> dict[str, Any]:
    """Colour and marker of class `i`; both change, so that either tells neighbours apart."""
    return {"facecolor": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}


def pyplot(caller: str) -> Any:
    """Import pyplot.

    Raises
    ------
    MissingDependency
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependency(
            f"{caller} draws with matplotlib, which is not installed. Install it with: "
            "pip install matplotlib"
        ) from error
    return plt


@contextmanager
def open_axes(
    caller: str, ax: Any, figsize: tuple[float, float], n_rows: int = 1, n_columns: int = 1
) -> Iterator[tuple[Any, np.ndarray]]:
    """A figure, and its axes as an array (n_rows, n_columns): those given, or new ones.

    A figure that was opened here is closed again if what is drawn in it fails.
    """
    plt = pyplot(caller)
    if ax is not None:
        axes = np.atleast_1d(np.asarray(ax, dtype=object))
        yield axes.flat[0].figure, axes
        return
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=figsize, layout="constrained", squeeze=False
    )
    try:
        yield figure, axes
    except BaseException:
        plt.close(figure)
        raise


def styled(defaults: dict[str, Any], style: dict[str, Any] | None, artist: type) -> dict[str, Any]:
    """Keywords for an artist: `defaults`, and over them `style`, which may use short names."""
    from matplotlib.cbook import normalize_kwargs

    return defaults | normalize_kwargs(style or {}, artist)


def told_apart(names: list[Any], n_characters: int = 26) -> list[str]:
    """Names in two short lines each, numbered where they would not be told apart."""
    lines = [short(name, 2 * n_characters) for name in names]
    if len(set(lines)) < len(lines):
        lines = [f"{i}: {line}" for i, line in enumerate(lines)]
    return [fill(line, n_characters + 3) for line in lines]


def short(value: Any, n_characters: int = 28) -> str:
    """`value` as one short line that matplotlib shows as it is; both ends of long ones are kept."""
    line = " ".join(str(value).split())
    if len(line) > n_characters:
        tail = (n_characters - 1) // 3
        line = f"{line[: n_characters - 1 - tail]}…{line[-tail:]}"
    return line.replace("$", r"\$")  # a pair of dollars would be read as mathematics
