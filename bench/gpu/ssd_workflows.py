"""The two usual ways to detect in a video with Python, timed: 1080p in, SSD300's boxes out. Prints one line of JSON.

    python3 ssd_workflows.py CLIP --workflow typical [--frames 960] [--json OUT]

    typical     OpenCV decodes on the CPU, each frame is uploaded and goes alone through torchvision's model in fp32
    optimised   TorchCodec decodes on NVDEC, batches of 32 in fp16 and channels-last, thresholds and NMS on the device

Both end with boxes in host memory. A warm-up of a few batches comes before the clock. The line: peer, job, clip,
version, count (frames), boxes, seconds, frames_per_s, device_mb (see peers.py), torch_mb (PyTorch's own tensors).
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peers import device_memory, report
from ssd300 import SIZE, BackboneAndHead, detector, survivors

BATCH = 32
MEAN = (0.48235, 0.45882, 0.40784)


def typical(clip: str) -> Callable[[int | None], tuple[int, int]]:
    """Gives a function that takes the most frames to read and returns frames and boxes."""
    import cv2

    model = detector().cuda()

    @torch.no_grad()
    def work(most: int | None) -> tuple[int, int]:
        capture, frames, boxes = cv2.VideoCapture(clip), 0, 0
        while most is None or frames < most:
            done, image = capture.read()
            if not done:
                break
            tensor = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1).float().div(255).cuda()
            found = model([tensor])[0]
            boxes += found["boxes"].cpu().shape[0]
            found["scores"].cpu(), found["labels"].cpu()
            frames += 1
        return frames, boxes

    return work


def optimised(clip: str) -> Callable[..., tuple[int, int]]:
    """As `typical`; `keep` is called with each batch's first frame and what `survivors` gave."""
    from torchcodec.decoders import VideoDecoder

    model = detector().cuda()
    boxes_of = survivors(model, "cuda")
    network = BackboneAndHead(model).half().to(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device="cuda", dtype=torch.float16).view(1, 3, 1, 1) * 255

    @torch.no_grad()
    def work(most: int | None, keep: Callable | None = None) -> tuple[int, int]:
        decoder = VideoDecoder(clip, device="cuda:0", seek_mode="approximate")
        length, frames, boxes = min(len(decoder), most or len(decoder)), 0, 0
        for first in range(0, length, BATCH):
            pictures = decoder.get_frames_in_range(first, min(first + BATCH, length)).data
            images = torch.nn.functional.interpolate(pictures.half(), (SIZE, SIZE), mode="bilinear").sub_(mean)
            regression, logits = network(images.to(memory_format=torch.channels_last))
            found = boxes_of(regression, logits)
            if keep is not None:
                keep(first, found)
            boxes += len(found[0])
            frames += pictures.shape[0]
        return frames, boxes

    return work


WORKFLOWS = {"typical": typical, "optimised": optimised}


def measure(workflow: str, clip: str, most: int | None) -> dict:
    torch.backends.cudnn.benchmark = True
    work = WORKFLOWS[workflow](clip)
    work(2 * BATCH)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    with device_memory() as used:
        began = time.perf_counter()
        frames, boxes = work(most)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return {
        "peer": workflow,
        "job": "ssd300",
        "clip": Path(clip).name,
        "version": f"PyTorch {torch.__version__}",
        "count": frames,
        "boxes": boxes,
        "seconds": round(seconds, 4),
        "frames_per_s": round(frames / seconds, 2),
        "device_mb": round(used[0]),
        "torch_mb": torch.cuda.max_memory_allocated() >> 20,
    }


def main() -> int:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--workflow", choices=WORKFLOWS, required=True)
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    parser.add_argument("--json", type=Path, help="write the line to this file as well")
    arguments = parser.parse_args()
    return report("ssd_workflows", lambda: measure(arguments.workflow, arguments.clip, arguments.frames), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
