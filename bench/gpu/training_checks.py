#!/usr/bin/env python3
"""Checks of training with `ClipLoader`: what has to be the same, flat or quick, on a GPU or on the CPU.

    python3 training_checks.py FOLDER                       # all parts on the GPU, about two minutes
    python3 training_checks.py FOLDER --device cpu          # the same on the CPU
    python3 training_checks.py FOLDER --only resume mixed   # some of them; --list names them

Clips are made in FOLDER on the first run, by FFmpeg. Prints PASS, FAIL or SKIP with figures for each part, and one line of JSON for each; the
exit code is 1 when one failed. Needs framerail and PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path

PARTS = {}
#: Codec, encoder, size and container of the mixed data set.
MIXED = [
    ("h264", "libx264 -preset veryfast", "1920x1080", "mp4"),
    ("hevc", "libx265 -preset ultrafast -x265-params log-level=error", "1280x720", "mp4"),
    ("vp9", "libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1", "640x360", "webm"),
    ("av1", "libsvtav1 -preset 12", "426x240", "mkv"),
    ("h264-4k", "libx264 -preset ultrafast", "3840x2160", "mp4"),
    ("h264-340", "libx264 -preset veryfast", "340x256", "mp4"),
]


class Skip(Exception):
    """A part that this machine cannot run."""


def part(function):
    PARTS[function.__name__] = function
    return function


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def encoded(path, encoder, size, frames, gop):
    """Whether the clip is there; some builds of FFmpeg lack an encoder, or crash in one."""
    if path.exists():
        return True
    partial = path.with_name(f"partial-{path.name}")
    source = f"testsrc2=size={size}:rate=25,noise=alls=8:allf=t"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, "-frames:v", str(frames), "-pix_fmt", "yuv420p"]
    done = subprocess.run([*command, "-c:v", *encoder.split(), "-g", str(gop), str(partial)], stderr=subprocess.DEVNULL)
    if done.returncode == 0:
        partial.rename(path)
    return done.returncode == 0


def short_clips(options, count):
    """Files of 340x256, each of one group of pictures."""
    options.folder.mkdir(parents=True, exist_ok=True)
    first = options.folder / "short.mp4"
    need(encoded(first, "libx264 -preset veryfast", "340x256", 150, 250), "no clip could be made: ffmpeg with libx264 is missing")
    paths = [options.folder / f"short-{number:04}.mp4" for number in range(count)]
    for path in paths:
        if not path.exists():
            os.link(first, path)
    return [str(path) for path in paths]


def mixed_clips(options, each):
    options.folder.mkdir(parents=True, exist_ok=True)
    made, left_out = [], []
    for name, encoder, size, container in MIXED:
        path = options.folder / f"mixed-{name}.{container}"
        if not encoded(path, encoder, size, 120, 60):
            left_out.append(name)
            continue
        for number in range(each):
            link = path.with_name(f"mixed-{name}-{number}.{container}")
            if not link.exists():
                os.link(path, link)
            made.append(str(link))
    return made, left_out


def dataset(options, paths, **more):
    import framerail as fr

    labels = [number % 10 for number in range(len(paths))]
    given = {"frames_per_clip": 16, "stride": 4, "size": (112, 112), "device": options.device, "seed": 7, **more}
    return fr.torch.ClipDataset(paths, labels=labels, **given)


def loader(options, paths, batch=16, **more):
    import framerail as fr

    of_data = {name: more.pop(name) for name in ("num_clips", "layout", "dtype", "normalize", "stride", "size") if name in more}
    return fr.torch.ClipLoader(dataset(options, paths, **of_data), batch, shuffle=True, **more)


def digest(batch):
    hashed = hashlib.sha256(batch["frames"].cpu().numpy().tobytes())
    for name in ("numbers", "source", "label"):
        hashed.update(batch[name].cpu().numpy().tobytes())
    return hashed.hexdigest()


def synchronize(options):
    import torch

    if options.device != "cpu":
        torch.cuda.synchronize()


def device_mb(options):
    import torch

    if options.device == "cpu":
        return 0
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return (total - free) >> 20


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def network(options):
    """A 3D network of about the work of R3D-18: two convolutions a level; on the CPU a small one."""
    import torch

    def level(before, after, stride):
        first = torch.nn.Conv3d(before, after, 3, stride, 1, bias=False)
        second = torch.nn.Conv3d(after, after, 3, 1, 1, bias=False)
        return [first, torch.nn.BatchNorm3d(after), torch.nn.ReLU(), second, torch.nn.BatchNorm3d(after), torch.nn.ReLU()]

    widths = (64, 128, 256, 512) if options.device != "cpu" else (16, 32)
    layers = [torch.nn.Conv3d(3, widths[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), torch.nn.BatchNorm3d(widths[0]), torch.nn.ReLU()]
    for before, after in zip((widths[0], *widths), widths):
        layers += level(before, after, 1 if before == after else 2) + (level(after, after, 1) if options.device != "cpu" else [])
    made = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(widths[-1], 10))
    return made.to(options.device)


# What is the same.


@part
def same(options):
    """Clips and pixels do not depend on threads, prefetch, memory, or on the share that cores decode."""
    paths, found = short_clips(options, 48), {}
    ways = [{}, {"threads": 2, "prefetch": 1}, {"threads": 5, "memory": 64 << 20}, {"prefetch": 12}]
    if options.device != "cpu":
        ways += [{"helpers": 0}, {"helpers": 4}]
    by_cores = {}
    for more in ways:
        with loader(options, paths, 8, **more) as batches:
            found[str(more)] = [digest(batch) for batch in batches]
            by_cores[str(more)] = batches.stats["clips_by_cores"]
    need(len(set(map(tuple, found.values()))) == 1, f"batches differ between {list(found)}")
    return {"ways": len(ways), "clips_by_cores": by_cores}


@part
def resume(options):
    """A run that is killed in mid-epoch goes on with the very next batch."""
    paths = short_clips(options, 48)
    code = """
        import json, os, signal, sys
        sys.path.insert(0, {here!r})
        import training_checks
        options = training_checks.parsed({arguments!r})
        batches = training_checks.loader(options, training_checks.short_clips(options, 48), 4)
        for number, batch in enumerate(batches):
            print(json.dumps([training_checks.digest(batch), batches.state_dict()]), flush=True)
            if number == 4:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    arguments = [str(options.folder), "--device", options.device]
    code = textwrap.dedent(code).format(here=str(Path(__file__).parent), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    need(done.returncode == -signal.SIGKILL, f"exit code {done.returncode}: {done.stderr[-600:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with loader(options, paths, 4) as whole:
        expected = [digest(batch) for batch in whole]
    need([line[0] for line in lines] == expected[:5], "the run that was killed had other batches")
    with loader(options, paths, 4, threads=3) as rest:
        rest.load_state_dict(lines[-1][1])
        found = [digest(batch) for batch in rest]
    need(found == expected[5:], f"{len(found)} batches after the kill differ from the {len(expected) - 5} expected")
    return {"before": 5, "after": len(found)}


@part
def ranks(options):
    """Two ranks of torch.distributed on one device: batches of equal number and size, every clip once."""
    code = """
        import json, sys
        sys.path.insert(0, {here!r})
        import torch, torch.distributed as dist, training_checks
        import framerail as fr
        rank = int(sys.argv[1])
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:{port}", rank=rank, world_size=2)
        options = training_checks.parsed({arguments!r})
        data = training_checks.dataset(options, training_checks.short_clips(options, 48))
        sampler = torch.utils.data.DistributedSampler(data, num_replicas=2, rank=rank, shuffle=True, seed=0)
        sizes, sources = [], []
        batches = fr.torch.ClipLoader(data, 8, sampler=sampler)
        for epoch in range(2):
            batches.set_epoch(epoch)
            for batch in batches:
                total = batch["frames"].float().mean().cpu()
                dist.all_reduce(total)
                sizes.append(len(batch["source"]))
                sources += batch["source"].tolist() if epoch == 0 else []
        print(json.dumps([sizes, sources]))
        dist.destroy_process_group()
    """
    arguments = [str(options.folder), "--device", options.device]
    here = str(Path(__file__).parent)
    code = textwrap.dedent(code).format(here=here, arguments=arguments, port=29500 + os.getpid() % 2000)
    runs = [subprocess.Popen([sys.executable, "-c", code, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    printed = [run.communicate(timeout=180) for run in runs]
    need(all(run.returncode == 0 for run in runs), f"{[text[1][-600:] for text in printed]}")
    (sizes, first), (other_sizes, second) = (json.loads(text[0].splitlines()[-1]) for text in printed)
    need(sizes == other_sizes, f"batches of {sizes} and {other_sizes} clips")
    need(sorted(first + second) == list(range(48)), "not every clip once")
    return {"batches_of_each": len(sizes)}


# What is flat or quick.


@part
def step(options):
    """The share of a training step with a small 3D network that waits for data."""
    import torch

    # The same files several times: an epoch of a data set has thousands.
    paths = short_clips(options, options.files) * (4 if options.device != "cpu" else 1)
    model = network(options)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    batch_size = 16 if options.device != "cpu" else 4
    entropy = torch.nn.functional.cross_entropy

    def train(frames, labels):
        loss = entropy(model(frames), labels.to(options.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # A step whose result is read, as in a loop that logs.
        loss.item()

    # The network alone: if it takes more clips per second than the loader can give, waiting is unavoidable.
    frames, labels = torch.randn(batch_size, 3, 16, 112, 112, device=options.device), torch.arange(batch_size) % 10
    alone = []
    for _ in range(12):
        began = time.monotonic()
        train(frames, labels)
        alone.append(time.monotonic() - began)
    network_rate = batch_size / sorted(alone)[len(alone) // 2]

    with loader(options, paths, batch_size, layout="CTHW", dtype="float32", normalize=True) as batches:
        shares = []
        for epoch in range(3):
            synchronize(options)
            began, waited = time.monotonic(), batches.stats["wait_seconds"]
            for batch in batches:
                train(batch["frames"], batch["label"])
            seconds = time.monotonic() - began
            shares.append(round((batches.stats["wait_seconds"] - waited) / seconds, 4))
        rate, by_cores = len(paths) / seconds, batches.stats["clips_by_cores"]
    return {"waiting_share_by_epoch": shares, "clips_per_s": round(rate, 1), "network_alone_clips_per_s": round(network_rate, 1), "clips_by_cores": by_cores}


@part
def memory(options):
    """Ten epochs: memory of host and device stays as it is after the second."""
    paths, epochs = short_clips(options, options.files), []
    with loader(options, paths) as batches:
        for _ in range(10):
            for batch in batches:
                frames = batch["frames"]
            synchronize(options)
            del batch, frames
            epochs.append((resident_mb(), device_mb(options)))
    (host, card), (last_host, last_card) = epochs[2], epochs[-1]
    need(last_host - host <= max(48, host // 20), f"the host's memory grows: {epochs}")
    need(last_card - card <= 64, f"the device's memory grows: {epochs}")
    return {"resident_mb": [host for host, _ in epochs], "device_mb": [card for _, card in epochs]}


@part
def mixed(options):
    """H.264, HEVC, VP9 and AV1 from 240p to 4K in one data set: no stall, and the rate beside that of the kinds alone."""
    paths, left_out = mixed_clips(options, 8)
    kinds = {}
    for path in paths:
        kinds.setdefault(Path(path).stem.rpartition("-")[0], []).append(path)

    def timed(chosen, clips):
        with loader(options, chosen, 8, stride=2, num_clips=clips) as batches:
            # Decoders for every kind are made in the first epoch.
            for batch in batches:
                pass
            waits, began, count = [], time.monotonic(), 0
            for batch in batches:
                waits.append(batches.step["wait_seconds"])
                count += len(batch["source"])
            synchronize(options)
            return (time.monotonic() - began) / max(count, 1), waits, batches.stats

    alone = {name: timed(chosen, 4)[0] for name, chosen in kinds.items()}
    each, waits, stats = timed(paths, 4)
    expected = sum(alone.values()) / len(alone)
    waits = sorted(waits)
    found = {
        "left_out": left_out,
        "clips_per_s_alone": {name: round(1 / seconds, 1) for name, seconds in alone.items()},
        "clips_per_s": round(1 / each, 1),
        "of_weighted_limit": round(expected / each, 3),
        "longest_wait_ms": round(1000 * waits[-1], 1),
        "median_wait_ms": round(1000 * waits[len(waits) // 2], 1),
        "clips_by_cores": stats["clips_by_cores"],
        "clips_failed": stats["clips_failed"],
    }
    need(stats["clips_failed"] == 0, f"clips failed: {found}")
    need(waits[-1] < 5, f"a batch was waited for {waits[-1]:.1f} s")
    return found


def parsed(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where clips are, or are made")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--files", type=int, default=200, help="short files of step and memory (default: 200)")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=sorted(PARTS), help="only these parts")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    return parser.parse_args(arguments)


def main():
    options = parsed()
    if options.list:
        for name, function in PARTS.items():
            print(f"{name:8} {function.__doc__}")
        return 0
    failed = 0
    for name, function in PARTS.items():
        if options.only and name not in options.only:
            continue
        began, found, word = time.monotonic(), {}, "PASS"
        try:
            found = function(options)
        except Skip as skip:
            word, found = "SKIP", {"reason": str(skip)}
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            word, found, failed = "FAIL", {"error": f"{type(error).__name__}: {error}"[:600]}, failed + 1
        print(json.dumps({"part": name, "result": word, "device": options.device, "seconds": round(time.monotonic() - began, 1), **found}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
