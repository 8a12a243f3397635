#!/usr/bin/env python3
"""Frames per second of reading on the CPU against the number of cores: framerail and its peers, as JSON.

    python bench/reading_cores.py CLIP [CLIP ...] [--cores 1,2,4,8,16] [--repeat 3] [--folder DIR] > cores.json

Each row is the best and the median of `--repeat` runs; contenders take turns, so that a busy machine slows all of them. Decoding
alone: `framerail run 'read CLIP ! null'`, `ffmpeg -f null` with its own threads, and as many FFmpeg processes side by side as there
are cores, with one thread each, which is the ceiling. Every frame as an RGB array in Python: framerail, TorchCodec, PyAV, OpenCV and
decord, as far as they can be imported, each in its best settings. `--folder` reads a folder of files one after another.

Before anything is measured, every frame that framerail gives with all cores is compared with that of one thread, by hashes, and
with FFmpeg's own conversion to RGB. A difference ends the program with exit code 1. Linux, ffmpeg in PATH. plot_reading.py draws the result.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import measure

BATCH = 32

# Each prints the number of frames that it read. {clip} and {cores} are filled in.
PYTHON = {
    "framerail": """
import framerail
reader = framerail.VideoReader({clip!r}, layout="THWC", output="numpy", threads={cores})
print(sum(len(batch.data) for batch in reader.batches({batch})))
""",
    "framerail_224": """
import framerail
reader = framerail.VideoReader({clip!r}, size=224, output="numpy", threads={cores})
print(sum(len(batch.data) for batch in reader.batches({batch})))
""",
    "torchcodec": """
from torchcodec.decoders import VideoDecoder
decoder = VideoDecoder({clip!r}, dimension_order="NHWC", num_ffmpeg_threads={cores})
print(sum(1 for frame in decoder))
""",
    "pyav": """
import av
container = av.open({clip!r})
stream = container.streams.video[0]
stream.thread_type, stream.thread_count = "AUTO", {cores}
print(sum(1 for frame in container.decode(stream) if frame.to_ndarray(format="rgb24") is not None))
""",
    "opencv": """
import cv2
capture = cv2.VideoCapture({clip!r}, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, {cores}])
frames = 0
while True:
    found, picture = capture.read()
    if not found:
        break
    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    frames += 1
print(frames)
""",
    "decord": """
import decord
reader = decord.VideoReader({clip!r}, num_threads={cores})
print(sum(1 for place in range(len(reader)) if reader[place].asnumpy() is not None))
""",
}
MODULES = {"framerail": "framerail", "framerail_224": "framerail", "torchcodec": "torchcodec", "pyav": "av", "opencv": "cv2", "decord": "decord"}

HASHES = """
import hashlib, json, framerail
reader = framerail.VideoReader({clip!r}, layout="THWC", output="numpy", threads={threads}, exact={exact!r})
hashes = []
for batch in reader.batches({batch}):
    hashes += [hashlib.md5(picture.tobytes()).hexdigest() for picture in batch.data]
print(json.dumps(hashes))
"""


def pinned(cores: int, command: list[str]) -> list[str]:
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    return ["taskset", "-c", ",".join(map(str, allowed)), *command]


def frames_in(clip: str) -> int:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets", "-show_entries", "stream=nb_read_packets"]
    found = subprocess.run([*command, "-of", "csv=p=0", clip], check=True, capture_output=True, text=True)
    return int(found.stdout.strip().split(",")[0])


def hashes(clip: str, threads: int, exact: str | None) -> list[str]:
    code = HASHES.format(clip=clip, threads=threads, exact=exact, batch=BATCH)
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def ffmpeg_hashes(clip: str) -> list[str]:
    command = ["ffmpeg", "-v", "error", "-i", clip, "-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    command += ["-sws_flags", "bicubic", "-f", "framemd5", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.rsplit(",", 1)[1].strip() for line in lines if not line.startswith("#")]


def check_frames(clip: str) -> dict:
    one, all_cores = hashes(clip, 1, None), hashes(clip, 0, None)
    report = {"frames": len(one), "same_with_all_cores": one == all_cores}
    exact = hashes(clip, 0, "swscale")
    report["same_as_ffmpeg"] = exact == ffmpeg_hashes(clip)
    report["hash"] = hashlib.md5("".join(one).encode()).hexdigest()
    return report


def contenders(clip: str, cores: int, program: str | None) -> dict:
    """Commands by name, and how often each reads the whole clip."""
    found = {}
    if program:
        found["framerail read ! null"] = ([program, "run", f"read '{clip}' threads={cores} device=cpu ! null"], 1)
    null = ["-i", clip, "-map", "0:v:0", "-f", "null", "-"]
    for threads in sorted({cores, min(2 * cores, 32)}):
        found[f"ffmpeg -threads {threads}"] = (["ffmpeg", "-v", "error", "-nostdin", "-threads", str(threads), *null], 1)
    side = " & ".join(["ffmpeg -v error -nostdin -threads 1 -i \"$0\" -map 0:v:0 -f null -"] * cores)
    found["ffmpeg side by side"] = (["sh", "-c", side + " & wait", clip], cores)
    for name, code in PYTHON.items():
        if importlib.util.find_spec(MODULES[name]):
            found[f"{name} in Python"] = ([sys.executable, "-c", code.format(clip=clip, cores=cores, batch=BATCH)], 1)
    return found


def run_all(clip: str, cores: int, program: str | None, repeat: int, end: float) -> list[dict]:
    frames, runs, failures = frames_in(clip), {}, {}
    log = Path(tempfile.mkdtemp()) / "log"
    everyone = contenders(clip, cores, program)
    for _ in range(repeat):
        for name, (command, times) in everyone.items():
            if time.monotonic() > end:
                continue
            try:
                run = measure(pinned(cores, command), log)
            except Exception as error:  # one that fails does not end the others
                failures[name] = str(error).strip().splitlines()[-1:] or [repr(error)]
                continue
            runs.setdefault(name, []).append((times * frames / run.wall_secs, run.peak_tree_mib, run.cpu_secs))
    rows = []
    for name in everyone:
        row = {"clip": Path(clip).name, "cores": cores, "reader": name}
        if name in runs:
            rates, memory, cpu = zip(*runs[name])
            row |= {"best_fps": round(max(rates), 1), "median_fps": round(statistics.median(rates), 1)}
            row |= {"resident_mib": round(max(memory)), "cpu_secs": round(min(cpu), 2)}
        elif name in failures:
            row["failed"] = failures[name][0]
        else:
            continue
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def first_frame(clip: str, repeat: int) -> float:
    """Milliseconds from opening to the first frame, in a process that has done so before."""
    code = f"""
import time, framerail
def first():
    start = time.perf_counter()
    framerail.VideoReader({clip!r}, output="numpy").read_frames([0])
    return time.perf_counter() - start
print(min(first() for _ in range({repeat + 1})) * 1000)
"""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def folder_row(folder: str, program: str, cores: int, repeat: int) -> dict:
    clips = sorted(str(path) for path in Path(folder).iterdir() if path.is_file())
    frames = sum(map(frames_in, clips))
    rates = {}
    for _ in range(repeat):
        for streams in ["auto", "8", "1"]:
            command = [program, "run", f"read '{folder}' streams={streams} ! null"]
            rates.setdefault(streams, []).append(frames / measure(pinned(cores, command), Path(os.devnull)).wall_secs)
    best = {f"streams={streams}": round(max(found), 1) for streams, found in rates.items()}
    return {"folder": folder, "files": len(clips), "frames": frames, "cores": cores, **best}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--cores", help="comma-separated; default: 1, 2, 4 and so on up to all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="also read this folder of files with `framerail run`")
    parser.add_argument("--program", default=shutil.which("framerail"), help="the framerail program; default: that in PATH")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after so long, and write what is measured")
    parser.add_argument("--no-check", action="store_true", help="do not compare frames first")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    here = len(os.sched_getaffinity(0))
    counts = [1 << power for power in range(here.bit_length()) if 1 << power <= here]
    cores = [int(count) for count in arguments.cores.split(",")] if arguments.cores else sorted({*counts, here})
    report = {"date": time.strftime("%Y-%m-%d"), "cores_here": here, "load_before": os.getloadavg()[0], "checks": {}, "rows": []}
    has_package = importlib.util.find_spec("framerail") is not None
    if has_package and not arguments.no_check:
        report["checks"] = {Path(clip).name: check_frames(clip) for clip in arguments.clips}
    for clip in arguments.clips:
        for count in cores:
            report["rows"] += run_all(clip, count, arguments.program, arguments.repeat, end)
        if has_package and time.monotonic() < end:
            report.setdefault("first_frame_ms", {})[Path(clip).name] = round(first_frame(clip, arguments.repeat), 2)
    if arguments.folder and arguments.program:
        report["folder"] = folder_row(arguments.folder, arguments.program, max(cores), arguments.repeat)
    json.dump(report, sys.stdout, indent=1)
    print()
    differs = [name for name, check in report["checks"].items() if not check["same_with_all_cores"]]
    if differs:
        print(f"frames differ between one thread and all cores: {', '.join(differs)}", file=sys.stderr)
    return int(bool(differs))


if __name__ == "__main__":
    sys.exit(main())
