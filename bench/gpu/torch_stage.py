"""SSD300 from video to boxes by the stage `torch` of a pipeline, or by a plain loop with the same model. Prints one line of JSON.

    python3 torch_stage.py CLIP                                    # on a card: fp16, channels-last, batches of 32
    python3 torch_stage.py CLIP --workflow loop                    # the same model and batches in a loop over VideoReader
    python3 torch_stage.py CLIP --device cpu --frames 96 --batch 8
    python3 torch_stage.py CLIP --check                            # the stage's boxes against those of the other workflows

The model is that of ssd_workflows.py, and so is what is done with its outputs: thresholds and NMS on the device, boxes to the
host. A warm-up of two batches comes before the clock. The line: peer, job, clip, version, count (frames), boxes, seconds,
frames_per_s, upload_bytes and download_bytes (by the run's statistics; pictures stay on the card when both are 0), device_mb
(see peers.py).

--check prints for each other workflow (the loop; on a card also `optimised` of ssd_workflows.py, with its own decoding and resizing) how
many of its boxes the stage has too, of the same label and with an overlap of at least 0.98, and of at least 0.9.
"""

import argparse
import contextlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import framerail as fr
import torch
import torchvision
from ssd300 import SIZE, BackboneAndHead, detector, survivors

#: torchvision's transform: values of 0 to 255 less the mean.
MEAN = (0.48235, 0.45882, 0.40784)
PREPROCESS = fr.Preprocess(size=(SIZE, SIZE), normalize=fr.Normalize(MEAN, (1 / 255,) * 3))


class Network(torch.nn.Module):
    """The network, in half precision and channels-last on a card, and what makes boxes of its outputs."""

    def __init__(self, device: str):
        super().__init__()
        model = detector().to(device)
        self.survivors = survivors(model, device)
        self.network = BackboneAndHead(model)
        self.is_half = device != "cpu"
        if self.is_half:
            self.network = self.network.half().to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(images.to(memory_format=torch.channels_last) if self.is_half else images)


def by_stage(network: Network, clip: str, device: str, batch: int) -> Callable[..., tuple[int, int, dict]]:
    keep: Callable | None = None

    def decode(outputs: tuple[torch.Tensor, torch.Tensor], frames: fr.Batch) -> list[dict]:
        boxes, scores, labels, image = found = network.survivors(*outputs)
        if keep is not None:
            keep(frames[0].index, found)
        order, counts = image.argsort(stable=True), image.bincount(minlength=len(frames)).tolist()
        parts = [values[order].split(counts) for values in (frames.to_frame(boxes), scores, labels)]
        return [dict(zip(("boxes", "scores", "labels"), found)) for found in zip(*parts)]

    def work(most: int | None, on_boxes: Callable | None = None) -> tuple[int, int, dict]:
        nonlocal keep
        keep = on_boxes
        part = f"! sample every=1 count={most} " if most else ""
        pipeline = fr.Pipeline(f"read '{clip}' device={device} {part}! torch ssd batch={batch} pad=yes ! null")
        stats = pipeline.model("ssd", network, preprocess=PREPROCESS, postprocess=decode).run()
        counters = next(stage for stage in stats["stages"] if stage["name"] == "torch")["counters"]
        return counters["frames_analysed"], counters["detections"], stats

    return work


def by_loop(network: Network, clip: str, device: str, batch: int) -> Callable[..., tuple[int, int, dict]]:
    dtype = "float16" if device != "cpu" else "float32"
    options = {**PREPROCESS.options, "dtype": dtype}

    @torch.inference_mode()
    def work(most: int | None, keep: Callable | None = None) -> tuple[int, int, dict]:
        frames = boxes = 0
        with fr.VideoReader(clip, device=device, **options) as reader:
            for images in reader.batches(batch, stop=most):
                found = network.survivors(*network(images.data))
                if keep is not None:
                    keep(frames, found)
                boxes += len(found[0])
                frames += len(images)
        return frames, boxes, {}

    return work


WORKFLOWS = {"stage": by_stage, "loop": by_loop}


def copied(stats: dict, kind: str) -> int:
    return sum(copy["bytes"] for stage in stats.get("stages", []) for copy in stage.get("copies", []) if copy["kind"] == kind)


class Found:
    """Boxes and labels of a workflow by frame."""

    def __init__(self, work: Callable, most: int | None):
        self.by_frame: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        work(most, self.keep)

    def keep(self, first: int, found: tuple[torch.Tensor, ...]) -> None:
        boxes, _, labels, image = found
        for place in image.unique().tolist():
            self.by_frame[first + place] = (boxes[image == place], labels[image == place])

    def shares_in(self, other: "Found") -> dict:
        best = []
        for frame, (boxes, labels) in self.by_frame.items():
            others, other_labels = other.by_frame.get(frame, (boxes[:0], labels[:0]))
            overlap = torchvision.ops.box_iou(boxes, others) * (labels[:, None] == other_labels)
            best.append(overlap.amax(dim=1) if len(others) else torch.zeros(len(boxes)))
        overlaps = torch.cat(best)
        return {f"overlap_{least}": round((overlaps >= least).float().mean().item(), 4) for least in (0.98, 0.9)} | {"boxes": len(overlaps)}


def check(given: argparse.Namespace) -> dict:
    network = Network(given.device).eval()
    stage = Found(by_stage(network, given.clip, given.device, given.batch), given.frames)
    others = {"loop": Found(by_loop(network, given.clip, given.device, given.batch), given.frames)}
    if given.device != "cpu":
        from ssd_workflows import optimised

        others["optimised"] = Found(optimised(given.clip), given.frames)
    return {"job": "ssd300-boxes", "clip": Path(given.clip).name} | {name: found.shares_in(stage) for name, found in others.items()}


def measure(given: argparse.Namespace) -> dict:
    is_on_card = given.device != "cpu"
    torch.backends.cudnn.benchmark = True
    network = Network(given.device).eval()
    work = WORKFLOWS[given.workflow](network, given.clip, given.device, given.batch)
    work(2 * given.batch)
    memory = contextlib.nullcontext([0])
    if is_on_card:
        from peers import device_memory

        torch.cuda.synchronize()
        memory = device_memory()
    with memory as used:
        began = time.perf_counter()
        frames, boxes, stats = work(given.frames)
        if is_on_card:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return {
        "peer": "framerail-torch" if given.workflow == "stage" else "framerail-reader-loop",
        "job": "ssd300",
        "clip": Path(given.clip).name,
        "version": f"framerail {fr.__version__}, PyTorch {torch.__version__}",
        "count": frames,
        "boxes": boxes,
        "seconds": round(seconds, 4),
        "frames_per_s": round(frames / seconds, 2),
        "upload_bytes": copied(stats, "upload"),
        "download_bytes": copied(stats, "download"),
        **({"device_mb": round(used[0])} if is_on_card else {}),
    }


def main() -> int:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--workflow", choices=WORKFLOWS, default="stage")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    parser.add_argument("--check", action="store_true", help="compare boxes with those of the other workflows instead")
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        print("torch_stage: PyTorch sees no CUDA device here; nothing was measured", file=sys.stderr)
        return 1
    print(json.dumps(check(given) if given.check else measure(given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
