"""Boxes of two runs over the same clip: reading the JSON lines that `save` writes, matching, counting."""

import json
from dataclasses import dataclass, field
from pathlib import Path

Box = tuple[float, float, float, float]


def read_boxes(path: Path, threshold: float = 0.0) -> list[list[Box]]:
    """Boxes (x1, y1, x2, y2 in frame pixels) of each frame, in order; scores at or below `threshold` are left out."""
    frames: list[list[Box]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            if row["frame"] != number:
                raise ValueError(f"{path}: line {number + 1} is frame {row['frame']}, expected {number}")
            frames.append([tuple(d["box"]) for d in row["detections"] if d["score"] > threshold])
    return frames


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def pair(expected: list[Box], found: list[Box]) -> list[float]:
    """IoU of each pair when every box has at most one partner and the best pairs are taken first."""
    candidates = sorted(
        ((iou(a, b), i, j) for i, a in enumerate(expected) for j, b in enumerate(found)), reverse=True
    )
    left, right, pairs = set(), set(), []
    for overlap, i, j in candidates:
        if overlap > 0 and i not in left and j not in right:
            left.add(i)
            right.add(j)
            pairs.append(overlap)
    return pairs


@dataclass
class Comparison:
    """Counts over all frames; a pair below `least_iou` counts as unmatched on both sides."""

    least_iou: float
    expected: int = 0
    found: int = 0
    matched: int = 0
    overlaps: list[float] = field(default_factory=list)
    #: Frames in which a box of either side has no partner.
    differing_frames: list[int] = field(default_factory=list)

    def add(self, frame: int, expected: list[Box], found: list[Box]) -> None:
        overlaps = pair(expected, found)
        matched = sum(overlap >= self.least_iou for overlap in overlaps)
        self.expected += len(expected)
        self.found += len(found)
        self.matched += matched
        self.overlaps += overlaps
        if matched < max(len(expected), len(found)):
            self.differing_frames.append(frame)

    @property
    def recall(self) -> float:
        return self.matched / self.expected if self.expected else 1.0

    def lines(self, expected_name: str, found_name: str) -> list[str]:
        worst = min(self.overlaps, default=None)
        return [
            f"boxes: {self.expected} by {expected_name}, {self.found} by {found_name}",
            f"matched with IoU >= {self.least_iou}: {self.matched} = {self.recall:.2%} of {expected_name}'s",
            f"unmatched: {self.expected - self.matched} of {expected_name}, {self.found - self.matched} of {found_name}",
            f"worst IoU of a pair: {'no pairs' if worst is None else f'{worst:.4f}'}",
            f"frames that differ: {len(self.differing_frames)} {self.differing_frames[:20]}",
        ]
