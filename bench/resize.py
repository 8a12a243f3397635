#!/usr/bin/env python3
"""Resized frames against torchvision's: PSNR over clips and sizes, and what antialiasing costs.

    python3 bench/resize.py [--device cpu] [--seconds 3] [--out FILE.json] [CLIP...]

Clips are generated with FFmpeg when none are given. Each is read at its own size and resized by torchvision's v2 functional (by the
same steps in PyTorch where torchvision is missing), then read resized. On a GPU the CPU's frames are compared too. Costs are frames a
second of a whole read, rounds taking turns.
"""

import argparse
import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import framerail as fr
import torch

SIZES = [(224, 224), 256, 112, (360, 640), (144, 176), (1080, 1920)]
SOURCES = {
    "testsrc2-720p": ("testsrc2=s=1280x720:r=30", "yuv420p", "libx264"),
    "mandelbrot-1080p": ("mandelbrot=s=1920x1080:r=30", "yuv420p", "libx264"),
    "bars-576p": ("smptehdbars=s=720x576:r=25", "yuv420p", "libx264"),
    "noise-540p": ("testsrc2=s=960x540:r=30,noise=alls=40:all_seed=3", "yuv420p", "libx264"),
    "life-vertical": ("life=s=360x640:r=25:mold=10:ratio=0.3:life_color=#f0c020:mold_color=#2040a0", "yuv420p", "libx264"),
    "plasma-hevc": ("gradients=s=1280x720:r=30:n=6:seed=5:speed=0.03", "yuv420p", "libx265"),
    "text-cif": ("testsrc=s=352x288:r=25", "yuv420p", "libx264"),
    "deep-hevc": ("testsrc2=s=1280x720:r=30,gblur=1.2", "yuv420p10le", "libx265"),
}
FRAMES = 6


def generate(folder, frames=FRAMES):
    for name, (source, picture_format, codec) in SOURCES.items():
        path = folder / f"{name}.mp4"
        quality = ["-crf", "14"] if codec == "libx264" else ["-x265-params", "crf=14:log-level=error"]
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-frames:v", str(frames), "-pix_fmt", picture_format]
        subprocess.run([*command, "-c:v", codec, "-preset", "veryfast", *quality, str(path)], check=True)
        yield path


def torchvisions(frames, size, mode):
    try:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        return functional.resize(frames, list(size), InterpolationMode(mode), antialias=True)
    except ImportError:
        made = torch.nn.functional.interpolate(frames.float(), size, mode=mode, antialias=True, align_corners=False)
        return made.clamp(0, 255).round().to(frames.dtype)


def psnr(found, expected):
    error = ((found.double() - expected.double()) ** 2).mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def quality(clips, device):
    rows = []
    for clip in clips:
        own = fr.VideoReader(clip, device=device).read_frames(range(FRAMES))
        for mode in ("bilinear", "bicubic"):
            for size in SIZES:
                options = dict(size=size, resize=mode)
                found = fr.VideoReader(clip, device=device, **options).read_frames(range(FRAMES))
                row = {"clip": Path(clip).stem, "filter": mode, "size": size, "psnr": psnr(found, torchvisions(own, found.shape[-2:], mode))}
                if device != "cpu":
                    host = fr.VideoReader(clip, **options).read_frames(range(FRAMES))
                    off = (host.int() - found.cpu().int()).abs()
                    row.update(most=int(off.max()), differ=float((off > 0).float().mean()))
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def speed(clip, device, seconds):
    """Frames a second of whole reads: each option's rounds take turns."""
    cases = {
        f"{size[1]}x{size[0]} {name}": dict(size=size, **options)
        for size in ((224, 224), (360, 640), (720, 1280))
        for name, options in {
            "aliased": dict(antialias=False),
            "antialiased": dict(),
            "area": dict(resize="area"),
            "bicubic": dict(resize="bicubic"),
        }.items()
    }
    cases["own size"] = {}
    rates = {name: [] for name in cases}
    end = time.monotonic() + seconds * len(cases) * 3
    while time.monotonic() < end or min(map(len, rates.values())) < 3:
        for name, options in cases.items():
            frames, start = 0, time.monotonic()
            with fr.VideoReader(clip, device=device, **options) as reader:
                for batch in reader.batches(32):
                    frames += len(batch.numbers)
            if device != "cpu":
                torch.cuda.synchronize()
            rates[name].append(frames / (time.monotonic() - start))
    found = {name: sorted(values)[len(values) // 2] for name, values in rates.items()}
    print(json.dumps(found, indent=1), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--speed-clip")
    parser.add_argument("--out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = [*map(str, generate(Path(folder))), *given.clips]
        rows = quality(clips, given.device)
        least = min(row["psnr"] for row in rows)
        print(f"least PSNR {least:.1f} dB of {len(rows)}")
        found = {"quality": rows, "least_psnr": least}
        if given.seconds:
            clip = given.speed_clip or next(path for path in clips if "1080p" in path)
            found["speed"] = speed(clip, given.device, given.seconds)
    if given.out:
        Path(given.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
