#!/usr/bin/env python3
"""Checks and times one pipeline, one reader and training ranks on two GPUs against one.

    python3 two_cards.py H264.mp4 HEVC.mp4 --folder MANY/ --card ssd300.toml --json two_cards.json
    python3 two_cards.py H264.mp4 --only reader lost          # some of the parts; --list names them

H264.mp4 and HEVC.mp4 are long 1080p clips (bench/gpu/make_clips.sh), MANY a folder of short ones. Runs are interleaved: one GPU, two
GPUs, again, `--rounds` times; the medians are printed. Needs two GPUs, framerail with its Python package, and PyTorch. On one GPU, both ranks of
training run on it, a GPU that fails is checked in a separate process, and the other parts are skipped. The exit code is 1 when a check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from pathlib import Path

ONE, TWO = "cuda:0", "cuda:0,1"
PARTS = {}
#: Parts of which one GPU can run something.
FOR_ONE = {"lost", "ranks"}
FIGURES = []


def part(function):
    PARTS[function.__name__] = function
    return function


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def compare(name, rounds, measure):
    """Times both arrangements in turn; `measure` gives units per second."""
    found = {ONE: [], TWO: []}
    for _ in range(rounds):
        for devices in found:
            found[devices].append(measure(devices))
    one, two = (statistics.median(found[devices]) for devices in (ONE, TWO))
    FIGURES.append({"name": name, "one": found[ONE], "two": found[TWO], "median_one": one, "median_two": two, "times": two / one})
    print(f"{name:42} {one:10.1f}/s {two:10.1f}/s {two / one:6.2f} times", flush=True)


def run_python(code, **environment):
    code = textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)


# The Python reader.


@part
def reader(options):
    """Frames of two GPUs arrive in order on the GPU that was asked for, equal to those of one."""
    import framerail as fr
    import torch

    torch.cuda.set_device(0)
    count = 1200
    for clip in options.clips:
        for out in ("cuda:0", "cuda:1"):
            one = fr.VideoReader(clip, device=out)
            two = fr.VideoReader(clip, device=["cuda:0", "cuda:1"], output=out)
            need(two.device == out, f"device is {two.device}, not {out}")
            for a, b in zip(one.batches(100, stop=count), two.batches(100, stop=count)):
                need(str(b.data.device) == out, f"a batch lies on {b.data.device}, not {out}")
                need(list(a.indices) == list(b.indices), f"frames {a.indices} and {b.indices}")
                need(torch.equal(a.data, b.data), f"{clip}: frames from {a.indices[0]} on differ between one GPU and two")
            scattered = [5, 900, 333, 61, 5]
            need(torch.equal(one.read_frames(scattered).data, two.read_frames(scattered).data), "scattered frames differ")
            del one, two
    need(torch.cuda.current_device() == 0 and torch.zeros(1, device="cuda").device.index == 0, "the caller's device was changed")


@part
def reader_speed(options):
    """Every frame to RGB, from Python."""
    import framerail as fr
    import torch

    def measure(clip, **choice):
        def of(devices):
            video = fr.VideoReader(clip, device=devices)
            began, frames, sums = time.perf_counter(), 0, torch.zeros((), device="cuda:0")
            for batch in video.batches(32, **choice):
                frames += len(batch.data)
                sums += batch.data[0, 0, 0, 0]
            torch.cuda.synchronize()
            return frames / (time.perf_counter() - began)

        return of

    for clip in options.clips:
        compare(f"reader RGB {Path(clip).stem}", options.rounds, measure(clip))
        compare(f"reader 224x224 {Path(clip).stem}", options.rounds, measure(clip, size=(224, 224)))


# The program.


def program(text, devices, *more):
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        command = ["framerail", "run", text, "--device", devices, "--stats", str(stats), *more]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        wall = time.perf_counter() - began
        need(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-800:]}")
        return json.loads(stats.read_text()), wall, done.stderr


def frames_per_second(stats):
    return max(stage["frames_in"] + stage["frames_out"] * (not stage["frames_in"]) for stage in stats["stages"]) / stats["wall_secs"]


@part
def pipeline_speed(options):
    """`read ! null`, and a folder of short files."""
    for clip in options.clips:
        compare(f"read ! null {Path(clip).stem}", options.rounds, lambda devices: frames_per_second(program(f"read {clip} ! null", devices)[0]))
    if options.folder:
        text = f"read {options.folder} ! null"
        compare("read FOLDER ! null", options.rounds, lambda devices: frames_per_second(program(text, devices)[0]))
        text = f"read {options.folder} streams=16 ! null"
        compare("read FOLDER streams=16 ! null", options.rounds, lambda devices: frames_per_second(program(text, devices)[0]))


@part
def model(options):
    """Equal boxes from a model on each GPU, and its speed."""
    if not options.card:
        print("model: no --card was given")
        return
    for clip in options.clips[:1]:
        found = {}
        for devices in (ONE, TWO):
            with tempfile.TemporaryDirectory() as folder:
                boxes = Path(folder) / "boxes.jsonl"
                text = f"read {clip} end=20s ! infer {options.card} batch=32 precision=fp16 confidence=0.02 ! save {boxes}"
                stats, _, notices = program(text, devices)
                found[devices] = boxes.read_text()
                print(f"  {devices}: {len(found[devices].splitlines())} frames; {notices.strip()[-300:]}")
        need(found[ONE], "no boxes were written")
        lines = [text.splitlines() for text in found.values()]
        different = [n for n, (a, b) in enumerate(zip(*lines)) if a != b]
        need(len(lines[0]) == len(lines[1]) and not different, f"boxes of {len(different)} of {len(lines[0])} frames differ, first {different[:3]}")
    for clip in options.clips:
        text = f"read {clip} ! infer {options.card} batch=32 precision=fp16 ! null"
        compare(f"model {Path(clip).stem}", options.rounds, lambda devices: frames_per_second(program(text, devices)[0]))


@part
def other_stages(options):
    """Stages behind two GPUs: covering, drawing and writing give the file that one GPU gives."""
    if not options.card:
        return
    sums = {}
    for devices in (ONE, TWO):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.mkv"
            text = f"read {options.clips[0]} end=8s ! infer {options.card} precision=fp16 confidence=0.05 ! blur ! draw ! write {out} codec=ffv1"
            program(text, devices)
            done = subprocess.run(["ffmpeg", "-v", "error", "-i", str(out), "-f", "md5", "-"], capture_output=True, text=True)
            sums[devices] = done.stdout.strip()
    need(sums[ONE] and sums[ONE] == sums[TWO], f"the pixels differ: {sums}")


# A GPU that fails.


@part
def lost(options):
    """A GPU that fails for good ends its readers with a clear error; one that does not use it goes on."""
    if options.cards == 1:
        return lost_alone(options)
    done = run_python(
        f"""
        import framerail as fr, torch
        clip = {options.clips[0]!r}
        two = fr.VideoReader(clip, device=["cuda:0", "cuda:1"])
        two[0]
        try:
            torch.zeros(4, device="cuda:1")[torch.tensor([9], device="cuda:1")].sum().item()
        except Exception as error:
            print("provoked:", type(error).__name__)
        try:
            for batch in two.batches(32, stop=2000):
                pass
            print("went through")
        except Exception as error:
            print("two:", type(error).__name__, str(error)[:300])
        one = fr.VideoReader(clip, device="cuda:0")
        print("one:", sum(len(batch.data) for batch in one.batches(32, stop=320)))
        """
    )
    print(textwrap.indent(done.stdout.strip(), "  "))
    need("two: CudaError" in done.stdout, f"no clear error: {done.stdout[-500:]} {done.stderr[-800:]}")
    need("one: 320" in done.stdout, f"the other GPU does not go on: {done.stdout[-500:]} {done.stderr[-800:]}")


def lost_alone(options):
    """On one GPU: the readers of the process that broke it end, a reader on the CPU and other processes go on."""
    done = run_python(
        f"""
        import framerail as fr, torch
        clip = {options.clips[0]!r}
        reader = fr.VideoReader(clip, device="cuda")
        reader[0]
        try:
            torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].sum().item()
        except Exception as error:
            print("provoked:", type(error).__name__)
        for _ in range(2):
            try:
                for batch in fr.VideoReader(clip, device="cuda", output="dlpack").batches(32, stop=640):
                    pass
                print("went through")
            except Exception as error:
                print("reader:", type(error).__name__, str(error)[:300])
        print("cpu:", sum(len(batch.data) for batch in fr.VideoReader(clip, device="cpu").batches(32, stop=64)))
        """
    )
    print(textwrap.indent(done.stdout.strip(), "  "))
    need(done.stdout.count("reader: CudaError") == 2, f"no clear error: {done.stdout[-500:]} {done.stderr[-800:]}")
    need("cpu: 64" in done.stdout, f"the CPU does not go on: {done.stdout[-500:]} {done.stderr[-800:]}")
    other = run_python(f"import framerail as fr; print(fr.VideoReader({options.clips[0]!r}, device='cuda')[0].shape)")
    need(other.returncode == 0, f"another process cannot use the GPU: {other.stderr[-500:]}")


# Ranks of training.

RANK = """
import os, sys, time
import torch, torch.distributed as dist
import framerail as fr
from framerail.torch import ClipDataset
rank, world, clip, clips = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
card = rank % torch.cuda.device_count()
torch.cuda.set_device(card)
dist.init_process_group("gloo", init_method="file://" + sys.argv[5], rank=rank, world_size=world)
reader = fr.VideoReader(clip, device="cuda")
assert reader.device == f"cuda:{card}", reader.device
fr.sample_clips(reader, num_clips=8, frames_per_clip=16, stride=2, seed=9)
dist.barrier()
began = time.perf_counter()
frames = 0
for step in range(clips // 32):
    batch = fr.sample_clips(reader, num_clips=32, frames_per_clip=16, stride=2, seed=step * world + rank)
    data = batch.data if hasattr(batch, "data") else torch.stack([clip.data for clip in batch])
    assert data.device.index == card, data.device
    frames += data.shape[0] * data.shape[1]
torch.cuda.synchronize()
took = time.perf_counter() - began
try:
    import pynvml
    pynvml.nvmlInit()
    held = [n for n in range(pynvml.nvmlDeviceGetCount())
            if any(p.pid == os.getpid() for p in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(n)))]
except Exception as error:
    held = f"unknown: {error}"
free, total = torch.cuda.mem_get_info(0)
print(f"RANK {rank} {frames / took:.1f} {held}", flush=True)
dist.barrier()
"""


@part
def ranks(options):
    """Two ranks on their current devices: rates, and whether a rank touches the other's GPU."""

    def measure(devices):
        world = len(devices.split(","))
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "rank.py"
            script.write_text(RANK)
            command = [sys.executable, str(script)]
            started = [
                subprocess.Popen([*command, str(rank), str(world), options.clips[0], "320", f"{folder}/meet"], stdout=subprocess.PIPE, text=True)
                for rank in range(world)
            ]
            lines = [process.communicate(timeout=300)[0] for process in started]
            need(all(process.returncode == 0 for process in started), f"a rank failed: {lines}")
        rates = []
        for rank, text in enumerate(lines):
            line = next(line for line in text.splitlines() if line.startswith("RANK"))
            _, _, rate, held = line.split(" ", 3)
            rates.append(float(rate))
            if world > 1 and not held.startswith("unknown") and held != "[]":
                need(held == f"[{rank % options.cards}]", f"rank {rank} holds memory on {held}")
        print(f"  {devices}: {lines}")
        return sum(rates)

    compare("ranks, clips of 16 frames", options.rounds, measure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--folder", help="short files")
    parser.add_argument("--card", help="a detector's model card")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:16} {function.__doc__}" for name, function in PARTS.items()))
        return 0
    if not options.clips:
        parser.error("name at least one clip")
    import torch

    options.cards = torch.cuda.device_count()
    failed = []
    print(f"{'':42} {'one GPU':>12} {'two GPUs':>12}")
    for name, function in PARTS.items():
        if options.only and name not in options.only:
            continue
        if options.cards < 2 and name not in FOR_ONE:
            print(f"SKIP {name}: needs two GPUs", flush=True)
            continue
        try:
            function(options)
            print(f"PASS {name}", flush=True)
        except Exception as error:
            failed.append(name)
            traceback.print_exc(limit=3)
            print(f"FAIL {name}: {error}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"figures": FIGURES, "failed": failed}, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
