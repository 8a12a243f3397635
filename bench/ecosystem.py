"""Times 32 frames sampled from a 60 s 720p clip, as video models ask for them: framerail beside other readers, interleaved.

    python bench/ecosystem.py [--rounds 7] [--json FILE]
    python bench/ecosystem.py --programs [--rounds 7] [--json FILE]     programs with their default reader and with framerail

Each round opens the file, as loaders do. What is not installed is left out. Frames of those that are compared are the same ones. Programs run
in two processes each, which take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import framerail as fr
import numpy as np

FRAMES = 32


def make_clip(path):
    source = "testsrc2=s=1280x720:r=30:d=60,noise=alls=6:allf=t"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-g", "60",
               "-pix_fmt", "yuv420p", str(path)]  # fmt: skip
    subprocess.run(command, check=True)


def by_sample_frames(path):
    return fr.sample_frames(path, num_frames=FRAMES, layout="THWC").data


def by_keyframes(path):
    return fr.sample_frames(path, num_frames=FRAMES, layout="THWC", snap="keyframe").data


def by_vllm_loader(path):
    from framerail.compat import vllm

    return vllm.load_bytes(Path(path).read_bytes(), FRAMES)[0]


def by_compat_torchcodec(path):
    from framerail.compat.torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=0)
    return decoder.get_frames_at(np.linspace(0, len(decoder) - 1, FRAMES).round().astype(int).tolist()).data


def by_torchcodec(path):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=0)
    return decoder.get_frames_at(np.linspace(0, len(decoder) - 1, FRAMES).round().astype(int).tolist()).data


def by_decord(path):
    import decord

    reader = decord.VideoReader(str(path))
    return reader.get_batch(np.linspace(0, len(reader) - 1, FRAMES).round().astype(int)).asnumpy()


def by_opencv(path):
    """As vLLM's loader does: every frame is decoded, those that are wanted are converted."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted, found = set(np.linspace(0, count - 1, FRAMES).round().astype(int).tolist()), []
    for number in range(count):
        capture.grab()
        if number in wanted:
            found.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return np.stack(found)


def by_pyav(path):
    """As transformers' backend does: every frame is decoded."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        count = container.streams.video[0].frames
        wanted = set(np.linspace(0, count - 1, FRAMES).round().astype(int).tolist())
        return np.stack([f.to_ndarray(format="rgb24") for n, f in enumerate(container.decode(video=0)) if n in wanted])


READERS = {
    "fr.sample_frames": by_sample_frames,
    "fr.sample_frames, snap=keyframe": by_keyframes,
    "compat.vllm": by_vllm_loader,
    "compat.torchcodec": by_compat_torchcodec,
    "TorchCodec": by_torchcodec,
    "decord": by_decord,
    "OpenCV": by_opencv,
    "PyAV": by_pyav,
}


#: For each program the module that installs framerail, what is imported once, and the call that is timed; `numbers` are the frames.
PROGRAMS = {
    "transformers, load_video": (
        "transformers",
        "from transformers.video_utils import load_video",
        "load_video(path, num_frames=32)",
    ),
    "transformers, Qwen2VLVideoProcessor": (
        "transformers",
        "from transformers import Qwen2VLVideoProcessor\nprocessor = Qwen2VLVideoProcessor(max_pixels=28 * 28 * 256)",
        "processor(videos=[path], do_sample_frames=True, num_frames=32, return_tensors='pt')",
    ),
    "datasets, Video column": (
        "torchcodec",
        "import datasets\ncolumn = datasets.Video()",
        "column.decode_example({'path': path, 'bytes': None}).get_frames_at(numbers)",
    ),
    "qwen-vl-utils, fetch_video": (
        "qwen_vl_utils",
        "from qwen_vl_utils import vision_process",
        "vision_process.fetch_video({'video': path, 'nframes': 32})",
    ),
    "LeRobot, decode_video_frames": (
        "lerobot",
        "from lerobot.datasets import video_utils",
        "video_utils.decode_video_frames(path, [number / 30 for number in numbers], 0.01)",
    ),
    "vLLM, VideoMediaIO": (
        "vllm",
        "from vllm.multimodal.media import ImageMediaIO, VideoMediaIO\n"
        "media = VideoMediaIO(ImageMediaIO(), num_frames=32, **({'video_backend': 'framerail'} if ours else {}))",
        "media.load_bytes(open(path, 'rb').read())",
    ),
}

_PROGRAM = """
import sys, time, warnings
warnings.simplefilter("ignore")
path, ours, numbers = sys.argv[1], {ours}, {numbers}
if ours:
    import framerail.compat.{module} as compat
    (compat.register if "{module}" == "vllm" else compat.install)()
{setup}
{call}
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    {call}
    print("took", time.perf_counter() - began, flush=True)
"""


def program(name, path, ours):
    """A process that makes the call for each line; None where the program is not there."""
    module, setup, call = PROGRAMS[name]
    numbers = np.linspace(0, 1799, FRAMES).round().astype(int).tolist()
    code = _PROGRAM.format(ours=ours, numbers=numbers, module=module, setup=setup, call=call)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process if _answer(process, "ready") is not None else None


def _answer(process, word):
    """The words behind this one in what the process prints next; None where it has ended. Programs print lines beside."""
    for line in process.stdout:
        if line.startswith(word):
            return line.split()[1:]
    return None


def programs(path, rounds):
    """Milliseconds of each program by its default reader and by framerail, in turn."""
    found = {}
    for name in PROGRAMS:
        both = [program(name, path, ours) for ours in (False, True)]
        if None in both:
            print(f"  {name}: left out")
            continue
        times = [[], []]
        for _ in range(rounds):
            for process, taken in zip(both, times):
                process.stdin.write("\n")
                process.stdin.flush()
                taken.append(float(_answer(process, "took")[0]))
        for process in both:
            process.stdin.close()
            process.wait()
        default, ours = (1000 * statistics.median(taken) for taken in times)
        found[name] = {"default": default, "framerail": ours, "times": default / ours}
        print(f"  {name:38} {default:8.0f} {ours:8.0f} {default / ours:6.2f}x", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--programs", action="store_true")
    options = parser.parse_args()
    if options.programs:
        with tempfile.TemporaryDirectory() as folder:
            make_clip(Path(folder) / "clip.mp4")
            print(f"{FRAMES} frames of 60 s of 1280x720 H.264, GOP 60, {os.cpu_count()} CPUs: milliseconds by default and with framerail")
            rows = programs(Path(folder) / "clip.mp4", options.rounds)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        make_clip(path)
        chosen, times = {}, {}
        for name, read in READERS.items():
            try:
                read(path)
            except (ImportError, OSError, RuntimeError) as error:
                print(f"  {name}: left out ({error})")
                continue
            chosen[name], times[name] = read, []
        for _ in range(options.rounds):
            for name, read in chosen.items():
                begin = time.perf_counter()
                read(path)
                times[name].append(time.perf_counter() - begin)
    print(f"{FRAMES} frames of 60 s of 1280x720 H.264, GOP 60, {os.cpu_count()} CPUs: milliseconds, file opened each time")
    rows = {name: 1000 * statistics.median(taken) for name, taken in times.items()}
    for name, taken in rows.items():
        print(f"  {name:32} {taken:8.0f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
