#!/usr/bin/env python3
"""One process that reads 16 files side by side against 16 processes that read one each: throughput and memory.

Usage: bench/streams.py [--framerail PROGRAM] [--streams 16] [--seconds 6] [--rest 'infer centerface size=320x192 batch=8 ! null']

The clips are 640x360 H.264 at 10 frames/s, made by ffmpeg. Both ways run on the same processors; memory is the proportional share
(PSS) of all processes, looked at every 50 ms, so that libraries and models that processes share count once.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import threading
import time


def make_clips(folder, count, seconds):
    clips = []
    for number in range(count):
        clip = folder / f"cam{number}.mp4"
        source = f"testsrc2=size=640x360:rate=10:duration={seconds},hue=h={number * 20}"
        command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-g", "20", "-pix_fmt", "yuv420p"]
        subprocess.run([*command, clip], check=True)
        clips.append(clip)
    return clips


def pss_bytes(process):
    try:
        text = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def run(commands):
    """Runs all commands at once; gives seconds and the most memory of all together."""
    began, most, done = time.monotonic(), 0, threading.Event()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]

    def watch():
        nonlocal most
        while not done.wait(0.05):
            most = max(most, sum(pss_bytes(process) for process in processes if process.poll() is None))

    watcher = threading.Thread(target=watch)
    watcher.start()
    errors = [process.communicate()[1].decode() for process in processes]
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    for process, error in zip(processes, errors):
        if process.returncode:
            raise SystemExit(f"{process.args}\n{error}")
    return seconds, most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framerail", default="target/release/framerail")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", default="infer centerface size=320x192 batch=8 device=cpu ! null")
    parser.add_argument("--single-rest", help="the same for one process a file, where it differs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(pathlib.Path(folder), options.streams, options.seconds)
        frames = options.streams * options.seconds * 10
        names = " ".join(str(clip) for clip in clips)
        together = [[options.framerail, "run", f"read {names} streams=all device=cpu ! {options.rest}"]]
        rest = options.single_rest or options.rest
        alone = [[options.framerail, "run", f"read {clip} device=cpu ! {rest}"] for clip in clips]
        results = {"one process": [], "process a file": []}
        # In turn, so that other work on the machine hits both alike.
        for _ in range(options.rounds):
            for name, commands in (("one process", together), ("process a file", alone)):
                seconds, memory = run(commands)
                results[name].append({"frames_per_sec": round(frames / seconds, 1), "memory_mb": round(memory / 1e6, 1)})
        print(json.dumps(results, indent=2))
        best = {name: max(runs, key=lambda result: result["frames_per_sec"]) for name, runs in results.items()}
        speed = best["one process"]["frames_per_sec"] / best["process a file"]["frames_per_sec"]
        memory = max(run["memory_mb"] for run in results["one process"]) / max(run["memory_mb"] for run in results["process a file"])
        print(f"one process: {speed:.2f} times the throughput, {memory:.2f} times the memory")


if __name__ == "__main__":
    main()
