"""Draws the chart of reading on the CPU as SVG from what reading_cores.py wrote.

    python3 bench/plot_reading.py cores.json docs/images/reading-cores.svg [--clip h264-960.mp4]

Frames per second against cores: decoding alone on the left, every frame to RGB in Python on the right. Best of the runs; what
failed is left out.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

#: Reader, label and colour, of the left and of the right part. The colours are readable on white and on dark pages.
DECODING = [
    ("ffmpeg side by side", "FFmpeg processes, one thread each (ceiling)", "#adb5bd"),
    ("framerail read ! null", "framerail", "#d9480f"),
    ("ffmpeg -threads", "FFmpeg, its own threads", "#1c7ed6"),
]
PYTHON = [
    ("framerail in Python", "framerail", "#d9480f"),
    ("pyav in Python", "PyAV", "#2b8a3e"),
    ("opencv in Python", "OpenCV", "#9c36b5"),
    ("torchcodec in Python", "TorchCodec", "#1c7ed6"),
    ("decord in Python", "decord", "#868e96"),
]


def line(rows: list[dict], reader: str) -> list[tuple[int, float]]:
    """Frames per second by cores; of settings that differ in threads, the best."""
    best: dict[int, float] = {}
    for row in rows:
        if row["reader"].startswith(reader) and "best_fps" in row:
            best[row["cores"]] = max(best.get(row["cores"], 0.0), row["best_fps"])
    return sorted(best.items())


def draw(plot, rows: list[dict], readers: list[tuple[str, str, str]], title: str) -> None:
    cores = sorted({row["cores"] for row in rows})
    for reader, label, colour in readers:
        points = line(rows, reader)
        if points:
            is_ceiling = "side by side" in reader
            plot.plot(*zip(*points), marker="o", color=colour, label=label, linestyle="--" if is_ceiling else "-")
            plot.annotate(f"{points[-1][1]:,.0f}", points[-1], textcoords="offset points", xytext=(7, -4), fontsize=9)
    plot.set_title(title, loc="left", fontsize=12)
    plot.set_xscale("log", base=2)
    plot.set_xticks(cores, [str(count) for count in cores])
    plot.set_xlabel("cores")
    plot.set_ylim(bottom=0)
    plot.grid(axis="y", color="#dddddd")
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(frameon=False, fontsize=9, loc="upper left")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--clip", help="default: the first one measured")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    clip = arguments.clip or results["rows"][0]["clip"]
    rows = [row for row in results["rows"] if row["clip"] == clip]
    if not rows:
        sys.exit(f"{arguments.results}: nothing of {clip}")
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "framerail", "font.family": "sans-serif", "font.size": 11})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    figure.patch.set_facecolor("white")
    draw(left, rows, DECODING, "decoding alone")
    draw(right, rows, PYTHON, "every frame as an RGB array in Python")
    left.set_ylabel("frames per second")
    figure.suptitle(f"Reading a 1080p file on the CPU ({Path(clip).stem}, {results['date']})", x=0.01, ha="left", fontsize=13)
    # Without a date, the same results give the same file.
    figure.savefig(arguments.target, format="svg", metadata={"Date": None})
    print(arguments.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
