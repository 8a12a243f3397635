"""Times writing 1080p video from arrays: framerail, ffmpeg reading raw frames from a pipe, PyAV and TorchCodec, interleaved.

    python bench/writer.py [--frames 120] [--rounds 5] [--preset veryfast] [--crf 23] [--json FILE]

All encode with libx264 and the same preset, CRF, pixel format (yuv420p) and threads. What is not installed is left out. Times run from
the first frame to the closed file; the median of the rounds is given, and each beside ffmpeg's.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import framerail as fr
import numpy as np

WIDTH, HEIGHT, RATE = 1920, 1080, 30


def frames_of(count):
    """Moving pictures with some noise, [T, H, W, 3]."""
    source = f"testsrc2=s={WIDTH}x{HEIGHT}:r={RATE},noise=alls=8:allf=t"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(count), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(count, HEIGHT, WIDTH, 3).copy()


def by_framerail(frames, path, preset, crf):
    with fr.VideoWriter(path, RATE, codec="libx264", preset=preset, crf=crf, overwrite=True) as writer:
        for at in range(0, len(frames), 16):
            writer.write(frames[at : at + 16])


def by_ffmpeg(frames, path, preset, crf):
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE), "-i", "-",
               "-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-pix_fmt", "yuv420p", str(path)]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        for frame in frames:
            process.stdin.write(frame.data)
        process.stdin.close()
        assert process.wait() == 0


def by_pyav(frames, path, preset, crf):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": preset, "crf": str(crf)}
        stream.thread_type = "AUTO"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def by_torchcodec(frames, path, preset, crf):
    from torchcodec.encoders import VideoEncoder

    encoder = VideoEncoder(frames, frame_rate=RATE)
    encoder.to_file(path, codec="libx264", preset=preset, crf=crf, pixel_format="yuv420p")


def kinds(frames):
    yield "ffmpeg, pipe", by_ffmpeg, frames
    yield "framerail, THWC", by_framerail, frames
    yield "framerail, TCHW", by_framerail, np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    try:
        import av  # noqa: F401

        yield "PyAV", by_pyav, frames
    except ImportError:
        pass
    try:
        import torch
        import torchcodec.encoders  # noqa: F401

        yield "TorchCodec", by_torchcodec, torch.from_numpy(frames).permute(0, 3, 1, 2)
    except (ImportError, OSError, RuntimeError):
        pass
    try:
        import torch

        if torch.cuda.is_available():
            yield "framerail, CUDA tensors", by_framerail, torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().cuda()
    except ImportError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--crf", type=int, default=23)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = list(kinds(frames_of(options.frames)))
    times = {name: [] for name, _, _ in chosen}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, write, frames in chosen:
                path = Path(folder) / "out.mp4"
                path.unlink(missing_ok=True)
                begin = time.perf_counter()
                write(frames, path, options.preset, options.crf)
                times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["ffmpeg, pipe"])
    rows = {
        name: {"fps": options.frames / statistics.median(taken), "beside_ffmpeg": base / statistics.median(taken)}
        for name, taken in times.items()
    }
    print(f"{options.frames} frames of {WIDTH}x{HEIGHT}, libx264 {options.preset} crf {options.crf}, {os.cpu_count()} CPUs")
    for name, row in rows.items():
        print(f"  {name:26} {row['fps']:7.1f} frames/s  {row['beside_ffmpeg']:5.2f} x ffmpeg")
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options) | {"json": None}, "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    main()
