"""Speed against what one would run instead: `python -m benchmarks` measures, prints a table, writes JSON and a plot.

Each group of figures is a module with a function `measure(quick)` that yields figures. What is measured and what it is
compared to take turns, on the same machine, in the same run; nothing leaves this machine.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the servers there import their neighbours
