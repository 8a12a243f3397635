"""SSD300 from video to boxes by the stage `torch` of a pipeline, or by a plain loop with the same model. Prints one line of JSON.

    python3 torch_stage.py CLIP                                    # on a card: fp16, channels-last, batches of 32
    python3 torch_stage.py CLIP --workflow loop                    # the same model and batches in a loop over VideoReader
    python3 torch_stage.py CLIP --device cpu --frames 96 --batch 8

The model is that of ssd_workflows.py, and so is what is done with its outputs: thresholds and NMS on the device, boxes to the
host. A warm-up of two batches comes before the clock. The line: peer, job, clip, version, count (frames), boxes, seconds,
frames_per_s, upload_bytes and download_bytes (by the run's statistics; pictures stay on the card when both are 0), device_mb
(see peers.py).
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
from ssd300 import CONFIDENCE, IOU, MAX_DETECTIONS, SIZE, BackboneAndHead, default_boxes, detector

#: torchvision's transform: values of 0 to 255 less the mean.
MEAN = (0.48235, 0.45882, 0.40784)
PREPROCESS = fr.Preprocess(size=(SIZE, SIZE), normalize=fr.Normalize(MEAN, (1 / 255,) * 3))


class Network(torch.nn.Module):
    """The network, and boxes out of what it gives."""

    def __init__(self, device: str):
        super().__init__()
        model = detector().to(device)
        self.anchors, self.coder = default_boxes(model, device), model.box_coder
        self.network = BackboneAndHead(model)
        if device != "cpu":
            self.network = self.network.half().to(memory_format=torch.channels_last)
        self.is_half = device != "cpu"

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(images.to(memory_format=torch.channels_last) if self.is_half else images)

    def boxes(self, outputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Boxes in pixels of the input, scores, labels and pictures of what is left, on the host."""
        regression, logits = outputs
        scores = logits.float().softmax(-1)[..., 1:]
        image, anchor, label = (scores > CONFIDENCE).nonzero(as_tuple=True)
        kept_scores = scores[image, anchor, label]
        boxes = self.coder.decode_single(regression[image, anchor].float(), self.anchors[anchor])
        kept = torchvision.ops.batched_nms(boxes, kept_scores, image * scores.shape[-1] + label, IOU)
        if kept.numel():
            kept = torch.cat([kept[image[kept] == i][:MAX_DETECTIONS] for i in image[kept].unique()])
        return boxes[kept].cpu(), kept_scores[kept].cpu(), label[kept].cpu() + 1, image[kept].cpu()


def by_stage(network: Network, clip: str, device: str, batch: int) -> Callable[[int | None], tuple[int, int, dict]]:
    def decode(outputs: tuple[torch.Tensor, torch.Tensor], frames: fr.Batch) -> list[dict]:
        boxes, scores, labels, image = network.boxes(outputs)
        boxes = frames.to_frame(boxes)
        return [{"boxes": boxes[image == i], "scores": scores[image == i], "labels": labels[image == i]} for i in range(len(frames))]

    def work(most: int | None) -> tuple[int, int, dict]:
        part = f"! sample every=1 count={most} " if most else ""
        pipeline = fr.Pipeline(f"read '{clip}' device={device} {part}! torch ssd batch={batch} ! null")
        stats = pipeline.model("ssd", network, preprocess=PREPROCESS, postprocess=decode).run()
        counters = next(stage for stage in stats["stages"] if stage["name"] == "torch")["counters"]
        return counters["frames_analysed"], counters["detections"], stats

    return work


def by_loop(network: Network, clip: str, device: str, batch: int) -> Callable[[int | None], tuple[int, int, dict]]:
    dtype = "float16" if device != "cpu" else "float32"
    options = {**PREPROCESS.options, "dtype": dtype}

    @torch.inference_mode()
    def work(most: int | None) -> tuple[int, int, dict]:
        frames = boxes = 0
        with fr.VideoReader(clip, device=device, **options) as reader:
            for images in reader.batches(batch, stop=most):
                boxes += len(network.boxes(network(images.data))[0])
                frames += len(images)
        return frames, boxes, {}

    return work


WORKFLOWS = {"stage": by_stage, "loop": by_loop}


def copied(stats: dict, kind: str) -> int:
    return sum(copy["bytes"] for stage in stats.get("stages", []) for copy in stage.get("copies", []) if copy["kind"] == kind)


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
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        print("torch_stage: PyTorch sees no CUDA device here; nothing was measured", file=sys.stderr)
        return 1
    print(json.dumps(measure(given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
