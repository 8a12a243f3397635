"""SSD300 with random weights from a fixed seed: the same model for every workflow. Shared by the scripts here."""

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
