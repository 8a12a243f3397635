"""framerail beside GStreamer on the same clip: frames a second and CPU time, interleaved.

    python3 bench/gstreamer.py CLIP.mp4 [--rounds 5] [--framerail PROGRAM] [--json RESULT.json]

Needs `gst-launch-1.0` with the plugins base, good, ugly (x264enc) and libav (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-*,
gstreamer1.0-libav), and `ffprobe`. Both encode with x264's preset veryfast at its default quality target, into MP4.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

RGB = "videoscale ! video/x-raw,width=640,height=360 ! videoconvert ! video/x-raw,format=RGB"
X264 = "videoconvert ! x264enc speed-preset=veryfast pass=quant quantizer=23 ! mp4mux ! filesink location={out}"

#: The default queue holds three frames of 1080p. Until every sink has a first buffer, the branch with `fakesink` takes one frame and waits,
#: its queue fills, and the encoder, which holds frames back, never gives its first packet: the pipeline stands still.
QUEUE = "queue max-size-buffers=100 max-size-bytes=0 max-size-time=0"

#: Name: what framerail runs, what GStreamer runs.
CASES = {
    "pass": ("read {clip} ! null", "filesrc location={clip} ! decodebin ! videoscale ! videoconvert ! fakesink"),
    "scale to RGB": (
        "read {clip} ! scale 640x360 quality=bilinear ! convert format=rgb24 ! null",
        f"filesrc location={{clip}} ! decodebin ! {RGB} ! fakesink",
    ),
    "encode": (
        "read {clip} ! write {out} codec=libx264 preset=veryfast crf=23 audio=no overwrite=yes",
        f"filesrc location={{clip}} ! decodebin ! {X264}",
    ),
    "tee": (
        "read {clip} ! tee ( scale 640x360 quality=bilinear ! convert format=rgb24 ! null ) "
        "( write {out} codec=libx264 preset=veryfast crf=23 audio=no overwrite=yes )",
        f"filesrc location={{clip}} ! decodebin ! tee name=t t. ! {QUEUE} ! {RGB} ! fakesink t. ! queue ! {X264}",
    ),
}


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU time with all children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=600)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def frames_of(clip: str) -> int:
    fields = ["-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]
    found = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v:0", *fields, clip], capture_output=True, text=True, check=True)
    return int(found.stdout.strip().rstrip(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--framerail", default=shutil.which("framerail") or "framerail")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json")
    options = parser.parse_args()
    frames, results = frames_of(options.clip), []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            pipeline, elements = (text.format(clip=options.clip, out=os.path.join(folder, "out.mp4")) for text in CASES[name])
            commands = {
                "framerail": [options.framerail, "run", pipeline, "--device", "cpu", "--quiet"],
                "GStreamer": ["gst-launch-1.0", "-q", *elements.split()],
            }
            times: dict[str, list[tuple[float, float]]] = {tool: [] for tool in commands}
            for _ in range(options.rounds):
                for tool, command in commands.items():
                    times[tool].append(timed(command))
            for tool, taken in times.items():
                wall, cpu = (statistics.median(each) for each in zip(*taken))
                results.append({"case": name, "tool": tool, "frames_per_sec": frames / wall, "cpu_ms_per_frame": 1000 * cpu / frames})
                print(f"{name:14} {tool:10} {frames / wall:8.1f} frames/s {1000 * cpu / frames:7.2f} ms CPU a frame", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"clip": os.path.basename(options.clip), "frames": frames, "cpus": os.cpu_count(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
