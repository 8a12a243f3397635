"""Transforms that a decoder applies, under TorchCodec's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Dict, List, NamedTuple, Optional, Tuple, Type, Union

import torch

Size = Tuple[int, int]


class DecoderTransform:
    """A transform that is applied before frames are returned."""


class Resize(DecoderTransform):
    """Resizes to (height, width), bilinear with antialiasing."""

    def __init__(self, size: Sequence[int]) -> None:
        if len(size) != 2:
            raise ValueError(f"Resize transform must have a (height, width) pair for the size, got {size}.")
        self.size: Size = (int(size[0]), int(size[1]))


class CenterCrop(DecoderTransform):
    """Takes the middle of this (height, width)."""

    def __init__(self, size: Sequence[int]) -> None:
        if len(size) != 2:
            raise ValueError(f"CenterCrop transform must have a (height, width) pair for the size, got {size}.")
        self.size: Size = (int(size[0]), int(size[1]))

    def _place(self, height: int, width: int) -> Tuple[int, int]:
        return round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)


class RandomCrop(CenterCrop):
    """Takes a part of this (height, width) at a place that PyTorch's generator chooses, once for each decoder."""

    def _place(self, height: int, width: int) -> Tuple[int, int]:
        rows, columns = height - self.size[0], width - self.size[1]
        return int(torch.randint(0, rows + 1, size=(1,)).item()), int(torch.randint(0, columns + 1, size=(1,)).item())


class Plan(NamedTuple):
    """What the reader does, and what is done to its frames [N, C, H, W] afterwards."""

    #: x, y, width, height.
    crop: Optional[Tuple[int, int, int, int]]
    size: Optional[Size]
    rest: List[Callable[[torch.Tensor], torch.Tensor]]


def plan(transforms: Sequence[Union[DecoderTransform, torch.nn.Module]], height: int, width: int) -> Plan:
    """Splits transforms into a crop and a resize of the reader, and further ones."""
    crop: Optional[Tuple[int, int, int, int]] = None
    size: Optional[Size] = None
    rest: List[Callable[[torch.Tensor], torch.Tensor]] = []
    rows, columns = height, width
    for given in transforms:
        step = _own(given)
        if isinstance(step, Resize):
            if size is None and not rest:
                size = step.size
            else:
                rest.append(_resized(step.size))
            rows, columns = step.size
            continue
        if step.size[0] > rows or step.size[1] > columns:
            raise ValueError(f"{type(step).__name__}: {step.size} is larger than the frame, which is {(rows, columns)}")
        top, left = step._place(rows, columns)
        if crop is None and size is None and not rest:
            crop = (left, top, step.size[1], step.size[0])
        else:
            rest.append(_cut(top, left, step.size))
        rows, columns = step.size
    return Plan(crop, size, rest)


def _own(given: Union[DecoderTransform, torch.nn.Module]) -> Union[Resize, CenterCrop]:
    """A transform of torchvision's as one of these."""
    if isinstance(given, Resize):
        return given
    if isinstance(given, CenterCrop):
        return given
    kinds: Dict[str, Type[Union[Resize, CenterCrop]]] = {"Resize": Resize, "CenterCrop": CenterCrop, "RandomCrop": RandomCrop}
    own = kinds.get(type(given).__name__)
    if own is None:
        raise ValueError(f"Unsupported transform: {given}. Give Resize, CenterCrop or RandomCrop, and apply others to the frames.")
    for name, (allowed, words) in _TORCHVISION[type(given).__name__].items():
        value = getattr(given, name, allowed)
        # Interpolations are an enum.
        if getattr(value, "value", value) != allowed:
            raise ValueError(f"{type(given).__name__} transform {words}, got {name}={value}.")
    size: Union[None, int, Sequence[int]] = getattr(given, "size", None)
    if size is None:
        raise ValueError(f"{type(given).__name__} transform must have a size specified.")
    return own([size] if isinstance(size, int) else size)


#: What of torchvision's transforms is taken: for each option the value, and the words about others.
_TORCHVISION: Dict[str, Dict[str, Tuple[object, str]]] = {
    "Resize": {
        "interpolation": ("bilinear", "must use bilinear interpolation"),
        "antialias": (True, "must have antialias enabled"),
    },
    "CenterCrop": {},
    "RandomCrop": {
        "padding": (None, "must not specify padding"),
        "pad_if_needed": (False, "must not specify pad_if_needed"),
        "fill": (0, "fill must be 0"),
        "padding_mode": ("constant", "padding_mode must be constant"),
    },
}


def _resized(size: Size) -> Callable[[torch.Tensor], torch.Tensor]:
    def resize(data: torch.Tensor) -> torch.Tensor:
        floats = torch.nn.functional.interpolate(data.to(torch.float32), size=size, mode="bilinear", antialias=True)
        return floats if data.is_floating_point() else floats.round().clamp(0, 255).to(data.dtype)

    return resize


def _cut(top: int, left: int, size: Size) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda data: data[..., top : top + size[0], left : left + size[1]]


__all__ = ["CenterCrop", "DecoderTransform", "RandomCrop", "Resize"]
