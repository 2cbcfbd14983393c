"""A figure, what it is compared to, and how both are shown: a table for people, JSON for programs."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

GOALS = {
    "at most": lambda ours, _theirs, limit: ours <= limit,
    "at most over": lambda ours, theirs, limit: ours - theirs <= limit,
    "ratio at most": lambda ours, theirs, limit: ours / theirs <= limit,
    "ratio at least": lambda ours, theirs, limit: ours / theirs >= limit,
}


class Skipped(Exception):
    """This machine cannot measure it; the message says why."""


@dataclass(frozen=True)
class Figure:
    """Repeated measurements of one thing, beside those of what it is compared to.

    values, compared : in `unit`; `compared` is empty where there is nothing to compare to.
    goal : a word of GOALS and its limit; "at most over" is in `unit`.
    skipped : why there are no values.
    """

    name: str
    unit: str
    values: list[float] = field(default_factory=list)
    compared_to: str = ""
    compared: list[float] = field(default_factory=list)
    goal: tuple[str, float] | None = None
    skipped: str = ""

    @property
    def ratio(self) -> float | None:
        return median(self.values) / median(self.compared) if self.values and self.compared else None

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached; None without a goal, or where it cannot be told."""
        if self.goal is None or not self.values or (self.goal[0] != "at most" and not self.compared):
            return None
        kind, limit = self.goal
        return GOALS[kind](median(self.values), median(self.compared or [0.0]), limit)

    def summary(self) -> dict[str, Any]:
        """Return all of it for JSON, with medians and extremes."""
        return {
            **asdict(self),
            **{f"{name}_of_values": of(self.values) for name, of in SUMMARIES.items() if self.values},
            **{f"{name}_of_compared": of(self.compared) for name, of in SUMMARIES.items() if self.compared},
            "ratio": self.ratio,
            "holds": self.holds,
        }


SUMMARIES = {"median": median, "minimum": min, "maximum": max}
HEADINGS = ("", "median (min to max)", "compared to", "median (min to max)", "ratio", "goal")


def markdown(groups: dict[str, list[Figure]]) -> str:
    """Return the table of all groups, for the README."""
    rows = [HEADINGS, ("---",) * len(HEADINGS)]
    for name, figures in groups.items():
        rows += [(f"**{name}**", *[""] * (len(HEADINGS) - 1)), *map(_row, figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def table(groups: dict[str, list[Figure]]) -> str:
    """Return the table of all groups, as text."""
    rows = {name: [_row(figure) for figure in figures] for name, figures in groups.items()}
    every = [HEADINGS, *(row for group in rows.values() for row in group)]
    widths = [max(len(row[column]) for row in every) for column in range(len(HEADINGS))]
    lines = [_line(HEADINGS, widths)]
    for name, group in rows.items():
        lines += ["", name.upper(), *(_line(row, widths) for row in group)]
    return "\n".join(lines)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _row(figure: Figure) -> tuple[str, ...]:
    values = spread(figure.values, figure.unit)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}"
    goal = f"skipped: {figure.skipped}" if figure.skipped else _goal(figure)
    return figure.name, values, figure.compared_to, spread(figure.compared, figure.unit), ratio, goal


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    kind, limit = figure.goal
    unit = "" if kind.startswith("ratio") else f" {figure.unit}"
    verdict = {True: "holds", False: "MISSED", None: "not measured"}[figure.holds]
    return f"{kind} {limit:.3g}{unit}: {verdict}"


def spread(values: list[float], unit: str) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{shown(values[0])} {unit}"
    return f"{shown(median(values))} {unit} ({shown(min(values))} to {shown(max(values))})"


def shown(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
