"""How many boxes of one run another run also has: for detection on every Nth frame against every frame.

    python3 bench/recall.py every-frame.jsonl every-third.jsonl
"""

import argparse
import sys
from pathlib import Path

from boxes import Comparison, read_boxes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path, help="JSON lines of the run with every frame detected")
    parser.add_argument("other", type=Path)
    parser.add_argument("--iou", type=float, default=0.5, help="least IoU of a match (default 0.5)")
    parser.add_argument("--threshold", type=float, default=0.0, help="least score (default: all boxes)")
    arguments = parser.parse_args()
    reference = read_boxes(arguments.reference, arguments.threshold)
    other = read_boxes(arguments.other, arguments.threshold)
    if len(reference) != len(other):
        print(f"recall: {len(reference)} frames against {len(other)}", file=sys.stderr)
        return 1
    comparison = Comparison(arguments.iou)
    for frame, (expected, found) in enumerate(zip(reference, other)):
        comparison.add(frame, expected, found)
    print("\n".join(comparison.lines("the reference", "the other")))
    print(f"recall {comparison.recall:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
