"""SSD300 with random weights from a fixed seed: the same model for every workflow. Shared by the scripts here."""

from collections.abc import Callable

import torch
import torchvision

SEED = 0
SIZE = 300
CONFIDENCE = 0.4
IOU = 0.45
MAX_DETECTIONS = 200
CLASSES = 91
# Random weights see more than a thousand objects in a frame. With this much more background, the clips of
# make_clips.sh have about 20 candidates and 8 boxes a frame, as footage has with trained weights.
BACKGROUND_BIAS = 24.0


def detector() -> torch.nn.Module:
    """torchvision's SSD300-VGG16 on the CPU, with the thresholds of models/ssd300.toml; nothing is downloaded."""
    torch.manual_seed(SEED)
    model = torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, score_thresh=CONFIDENCE, nms_thresh=IOU, detections_per_img=MAX_DETECTIONS
    ).eval()
    with torch.no_grad():
        for layer in model.head.classification_head.module_list:
            # Channels are anchors times classes; the background is class 0.
            layer.bias.view(-1, CLASSES)[:, 0] += BACKGROUND_BIAS
    return model


class BackboneAndHead(torch.nn.Module):
    """The network without torchvision's own resizing and post-processing.

    Input: (N, 3, 300, 300), RGB, less the mean and times 255 as torchvision's transform does it.
    Outputs: bbox_regression (N, 8732, 4) and cls_logits (N, 8732, 91).
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.backbone = model.backbone
        self.head = model.head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.head(list(self.backbone(images).values()))
        return raw["bbox_regression"], raw["cls_logits"]


def default_boxes(model: torch.nn.Module, device: str) -> torch.Tensor:
    """The 8,732 anchors in pixels of the input: (8732, 4), x1 y1 x2 y2."""
    from torchvision.models.detection.image_list import ImageList

    with torch.no_grad():
        images = torch.zeros(1, 3, SIZE, SIZE, device=device)
        maps = list(model.backbone(images).values())
        return model.anchor_generator(ImageList(images, [(SIZE, SIZE)]), maps)[0]


def survivors(model: torch.nn.Module, device: str) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]:
    """What makes boxes of a batch's outputs: threshold first, then boxes and NMS for what is left, all on the device.

    Gives boxes in pixels of the input (K, 4), scores, labels and the pictures they are of (K), by falling score, in host memory.
    """
    anchors, coder = default_boxes(model, device), model.box_coder

    def work(regression: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = logits.float().softmax(-1)[..., 1:]
        image, anchor, label = (scores > CONFIDENCE).nonzero(as_tuple=True)
        kept_scores = scores[image, anchor, label]
        boxes = coder.decode_single(regression[image, anchor].float(), anchors[anchor])
        # One NMS for the whole batch: boxes of different images or labels never meet.
        kept = torchvision.ops.batched_nms(boxes, kept_scores, image * scores.shape[-1] + label, IOU)
        # Everything is downloaded in one copy and counted here: on the device, each frame would be a wait.
        rows = torch.cat([boxes, kept_scores[:, None], label[:, None] + 1, image[:, None]], dim=1)[kept].cpu()
        images = rows[:, 6].long()
        if len(rows) and images.bincount().max() > MAX_DETECTIONS:
            rows = torch.cat([rows[images == i][:MAX_DETECTIONS] for i in images.unique()])
        return rows[:, :4], rows[:, 4], rows[:, 5].long(), rows[:, 6].long()

    return work
