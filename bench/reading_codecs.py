#!/usr/bin/env python3
"""Frames per second of reading with default settings, over codecs, sizes and distances of keyframes, as JSON.

    python bench/reading_codecs.py [--clip CLIP] [--frames 600] [--rounds 3] [--only h264-1080p ...] > codecs.json

Clips are made from CLIP, or from a test pattern, and kept in --folder. For each clip the contenders take turns:
`framerail run 'read CLIP ! null'` with default settings, and `ffmpeg -f null`, one decoder with the number of threads that FFmpeg
chooses and with twice as many threads as cores. A row holds the median of each in frames/s of the whole program, and `ratio`:
framerail against the faster of the two. Linux, framerail and ffmpeg in PATH.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

H264 = "-c:v libx264 -preset veryfast -b:v {bits} -x264-params keyint={gop}:min-keyint={gop}:scenecut=0:{more} -g {gop}"
HEVC = "-c:v libx265 -preset ultrafast -b:v {bits} -tag:v hvc1 -x265-params keyint={gop}:min-keyint={gop}:scenecut=0:log-level=error:{more} -g {gop}"
# Name: size, encoder, container, share of the frames.
CLIPS = {
    "h264-1080p": ("1920x1080", H264.format(bits="5M", gop=60, more="open-gop=0"), "mp4", 1),
    "h264-1080p-gop12": ("1920x1080", H264.format(bits="5M", gop=12, more="open-gop=0"), "mp4", 1),
    "h264-1080p-gop250": ("1920x1080", H264.format(bits="5M", gop=250, more="open-gop=0"), "mp4", 1),
    "h264-1080p-gop600": ("1920x1080", H264.format(bits="5M", gop=600, more="open-gop=0"), "mp4", 1),
    "h264-1080p-open": ("1920x1080", H264.format(bits="5M", gop=60, more="open-gop=1:bframes=3"), "mp4", 1),
    "h264-4k": ("3840x2160", H264.format(bits="15M", gop=60, more="open-gop=0"), "mp4", 0.5),
    "h264-360p": ("640x360", H264.format(bits="800k", gop=60, more="open-gop=0"), "mp4", 2),
    "hevc-1080p": ("1920x1080", HEVC.format(bits="4M", gop=60, more="open-gop=0"), "mp4", 1),
    "hevc-1080p-open": ("1920x1080", HEVC.format(bits="4M", gop=60, more="open-gop=1:bframes=3"), "mp4", 1),
    "hevc-4k": ("3840x2160", HEVC.format(bits="12M", gop=60, more="open-gop=0"), "mp4", 0.5),
    "av1-1080p": ("1920x1080", "-c:v libsvtav1 -preset 10 -b:v 3M -g 60", "mp4", 1),
    "vp9-1080p": ("1920x1080", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -b:v 4M -g 60", "webm", 1),
    "mpeg4-1080p": ("1920x1080", "-c:v mpeg4 -b:v 8M -g 60", "mp4", 1),
    "mpeg2-1080p": ("1920x1080", "-c:v mpeg2video -b:v 12M -g 15", "ts", 1),
    "prores-1080p": ("1920x1080", "-c:v prores -profile:v 2", "mov", 0.5),
    "mjpeg-1080p": ("1920x1080", "-c:v mjpeg -q:v 4 -pix_fmt yuvj420p", "mov", 0.5),
}


def make(name, folder, clip, frames):
    """The clip of this name, and its number of frames; `None` when FFmpeg here lacks the encoder."""
    size, encoder, ending, share = CLIPS[name]
    path, count = folder / f"{name}.{ending}", int(frames * share)
    if not path.exists():
        source = ["-stream_loop", "-1", "-i", clip, "-map", "0:v:0"] if clip else ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"]
        scale = f"scale={size.replace('x', ':')}:flags=bicubic,setsar=1,fps=30,format=yuv420p"
        part = path.with_suffix(f".part.{ending}")
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *source, "-an", "-frames:v", str(count), "-vf", scale, *encoder.split(), str(part)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        part.rename(path)
    return path, count


def timed(command):
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-400:]}")
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", help="source of the pictures; a test pattern by default")
    parser.add_argument("--frames", type=int, default=600, help="length of the clips of 1080p (600)")
    parser.add_argument("--rounds", type=int, default=3, help="0: make the clips only (3)")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/reading-codecs"), help="where clips are kept")
    parser.add_argument("--only", nargs="*", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--seconds", type=float, default=3600, help="begin no further clip after this time")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    cores, began = len(os.sched_getaffinity(0)), time.perf_counter()
    for name in given.only:
        if time.perf_counter() - began > given.seconds:
            print(f"no time for {name} and what follows", file=sys.stderr)
            break
        made = make(name, given.folder, given.clip, given.frames)
        if made is None:
            continue
        path, count = made
        if not given.rounds:
            continue
        contenders = {
            "framerail": ["framerail", "run", "--quiet", f"read {path} device=cpu ! null"],
            "ffmpeg": ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "null", "-"],
            "ffmpeg_2n": ["ffmpeg", "-v", "error", "-nostdin", "-threads", str(2 * cores), "-i", str(path), "-f", "null", "-"],
        }
        times = {contender: [] for contender in contenders}
        for turn in range(given.rounds + 1):
            order = list(contenders) if turn % 2 else list(contenders)[::-1]
            for contender in order:
                seconds = timed(contenders[contender])
                if turn:
                    times[contender].append(seconds)
        medians = {contender: statistics.median(all_of) for contender, all_of in times.items()}
        row = {"clip": name, "cores": cores, "frames": count, **{key: round(count / value, 1) for key, value in medians.items()}}
        best = min(medians["ffmpeg"], medians["ffmpeg_2n"])
        print(json.dumps({**row, "ratio": round(best / medians["framerail"], 2)}), flush=True)


if __name__ == "__main__":
    main()
