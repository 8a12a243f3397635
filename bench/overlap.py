"""Shows how well stages overlap: a run in which decoding, inference and encoding cost about the same, against its bound.

    make build
    python3 bench/overlap.py [--runs 5] [--size 256x160]

Each stage works on one thread. The bound is the larger of the longest stage and the processor time shared by the cores;
prints the wall time of each run over that bound, and writes bench/results/DATE-overlap.json.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("FRAMERAIL_HOME", ROOT / ".framerail"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = ROOT / "bench" / "work"


def clip_1080p() -> Path:
    """Heavy to decode: 1080p H.264 at 12 Mbit/s, 300 frames."""
    path = WORK / "overlap-1080p.mp4"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        source = HOME / "clips" / "bigbuckbunny.mp4"
        command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", "3", "-i", str(source), "-an", "-vf", "scale=1920:1080:flags=bicubic"]
        command += ["-frames:v", "300", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "12M", "-g", "60", str(path)]
        subprocess.run(command, check=True)
    return path


def run(pipeline: str, name: str) -> dict:
    stats = WORK / f"overlap-{name}.json"
    command = [str(TARGET / "release" / "framerail"), "--quiet", "run", pipeline, "--stats", str(stats)]
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(stats.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", default="256x160", help="model input; chosen so that inference costs about as much as decoding")
    parser.add_argument("--preset", default="ultrafast", help="x264 preset, chosen likewise")
    arguments = parser.parse_args()
    clip = clip_1080p()
    read = f"read {clip} threads=1"
    infer = f"infer centerface size={arguments.size} threads=1"
    write = f"write {WORK}/overlap-out.mp4 overwrite=yes threads=1 preset={arguments.preset}"
    rows = []
    for number in range(arguments.runs):
        whole = run(f"{read} ! {infer} ! {write}", "whole")
        alone = {
            "read": run(f"{read} ! null", "read")["cpu_secs"],
            "read+infer": run(f"{read} ! {infer} ! null", "infer")["cpu_secs"],
        }
        stages = {
            "read": alone["read"],
            "infer": alone["read+infer"] - alone["read"],
            "write": whole["cpu_secs"] - alone["read+infer"],
        }
        bound = max(max(stages.values()), whole["cpu_secs"] / 2)
        rows.append({"wall_secs": whole["wall_secs"], "cpu_secs": whole["cpu_secs"], "stages_cpu_secs": stages, "over_bound": whole["wall_secs"] / bound})
        shown = ", ".join(f"{name} {secs:.2f} s" for name, secs in stages.items())
        print(f"run {number + 1}: wall {whole['wall_secs']:.2f} s, CPU {whole['cpu_secs']:.2f} s ({shown}), wall / bound {rows[-1]['over_bound']:.3f}")
    ratios = [row["over_bound"] for row in rows]
    print(f"wall / bound: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    out = ROOT / "bench" / "results" / f"{datetime.date.today()}-overlap.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"arguments": vars(arguments), "runs": rows}, indent=2) + "\n")
    print(f"written to {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
