"""Compares two builds of framerail: reading, blurring, opening, and random frames in Python, one after the other in turn.

    python3 bench/versions.py OLD NEW [--rounds 7] [--clip FILE]

OLD and NEW are folders with the program `framerail` and, for random frames, `python/framerail` (the Python package with its compiled
part). Each round runs both builds one after the other, in turns the old and the new first, and gives one ratio, new to old, of wall and
of CPU seconds. Prints their medians and quartiles over all rounds: what others do on the machine meets both runs of a round alike, and CPU
time least of all. Writes bench/results/DATE-versions.json.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from memory import ROOT, WORK

RANDOM_FRAMES = """
import random, sys
import framerail as fr
reader = fr.VideoReader(sys.argv[1], output="numpy", threads=2)
draw = random.Random(7)
for _ in range(6):
    reader.read_frames(sorted(draw.sample(range(len(reader)), 20)))
"""


def clip(given: Path | None) -> Path:
    """720p H.264, 500 frames, unless one is given."""
    if given is not None:
        return given
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "versions.mp4"
    if not path.exists():
        source = "-f lavfi -i testsrc2=size=1280x720:rate=25:duration=20 -f lavfi -i sine=duration=20"
        encode = "-c:v libx264 -preset fast -g 50 -b:v 4M -pix_fmt yuv420p -c:a aac"
        subprocess.run(["ffmpeg", "-v", "error", "-y", *source.split(), *encode.split(), str(path)], check=True)
    return path


def short_clips() -> list[Path]:
    """A hundred files of ten frames."""
    folder = WORK / "versions-short"
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "000.mp4"
    if not first.exists():
        make = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=0.4 -c:v libx264 -pix_fmt yuv420p"
        subprocess.run(["ffmpeg", "-v", "error", "-y", *make.split(), str(first)], check=True)
    for number in range(1, 100):
        path = folder / f"{number:03}.mp4"
        if not path.exists():
            path.hardlink_to(first)
    return sorted(folder.glob("*.mp4"))


def jobs(video: Path) -> dict[str, list[str]]:
    short = " ".join(f"'{path}'" for path in short_clips())
    return {
        "read": ["framerail", "--quiet", "run", f"read '{video}' ! null"],
        "read, one thread": ["framerail", "--quiet", "run", f"read '{video}' threads=1 ! null"],
        "blur and write": ["framerail", "--quiet", "blur-faces", str(video), "-o", str(WORK / "versions-out.mp4"), "--overwrite", "--detect-every", "5"],
        "write": ["framerail", "--quiet", "run", f"read '{video}' ! write '{WORK}/versions-out.mp4' overwrite=yes codec=mpeg4"],
        "open 100 short files": ["framerail", "--quiet", "run", f"read {short} ! null"],
        "120 random frames in Python": ["python", str(video)],
    }


def timed(folder: Path, command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    environment = dict(os.environ)
    if command[0] == "python":
        command = [sys.executable, "-c", RANDOM_FRAMES, *command[1:]]
        environment["PYTHONPATH"] = str(folder / "python")
    else:
        command = [str(folder / command[0]), *command[1:]]
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)[:200]} failed with {status}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--only", nargs="*", help="jobs by the beginning of their names")
    arguments = parser.parse_args()
    results = {}
    for name, command in jobs(clip(arguments.clip)).items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        runs: dict[str, list[tuple[float, float]]] = {"old": [], "new": []}
        for number in range(arguments.rounds):
            for which in ("old", "new") if number % 2 == 0 else ("new", "old"):
                runs[which].append(timed(getattr(arguments, which).resolve(), command))
        record: dict[str, object] = {"rounds": arguments.rounds}
        ratios = []
        for place, kind in enumerate(("wall", "cpu")):
            old, new = ([run[place] for run in runs[which]] for which in ("old", "new"))
            low, middle, high = statistics.quantiles([b / a for a, b in zip(old, new)], n=4)
            record |= {f"old_{kind}_secs": round(statistics.median(old), 3), f"new_{kind}_secs": round(statistics.median(new), 3)}
            record[f"{kind}_ratio"] = [round(value, 3) for value in (low, middle, high)]
            ratios.append(f"{kind} {middle:.2f} ({low:.2f} to {high:.2f})")
        results[name] = record
        print(f"{name}: old {record['old_wall_secs']} s, {record['old_cpu_secs']} s CPU; new to old: {', '.join(ratios)}", flush=True)
    result = ROOT / "bench" / "results" / f"{datetime.date.today()}-versions.json"
    result.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {result.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
