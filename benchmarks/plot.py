"""The plot: each figure relative to what it is compared to."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

from .figures import Figure, spread

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROW_HEIGHT = 0.32  # inches
COLOURS = {True: "#2a7f3e", False: "#b3261e", None: "#4a5a6a"}  # by whether the goal is reached
NEUTRAL = "#c8ccd2"
AXIS = (
    "ratio of the medians, datarun to what it is compared to; 1 is equal\n"
    "green: the goal is reached; red: it is missed; black mark: the goal, where it is a ratio"
)


def draw(groups: dict[str, list[Figure]], machine: dict[str, str], path: Path) -> None:
    """Write a PNG: a bar for each figure that is compared to something, on a logarithmic scale around 1."""
    shown = {name: [figure for figure in figures if figure.ratio] for name, figures in groups.items()}
    shown = {name: figures for name, figures in shown.items() if figures}
    heights = [len(figures) + 1 for figures in shown.values()]
    fig, axes = plt.subplots(
        len(shown), figsize=(14, 1 + ROW_HEIGHT * sum(heights)), height_ratios=heights, sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, (name, figures) in zip(axes.flat, shown.items(), strict=True):
        draw_group(ax, name, figures)
    axes.flat[-1].set_xlabel(AXIS)
    fig.suptitle(f"datarun {machine['commit']}, {machine['cores']} cores, {machine['processor']}, {machine['date']}")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def draw_group(ax: Axes, name: str, figures: list[Figure]) -> None:
    ax.set_title(name, loc="left", fontsize=10, fontweight="bold")
    ax.set_xscale("log")
    ax.axvline(1, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="x", color=NEUTRAL, linewidth=0.5)
    ax.set_yticks(range(len(figures)), [f"{figure.name}\nvs {figure.compared_to}" for figure in figures], fontsize=7)
    for y, figure in enumerate(figures):
        ax.barh(y, figure.ratio - 1, left=1, height=0.55, color=COLOURS[figure.holds])
        if figure.goal and figure.goal[0].startswith("ratio"):
            ax.plot([figure.goal[1]] * 2, [y - 0.4, y + 0.4], color="black", linewidth=1.5)
        text = f"{spread(figure.values, figure.unit)}  vs  {spread(figure.compared, figure.unit)}"
        ax.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), fontsize=7, va="center")
