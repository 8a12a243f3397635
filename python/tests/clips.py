"""Clips whose frames carry their number, made with FFmpeg's command.

Each frame shows its number as 16 blocks of black or white in two rows of eight, over a gradient that moves; the block of
lowest value is at the top left. Blocks survive lossy coding, scaling and every layout.
"""

import contextlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

BLOCK = 8
COLUMNS = 8
ROWS = 2
WIDTH, HEIGHT = 128, 96


def number_picture(number, width=WIDTH, height=HEIGHT):
    """RGB picture [height, width, 3] of a frame."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([(x + 3 * number) % 200, (y + number) % 200, (x + y) % 200], axis=-1).astype(np.uint8)
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        value = 235 if number >> bit & 1 else 16
        picture[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = value
    return picture


def number_of(picture, layout="TCHW", scale=1.0):
    """The number that a picture [C, H, W] or [H, W, C] carries; values are 0 to 255."""
    picture = np.asarray(picture, np.float32)
    gray = picture.mean(axis=0) if layout == "TCHW" else picture.mean(axis=-1)
    number = 0
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        side = BLOCK * scale
        y, x = int((row + 0.5) * side), int((column + 0.5) * side)
        number |= int(gray[y, x] > 127) << bit
    return number


def numbers_of(pictures, layout="TCHW"):
    return [number_of(picture, layout) for picture in pictures]


def make_clip(path, frames=60, rate=25, gop=12, b_frames=2, width=WIDTH, height=HEIGHT, first=0, options=()):
    """Writes a clip of numbered frames with libx264; more options of FFmpeg's may follow."""
    command = [
        "ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate),
        "-i", "-", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "14", "-pix_fmt", "yuv420p", "-g", str(gop), "-bf", str(b_frames),
        "-threads", "1", *options, str(path),
    ]  # fmt: skip
    raw = b"".join(number_picture(first + number, width, height).tobytes() for number in range(frames))
    subprocess.run(command, input=raw, check=True)
    return Path(path)


def decode_with_ffmpeg(path, pixel_format="rgb24", channels=3):
    """All frames [T, H, W, channels] as FFmpeg's command converts them."""
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0", str(path)]
    width, height = map(int, subprocess.run(probe, capture_output=True, check=True, text=True).stdout.strip().strip(",").split(",")[:2])
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, channels)


def require(name, found, install):
    """Whether a tool was found. A missing one fails the test, unless FRAMERAIL_ALLOW_MISSING names it or an installed package is tested."""
    if found:
        return
    allowed = [one.strip() for one in os.environ.get("FRAMERAIL_ALLOW_MISSING", "").split(",")]
    if name in allowed or not os.environ.get("FRAMERAIL_SOURCES"):
        pytest.skip(f"NOT TESTED: {name} is missing")
    pytest.fail(f"{name} is missing: {install}, or allow this test not to run with FRAMERAIL_ALLOW_MISSING={name}")


def require_x264():
    """Skips a test that depends on x264's results where an installed package without it is tested."""
    import framerail as fr

    require("libx264", "libx264" in fr.doctor(quiet=True)["ffmpeg"]["encoders"], "install an FFmpeg with it")


@contextlib.contextmanager
def requiring_mp3():
    """Skips a test where the FFmpeg of an installed package has no encoder of MP3."""
    import framerail as fr

    try:
        yield
    except fr.UnsupportedError as error:
        if "audio in mp3" not in str(error):
            raise
        require("libmp3lame", False, "install an FFmpeg with it")
