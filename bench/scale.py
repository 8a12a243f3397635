"""Measures framerail on Ray: overhead, readers, object storage, and how a schedule of many files scales.

    python bench/scale.py readers CLIPS/ [--rounds 3]     decode and resize, beside Ray's read_videos, OpenCV, PyAV and TorchCodec
    python bench/scale.py overhead CLIPS/ [--rounds 3]    a pipeline for each file on 1 and 2 workers, beside a plain loop
    python bench/scale.py boxes CLIPS/                    bytes that travel when boxes are the result
    python bench/scale.py storage FILE.mp4                random frames over S3 on loopback with 30 ms of latency
    python bench/scale.py pieces FILE.mp4 OUT/            a long file in 2, 4 and 9 pieces, compared with one run
    python bench/scale.py schedule --measured FILE        10,000 files on 1 to 64 workers, simulated, with the times that `overhead` printed

Ways take turns in each round; figures are medians, with CPU seconds of all processes of the cluster beside wall time.
"""

import argparse
import heapq
import importlib
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
    """Samples the workers' times while they live."""
    while True:
        look()
        time.sleep(0.2)


def timed(work):
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = work()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu, "result": result}


def rounds_of(ways, rounds):
    """Each way once a round, in turns that begin with another one each time; medians by name."""
    found = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            measured = timed(ways[name])
            print(f"round {turn} {name}: {measured['wall']:.2f} s wall, {measured['cpu']:.2f} s CPU, {measured['result']}", file=sys.stderr)
            found[name].append(measured)
    return {
        name: {"wall": statistics.median(one["wall"] for one in each), "cpu": statistics.median(one["cpu"] for one in each), "frames": each[0]["result"]}
        for name, each in found.items()
    }


def start(workers, more=0):
    """A local cluster with a CPU for each worker, and more for what runs beside them."""
    import logging

    import ray

    threading.Thread(target=watch, daemon=True).start()

    ray.init(address="local", num_cpus=workers + more, log_to_driver=False, include_dashboard=False, object_store_memory=2 << 30)
    logging.getLogger("ray.data").setLevel("ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def opencv(batch):
    import cv2

    cv2.setNumThreads(1)
    for path in batch["path"]:
        video, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
        while (read := video.read())[0]:
            frames.append(cv2.resize(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), SIZE[::-1], interpolation=cv2.INTER_AREA))
        yield from chunks(frames)


def pyav(batch):
    import av

    for path in batch["path"]:
        with av.open(str(path)) as video:
            video.streams.video[0].thread_count = 1
            frames = [frame.to_ndarray(format="rgb24", width=SIZE[1], height=SIZE[0]) for frame in video.decode(video=0)]
        yield from chunks(frames)


def torchcodec(batch):
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
    """Frames that the next step of Ray counts, or the driver with --driver. Ray runs reading and the next step as one in all ways."""
    ray = start(arguments.workers)
    import framerail.ray as fr_ray

    paths = sorted(map(str, Path(arguments.clips).glob("*.mp4")))

    def rows(dataset, column="image"):
        if arguments.driver:
            return sum(len(batch[column]) for batch in dataset.iter_batches(batch_size=None))
        counted = dataset.map_batches(lambda batch: {"n": [len(batch[column])]}, batch_size=None)
        return sum(int(row["n"]) for row in counted.iter_rows())

    items = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths)).materialize()
    ways = {
        "framerail": lambda: rows(fr_ray.read_frames(paths, size=SIZE)),
        "opencv": lambda: rows(items.map_batches(opencv, batch_size=1)),
        "pyav": lambda: rows(items.map_batches(pyav, batch_size=1)),
        "torchcodec": lambda: rows(items.map_batches(torchcodec, batch_size=1)),
        "read_videos": lambda: rows(ray.data.read_videos(paths, resize=SIZE), "frame"),
    }
    chosen = {name: work for name, work in ways.items() if not arguments.only or name in arguments.only}
    if arguments.warm:
        # Workers are started, and have loaded the libraries.
        few = paths
        paths, items = paths[:2], ray.data.from_items([{"path": path} for path in paths[:2]], override_num_blocks=2).materialize()
        for work in chosen.values():
            work()
        paths, items = few, ray.data.from_items([{"path": path} for path in few], override_num_blocks=len(few)).materialize()
    return rounds_of(chosen, arguments.rounds)


def overhead(arguments):
    """A pipeline for each file: a plain loop, and 1 and 2 workers of Ray. Files are decoded by one thread each."""
    import framerail as fr

    paths = sorted(map(str, Path(arguments.clips).glob("*.mp4")))
    text = "read {path} threads=1 ! null"
    rows = []

    def loop():
        return sum(fr.Pipeline(text.format(path=path)).run()["stages"][0]["frames_out"] for path in paths)

    ray = start(1, 1)
    import framerail.ray as fr_ray

    def on_ray(cpus):
        # A cluster of two CPUs runs one task that takes both, or two.
        report = fr_ray.run(text, paths, num_cpus=cpus)
        rows.extend(row for row in report.rows if cpus == 2)
        return report.summary()["frames"]

    @ray.remote
    def nothing():
        return None

    # Workers are started, and have loaded framerail.
    fr_ray.run(text, paths[:8])
    began = time.perf_counter()
    ray.get([nothing.remote() for _ in range(1000)])
    dispatch = (time.perf_counter() - began) / 1000
    found = rounds_of({"plain loop": loop, "one worker": lambda: on_ray(2), "two workers": lambda: on_ray(1)}, arguments.rounds)
    return {**found, "dispatch": dispatch, "speeds": [round(row.wall_seconds / row.video_seconds, 5) for row in rows]}


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


class Task:
    """A remote function in a simulation."""

    def __init__(self, cluster, work):
        self.cluster, self.work = cluster, work

    def options(self, **_):
        return self

    def remote(self, *arguments):
        return self.cluster.submit(*self.work(*arguments))


class Cluster:
    """Stands in for Ray: tasks start in the order they were submitted, and the driver takes ``dispatch`` seconds for each."""

    def __init__(self, workers, dispatch):
        self.workers, self.dispatch, self.now = workers, dispatch, 0.0
        self.free, self.ends, self.results = [0.0] * workers, [], {}

    def submit(self, seconds, result):
        self.now += self.dispatch
        end = max(heapq.heappop(self.free), self.now) + seconds
        heapq.heappush(self.free, end)
        reference = len(self.results)
        self.results[reference] = result
        heapq.heappush(self.ends, (end, reference))
        return reference

    def wait(self, *_, **__):
        end, reference = heapq.heappop(self.ends)
        self.now = max(self.now, end)
        return [reference], []

    def get(self, reference):
        return self.results[reference]

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": self.workers}


def makespan(inputs, seconds_of, costs, workers, is_divided):
    """Seconds until ``framerail.ray`` has done all inputs, with its own order and division."""
    from framerail.jobs.pieces import Division, Piece
    from framerail.jobs.report import JobRow

    # The package has a function of this name.
    run = importlib.import_module("framerail.ray.run")
    cluster = Cluster(workers, costs["dispatch"])

    def row(task):
        return JobRow(task.input.path, task.input.name, "done")

    def job(task, split):
        length, speed = seconds_of[task.input.name]
        parts = round(length / 300) if split is not None and length >= 600 else 1
        if parts < 2:
            return costs["open"] + length * speed, row(task)
        return costs["divide"], Division(tuple(Piece(number, 0, 0, 0, 0.0, 0.0) for number in range(parts)), length)

    def piece(task, part):
        length, speed = seconds_of[task.input.name]
        # Frames around a piece, 3 s, are decoded again.
        return costs["open"] + (length / round(length / 300) + 3) * speed, row(task)

    def join(task, division, rows):
        return costs["join"] * division.seconds / 3600, row(task)

    real = {name: getattr(run, name) for name in ("ray", "framerail_job", "framerail_piece", "framerail_join")}
    run.ray, run.framerail_job, run.framerail_piece, run.framerail_join = cluster, Task(cluster, job), Task(cluster, piece), Task(cluster, join)
    try:
        run._Run("read {path} ! null", inputs, None, None, 1, False, False, None, 0.0 if is_divided else None, {}, False).through(False)
    finally:
        for name, value in real.items():
            setattr(run, name, value)
    return max(cluster.free)


def schedule(arguments):
    from framerail.jobs.inputs import Input

    videos, drawn = lengths(arguments.files, 7), random.Random(8)
    # Seconds of work for a second of video, as each clip was measured.
    speeds = json.loads(Path(arguments.measured).read_text())["speeds"]
    seconds_of = {str(number): (length, drawn.choice(speeds)) for number, length in enumerate(videos)}
    inputs = [Input(name, name, int(length * 2e5), "") for name, (length, _) in seconds_of.items()]
    costs = {"dispatch": arguments.dispatch, "open": arguments.opening, "divide": arguments.divide, "join": arguments.join}
    work = sum(costs["open"] + length * speed for length, speed in seconds_of.values())
    found = {"hours": sum(videos) / 3600, "longest_hours": max(videos) / 3600, "work_hours": work / 3600}
    for workers in (*range(1, 9), 16, 32, 64):
        ways = {"divided": True, "whole": False}
        found[workers] = {name: work / workers / makespan(inputs, seconds_of, costs, workers, divided) for name, divided in ways.items()}
    return found


def pieces(arguments):
    """One long file written whole and in pieces: frames with their times, and packets of audio."""
    import subprocess

    import framerail as fr
    from framerail.jobs import Template

    start(arguments.workers)
    import framerail.ray as fr_ray

    def streams(path):
        found = {}
        for name, options in (("frames", ["-map", "0:v"]), ("audio packets", ["-map", "0:a", "-c", "copy"])):
            command = ["ffmpeg", "-v", "error", "-i", str(path), *options, "-f", "framemd5", "-"]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            found[name] = [line for line in lines if not line.startswith("#")]
        return found

    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    text = arguments.pipeline + " ! write {out}/{name}.mp4 preset=ultrafast crf=0"
    with fr.VideoReader(arguments.file, output="numpy") as reader:
        length = reader.times.seconds[-1] + reader.times.durations[-1]
    began = time.perf_counter()
    fr.Pipeline(Template(text).filled(path=arguments.file, name="whole", out=str(out))).run()
    whole = streams(out / "whole.mp4")
    found = {"hours": length / 3600, **{name: len(lines) for name, lines in whole.items()}, "whole_seconds": time.perf_counter() - began}
    for count in arguments.pieces:
        row = fr_ray.run(text, arguments.file, out=out, split=length / count, overwrite=True, num_cpus=1).rows[0]
        joined = streams(out / row.outputs[0]) if row.outputs else {}
        found[count] = {"pieces": row.pieces, "error": row.error, **{name: joined.get(name) == lines for name, lines in whole.items()}}
        print(count, found[count], file=sys.stderr)
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
        command.add_argument("--driver", action="store_true", help="count frames in the driver: they pass the object store")
        command.add_argument("--warm", action="store_true", help="two clips each before the rounds")
    command = commands.add_parser("storage")
    command.add_argument("file")
    command.add_argument("--rounds", type=int, default=3)
    command = commands.add_parser("pieces")
    command.add_argument("file")
    command.add_argument("out")
    command.add_argument("--pipeline", default="read {path}", help="what comes before `write`")
    command.add_argument("--pieces", type=int, nargs="*", default=[2, 4, 9])
    command.add_argument("--workers", type=int, default=1)
    command = commands.add_parser("schedule")
    command.add_argument("--measured", required=True, help="what `overhead` printed")
    command.add_argument("--files", type=int, default=10_000)
    command.add_argument("--opening", type=float, default=0.02, help="seconds of a task besides decoding")
    command.add_argument("--divide", type=float, default=0.2, help="seconds to divide a file")
    command.add_argument("--join", type=float, default=5.0, help="seconds to join an hour of video")
    command.add_argument("--dispatch", type=float, default=0.002, help="seconds of the driver for a task")
    arguments = parser.parse_args()
    print(json.dumps(globals()[arguments.command](arguments), indent=1))


if __name__ == "__main__":
    main()
