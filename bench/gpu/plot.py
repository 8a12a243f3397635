"""Draws the charts of the GPU benchmark as SVG from what run_all.py wrote.

    python3 plot.py results.json docs/images

gpu-detection.svg   seconds against length of the video, for the three ways to detect (medians; bars from least to most)
gpu-readers.svg     frames per second of each reader, for each clip

The colours are readable on white and on dark pages; letters stay letters.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS = "framerail"
COLOURS = {
    OURS: "#d9480f",
    "torchcodec": "#1c7ed6",
    "optimised": "#1c7ed6",
    "pynvvideocodec": "#2b8a3e",
    "pynvvideocodec-threaded": "#74b816",
    "vali": "#9c36b5",
    "typical": "#868e96",
    "opencv": "#868e96",
    "torchcodec-cpu": "#adb5bd",
}
LABELS = {
    "optimised": "Python, optimised (TorchCodec, fp16, batches of 32)",
    "typical": "Python, typical (OpenCV, fp32, one at a time)",
    "torchcodec": "TorchCodec",
    "torchcodec-cpu": "TorchCodec on the CPU, uploaded",
    "pynvvideocodec": "PyNvVideoCodec",
    "pynvvideocodec-threaded": "PyNvVideoCodec, threaded",
    "vali": "VALI",
    "opencv": "OpenCV on the CPU, uploaded",
}
CLIPS = {"h264": "H.264", "hevc": "HEVC"}


def measured(results: dict, part: str) -> list[dict]:
    """The cases of a part that have figures."""
    return [case for case in results["cases"].values() if case["part"] == part and case["summary"]]


def clip_label(stem: str) -> str:
    kind, frames = stem.rsplit("-", 1)
    return f"{CLIPS.get(kind, kind)}, {int(frames):,} frames"


def axes(title: str, note: str):
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "framerail", "font.family": "sans-serif", "font.size": 11})
    figure, plot = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    figure.patch.set_facecolor("white")
    plot.spines[["top", "right"]].set_visible(False)
    plot.set_title(title, loc="left", fontsize=13)
    figure.text(0.99, 0.01, note, ha="right", va="bottom", fontsize=8, color="#666666")
    return figure, plot


def save(figure, target: Path) -> None:
    # Without a date, the same results give the same file.
    figure.savefig(target, format="svg", metadata={"Date": None})
    plt.close(figure)
    print(target)


def detection(results: dict, note: str, target: Path) -> None:
    figure, plot = axes("1080p video to SSD300's boxes: time against length", note)
    lines: dict[str, list[tuple[int, dict]]] = {}
    for case in measured(results, "detect"):
        lines.setdefault(case["who"], []).append((int(case["clip"].rsplit("-", 1)[1]), case["summary"]["seconds"]))
    for who, points in sorted(lines.items(), key=lambda item: item[0] != OURS):
        points.sort(key=lambda point: point[0])
        frames = [count for count, _ in points]
        medians = [seconds["median"] for _, seconds in points]
        spread = [[s["median"] - s["min"] for _, s in points], [s["max"] - s["median"] for _, s in points]]
        plot.errorbar(frames, medians, yerr=spread, marker="o", capsize=3, color=COLOURS.get(who), label=LABELS.get(who, who))
        plot.annotate(f"{medians[-1]:.3g} s", (frames[-1], medians[-1]), textcoords="offset points", xytext=(8, -4), fontsize=9)
    plot.set_yscale("log")
    plot.set_xticks(sorted({count for points in lines.values() for count, _ in points}))
    plot.xaxis.set_major_formatter(lambda frames, _: f"{frames:,.0f}")
    plot.set_xlabel("frames")
    plot.set_ylabel("seconds (logarithmic)")
    plot.grid(axis="y", which="major", color="#dddddd")
    plot.legend(frameon=False, loc="lower right")
    save(figure, target)


def readers(results: dict, note: str, target: Path) -> None:
    cases = measured(results, "read")
    stems = list(dict.fromkeys(case["clip"] for case in cases))
    names = sorted({case["who"] for case in cases}, key=list(COLOURS).index)
    figure, plot = axes("One 1080p file, every frame as planar RGB on the device", note)
    width = 0.86 / max(len(names), 1)
    for number, who in enumerate(names):
        for case in (case for case in cases if case["who"] == who):
            rate = case["summary"]["frames_per_s"]
            at = stems.index(case["clip"]) + (number - (len(names) - 1) / 2) * width
            spread = [[rate["median"] - rate["min"]], [rate["max"] - rate["median"]]]
            plot.bar(at, rate["median"], width * 0.92, yerr=spread, capsize=2, color=COLOURS.get(who))
            plot.annotate(f"{rate['median']:.0f}", (at, rate["max"]), ha="center", va="bottom", fontsize=8)
        plot.bar(0, 0, color=COLOURS.get(who), label=LABELS.get(who, who))
    for case in measured(results, "ceiling"):
        if case["clip"] in stems:
            at, rate = stems.index(case["clip"]), case["summary"]["frames_per_s"]["median"]
            plot.hlines(rate, at - 0.45, at + 0.45, color="#444444", linestyle="--", linewidth=1)
            plot.annotate("all engines", (at + 0.45, rate), ha="right", va="bottom", fontsize=8, color="#444444")
    plot.set_xticks(range(len(stems)), [clip_label(stem) for stem in stems])
    plot.set_ylabel("frames/s")
    plot.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    save(figure, target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    machine = results.get("machine", {})
    note = f"{machine.get('card', 'card unknown').split(',')[0]}, {machine.get('date', '')[:10]}"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    charts = {"detect": (detection, "gpu-detection.svg"), "read": (readers, "gpu-readers.svg")}
    drawn = 0
    for part, (draw, name) in charts.items():
        if measured(results, part):
            draw(results, note, arguments.folder / name)
            drawn += 1
        else:
            print(f"plot: {arguments.results} has no figures of the part {part}; {name} is not drawn", file=sys.stderr)
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
