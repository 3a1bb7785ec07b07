"""Measure one way of one part, here and now: what each fresh process does.

python -m tests.benchmarks.one throughput "bare loop" '{"jobs": 1000}'
"""

import json
import os
import sys

from .registry import PARTS
from .shape import Figures, Sizes


def measure(part: str, way: str, sizes: Sizes) -> Figures:
    """Measure a way in this process, with the part's own sizes for those that aren't given."""
    found = PARTS[part]
    figures: Figures = found.way(way).measure({**found.sizes, **sizes})
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))), flush=True)
    os._exit(0)  # threads of docket's store have been seen to break an interpreter that ends
