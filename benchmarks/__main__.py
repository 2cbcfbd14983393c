"""`python -m benchmarks [--quick] [GROUP ...]`: measure, print the table, write JSON and the plot."""

import argparse
import json
import signal
import sys
import time
import traceback
from pathlib import Path

from . import answers, footprint, growth, isolation, large, latency, loading, machine, plot, throughput, uploading
from .figures import Figure, Skipped, table
from .scratch import ROOT

GROUPS = {
    "latency": latency,
    "isolation": isolation,
    "throughput": throughput,
    "load": loading,
    "api": answers,
    "upload": uploading,
    "large": large,
    "footprint": footprint,
    "growth": growth,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, in two minutes")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    described = machine.describe()
    figures, failed = measure(options.groups or list(GROUPS), options.quick)
    write(options.output / ("quick" if options.quick else "full"), described, figures)
    return 1 if failed else 0


def measure(names: list[str], quick: bool) -> tuple[dict[str, list[Figure]], bool]:
    """Return the figures of each group, and whether one of the groups failed."""
    figures: dict[str, list[Figure]] = {}
    failed = False
    for name in names:
        print(f"Measuring {name} ...", file=sys.stderr, end=" ", flush=True)
        start = time.monotonic()
        figures[name] = []
        try:
            figures[name].extend(GROUPS[name].measure(quick))
        except Skipped as error:
            figures[name].append(Figure(name, "", skipped=str(error)))
        except Exception as error:  # the other groups are still worth their time
            traceback.print_exc()
            figures[name].append(Figure(name, "", skipped=f"it failed: {str(error).partition(chr(10))[0]}"))
            failed = True
        print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return figures, failed


def write(path: Path, described: dict[str, str], figures: dict[str, list[Figure]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": described, "groups": {name: [f.summary() for f in group] for name, group in figures.items()}}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    plot.draw(figures, described, path.with_suffix(".png"))
    print("\n".join(f"{name}: {value}" for name, value in described.items()), end="\n\n")
    print(table(figures))
    print(f"\nWritten to {path}.json and {path}.png")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
