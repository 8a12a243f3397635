"""Times loading of training clips: framerail's ClipLoader beside other readers, interleaved. Prints one line of JSON a round.

    python bench/training.py files FOLDER [--files 200]       # many short files on the CPU: 340x256, 10 s, one group of pictures of 250
    python bench/training.py card FOLDER                      # one 1080p file, groups of 60, on a card
    python bench/training.py files FOLDER --device cuda       # the short files on a card
    python bench/training.py check FOLDER                     # a card's clips against the CPU's, and against themselves

The clips are made on the first run, by FFmpeg, from --clip (any footage of a minute or more; a generated one by default). `files` draws 16
frames with stride 4 at 112x112, each file once a round; `card` 16 frames with stride 2 at 224x224 in batches of 8. Contenders that are
not installed are left out and named. Each round runs every contender in turn, so that the machine's other work hits all alike; compare
medians. A first round warms up the page cache and is not printed.

Fields: contender, arrangement, clips, frames, seconds, clips_per_s, frames_per_s, cpu_ms_per_clip (processor time: on a machine that is
busy with other work, compare this), device_mb (the card's memory in use at the end, all
processes), and for the loader its own statistics.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

FRAMES = 16
JOBS = {"files": {"stride": 4, "size": (112, 112), "batch": 16}, "card": {"stride": 2, "size": (224, 224), "batch": 8}}
CARD_CLIPS = 400


def run(*command):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, command)], check=True)


def made_files(folder, count, footage):
    """Short files, each of another part of the footage."""
    folder.mkdir(parents=True, exist_ok=True)
    source = ["-f", "lavfi", "-i", "testsrc2=size=680x512:rate=25,noise=alls=12:allf=t"] if footage is None else ["-stream_loop", "-1", "-i", footage]

    def make(number):
        path = folder / f"{number:04}.mp4"
        if not path.exists():
            partial = path.with_suffix(".partial.mp4")
            crop = f"crop=iw*3/4:ih*3/4:{number * 7 % 97}:{number * 13 % 61},scale=340:256,setsar=1,fps=25,format=yuv420p"
            encode = ["-c:v", "libx264", "-preset", "medium", "-crf", "23", "-g", "250", "-keyint_min", "250", "-sc_threshold", "0", "-threads", "1"]
            run("-ss", f"{number * 0.37 % 20:.2f}", *source, "-an", "-frames:v", "250", "-vf", crop, *encode, partial)
            partial.rename(path)
        return path

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [str(path) for path in pool.map(make, range(count))]


def made_long(folder, footage):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "h264-960.mp4"
    if not path.exists():
        source = ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30,noise=alls=6:allf=t"] if footage is None else ["-stream_loop", "-1", "-i", footage]
        scale = "scale=1920:1080:flags=bicubic,setsar=1,fps=30,format=yuv420p"
        encode = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "5M", "-g", "60", "-keyint_min", "60", "-sc_threshold", "0"]
        run(*source, "-an", "-frames:v", "960", "-vf", scale, *encode, path)
    return str(path)


class PeerClips(Dataset):
    """Clips by another reader, as its documentation does it: decoders opened in the worker, clips stacked by PyTorch."""

    def __init__(self, name, paths, job, device):
        self.name, self.paths, self.job, self.device = name, paths, job, device
        self.span = (FRAMES - 1) * job["stride"] + 1
        self.kept = threading.local()

    def __len__(self):
        return len(self.paths)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "kept"}

    def __setstate__(self, state):
        self.__dict__.update(state, kept=threading.local())

    def clip(self, path, start_of):
        size = list(self.job["size"])
        if self.name == "torchcodec":
            import torchvision.transforms.v2.functional as functional
            from torchcodec.decoders import VideoDecoder

            kept = getattr(self.kept, "open", {})
            decoder = kept.get(path)
            if decoder is None:
                threads = {} if self.device == "cuda" else {"num_ffmpeg_threads": 1}
                decoder = VideoDecoder(path, device=self.device, seek_mode="approximate", **threads)
            # One file is kept open, many are not: they come once an epoch.
            self.kept.open = {path: decoder}
            start = start_of(len(decoder) - self.span)
            frames = decoder.get_frames_at(list(range(start, start + self.span, self.job["stride"]))).data
            return functional.resize(frames, size, antialias=False)
        if self.name == "decord":
            import decord

            reader = decord.VideoReader(path, width=size[1], height=size[0], num_threads=1)
            start = start_of(len(reader) - self.span)
            frames = reader.get_batch(list(range(start, start + self.span, self.job["stride"]))).asnumpy()
            return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        if self.name == "spdl":
            import spdl.io

            start = start_of(920) / 30
            packets = spdl.io.demux_video(path, timestamp=(start, start + self.span / 30))
            config = spdl.io.cuda_config(device_index=0)
            return spdl.io.to_torch(
                spdl.io.decode_packets_nvdec(packets, device_config=config, pix_fmt="rgb", scale_width=size[1], scale_height=size[0])
            )[:FRAMES]
        raise ValueError(self.name)

    def __getitem__(self, index):
        return self.clip(self.paths[index], random.Random(index).randrange)


def peer_workers(name, paths, job, device, workers):
    loader = DataLoader(PeerClips(name, paths, job, device), batch_size=job["batch"], num_workers=workers, shuffle=True)
    return sum(len(batch) for batch in loader), {}


def peer_threads(name, paths, job, device, threads):
    data = PeerClips(name, paths, job, device)
    with ThreadPoolExecutor(threads) as pool:
        count = 0
        clips = pool.map(data.__getitem__, range(len(paths)))
        batch = []
        for clip in clips:
            batch.append(clip)
            if len(batch) == job["batch"]:
                count += len(torch.stack(batch))
                batch = []
        return count + len(batch), {}


def framerail_data(paths, job, device):
    import framerail as fr

    sources = list(dict.fromkeys(paths))
    clips = len(paths) // len(sources)
    return fr.torch.ClipDataset(sources, num_clips=clips, frames_per_clip=FRAMES, stride=job["stride"], size=job["size"], device=device)


def framerail_loader(paths, job, device, **options):
    import framerail as fr

    with fr.torch.ClipLoader(framerail_data(paths, job, device), job["batch"], shuffle=True, **options) as loader:
        count = sum(len(batch["source"]) for batch in loader)
        stats = loader.stats
        names = ("threads", "busy_share", "wait_seconds", "opening_seconds", "clips_shared", "clips_by_cores", "files_opened")
        return count, {**{name: stats[name] for name in names}, "pictures_decoded": stats["reader"]["pictures_decoded"]}


def framerail_workers(paths, job, device, workers):
    import framerail as fr

    data = framerail_data(paths, job, device)
    context = "spawn" if device == "cuda" else None
    loader = DataLoader(data, job["batch"], num_workers=workers, shuffle=True, collate_fn=fr.torch.collate, multiprocessing_context=context)
    return sum(len(batch["source"]) for batch in loader), {}


def contenders(device, cores, wanted):
    def installed(module):
        import importlib.util

        return importlib.util.find_spec(module) is not None

    found = [("framerail", "ClipLoader", lambda paths, job: framerail_loader(paths, job, device))]
    if device == "cuda":
        found += [
            ("framerail", f"ClipLoader, {helpers} helpers", lambda paths, job, helpers=helpers: framerail_loader(paths, job, device, helpers=helpers))
            for helpers in {max(1, cores // 4), max(1, cores // 2)}
        ]
    else:
        found.append(("framerail", f"{cores} workers", lambda paths, job: framerail_workers(paths, job, device, cores)))
    peers = ["torchcodec", "spdl"] if device == "cuda" else ["torchcodec", "decord"]
    for name in peers:
        if not installed(name):
            print(f"{name} is not installed: left out", file=sys.stderr)
            continue
        if device == "cpu":
            found.append((name, f"{cores} workers", lambda paths, job, name=name: peer_workers(name, paths, job, device, cores)))
        for threads in ([cores] if device == "cpu" else [4, 8, 16]):
            call = lambda paths, job, name=name, threads=threads: peer_threads(name, paths, job, device, threads)  # noqa: E731
            found.append((name, f"{threads} threads", call))
    return [one for one in found if wanted is None or one[0] in wanted]


def cpu_seconds():
    """Processor time of this process and of the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def device_mb():
    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return (total - free) >> 20


def check(paths, long):
    """Pixels of a card's clips against the CPU's; two epochs of a card with other threads and helpers against each other."""
    import framerail as fr

    for name, sources, job in (("files", paths, JOBS["files"]), ("long", [long], JOBS["card"])):
        augment = fr.Augment(crop=fr.RandomResizedCrop(), size=(96, 96), flip_horizontal=0.5, dtype="float32")
        for kind, more in (
            ("plain", {}),
            ("augmented", {"augment": augment}),
            ("crops", {"short_side": 128, "size": (112, 112), "crops": 3}),
            ("CTHW", {"layout": "CTHW"}),
        ):

            def batches(device, kind=kind, more=more, sources=sources, job=job, **options):
                data = fr.torch.ClipDataset(sources, **{"num_clips": 24 // len(sources) + 1, "frames_per_clip": FRAMES, "stride": job["stride"], "size": job["size"], "device": device, **more})
                with fr.torch.ClipLoader(data, 8, shuffle=True, **options) as loader:
                    return [(batch["frames"].cpu(), batch["numbers"], batch["source"]) for batch in loader], loader.stats

            (card, stats), (host, _) = batches("cuda"), batches("cpu")
            (again, _), (helped, by_cores) = batches("cuda", threads=3, prefetch=1), batches("cuda", helpers=8)

            def most(first, second):
                return max(float((a[0].float() - b[0].float()).abs().max()) for a, b in zip(first, second))

            def mean(first, second):
                return max(float((a[0].float() - b[0].float()).abs().mean()) for a, b in zip(first, second))

            same = all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(card, host))
            line = {"check": name, "kind": kind, "same_clips": same, "card_to_cpu_most": most(card, host), "card_to_cpu_mean": mean(card, host)}
            line.update(repeat_most=most(card, again), helpers_most=most(card, helped), clips_by_cores=by_cores["clips_by_cores"])
            line.update(on_card_by_cores=stats["clips_by_cores"], shape=list(card[0][0].shape))
            print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["files", "card", "check"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--clip", help="footage that clips are made of")
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="*", help="contenders")
    arguments = parser.parse_args()
    if arguments.job == "check":
        check(made_files(arguments.folder, 16, arguments.clip), made_long(arguments.folder, arguments.clip))
        return
    job = JOBS[arguments.job]
    if arguments.job == "card":
        device, paths = arguments.device or "cuda", [made_long(arguments.folder, arguments.clip)] * CARD_CLIPS
    else:
        device, paths = arguments.device or "cpu", made_files(arguments.folder, arguments.files, arguments.clip)
    chosen = contenders(device, arguments.cores, arguments.only)
    for number in range(arguments.rounds + 1):
        for name, arrangement, load in chosen:
            began, worked = time.monotonic(), cpu_seconds()
            try:
                clips, more = load(paths, job)
            except Exception as error:  # A contender that fails must not end the others' measurement.
                print(json.dumps({"contender": name, "arrangement": arrangement, "error": repr(error)[:300]}), flush=True)
                continue
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.monotonic() - began
            line = {"job": arguments.job, "device": device, "contender": name, "arrangement": arrangement, "clips": clips}
            line |= {"frames": clips * FRAMES, "seconds": round(seconds, 3), "clips_per_s": round(clips / seconds, 1)}
            line |= {"cpu_ms_per_clip": round(1000 * (cpu_seconds() - worked) / max(clips, 1), 2)}
            line |= {"frames_per_s": round(clips * FRAMES / seconds, 1), "device_mb": device_mb(), **more}
            if number:
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
