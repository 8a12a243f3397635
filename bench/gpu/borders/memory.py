"""Who may use memory when, and what happens when there is none."""

from __future__ import annotations

import contextlib
import gc
from collections import deque

from .checks import check, in_new_process, need
from .clip import FRAMES, Numbers, numbers_of
from .driver import Driver, used


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
