"""Measures framerail on Ray: overhead, readers, object storage, and how a schedule of many files scales.

    python bench/scale.py readers CLIPS/ [--rounds 3]     decode and resize, beside Ray's read_videos, OpenCV, PyAV and TorchCodec
    python bench/scale.py overhead CLIPS/ [--rounds 3]    a pipeline for each file, beside a plain loop
    python bench/scale.py boxes CLIPS/                    bytes that travel when boxes are the result
    python bench/scale.py storage FILE.mp4                random frames over S3 on loopback with 30 ms of latency
    python bench/scale.py schedule --rate X               10,000 files on 1 to 64 workers, simulated; X seconds of video per second and worker

Ways take turns in each round; figures are medians, with CPU seconds of all processes of the cluster beside wall time.
"""

import argparse
import heapq
import json
import os
import random
import statistics
import sys
import threading
import time
from pathlib import Path

SIZE = (360, 640)


#: CPU seconds of each worker of Ray so far; those of workers that have ended stay.
_SEEN = {}


def look():
    import psutil

    # The cluster is below this process; others of the machine do not count.
    for child in psutil.Process().children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::"):
                times = child.cpu_times()
                _SEEN[child.pid, child.create_time()] = times.user + times.system
        except psutil.Error:
            continue


def cpu_seconds():
    """CPU seconds of this process and of all workers of Ray."""
    look()
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system + sum(_SEEN.values())


def watch():
    """Looks at workers while they live."""
    while True:
        look()
        time.sleep(0.2)


def timed(work):
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = work()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu, "result": result}


def rounds_of(ways, rounds):
    """Each way once a round; medians by name. The first round warms up and does not count."""
    found = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            measured = timed(work)
            print(f"round {turn} {name}: {measured['wall']:.2f} s wall, {measured['cpu']:.2f} s CPU, {measured['result']}", file=sys.stderr)
            if turn:
                found[name].append(measured)
    return {
        name: {"wall": statistics.median(one["wall"] for one in each), "cpu": statistics.median(one["cpu"] for one in each), "frames": each[0]["result"]}
        for name, each in found.items()
    }


def start(workers):
    import logging

    import ray

    threading.Thread(target=watch, daemon=True).start()

    # One more, for what Ray does beside.
    ray.init(address="local", num_cpus=workers + 1, log_to_driver=False, include_dashboard=False, object_store_memory=2 << 30)
    logging.getLogger("ray.data").setLevel("ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


class OpenCV:
    def __call__(self, batch):
        import cv2

        cv2.setNumThreads(1)
        for path in batch["path"]:
            video, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
            while (read := video.read())[0]:
                frames.append(cv2.resize(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), SIZE[::-1], interpolation=cv2.INTER_AREA))
            yield from chunks(frames)


class PyAV:
    def __call__(self, batch):
        import av

        for path in batch["path"]:
            with av.open(str(path)) as video:
                video.streams.video[0].thread_count = 1
                frames = [frame.to_ndarray(format="rgb24", width=SIZE[1], height=SIZE[0]) for frame in video.decode(video=0)]
            yield from chunks(frames)


class TorchCodec:
    def __call__(self, batch):
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize

        for path in batch["path"]:
            decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, dimension_order="NHWC", transforms=[Resize(SIZE)])
            for at in range(0, len(decoder), 64):
                yield {"image": decoder.get_frames_in_range(at, min(at + 64, len(decoder))).data.numpy()}


def chunks(frames):
    import numpy as np

    for at in range(0, len(frames), 64):
        yield {"image": np.stack(frames[at : at + 64])}


def readers(arguments):
    ray = start(arguments.workers)
    import framerail.ray as fr_ray

    paths = sorted(map(str, Path(arguments.clips).glob("*.mp4")))

    def rows(dataset):
        counted = dataset.map_batches(lambda batch: {"n": [len(next(iter(batch.values())))]}, batch_size=None)
        return sum(int(row["n"]) for row in counted.iter_rows())

    def mapped(way):
        items = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths)).materialize()
        return rows(items.map_batches(way, batch_size=1, compute=ray.data.ActorPoolStrategy(size=arguments.workers)))

    ways = {
        "framerail": lambda: rows(fr_ray.read_frames(paths, size=SIZE, concurrency=arguments.workers).select_columns(["image"])),
        "opencv": lambda: mapped(OpenCV),
        "pyav": lambda: mapped(PyAV),
        "torchcodec": lambda: mapped(TorchCodec),
        "read_videos": lambda: rows(ray.data.read_videos(paths, resize=SIZE, concurrency=arguments.workers)),
    }
    chosen = {name: work for name, work in ways.items() if not arguments.only or name in arguments.only}
    return rounds_of(chosen, arguments.rounds)


def overhead(arguments):
    import framerail as fr

    paths = sorted(map(str, Path(arguments.clips).glob("*.mp4")))
    text = "read {path} threads=1 ! null"

    def loop():
        return sum(fr.Pipeline(text.format(path=path)).run()["stages"][0]["frames_out"] for path in paths)

    start(arguments.workers)
    import framerail.ray as fr_ray

    def on_ray():
        return fr_ray.run("read {path} ! null", paths).summary()["frames"]

    return rounds_of({"plain loop": loop, "framerail.ray": on_ray}, arguments.rounds)


def boxes(arguments):
    """Bytes of detections beside those of the frames that they were found in."""
    start(arguments.workers)
    import framerail as fr
    import framerail.ray as fr_ray

    paths = sorted(map(str, Path(arguments.clips).glob("*.mp4")))
    rows = fr_ray.run("read {path} ! infer centerface every=10 size=320x192 confidence=0.1 ! save {rows}", paths).materialize()
    with fr.VideoReader(paths[0], output="numpy") as reader:
        frame = len(reader) * reader.metadata.width * reader.metadata.height * 3 * len(paths)
    return {"rows": rows.count(), "bytes": rows.size_bytes(), "frame_bytes": frame, "share": rows.size_bytes() / frame}


def storage(arguments):
    sys.path.insert(0, str(Path(__file__).parents[1] / "python/tests/scale"))
    import framerail as fr
    import fsspec
    from storage import served

    server, proxy, options = served()
    system = fsspec.filesystem("s3", **options)
    proxy.files["/bucket/video.mp4"] = arguments.file
    size = os.path.getsize(arguments.file)
    found = {"size_bytes": size}
    drawn = random.Random(1)
    with fr.VideoReader(arguments.file, output="numpy") as reader:
        count = len(reader)
    numbers = [drawn.randrange(count) for _ in range(10)]
    proxy.latency_secs = 0.03

    def remote():
        return fr.RemoteFile("s3://bucket/video.mp4", **options)

    def plain():
        return system.open("bucket/video.mp4", "rb")

    for name, opened in (("RemoteFile", remote), ("fsspec file", plain)):
        each = []
        for _ in range(arguments.rounds):
            system.invalidate_cache()
            proxy.requests = proxy.bytes = 0
            began = time.perf_counter()
            with fr.VideoReader(opened(), output="numpy", size=SIZE) as reader:
                for number in numbers:
                    reader.read_frames([number])
            each.append((time.perf_counter() - began, proxy.requests, proxy.bytes))
            print(name, each[-1], file=sys.stderr)
        seconds, requests, transferred = (statistics.median(column) for column in zip(*each))
        found[name] = {"seconds": seconds, "requests": requests, "bytes": transferred, "share": transferred / size}
    server.stop()
    return found


def lengths(count, seed):
    """Seconds of so many videos: a median of three minutes with a long tail, and every thousandth some hours."""
    drawn = random.Random(seed)
    return [drawn.uniform(2, 10) * 3600 if number % 1000 == 0 else min(drawn.lognormvariate(5.2, 1.1), 7200) for number in range(count)]


def makespan(jobs, workers, dispatch):
    """Seconds until all jobs are done, given to the first free worker in their order; the driver takes ``dispatch`` for each."""
    free = [0.0] * workers
    heapq.heapify(free)
    driver = 0.0
    for job in jobs:
        driver += dispatch
        heapq.heappush(free, max(heapq.heappop(free), driver) + job)
    return max(free)


def schedule(arguments):
    videos = lengths(arguments.files, 7)
    whole = [arguments.opening + length / arguments.rate for length in videos]
    pieces = []
    for length, time_whole in zip(videos, whole):
        parts = round(length / 300) if length >= 600 else 1
        # Frames around a piece, 3 s, are decoded again.
        pieces += [time_whole] if parts < 2 else [arguments.opening + (length / parts + 3) / arguments.rate] * parts
    work = sum(whole)
    found = {"hours": sum(videos) / 3600, "longest_hours": max(videos) / 3600, "work_hours": work / 3600, "tasks": len(pieces)}
    for workers in (1, 2, 4, 8, 16, 32, 64):
        found[workers] = {
            "divided": work / workers / makespan(sorted(pieces, reverse=True), workers, arguments.dispatch),
            "whole, longest first": work / workers / makespan(sorted(whole, reverse=True), workers, arguments.dispatch),
            "whole, in order": work / workers / makespan(whole, workers, arguments.dispatch),
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("readers", "overhead", "boxes"):
        command = commands.add_parser(name)
        command.add_argument("clips")
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--workers", type=int, default=1)
        command.add_argument("--only", nargs="*")
    command = commands.add_parser("storage")
    command.add_argument("file")
    command.add_argument("--rounds", type=int, default=3)
    command = commands.add_parser("schedule")
    command.add_argument("--rate", type=float, required=True, help="seconds of video a second of one worker")
    command.add_argument("--files", type=int, default=10_000)
    command.add_argument("--opening", type=float, default=0.02, help="seconds of a task besides decoding")
    command.add_argument("--dispatch", type=float, default=0.001, help="seconds of the driver for a task")
    arguments = parser.parse_args()
    print(json.dumps(globals()[arguments.command](arguments), indent=1))


if __name__ == "__main__":
    main()
