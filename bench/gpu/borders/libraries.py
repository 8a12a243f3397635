"""Frames in other libraries."""

from __future__ import annotations

import importlib.util

import numpy as np

from .checks import Skip, check, in_new_process, need
from .clip import BLOCK, FRAMES, numbers_of


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




@check("cupy")
def cupy(options):
    """CuPy takes frames on its stream, drops them, and gives memory for `out`."""
    if importlib.util.find_spec("cupy") is None:
        raise Skip("CuPy is not installed")
    code = """
        import cupy, gc, numpy as np
        from borders.clip import numbers_of
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
        from borders.clip import numbers_of
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
