"""Whose CUDA context is current, and on which device memory lies."""

from __future__ import annotations

import gc
import threading

from .checks import check, in_new_process, need
from .clip import numbers_of
from .driver import Driver, cards


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
            from borders.driver import Driver
            len(fr.VideoReader(clip))
            assert not Driver().has_primary(0), "reading on the CPU took the card into use"
        """
        in_new_process(code, options.clip)
        return "CPU only: one card"
    code = """
        from borders.driver import Driver
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
