"""Shows that memory does not grow with the length of a video: an hour of 720p through `sample ! null`.

    make build
    python3 bench/memory.py [--minutes 60]

Prints resident memory at tenths of the run, and writes bench/results/DATE-memory.json.
"""

import argparse
import datetime
import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = ROOT / "bench" / "work"


def long_clip(minutes: int) -> Path:
    """Generated 720p at 30 frames/s: one minute encoded, then repeated without encoding."""
    WORK.mkdir(parents=True, exist_ok=True)
    minute, path = WORK / "memory-minute.mp4", WORK / f"memory-{minutes}min.mp4"
    if not path.exists():
        make = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=60"]
        subprocess.run([*make, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-pix_fmt", "yuv420p", str(minute)], check=True)
        repeat = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(minutes - 1), "-i", str(minute), "-c", "copy", str(path)]
        subprocess.run(repeat, check=True)
    return path


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    arguments = parser.parse_args()
    clip = long_clip(arguments.minutes)
    stats = WORK / "memory-stats.json"
    command = [str(TARGET / "release" / "framerail"), "--quiet", "run", f"read {clip} ! sample every=10 ! null", "--stats", str(stats)]
    process = subprocess.Popen(command)
    samples, start = [], time.monotonic()
    while process.poll() is None:
        try:
            samples.append((time.monotonic() - start, resident_kib(process.pid)))
        except OSError:
            break
        time.sleep(0.25)
    if process.wait() != 0:
        raise SystemExit(f"the run failed with code {process.returncode}")
    result = json.loads(stats.read_text())
    frames = result["stages"][0]["frames_out"]
    tenths = [samples[min(len(samples) - 1, len(samples) * tenth // 10)][1] / 1024 for tenth in range(1, 10)]
    print(f"{frames} frames in {result['wall_secs']:.0f} s ({frames / result['wall_secs']:.0f} frames/s)")
    print("resident MiB at tenths of the run: " + ", ".join(f"{mib:.1f}" for mib in tenths))
    out = ROOT / "bench" / "results" / f"{datetime.date.today()}-memory.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"minutes": arguments.minutes, "frames": frames, "wall_secs": result["wall_secs"], "resident_mib_at_tenths": tenths}
    out.write_text(json.dumps({**record, "peak_mib": result["memory_peak_bytes"] / 2**20}, indent=2) + "\n")
    print(f"written to {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
