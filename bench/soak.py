"""Shows that memory does not grow in a run whose streams change all the time: clips of many sizes and codecs come and go.

    make build
    python3 bench/soak.py [--minutes 60] [--at-once 6] [--paced]

One process reads clips that are added over HTTP, a few at a time, scales them and writes each to a file. With --paced each is read at its frame rate,
which needs a fraction of a core. Prints resident memory, threads and open files at tenths of the run and the growth of memory by a least-squares line
through the second half, and writes bench/results/DATE-soak.json.
"""

import argparse
import datetime
import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from memory import ROOT, TARGET, WORK, resident_kib

TOKEN = "soak-soak-soak"
UNDER_WAY = {"waiting", "opening", "running", "retrying"}
SIZES = ["64x48", "160x120", "320x240", "352x288", "426x240", "640x360", "854x480", "240x426"]
#: Ending, and how FFmpeg encodes it.
KINDS = [
    ("mp4", "-c:v libx264 -preset ultrafast -g 10 -pix_fmt yuv420p -c:a aac"),
    ("mkv", "-c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p -c:a flac"),
    ("ts", "-c:v mpeg2video -g 10 -c:a mp2"),
    ("avi", "-c:v mpeg4 -g 10 -c:a pcm_s16le"),
    ("webm", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus"),
    ("mov", "-c:v mjpeg -pix_fmt yuvj422p -an"),
    ("gif", "-an"),
    ("flv", "-c:v flv1 -an"),
]


def clips() -> list[Path]:
    """One of each kind and size, and damaged copies."""
    folder = WORK / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index, size in enumerate(SIZES):
        for ending, arguments in KINDS:
            path = folder / f"{size}.{ending}"
            if not path.exists():
                source = f"-f lavfi -i testsrc2=size={size}:rate=25:duration=1 -f lavfi -i sine=frequency=440:duration=1"
                subprocess.run(["ffmpeg", "-v", "error", "-y", *source.split(), *arguments.split(), str(path)], check=True)
            made.append(path)
            if index % 3 == 0:
                damaged = folder / f"damaged-{size}.{ending}"
                content = bytearray(path.read_bytes())
                middle = len(content) // 2
                content[middle : middle + 500] = bytes(500)
                damaged.write_bytes(content)
                made.append(damaged)
    return made


def asked(address: str, body: object = None) -> Any:
    """The streams that are listed, or what adding one answers; None while the server is not there."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}/streams", data, headers), timeout=60) as answer:
            return json.load(answer)
    except urllib.error.URLError:
        return None


def handles(pid: int) -> tuple[int, int]:
    """Numbers of threads and of open files."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0, 0


def slope(samples: list[tuple[float, float]]) -> float:
    """Of a least-squares line."""
    count = len(samples)
    mean_x, mean_y = (sum(sample[axis] for sample in samples) / count for axis in (0, 1))
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / sum((x - mean_x) ** 2 for x, _ in samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--program", type=Path, default=TARGET / "release" / "framerail")
    arguments = parser.parse_args()
    sources, out, stats = clips(), WORK / "soak-out", WORK / "soak-stats.json"
    shutil.rmtree(out, ignore_errors=True)
    stats.unlink(missing_ok=True)
    pipeline = f"read '{sources[0]}' streams=all stay=yes on_error=end{' realtime=yes' * arguments.paced} ! scale 320x240 ! write '{out}/{{name}}.mkv' codec=mpeg4 overwrite=yes"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:%d" % free.getsockname()[1]
    serve = ["--serve", address, "--serve-token", TOKEN, "--serve-sources", "file", "--stats", str(stats)]
    process = subprocess.Popen([str(arguments.program), "run", pipeline, *serve], stderr=(WORK / "soak.log").open("w"))
    draw, samples, counts, added, start = random.Random(7), [], [], 0, time.monotonic()
    while (elapsed := time.monotonic() - start) < arguments.minutes * 60 and process.poll() is None:
        listed = asked(address)
        running = sum(stream["state"] in UNDER_WAY for stream in listed or [])
        for _ in range(arguments.at_once - running if listed else 0):
            added += asked(address, {"source": str(draw.choice(sources))}) is not None
        samples.append((elapsed / 60, resident_kib(process.pid) / 1024))
        counts.append(handles(process.pid))
        time.sleep(0.2)
    process.send_signal(2)
    code = process.wait(timeout=120)
    places = [min(len(samples) - 1, len(samples) * tenth // 10) for tenth in range(1, 11)]
    tenths = [samples[place][1] for place in places]
    threads, files = ([counts[place][which] for place in places] for which in (0, 1))
    growth = slope(samples[len(samples) // 2 :])
    print(f"{added} streams in {arguments.minutes:g} min, exit code {code}")
    print("resident MiB at tenths of the run: " + ", ".join(f"{mib:.1f}" for mib in tenths))
    print(f"threads: {threads}; open files: {files}")
    print(f"growth in the second half: {growth:.3f} MiB/min")
    result = ROOT / "bench" / "results" / f"{datetime.date.today()}-soak.json"
    record = {"minutes": arguments.minutes, "streams": added, "at_once": arguments.at_once, "paced": arguments.paced, "resident_mib_at_tenths": tenths}
    record |= {"threads_at_tenths": threads, "open_files_at_tenths": files}
    result.write_text(json.dumps({**record, "growth_mib_per_minute": growth}, indent=2) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    print(f"written to {result.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
