"""What stages that put things together cost.

    python3 bench/stages.py mosaic [--secs 30] [--preset veryfast|none] [--framerail PROGRAM]
        16 paced files of 640x360 at 30 frames/s in one picture of 1080p, encoded with x264, or not at all: drops, lateness, CPU.
    python3 bench/stages.py passing CLIP.mp4 [--rounds 7] [--framerail PROGRAM]
        Decoding alone, and with five stages behind it that change nothing, interleaved: CPU time a frame and frames a second.
    python3 bench/stages.py hsv CLIP.mp4 [--rounds 3]
        A change of saturation on every frame, written again: framerail without the change, framerail with it (`frame.hsv()`), and the
        usual OpenCV loop, interleaved. Needs the Python package and opencv-python.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

STREAMS = 16


def cpu_secs() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def mosaic(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = os.path.join(folder, "cam.mp4")
        source = f"testsrc2=s=640x360:r=30:d={options.secs},noise=alls=4:allf=t"
        encoding = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "60"]
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *encoding, clip], check=True)
        cams = [os.path.join(folder, f"cam{number:02}.mp4") for number in range(STREAMS)]
        for cam in cams:
            os.link(clip, cam)
        stats, out = os.path.join(folder, "stats.json"), os.path.join(folder, "wall.mp4")
        text = f"read {' '.join(cams)} realtime=yes ! mosaic fps=30 ! "
        text += "null" if options.preset == "none" else f"write {out} codec=libx264 preset={options.preset}"
        before, start = cpu_secs(), time.perf_counter()
        subprocess.run([options.framerail, "run", text, "--device", "cpu", "--quiet", "--stats", stats], check=True)
        wall, cpu = time.perf_counter() - start, cpu_secs() - before
        with open(stats, encoding="utf-8") as file:
            found = json.load(file)
    streams = [stream for stream in found["streams"] if stream["name"] != "mosaic"]
    counters = next(stage["counters"] for stage in found["stages"] if stage["name"] == "mosaic")
    read, dropped = (sum(stream[name] for stream in streams) for name in ("frames_read", "frames_dropped"))
    latest = max(stream["latency_max_secs"] for stream in streams)
    print(f"{read} frames read, {dropped} dropped; {counters}")
    print(f"latency to the picture at most {1000 * latest:.0f} ms; {wall:.1f} s, {cpu / wall:.2f} cores busy")


#: Stages that only pass the frames of a clip in yuv420p.
PASSING = "sample every=1 ! convert format=yuv420p ! caps format=yuv420p ! scale 100% ! cropto 0,0,100%,100%"


def passing(options: argparse.Namespace) -> None:
    ways = {"decode": "", "decode, 5 stages": f"! {PASSING} "}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        stats = os.path.join(folder, "stats.json")
        for _ in range(options.rounds):
            for name, stages in ways.items():
                before, start = cpu_secs(), time.perf_counter()
                text = f"read '{options.clip}' {stages}! null"
                subprocess.run([options.framerail, "run", text, "--device", "cpu", "--quiet", "--stats", stats, "--overwrite"], check=True)
                taken[name].append((time.perf_counter() - start, cpu_secs() - before))
        with open(stats, encoding="utf-8") as file:
            frames = next(stage["frames_in"] for stage in json.load(file)["stages"] if stage["name"] == "null")
    alone = statistics.median(cpu for _, cpu in taken["decode"])
    for name, times in taken.items():
        wall, cpu = (statistics.median(each) for each in zip(*times))
        print(f"{name:18} {frames / wall:7.1f} frames/s {1000 * cpu / frames:6.3f} ms CPU a frame {100 * (cpu / alone - 1):+5.2f} %")


def hsv(options: argparse.Namespace) -> None:
    import cv2
    import framerail as fr
    import numpy as np

    table = np.clip(np.arange(256) * 4 // 3, 0, 255).astype(np.uint8)

    @fr.stage(on="cpu")
    def more_colour(batch: fr.ItemBatch) -> None:
        for frame in batch:
            pixels = np.asarray(frame.hsv())
            pixels[:, :, 1] = cv2.LUT(pixels[:, :, 1], table)

    def with_framerail(out: str, changes: bool) -> None:
        pipeline = fr.Pipeline(f"read '{options.clip}' device=cpu ! write '{out}' codec=libx264 preset=medium audio=no overwrite=yes")
        if changes:
            pipeline.insert_after("read", more_colour)
        pipeline.run(serve=False)

    def with_opencv(out: str) -> None:
        video = cv2.VideoCapture(options.clip)
        size = tuple(int(video.get(which)) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        rate = video.get(cv2.CAP_PROP_FPS)
        # OpenCV's own writer has no x264; FFmpeg with the same preset takes its frames.
        raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", str(rate), "-i", "-"]
        encoder = ["ffmpeg", "-v", "error", "-y", *raw, "-c:v", "libx264", "-preset", "medium", "-pix_fmt", "yuv420p", out]
        with subprocess.Popen(encoder, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            while True:
                there, frame = video.read()
                if not there:
                    break
                pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2HSV)
                pixels[:, :, 1] = cv2.LUT(pixels[:, :, 1], table)
                process.stdin.write(cv2.cvtColor(pixels, cv2.COLOR_HSV2BGR).tobytes())
            process.stdin.close()

    video = cv2.VideoCapture(options.clip)
    frames, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.mp4")
        ways = {
            "framerail, no change": lambda: with_framerail(out, False),
            "framerail, HSV": lambda: with_framerail(out, True),
            "OpenCV loop, HSV": lambda: with_opencv(out),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                before, start = cpu_secs(), time.perf_counter()
                way()
                taken[name].append((time.perf_counter() - start, cpu_secs() - before))
    for name, times in taken.items():
        wall, cpu = (statistics.median(each) for each in zip(*times))
        print(f"{name:22} {frames / wall:7.1f} frames/s {frames / rate / wall:5.2f} x real time {1000 * cpu / frames:6.1f} ms CPU a frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    walls = kinds.add_parser("mosaic")
    walls.add_argument("--secs", type=int, default=30)
    walls.add_argument("--preset", default="veryfast")
    walls.add_argument("--framerail", default="framerail")
    walls.set_defaults(run=mosaic)
    passed = kinds.add_parser("passing")
    passed.add_argument("clip")
    passed.add_argument("--rounds", type=int, default=7)
    passed.add_argument("--framerail", default="framerail")
    passed.set_defaults(run=passing)
    colours = kinds.add_parser("hsv")
    colours.add_argument("clip")
    colours.add_argument("--rounds", type=int, default=3)
    colours.set_defaults(run=hsv)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
