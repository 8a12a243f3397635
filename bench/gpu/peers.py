"""Times one job of one other reader on the GPU and prints one line of JSON.

    python3 peers.py CLIP --peer torchcodec --job sequential [--json OUT]
    python3 peers.py --picks > picks.txt       # the frame numbers of the job `random`, one list a line

Every reader ends with the same thing: pictures as planar RGB, 8 bit, in device memory. Each run is a process of its
own; the library is warm (context made, a short read done) before the clock starts. The fastest of --repeat is reported.

Jobs:
    sequential   every frame of the clip, in order
    sequential-8 the same in eight threads at once, each the whole clip: what all engines of the card give together
    random       20 times: open, then the 10 frames of picks()
    random-kept  the same with the reader kept open
    opens        50 times: open, then the first frame
    opens-8      eight threads, 25 times each: open, then the first frame

The line: peer, job, clip, version, count (frames or opens), seconds, per_second, frames_per_s (jobs that count frames),
device_mb (most memory in use on the whole card, libraries and contexts included, in MiB).
"""

import argparse
import importlib.metadata
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

BATCH = 32
PICKED_FROM = 900
JOBS = ("sequential", "sequential-8", "random", "random-kept", "opens", "opens-8")


def picks() -> list[list[int]]:
    """Twenty lists of ten frame numbers below 900, in order: the same for every reader."""
    return [sorted(random.Random(seed).sample(range(PICKED_FROM), 10)) for seed in range(20)]


class Reader:
    """One peer. An opened clip is whatever `open` gives; the other functions take it."""

    package: str

    def __init__(self, clip: str):
        self.clip = clip

    def open(self):
        raise NotImplementedError

    def all_frames(self, opened) -> int:
        raise NotImplementedError

    def frames_at(self, opened, numbers: list[int]) -> int:
        raise NotImplementedError

    def version(self) -> str:
        return importlib.metadata.version(self.package)


class TorchCodec(Reader):
    package = "torchcodec"
    device = "cuda:0"

    def open(self):
        from torchcodec.decoders import VideoDecoder

        return VideoDecoder(self.clip, device=self.device, seek_mode="approximate")

    def all_frames(self, opened) -> int:
        length = len(opened)
        # Frames come as (N, 3, H, W) u8; .cuda() does nothing where they are on the device already.
        return sum(
            opened.get_frames_in_range(first, min(first + BATCH, length)).data.cuda().shape[0]
            for first in range(0, length, BATCH)
        )

    def frames_at(self, opened, numbers) -> int:
        return opened.get_frames_at(numbers).data.cuda().shape[0]


class TorchCodecOnCpu(TorchCodec):
    device = "cpu"


class PyNvVideoCodec(Reader):
    package = "pynvvideocodec"

    def open(self):
        import PyNvVideoCodec as nvc

        return nvc.SimpleDecoder(
            self.clip, gpu_id=0, use_device_memory=True, output_color_type=nvc.OutputColorType.RGBP
        )

    def all_frames(self, opened) -> int:
        count, length = 0, len(opened)
        while count < length:
            frames = opened.get_batch_frames(BATCH)
            if not frames:
                break
            count += len(frames)
        return count

    def frames_at(self, opened, numbers) -> int:
        return len(opened.get_batch_frames_by_index(numbers))


class PyNvVideoCodecThreaded(PyNvVideoCodec):
    """Its reader that decodes ahead in a thread; it has no random access."""

    def open(self):
        import PyNvVideoCodec as nvc

        return nvc.ThreadedDecoder(
            self.clip, buffer_size=BATCH, gpu_id=0, use_device_memory=True, output_color_type=nvc.OutputColorType.RGBP
        )

    def all_frames(self, opened) -> int:
        count = 0
        while frames := opened.get_batch_frames(BATCH):
            count += len(frames)
        opened.end()
        return count

    def frames_at(self, opened, numbers) -> int:
        raise SystemExit("pynvvideocodec-threaded reads in sequence only")


class Vali(Reader):
    package = "python_vali"

    def open(self):
        import python_vali as vali

        decoder = vali.PyDecoder(self.clip, {}, 0)
        width, height = decoder.Width, decoder.Height
        nv12 = vali.Surface.Make(decoder.Format, width, height, 0)
        rgb = vali.Surface.Make(vali.PixelFormat.RGB, width, height, 0)
        planar = vali.Surface.Make(vali.PixelFormat.RGB_PLANAR, width, height, 0)
        return decoder, vali.PySurfaceConverter(0), nv12, rgb, planar

    @staticmethod
    def convert(opened) -> None:
        _, converter, nv12, rgb, planar = opened
        # Both on the converter's stream; only the second is waited for.
        first, _ = converter.RunAsync(nv12, rgb)
        second, info = converter.Run(rgb, planar)
        if not (first and second):
            raise RuntimeError(f"VALI did not convert: {info}")

    def all_frames(self, opened) -> int:
        count = 0
        while opened[0].DecodeSingleSurface(opened[2])[0]:
            self.convert(opened)
            count += 1
        return count

    def frames_at(self, opened, numbers) -> int:
        import python_vali as vali

        for number in numbers:
            done, info = opened[0].DecodeSingleSurface(opened[2], vali.SeekContext(seek_frame=number))
            if not done:
                raise RuntimeError(f"VALI did not decode frame {number}: {info}")
            self.convert(opened)
        return len(numbers)


class OpenCv(Reader):
    """Decodes on the CPU; each picture is uploaded and brought into planes on the device."""

    package = "opencv"

    def open(self):
        import cv2

        return cv2.VideoCapture(self.clip)

    @staticmethod
    def upload(image) -> torch.Tensor:
        return torch.from_numpy(image).cuda().flip(2).permute(2, 0, 1).contiguous()

    def all_frames(self, opened) -> int:
        count = 0
        while True:
            done, image = opened.read()
            if not done:
                return count
            self.upload(image)
            count += 1

    def frames_at(self, opened, numbers) -> int:
        import cv2

        for number in numbers:
            opened.set(cv2.CAP_PROP_POS_FRAMES, number)
            done, image = opened.read()
            if not done:
                raise RuntimeError(f"OpenCV did not read frame {number}")
            self.upload(image)
        return len(numbers)

    def version(self) -> str:
        import cv2

        return cv2.__version__


PEERS: dict[str, type[Reader]] = {
    "torchcodec": TorchCodec,
    "torchcodec-cpu": TorchCodecOnCpu,
    "pynvvideocodec": PyNvVideoCodec,
    "pynvvideocodec-threaded": PyNvVideoCodecThreaded,
    "vali": Vali,
    "opencv": OpenCv,
}


def side_by_side(threads: int, job: Callable[[], int]) -> int:
    """Runs `job` in threads at once. Returns the sum; raises the first error."""
    counts: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            counts.append(job())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            errors.append(error)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return sum(counts)


def job_of(reader: Reader, name: str) -> Callable[[], int]:
    """The work to time; it returns how many frames or opens it did."""

    def opens(times: int) -> int:
        for _ in range(times):
            reader.frames_at(reader.open(), [0])
        return times

    if name == "sequential":
        return lambda: reader.all_frames(reader.open())
    if name == "sequential-8":
        return lambda: side_by_side(8, lambda: reader.all_frames(reader.open()))
    if name == "random":
        return lambda: sum(reader.frames_at(reader.open(), numbers) for numbers in picks())
    if name == "random-kept":
        kept = reader.open()
        return lambda: sum(reader.frames_at(kept, numbers) for numbers in picks())
    if name == "opens":
        return lambda: opens(50)
    return lambda: side_by_side(8, lambda: opens(25))


def warm_up(reader: Reader, job: str) -> None:
    """Context, kernels and whatever the library keeps: made before the clock starts, with all threads of the job."""
    if isinstance(reader, PyNvVideoCodecThreaded):
        opened = reader.open()
        opened.get_batch_frames(BATCH)
        opened.end()
        return
    threads = 8 if job.endswith("-8") else 1
    side_by_side(threads, lambda: reader.frames_at(reader.open(), [0, 30]))


@contextmanager
def device_memory():
    """Samples the GPU's memory in use; the yielded list ends with the maximum, in MiB."""
    most, stopped = [0.0], threading.Event()

    def sample() -> None:
        while not stopped.is_set():
            free, total = torch.cuda.mem_get_info()
            most[0] = max(most[0], (total - free) / 2**20)
            stopped.wait(0.02)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield most
    finally:
        stopped.set()
        sampler.join()


def timed(work: Callable[[], int]) -> tuple[float, int]:
    torch.cuda.synchronize()
    began = time.perf_counter()
    count = work()
    torch.cuda.synchronize()
    return time.perf_counter() - began, count


def measure(peer: str, job: str, clip: str, repeat: int) -> dict:
    reader = PEERS[peer](clip)
    torch.zeros(1, device="cuda")
    warm_up(reader, job)
    work = job_of(reader, job)
    with device_memory() as most:
        seconds, count = min(timed(work) for _ in range(repeat))
    line = {
        "peer": peer,
        "job": job,
        "clip": Path(clip).name,
        "version": reader.version(),
        "count": count,
        "seconds": round(seconds, 4),
        "per_second": round(count / seconds, 2),
        "device_mb": round(most[0]),
    }
    if not job.startswith("opens"):
        line["frames_per_s"] = line["per_second"]
    return line


def report(program: str, measured: Callable[[], dict], file: Path | None) -> int:
    """Prints what was measured as a line of JSON, and writes it to a file where one is named; 1 where there is no card."""
    if not torch.cuda.is_available():
        print(f"{program}: PyTorch sees no CUDA device here; nothing was measured", file=sys.stderr)
        return 1
    line = json.dumps(measured())
    print(line)
    if file:
        file.write_text(line + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?")
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--job", choices=JOBS)
    parser.add_argument("--picks", action="store_true", help="print the frame numbers of the job `random` and end")
    parser.add_argument("--repeat", type=int, default=2, help="times after the warm-up (default 2)")
    parser.add_argument("--json", type=Path, help="write the line to this file as well")
    arguments = parser.parse_args()
    if arguments.picks:
        print("\n".join(" ".join(map(str, numbers)) for numbers in picks()))
        return 0
    if not (arguments.clip and arguments.peer and arguments.job):
        parser.error("a clip, --peer and --job are needed")
    return report("peers", lambda: measure(arguments.peer, arguments.job, arguments.clip, arguments.repeat), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
