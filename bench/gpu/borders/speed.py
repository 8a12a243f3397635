"""What the borders cost."""

from __future__ import annotations

import time

from .checks import check, need


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
