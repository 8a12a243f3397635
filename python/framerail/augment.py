"""Augmentation for training, on the device of the images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Union

from . import _framerail, arrays
from .lazy import np
from .options import Normalize, bad, choice, dtype_name, flag, real, sides, whole

if TYPE_CHECKING:
    from .types import DType, Images

Range = Tuple[float, float]


def _around(option: str, value: Any, middle: float, lowest: float) -> Optional[Range]:
    """A range given as two numbers, or as one around the middle."""
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise bad(option, value, "one number or (lowest, highest)")
        return (real(option, value[0], "numbers"), real(option, value[1], "numbers"))
    spread = real(option, value, "a number from 0, or (lowest, highest)")
    return (max(lowest, middle - spread), middle + spread)


@dataclass(frozen=True)
class ColorJitter:
    """Adjustments of colour in a random order, as torchvision's ``ColorJitter``.

    Parameters
    ----------
    brightness, contrast, saturation : float or (lowest, highest), optional
        Factors; one number b means (max(0, 1 - b), 1 + b).
    hue : float or (lowest, highest), optional
        Turns within -0.5 to 0.5; one number h means (-h, h).
    probability : float
        Of any of them, 0 to 1.
    """

    brightness: Union[float, Range, None] = None
    contrast: Union[float, Range, None] = None
    saturation: Union[float, Range, None] = None
    hue: Union[float, Range, None] = None
    probability: float = 1.0

    def _plain(self) -> Dict[str, Any]:
        factors = {name: _around(name, getattr(self, name), 1.0, 0.0) for name in ("brightness", "contrast", "saturation")}
        return {**factors, "hue": _around("hue", self.hue, 0.0, -0.5), "probability": self.probability}


@dataclass(frozen=True)
class RandomResizedCrop:
    """A window of random area and aspect ratio at a random position, as torchvision's ``RandomResizedCrop``.

    Parameters
    ----------
    area : (lowest, highest)
        As a part of the image's.
    aspect_ratio : (lowest, highest)
        Width over height.
    """

    area: Range = (0.08, 1.0)
    aspect_ratio: Range = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class RandomBlur:
    """A Gaussian blur of random strength, as torchvision's ``GaussianBlur``.

    Parameters
    ----------
    kernel : int or (rows, columns)
        Odd sides, at most 127.
    sigma : (lowest, highest)
        Standard deviation in pixels of the output.
    probability : float
        0 to 1.
    """

    kernel: Union[int, Tuple[int, int]] = 9
    sigma: Range = (0.1, 2.0)
    probability: float = 1.0

    def _plain(self) -> Dict[str, Any]:
        kernel = self.kernel if isinstance(self.kernel, (tuple, list)) else (self.kernel, self.kernel)
        return {"kernel": kernel, "sigma": self.sigma, "probability": self.probability}


@dataclass(frozen=True)
class RandomErase:
    """Overwrites a rectangle at a random position, as torchvision's ``RandomErasing`` (cut-out).

    Parameters
    ----------
    area : (lowest, highest)
        As a part of the output's area.
    aspect_ratio : (lowest, highest)
        Height over width.
    fill : float or three floats
        The value of its elements, after normalisation.
    probability : float
        0 to 1.
    """

    area: Range = (0.02, 0.33)
    aspect_ratio: Range = (0.3, 3.3)
    fill: Union[float, Sequence[float]] = 0.0
    probability: float = 0.5

    def _plain(self) -> Dict[str, Any]:
        fill = (self.fill,) * 3 if isinstance(self.fill, (int, float)) else tuple(self.fill)
        return {"area": self.area, "aspect_ratio": self.aspect_ratio, "fill": fill, "probability": self.probability}


class Augment:
    """Random augmentation of images, drawn from a seed: the same for all frames of a clip, unless ``scope="frame"``.

    Order: crop and resize, flips, colour, grey, blur, normalisation, erasure, with torchvision's formulas. On a GPU a
    batch takes one or a few kernel launches. The same seed gives the same images on every machine.

    Parameters
    ----------
    crop : (height, width) or RandomResizedCrop, optional
        A window of this size at a random position, or of random size; not cropped by default.
    size : (height, width) or int, optional
        Size of the output; the crop's by default. One number is for both sides.
    antialias : bool
        Weigh all pixels when scaling down.
    flip_horizontal, flip_vertical : float
        Probability of a horizontal and a vertical flip.
    color_jitter : ColorJitter, optional
    grayscale : float
        Probability of conversion to grey.
    blur : RandomBlur, optional
    erase : RandomErase, optional
    scope : str
        "clip" draws once for all frames of a clip, "frame" once per frame.
    layout, dtype, normalize
        Format of the output, as in ``VideoReader``. Without ``normalize``, uint8 is 0 to 255 and other types are 0 to 1.

    Raises
    ------
    ValueError
        For invalid ranges and probabilities.

    Examples
    --------
    >>> import framerail as fr
    >>> augment = fr.Augment(crop=fr.RandomResizedCrop(), size=(224, 224), flip_horizontal=0.5)
    >>> images = augment(clips.data, seed=7)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        crop: Union[None, Tuple[int, int], RandomResizedCrop] = None,
        size: Union[None, int, Tuple[int, int]] = None,
        antialias: bool = True,
        flip_horizontal: float = 0.0,
        flip_vertical: float = 0.0,
        color_jitter: Optional[ColorJitter] = None,
        grayscale: float = 0.0,
        blur: Optional[RandomBlur] = None,
        erase: Optional[RandomErase] = None,
        scope: str = "clip",
        layout: str = "TCHW",
        dtype: DType = "float32",
        normalize: Optional[Normalize] = None,
    ) -> None:
        dtype = dtype_name(dtype)
        if normalize is not None and dtype == "uint8":
            raise bad("normalize", normalize, "a dtype of 'float16', 'bfloat16' or 'float32' with it")
        for name, value, kind in (("color_jitter", color_jitter, ColorJitter), ("blur", blur, RandomBlur), ("erase", erase, RandomErase)):
            if value is not None and not isinstance(value, kind):
                raise bad(name, value, f"None or a framerail.{kind.__name__}")
        if isinstance(crop, RandomResizedCrop):
            window: Any = {"resized": {"area": _pair("area", crop.area), "aspect_ratio": _pair("aspect_ratio", crop.aspect_ratio)}}
        else:
            window = "whole" if crop is None else {"window": sides("crop", crop)}
        mean, std = (normalize.mean, normalize.std) if normalize else ((0.0,) * 3, (1.0,) * 3)
        self._given = {
            "crop": window,
            "size": sides("size", size),
            "antialias": flag("antialias", antialias),
            "flip_horizontal": real("flip_horizontal", flip_horizontal, "a probability, 0 to 1"),
            "flip_vertical": real("flip_vertical", flip_vertical, "a probability, 0 to 1"),
            "color_jitter": color_jitter._plain() if color_jitter else None,
            "grayscale": real("grayscale", grayscale, "a probability, 0 to 1"),
            "blur": blur._plain() if blur else None,
            "erase": erase._plain() if erase else None,
            "per_frame": choice("scope", scope, ("clip", "frame")) == "frame",
            "layout": choice("layout", layout, ("TCHW", "THWC")),
            "dtype": dtype,
            "scale": 1.0 if dtype == "uint8" else 1.0 / 255.0,
            "mean": mean,
            "std": std,
        }
        self._compiled = _framerail.Augment(json.dumps(self._given))

    def __call__(self, pictures: Images, *, seed: int, clip: int = 0, layout: str = "TCHW", threads: int = 0) -> Images:
        """Augments images.

        Parameters
        ----------
        pictures : torch.Tensor or numpy.ndarray
            RGB, [T, C, H, W] for one clip or [N, T, C, H, W] for several (or channels last, see ``layout``): uint8, or
            float32 of 0 to 1. On the CPU or a GPU.
        seed, clip : int
            The n-th clip uses the augmentation of clip number ``clip + n`` of this seed. For a data set, mix epoch and file into the
            seed: ``framerail.mixed_seed``.
        layout : str
            Of the input: "TCHW" or "THWC".
        threads : int
            On the CPU; 0 = one per core.

        Returns
        -------
        torch.Tensor or numpy.ndarray
            New memory on the same device, with the same leading axes.

        Raises
        ------
        ValueError
            For images of another shape or type, and crops or blurs that do not fit them.
        """
        choice("layout", layout, ("TCHW", "THWC"))
        if not hasattr(pictures, "shape"):
            raise TypeError(f"pictures: a {type(pictures).__name__}; give a tensor or an array")
        shape = tuple(pictures.shape)
        axes = {"TCHW": (-3, -2, -1), "THWC": (-1, -3, -2)}[layout]
        if len(shape) not in (4, 5) or shape[axes[0]] != 3:
            raise ValueError(f"pictures have shape {shape}; give [T, ...] or [N, T, ...] with 3 channels in layout {layout!r}")
        count = math.prod(shape[:-3])
        batch = {
            "layout": layout,
            "dtype": _input_dtype(pictures),
            "size": (shape[axes[1]], shape[axes[2]]),
            "count": count,
            "device": str(getattr(pictures, "device", "cpu")),
            "frames_per_clip": shape[-4],
            "seed": whole("seed", seed, 0) % 2**64,
            "first_clip": whole("clip", clip, 0),
            "threads": whole("threads", threads, 0),
        }
        given: Any = pictures
        flat = given.reshape(count, *shape[-3:])
        flat = flat.contiguous() if hasattr(flat, "contiguous") else np.require(flat, requirements=["C", "W"])
        with arrays.on_device_of(flat):
            made = self._compiled.apply(flat, json.dumps(batch), arrays.current_stream(flat))
        out: Any = arrays.to_torch(made) if hasattr(pictures, "contiguous") else arrays.to_numpy(made)
        shaped: Images = out.reshape(*shape[:-3], *out.shape[1:])
        return shaped

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Augment) and self._given == other._given

    def __hash__(self) -> int:
        return hash(repr(self._given))

    def __reduce__(self) -> Tuple[Any, ...]:
        return _remake, (self._given,)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"Augment({given})"


def _input_dtype(pictures: Any) -> str:
    name = dtype_name(pictures.dtype)
    if name not in ("uint8", "float32"):
        raise ValueError(f"pictures have elements of {name}; give uint8 of 0 to 255 or float32 of 0 to 1")
    return name


def _pair(option: str, value: Any) -> Range:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise bad(option, value, "(lowest, highest)")
    return (real(option, value[0], "numbers"), real(option, value[1], "numbers"))


def _remake(given: Dict[str, Any]) -> Augment:
    made = object.__new__(Augment)
    made._given = given
    made._compiled = _framerail.Augment(json.dumps(given))
    return made


def mixed_seed(seed: int, *numbers: int) -> int:
    """A separate seed for each combination of a seed and numbers, such as epoch, file and clip; the same on every machine."""
    return _framerail.mixed_seed(whole("seed", seed, 0) % 2**64, [whole("numbers", number, 0) for number in numbers])
