#!/usr/bin/env python3
"""Checks the borders between framerail and other CUDA libraries on a host with one card or two.

    python3 check_borders.py                          # all checks, below five minutes
    python3 check_borders.py --only contexts oom      # some of them; --list names them
    python3 check_borders.py --clip numbers.mp4       # use an existing clip (made with --make) on hosts without ffmpeg
    python3 check_borders.py --long h264-960.mp4      # reading speed on a clip of your own as well

Needs framerail and PyTorch; CuPy and JAX are checked where they are installed. Prints PASS, FAIL or SKIP for each check and a
summary; the exit code is 1 when one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections import deque
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FRAMES = 640, 360, 240
BLOCK, COLUMNS, BITS = 16, 8, 16
#: Seconds that one check may take before the whole run is ended with every thread's place.
LIMIT = 240


class Skip(Exception):
    """A check that this machine cannot run."""


CHECKS = {}


def check(name):
    def add(function):
        CHECKS[name] = function
        return function

    return add


def need(condition, message):
    if not condition:
        raise AssertionError(message)


# The clip: each frame carries its number as blocks of black and white.


def picture(number):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    made = np.stack([(x + 3 * number) % 200, (y + number) % 200, (x + y) % 200], axis=-1).astype(np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        made[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    return made


def make_clip(path):
    for encoder in (["libx264", "-preset", "ultrafast", "-qp", "14", "-bf", "2"], ["mpeg2video", "-q:v", "2", "-bf", "2"]):
        command = [
            "ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "25",
            "-i", "-", "-c:v", *encoder, "-pix_fmt", "yuv420p", "-g", "30", str(path),
        ]  # fmt: skip
        try:
            raw = b"".join(picture(number).tobytes() for number in range(FRAMES))
            if subprocess.run(command, input=raw).returncode == 0:
                return
        except FileNotFoundError:
            break
    sys.exit("no clip could be made: ffmpeg with libx264 or mpeg2video is missing; create the clip on another machine with --make and pass it with --clip")


class Numbers:
    """Reads the numbers of frames where they lie, without waiting for the card."""

    def __init__(self, device):
        import torch

        self.torch = torch
        middle = BLOCK // 2
        rows, columns = zip(*(divmod(bit, COLUMNS) for bit in range(BITS)))
        self.y = torch.tensor([row * BLOCK + middle for row in rows], device=device)
        self.x = torch.tensor([column * BLOCK + middle for column in columns], device=device)
        self.weights = 2 ** torch.arange(BITS, device=device)

    def __call__(self, frames):
        """[T] numbers of frames [T, C, H, W]."""
        blocks = frames[:, :, self.y, self.x].float().mean(dim=1) > 127
        return (blocks * self.weights).sum(dim=1)


def numbers_of(frames):
    import torch

    frames = torch.as_tensor(frames)
    return Numbers(frames.device)(frames).tolist()


# The driver, for what PyTorch does not show.


class Driver:
    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        need(code == 0, f"{name} gave error {code}")

    def current(self):
        context = ctypes.c_void_p()
        self.call("cuCtxGetCurrent", ctypes.byref(context))
        return context.value

    def set_current(self, context):
        self.call("cuCtxSetCurrent", ctypes.c_void_p(context))

    def new_context(self, ordinal):
        """A second context on a card, current on this thread."""
        context = ctypes.c_void_p()
        if hasattr(self.library, "cuCtxCreate_v4"):
            self.call("cuCtxCreate_v4", ctypes.byref(context), None, 0, ordinal)
        else:
            self.call("cuCtxCreate_v2", ctypes.byref(context), 0, ordinal)
        return context.value

    def destroy(self, context):
        self.call("cuCtxDestroy_v2", ctypes.c_void_p(context))

    def has_primary(self, ordinal):
        flags, active = ctypes.c_uint(), ctypes.c_int()
        self.call("cuDevicePrimaryCtxGetState", ordinal, ctypes.byref(flags), ctypes.byref(active))
        return bool(active.value)

    def new_stream(self):
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 1)
        return stream.value

    def destroy_stream(self, stream):
        self.call("cuStreamDestroy_v2", ctypes.c_void_p(stream))


def cards():
    import torch

    return range(torch.cuda.device_count())


def used(device=0):
    import torch

    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def in_new_process(code, clip, seconds=120, **environment):
    """Runs Python code that has `clip`; gives what it printed."""
    here = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    begin = f"clip = {str(clip)!r}\nimport framerail as fr\n"
    done = subprocess.run([sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True, timeout=seconds, env=here)
    need(done.returncode == 0, f"exit code {done.returncode}: {(done.stdout + done.stderr)[-2500:]}")
    return done.stdout


# Contexts.


def every_call(fr, clip, device, output):
    """Uses most of what there is, step by step."""
    reader = fr.VideoReader(clip, device=device, output=output)
    yield "open"
    reader.metadata
    yield "metadata"
    reader.read([5])
    yield "read"
    reader.read_at([0.5])
    yield "read_at"
    batches = iter(reader.batches(8))
    kept = [next(batches) for _ in range(3)]
    yield "batches"
    batches.close()
    yield "close batches"
    del kept
    gc.collect()
    yield "garbage of batches"
    tensor = fr.VideoReader(clip, device=device, output="dlpack").read_frames([1, 2])
    capsule = tensor.__dlpack__()
    yield "a capsule"
    del tensor, capsule
    gc.collect()
    yield "garbage of a capsule"
    ordinal = 0 if ":" not in device else int(device.split(":")[1])
    fr._framerail.release_cuda_memory(ordinal)
    yield "release_cuda_memory"
    fr.Pipeline(f"read '{clip}' ! sample every=60 ! null", device=device).run()
    yield "a pipeline"
    reader.close()
    yield "close"
    del reader
    gc.collect()
    yield "garbage of a reader"


@check("contexts")
def contexts(options):
    """A second context of one card, and none at all, stay what is current on their threads."""
    import framerail as fr

    driver, steps = Driver(), 0
    found = []

    def second():
        mine = driver.new_context(0)
        for step in every_call(fr, options.clip, "cuda:0", "dlpack"):
            found.append((f"second context, {step}", driver.current() == mine))
            driver.set_current(mine)
        driver.destroy(mine)

    def none():
        driver.set_current(None)
        for step in every_call(fr, options.clip, "cuda:0", "dlpack"):
            found.append((f"no context, {step}", driver.current() is None))
            driver.set_current(None)

    for function in (second, none):
        failed = []

        def guarded():
            try:
                function()
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        # Ends what was kept of the thread's calls.
        gc.collect()
    # On the main thread, whose calls are made on another one.
    before = driver.current()
    for step in every_call(fr, options.clip, "cuda:0", "dlpack"):
        found.append((f"main thread, {step}", driver.current() == before))
    steps = len(found)
    wrong = [name for name, is_right in found if not is_right]
    need(not wrong, f"another context was current after: {', '.join(wrong)}")
    return f"{steps} calls"


@check("pairs")
def pairs(options):
    """Every pair of device given, device current and device of the consumer."""
    import torch

    import framerail as fr

    count = 0
    for given in cards():
        for current in cards():
            for consumer in cards():
                with torch.cuda.device(current):
                    for step in every_call(fr, options.clip, f"cuda:{given}", "torch"):
                        now, lands = torch.cuda.current_device(), torch.zeros(1, device="cuda").device.index
                        need((now, lands) == (current, current), f"given {given}, current {current}: {now}, {lands} after {step}")
                    reader = fr.VideoReader(options.clip, device=f"cuda:{given}")
                    frames = reader.read_frames([7, 99])
                    need(frames.device.index == given, f"frames on {frames.device}, not on card {given}")
                    need(numbers_of(frames.to(f"cuda:{consumer}")) == [7, 99], "wrong frames")
                    out = torch.empty_like(frames)
                    reader.read([8, 100], out=out)
                    shared = torch.from_dlpack(fr.VideoReader(options.clip, device=f"cuda:{given}", output="dlpack").read_frames([9]))
                    need(numbers_of(out) + numbers_of(shared) == [8, 100, 9], "wrong frames by out= or DLPack")
                    augmented = fr.Augment(size=(64, 64))(frames, seed=1)
                    need(augmented.device.index == given, f"augmented frames on {augmented.device}")
                    need(fr.VideoReader(options.clip, device="cuda")[3].device.index == current, "'cuda' is not the current device")
                    del reader, frames, augmented, out, shared
                    gc.collect()
                    need(torch.cuda.current_device() == current, "the current device changed with garbage")
                    count += 1
    return f"{count} combinations of {len(cards())} cards"


@check("stray")
def stray(options):
    """A reader on one card makes no context on another."""
    if len(cards()) < 2:
        code = """
            from check_borders import Driver
            len(fr.VideoReader(clip))
            assert not Driver().has_primary(0), "reading on the CPU took the card into use"
        """
        in_new_process(code, options.clip)
        return "CPU only: one card"
    code = """
        from check_borders import Driver
        frames = fr.VideoReader(clip, device="cuda:1", output="dlpack").read_frames(range(64))
        assert not Driver().has_primary(0), "a context on card 0"
        import torch
        torch.cuda.set_device(1)
        reader = fr.VideoReader(clip, device="cuda")
        assert reader[3].device.index == 1
        [batch for batch in reader.batches(16)]
        assert not Driver().has_primary(0), "a context on card 0, with PyTorch"
    """
    in_new_process(code, options.clip)
    return "card 1 alone"


# Memory.


@check("prefetch")
def prefetch(options):
    """The usual loop: read on a side stream, record_stream, two batches ahead, every batch checked."""
    import torch

    import framerail as fr

    wanted, size = options.batches, 4
    main, side = torch.cuda.current_stream(), torch.cuda.Stream()
    numbers = Numbers("cuda")
    wrong = torch.zeros((), dtype=torch.int64, device="cuda")
    reader = fr.VideoReader(options.clip, device="cuda")

    def endless():
        while True:
            for batch in reader.batches(size, drop_last=True):
                yield batch

    source, ahead = endless(), deque()

    def fetch():
        with torch.cuda.stream(side):
            batch = next(source)
            batch.data.record_stream(main)
            ready = side.record_event()
        ahead.append((batch.data, torch.as_tensor(batch.numbers).cuda(non_blocking=True), ready))

    fetch()
    fetch()
    for turn in range(wanted):
        data, expected, ready = ahead.popleft()
        main.wait_event(ready)
        # The model: longer than the batch took to make, so that side and main stream are apart.
        torch.cuda._sleep(300_000)
        wrong += (numbers(data) != expected).sum()
        del data, expected
        fetch()
        if turn % 64 == 63:
            # Loops that log now and then.
            main.synchronize()
    total = int(wrong)
    need(total == 0, f"{total} wrong frames in {wanted} batches")
    return f"{wanted} batches of {size}, none wrong"


@check("side")
def side(options):
    """What is read on a side stream and dropped while the main stream still reads it."""
    import torch

    import framerail as fr

    reader, numbers = fr.VideoReader(options.clip, device="cuda"), Numbers("cuda")
    main, other = torch.cuda.current_stream(), torch.cuda.Stream()
    overwritten = 0
    for turn in range(12):
        first = 16 * turn % (FRAMES - 32)
        with torch.cuda.stream(other):
            data = reader.read_frames(range(first, first + 16))
        main.wait_stream(other)
        data.record_stream(main)
        torch.cuda._sleep(40_000_000)
        found = numbers(data)
        del data
        with torch.cuda.stream(other):
            for _ in range(4):
                reader.read_frames(range(200, 216))
        overwritten += found.tolist() != list(range(first, first + 16))
    need(overwritten == 0, f"{overwritten} of 12 batches were overwritten")
    return "12 batches, none overwritten"


@check("dead-streams")
def dead_streams(options):
    """Consumers' streams that are destroyed before what was read on them is dropped."""
    import torch

    import framerail as fr

    driver = Driver()
    torch.zeros(1, device="cuda")
    by_torch = fr.VideoReader(options.clip, device="cuda")
    by_dlpack = fr.VideoReader(options.clip, device="cuda", output="dlpack")
    for turn in range(50):
        handle = driver.new_stream()
        with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
            own = by_torch.read_frames([turn])
            shared = torch.from_dlpack(by_dlpack.read_frames([turn + 100]))
            copies = own.clone(), shared.clone()
            del own
        torch.cuda.synchronize()
        driver.destroy_stream(handle)
        del shared
        gc.collect()
        found = [numbers_of(copy)[0] for copy in copies]
        need(found == [turn, turn + 100], f"turn {turn}: {found}")
    capsules = [by_dlpack.read_frames([turn]).__dlpack__(stream=driver.new_stream()) for turn in range(8)]
    del capsules
    gc.collect()
    need(numbers_of(by_torch.read_frames([5, 6])) == [5, 6], "wrong frames afterwards")
    torch.cuda.synchronize()
    return "50 streams"


@check("dropped")
def dropped(options):
    """10,000 tensors are handed over and dropped; memory stays flat, and PyTorch counts what it gave."""
    import torch

    import framerail as fr

    for output in ("torch", "dlpack"):
        reader = fr.VideoReader(options.clip, device="cuda", output=output)
        handed = 0

        def hand_over(count):
            nonlocal handed
            while count > 0:
                for batch in reader.batches(1):
                    data = batch.data if output == "torch" else torch.from_dlpack(batch.data)
                    need(data.is_cuda, "not on the card")
                    del data, batch
                    handed += 1
                    count -= 1
                    if count == 0:
                        break

        hand_over(500)
        gc.collect()
        before, allocated = used(), torch.cuda.memory_allocated()
        counted = torch.cuda.memory_stats()["allocation.all.allocated"]
        hand_over(10_000 - 500)
        gc.collect()
        grown, left = used() - before, torch.cuda.memory_allocated() - allocated
        made = torch.cuda.memory_stats()["allocation.all.allocated"] - counted
        need(grown < 96 << 20, f"{output}: device memory grew by {grown >> 20} MiB")
        need(left == 0, f"{output}: PyTorch counts {left} bytes that were dropped")
        need(output == "dlpack" or made >= 9_500, f"PyTorch counts {made} allocations for 9,500 tensors")
    kept = fr.VideoReader(options.clip, device="cuda").read_frames(range(32))
    need(torch.cuda.memory_allocated() - allocated >= kept.nbytes, "a tensor that is held is not in PyTorch's count")
    return "10,000 tensors each for torch and dlpack"


@check("oom")
def oom(options):
    """Limits and a full card give one error, and reading goes on when there is room."""
    import torch

    import framerail as fr

    reader = fr.VideoReader(options.clip, device="cuda")
    reader.read_frames([0])
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    # PyTorch's own limit holds for frames.
    torch.cuda.set_per_process_memory_fraction(32 * 2**20 / total)
    try:
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            reader.read_frames(range(200))
            raise AssertionError("200 frames came in spite of a limit of 32 MiB")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    need(numbers_of(reader.read_frames([8, 9])) == [8, 9], "nothing after PyTorch's limit")
    # Memory that PyTorch keeps but does not use comes back for framerail.
    fr._framerail.release_cuda_memory(0)
    free = torch.cuda.mem_get_info()[0]
    kept = torch.empty(free - (256 << 20), dtype=torch.uint8, device="cuda")
    del kept
    need(torch.cuda.mem_get_info()[0] < 1 << 30, "PyTorch keeps nothing: this checks nothing")
    with fr.VideoReader(options.clip, device="cuda", output="dlpack") as other:
        held = [other.read_frames(range(FRAMES)) for _ in range(4)]
    need(len(held) == 4, "no frames beside PyTorch's cache")
    del held
    # A card that is full.
    fr._framerail.release_cuda_memory(0)
    torch.cuda.empty_cache()
    fill = torch.empty(torch.cuda.mem_get_info()[0] - (96 << 20), dtype=torch.uint8, device="cuda")
    errors = []
    with fr.VideoReader(options.clip, device="cuda") as full:
        for _ in range(2):
            try:
                full.read_frames(range(FRAMES))
            except (fr.CudaError, torch.cuda.OutOfMemoryError) as error:
                errors.append(str(error).splitlines()[0])
        del fill
        torch.cuda.empty_cache()
        need(numbers_of(full.read_frames([10, 239])) == [10, 239], "nothing when there was room again")
    need(len(errors) == 2 and all("memory" in error.lower() for error in errors), f"on a full card: {errors}")
    return errors[0][:100]


@check("lost")
def lost(options):
    """An error that ends the card's use in a process: one clear line, the same each time, and the process ends."""
    code = """
        import torch
        reader = fr.VideoReader(clip, device="cuda")
        reader[0]
        batches = iter(reader.batches(8))
        next(batches)
        torch.zeros(4, device="cuda")[torch.tensor([99], device="cuda")]
        lines = []
        for _ in range(3):
            try:
                reader.read_frames([100])
                print("NO ERROR")
            except fr.CudaError as error:
                lines.append(str(error))
            except RuntimeError as error:
                # PyTorch sees it first where it allocates first.
                lines.append("torch: " + str(error).splitlines()[0])
        try:
            [batch for batch in batches]
        except (fr.CudaError, RuntimeError) as error:
            lines.append("batches: " + str(error).splitlines()[0])
        try:
            fr.VideoReader(clip, device="cuda")[0]
        except (fr.CudaError, RuntimeError) as error:
            lines.append("again: " + str(error).splitlines()[0])
        print("\\n".join(lines))
    """
    printed = in_new_process(code, options.clip)
    need("NO ERROR" not in printed, "a read went through on a card that has failed")
    lines = printed.splitlines()
    ends = [line for line in lines if "cannot be used by this process" in line]
    need(len(ends) >= 3, f"no clear line:\n{printed}")
    need(all("\n" not in line and len(line) < 400 for line in ends), f"not one line: {ends}")
    return ends[0][:140]


@check("read-only")
def read_only(options):
    """Planes that must not be written are copies in PyTorch; written ones travel on, whatever stream wrote them."""
    import torch

    import framerail as fr

    side, seen = torch.cuda.Stream(), []

    @fr.stage(batch=4)
    def look(batch):
        for frame in batch:
            torch.from_dlpack(frame.planes()[0]).fill_(0)

    @fr.stage(batch=4)
    def paint(batch):
        for frame in batch:
            luma = torch.from_dlpack(frame.planes(writable=True)[0])
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                torch.cuda._sleep(3_000_000)
                luma[:BLOCK, :BLOCK] = 235
            del luma

    pipeline = fr.Pipeline(f"read '{options.clip}' ! sample every=20 ! null", device="cuda")
    pipeline.insert_after("sample", look).insert_after("look", paint)
    pipeline.on("paint", lambda items: seen.extend(np.asarray(item.rgb()) for item in items))
    pipeline.run()
    found = [numbers_of(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[0] for rgb in seen]
    need(found == [number | 1 for number in range(0, FRAMES, 20)], f"{found}")
    return f"{len(found)} frames"


# Other libraries.


@check("cupy")
def cupy(options):
    """CuPy takes frames on its stream, drops them, and gives memory for `out`."""
    if importlib.util.find_spec("cupy") is None:
        raise Skip("CuPy is not installed")
    code = """
        import cupy, gc, numpy as np
        from check_borders import picture, numbers_of, FRAMES
        import torch
        reader = fr.VideoReader(clip, device="cuda", output="dlpack")
        for turn in range(200):
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                frames = cupy.from_dlpack(reader.read_frames([turn, turn + 40]))
                copy = frames.copy()
                del frames
            other = cupy.from_dlpack(reader.read_frames([239, 238]))
            stream.synchronize()
            del stream
            assert numbers_of(cupy.asnumpy(copy)) == [turn, turn + 40], turn
            assert numbers_of(cupy.asnumpy(other)) == [239, 238]
        out = cupy.empty((2, 3, 360, 640), dtype=cupy.uint8)
        reader.read([5, 6], out=out)
        assert numbers_of(cupy.asnumpy(out)) == [5, 6]
        host = np.from_dlpack(reader.read_frames([9]), device="cpu") if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else None
        assert host is None or numbers_of(host) == [9]
        print("ok", cupy.__version__)
    """
    return in_new_process(code, options.clip).strip()


@check("jax")
def jax(options):
    """JAX takes frames."""
    if importlib.util.find_spec("jax") is None:
        raise Skip("JAX is not installed")
    code = """
        import jax, numpy as np
        from check_borders import numbers_of
        if not any(device.platform == "gpu" for device in jax.devices()):
            print("no GPU in this JAX")
            raise SystemExit
        reader = fr.VideoReader(clip, device="cuda", output="dlpack")
        for turn in range(50):
            frames = jax.dlpack.from_dlpack(reader.read_frames([turn, turn + 40]))
            doubled = frames.astype("float32") * 1.0
            del frames
            other = reader.read_frames([200])
            assert numbers_of(np.array(doubled)) == [turn, turn + 40], turn
        print("ok", jax.__version__)
    """
    printed = in_new_process(code, options.clip, XLA_PYTHON_CLIENT_PREALLOCATE="false").strip()
    if "no GPU" in printed:
        raise Skip(printed)
    return printed


@check("speed")
def speed(options):
    """Reading into PyTorch's memory beside handing over framerail's own, interleaved."""
    import torch

    import framerail as fr

    path = options.long or options.clip

    def run(output):
        torch.cuda.synchronize()
        start, frames = time.perf_counter(), 0
        with fr.VideoReader(path, device="cuda", output=output) as reader:
            for _ in range(1 if options.long else 8):
                for batch in reader.batches(32):
                    data = batch.data if output == "torch" else torch.from_dlpack(batch.data)
                    frames += data.shape[0]
        torch.cuda.synchronize()
        return frames / (time.perf_counter() - start)

    run("torch")
    run("dlpack")
    rates = {"torch": [], "dlpack": []}
    for _ in range(5):
        for output, found in rates.items():
            found.append(run(output))
    middle = {output: sorted(found)[2] for output, found in rates.items()}
    share = middle["torch"] / middle["dlpack"]
    need(share > 0.9, f"frames/s {middle}: PyTorch's memory costs {1 - share:.0%}")
    reader, single = fr.VideoReader(path, device="cuda"), []
    for number in range(0, min(len(reader), 200), 7):
        start = time.perf_counter()
        reader[number]
        torch.cuda.synchronize()
        single.append(time.perf_counter() - start)
    return f"frames/s torch {middle['torch']:.0f}, dlpack {middle['dlpack']:.0f} ({share:.3f}); one frame {1e3 * sorted(single)[len(single) // 2]:.2f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="the numbered clip; made with ffmpeg by default")
    parser.add_argument("--make", metavar="FILE", help="make the numbered clip and end")
    parser.add_argument("--long", metavar="FILE", help="a clip for the reading speed")
    parser.add_argument("--batches", type=int, default=10_000, help="batches of the prefetching loop (default: 10000)")
    parser.add_argument("--only", nargs="+", metavar="CHECK", choices=sorted(CHECKS), help="only these checks")
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    options = parser.parse_args()
    if options.list:
        for name, function in CHECKS.items():
            print(f"{name:14} {(function.__doc__ or '').splitlines()[0]}")
        return 0
    if options.make:
        make_clip(options.make)
        return 0
    import torch

    import framerail as fr

    print(f"framerail {fr.__version__}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.device_count()} cards, NumPy {np.__version__}")
    failed, passed, skipped = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        if options.clip is None:
            options.clip = os.path.join(folder, "numbers.mp4")
            make_clip(options.clip)
        began = time.perf_counter()
        for name, function in CHECKS.items():
            if options.only and name not in options.only:
                continue
            start = time.perf_counter()
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            try:
                word, said = "PASS", function(options)
                passed += 1
            except Skip as skip:
                word, said = "SKIP", skip
                skipped += 1
            except BaseException as error:  # noqa: BLE001
                traceback.print_exc()
                word, said = "FAIL", f"{type(error).__name__}: {error}"
                failed.append(name)
            faulthandler.cancel_dump_traceback_later()
            print(f"{word} {name} ({time.perf_counter() - start:.1f} s): {said}", flush=True)
            gc.collect()
        print(f"{passed} passed, {len(failed)} failed, {skipped} skipped in {time.perf_counter() - began:.0f} s {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
