"""Clips: their content, the signatures of their frames, and short clips to open by the hundred."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

#: Grid of cells in which a frame is averaged, to recognise frames of any size.
GRID = (32, 18)
#: Number of different short clips; the rest are copies with other names.
DISTINCT = 16
SHORT_FRAMES = 30


class FootageError(Exception):
    """A clip that cannot be decoded or made; the message gives the reason."""


def signature(image: np.ndarray) -> np.ndarray:
    """Mean colour of every cell of :data:`GRID`: float32, (cells, 3).

    Every pixel counts by its share in a cell, so that a frame has the same signature at any size.
    """
    height, width = image.shape[:2]
    across, down = _shares(width, GRID[0]), _shares(height, GRID[1])
    rows = (down @ image.reshape(height, -1).astype(np.float32)).reshape(GRID[1], width, 3)
    means: np.ndarray = np.einsum("cw,rwk->rck", across, rows, optimize=True)
    return means.reshape(-1, 3)


@functools.lru_cache(maxsize=8)
def _shares(length: int, cells: int) -> np.ndarray:
    """How much each of ``length`` pixels adds to the mean of each cell: float32, (cells, length)."""
    edges = np.arange(cells + 1)[:, None] * length / cells
    pixels = np.arange(length)[None, :]
    overlaps = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares: np.ndarray = np.clip(overlaps, 0, None) * cells / length
    return shares.astype(np.float32)


def reference(path: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Signatures of all frames in presentation order, (frames, cells, 3), and the size (width, height).

    Decoded by ``ffmpeg`` where it is installed, else by PyAV: rgb24 by libswscale either way.
    """
    images = _by_ffmpeg(path) if shutil.which("ffmpeg") and shutil.which("ffprobe") else _by_pyav(path)
    signatures, size = [], (0, 0)
    for image in images:
        signatures.append(signature(image))
        size = (image.shape[1], image.shape[0])
    if not signatures:
        raise FootageError(f"{path}: no frame can be decoded")
    return np.stack(signatures), size


def _by_ffmpeg(path: str) -> Iterator[np.ndarray]:
    # A PPM image states its size, with rotation applied.
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-vsync", "passthrough"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        while header := process.stdout.readline():
            if header.strip() != b"P6":
                raise FootageError(f"{path}: ffmpeg returns no frames")
            width, height = map(int, process.stdout.readline().split())
            process.stdout.readline()
            data = process.stdout.read(width * height * 3)
            if len(data) < width * height * 3:
                break
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        words = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise FootageError(f"{path}: {words.splitlines()[-1] if words else 'ffmpeg fails'}")


def _by_pyav(path: str) -> Iterator[np.ndarray]:
    try:
        import av
    except ImportError:
        raise FootageError("to check frames, ffmpeg or PyAV must be installed; --no-check leaves the check out") from None
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


def make_short_clips(folder: Path, count: int) -> list[str]:
    """Short clips of 320×240, 30 frames each; :data:`DISTINCT` differ, the rest are copies."""
    sources = [folder / f"short-{number}.mp4" for number in range(min(count, DISTINCT))]
    for number, path in enumerate(sources):
        _make_short(path, number)
    paths = [str(path) for path in sources]
    for number in range(len(sources), count):
        path = folder / f"short-{number}.mp4"
        shutil.copyfile(sources[number % len(sources)], path)
        paths.append(str(path))
    return paths


def _make_short(path: Path, number: int) -> None:
    if shutil.which("ffmpeg"):
        source = f"testsrc2=size=320x240:rate=30,hue=h={number * 22},trim=end_frame={SHORT_FRAMES}"
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        result = subprocess.run([*command, "-c:v", "libx264", "-g", "30", str(path)], stderr=subprocess.PIPE, text=True)
        if result.returncode == 0:
            return
        raise FootageError(f"ffmpeg cannot make a short clip: {result.stderr.strip()}")
    try:
        import av
    except ImportError:
        raise FootageError("to make short clips, ffmpeg or PyAV must be installed; name other cases") from None
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "30"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        y, x = np.mgrid[0:240, 0:320]
        for place in range(SHORT_FRAMES):
            image = np.stack([x + 8 * place, y + 16 * number, x + y + 4 * place], axis=-1) % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())


def decode_alone(path: str) -> float | None:
    """Seconds that ``ffmpeg -f null`` takes to decode every frame; ``None`` if it is not installed."""
    import time

    if not shutil.which("ffmpeg"):
        return None
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-f", "null", "-"]
    began = time.perf_counter()
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began if result.returncode == 0 else None
