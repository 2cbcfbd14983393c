"""`python -m benchmarks.publish`: put the last full run into the README: its machine, its table and its plot."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

from .figures import Figure, markdown
from .scratch import ROOT

LAST = ROOT / "benchmarks" / "results" / "full.json"
PUBLISHED = ROOT / "benchmarks" / "published.json"
README = ROOT / "README.md"
BETWEEN = re.compile(r"(?<=<!-- begin of figures -->\n).*?(?=<!-- end of figures -->)", re.S)


def main() -> None:
    for suffix in (".json", ".png"):
        shutil.copy(LAST.with_suffix(suffix), PUBLISHED.with_suffix(suffix))
    README.write_text(BETWEEN.sub(lambda _: shown(PUBLISHED), README.read_text()))


def shown(path: Path) -> str:
    """Return what the README shows of a run that was written to `path`."""
    run = json.loads(path.read_text())
    names = [field.name for field in fields(Figure)]
    groups = {name: [Figure(**{n: one[n] for n in names}) for one in group] for name, group in run["groups"].items()}
    machine = "; ".join(f"{name}: {value}" for name, value in run["machine"].items())
    plot = path.with_suffix(".png").relative_to(ROOT)
    return f"{machine}.\n\n![The figures relative to what they are compared to]({plot})\n\n{markdown(groups)}\n"


if __name__ == "__main__":
    main()
