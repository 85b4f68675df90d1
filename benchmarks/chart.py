"""Draw a chart of saved results of ``cp2fast bench --json``, one panel each.

    python -m benchmarks.chart RESULT.json... OUT.png

docs/bench.png shows loader, augment and train from benchmarks/results/.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cp2fast.bench.chart import plot
from cp2fast.bench.report import reports_of


def main() -> None:
    *results, out = map(Path, sys.argv[1:])
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in results]
    plot([report for result in kept for report in reports_of(result)], out)


if __name__ == "__main__":
    main()
