"""SSD300 from torchvision behind a video: from a file to boxes in a file.

    python ssd_torch.py IN.mp4 boxes.parquet                          # torchvision's weights, which it downloads
    python ssd_torch.py IN.mp4 boxes.jsonl --weights weights.pth      # your own
    python ssd_torch.py IN.mp4 boxes.jsonl --weights none             # random ones, to try it out
    python ssd_torch.py IN.mp4 boxes.jsonl --device cuda --half

Needs PyTorch and torchvision. On a card, frames are decoded there and stay there; only boxes come to the host.
"""

from __future__ import annotations

import argparse
from collections import Counter

import framerail as fr
import torch
from torchvision.models.detection import SSD300_VGG16_Weights, ssd300_vgg16

#: torchvision's model takes 0 to 1 and normalises itself; at this size it has nothing left to resize.
PREPROCESS = fr.Preprocess(size=(300, 300), normalize=True)
LABELS = SSD300_VGG16_Weights.COCO_V1.meta["categories"]


def detector(weights: str = "coco", confidence: float = 0.4) -> torch.nn.Module:
    """torchvision's SSD300 with VGG16. `weights` is "coco", "none" or a file of a state dict."""
    torch.manual_seed(0)
    pretrained = SSD300_VGG16_Weights.COCO_V1 if weights == "coco" else None
    model: torch.nn.Module = ssd300_vgg16(weights=pretrained, weights_backbone=None, score_thresh=confidence)
    if weights not in ("coco", "none"):
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def count(batch: fr.ItemBatch, counts: Counter[str]) -> None:
    """A stage function: sees what was found and lets everything travel on."""
    counts.update(found.label for frame in batch for found in frame.detections)


def detect(source: str, target: str, model: torch.nn.Module, device: str = "cpu", batch: int = 8, half: bool = False) -> Counter[str]:
    """Writes the boxes of a video to a file; gives how many of each class there were."""
    counts: Counter[str] = Counter()
    pipeline = fr.Pipeline(f"read '{source}' ! torch ssd batch={batch} ! save '{target}'", device=device)
    pipeline.model("ssd", model, preprocess=PREPROCESS, labels=LABELS, autocast="float16" if half else None)
    pipeline.insert_after("ssd", fr.stage(batch=batch, pixels=False)(lambda frames: count(frames, counts)), name="count")
    stats = pipeline.run(progress=True)
    print(f"{stats['stages'][0]['frames_out']} frames, {sum(counts.values())} boxes, {stats['wall_secs']:.1f} s")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="SSD300 from torchvision behind a video: from a file to boxes in a file.")
    parser.add_argument("source")
    parser.add_argument("target", help="ends in .jsonl, .csv or .parquet")
    parser.add_argument("--weights", default="coco")
    parser.add_argument("--confidence", type=float, default=0.4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--half", action="store_true", help="float16, by torch.autocast")
    given = parser.parse_args()
    model = detector(given.weights, given.confidence)
    for label, found in detect(given.source, given.target, model, given.device, given.batch, given.half).most_common():
        print(f"{found:6d} {label}")


if __name__ == "__main__":
    main()
