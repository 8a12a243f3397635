#!/usr/bin/env python3
"""Writes reference.txt: torchvision's results for a small image, for tests/augment_reference.rs.

Needs torch and torchvision (made with torchvision 0.26.0, torch 2.11.0, on the CPU): python3 reference.py > reference.txt
Each line: parameters of the augmentation | elements in CHW order, in 1/100000.
"""

import torch
import torchvision
from torchvision.transforms.v2 import functional as F

WIDTH, HEIGHT = 23, 17
OUT_WIDTH, OUT_HEIGHT = 8, 6
CASES = [
    "crop=0,0,23,17",
    "crop=5,3,8,6",
    "crop=4,2,17,13",
    "crop=9,7,5,3 flip=hv",
    "crop=0,0,23,17 antialias=1",
    "crop=2,1,19,5 antialias=1 flip=h",
    "crop=5,3,8,6 color=brightness:1.7",
    "crop=5,3,8,6 color=contrast:0.4",
    "crop=5,3,8,6 color=contrast:1.9",
    "crop=5,3,8,6 color=saturation:0.3",
    "crop=5,3,8,6 color=saturation:2.5",
    "crop=5,3,8,6 color=hue:0.23",
    "crop=5,3,8,6 color=hue:-0.5",
    "crop=4,2,17,13 flip=v color=hue:-0.07,contrast:1.3,brightness:0.8,saturation:1.2",
    "crop=4,2,17,13 color=saturation:0.6,brightness:1.3,hue:0.1,contrast:1.5 grayscale=1",
    "crop=5,3,8,6 grayscale=1",
    "crop=5,3,8,6 blur=5x3:1.1,0.6",
    "crop=5,3,8,6 blur=15x11:4,3",
    "crop=3,2,16,12 antialias=1 flip=h color=brightness:0.9,hue:0.05,contrast:1.2,saturation:1.4 blur=3x3:0.8,0.8 "
    "norm=0.485,0.456,0.406/0.229,0.224,0.225 erase=1,2,5,3:0.5,-1,2",
]


def picture():
    """Returns an image of half gradient, half noise; the test makes the same."""
    state, rows = 1, []
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for channel in range(3):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                slope = (x * 11 * (channel + 1) + y * 7 * (3 - channel)) % 256
                rows.append((slope + (state >> 33) % 256) // 2)
    return torch.tensor(rows, dtype=torch.uint8).reshape(HEIGHT, WIDTH, 3).permute(2, 0, 1)


ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def augmented(case):
    numbers = dict(word.split("=") for word in case.split())
    image = F.to_dtype(picture(), torch.float32, scale=True)
    left, top, width, height = map(int, numbers["crop"].split(","))
    antialias = "antialias" in numbers
    image = F.resized_crop(image, top, left, height, width, [OUT_HEIGHT, OUT_WIDTH], antialias=antialias)
    if "h" in numbers.get("flip", ""):
        image = F.horizontal_flip(image)
    if "v" in numbers.get("flip", ""):
        image = F.vertical_flip(image)
    for step in filter(None, numbers.get("color", "").split(",")):
        name, amount = step.split(":")
        image = ADJUST[name](image, float(amount))
    if "grayscale" in numbers:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if "blur" in numbers:
        kernel, sigma = numbers["blur"].split(":")
        image = F.gaussian_blur(image, [int(side) for side in kernel.split("x")], [float(side) for side in sigma.split(",")])
    if "norm" in numbers:
        mean, std = ([float(part) for part in parts.split(",")] for parts in numbers["norm"].split("/"))
        image = F.normalize(image, mean, std)
    if "erase" in numbers:
        place, fill = numbers["erase"].split(":")
        left, top, width, height = map(int, place.split(","))
        image = F.erase(image, top, left, height, width, torch.tensor([float(part) for part in fill.split(",")])[:, None, None])
    return image


def main():
    print(f"# torchvision {torchvision.__version__.split('+')[0]}, torch {torch.__version__.split('+')[0]}; made by reference.py")
    for case in CASES:
        elements = " ".join(str(round(value * 100000)) for value in augmented(case).flatten().tolist())
        print(f"{case} | {elements}")


if __name__ == "__main__":
    main()
