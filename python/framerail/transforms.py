"""torchvision transforms of frames: those that a reader can do itself, and those that are called on its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Dict, List, Optional, Tuple

from .options import IMAGENET, UNIT, Normalize, bad, dtype_name  # noqa: F401

_FLOATS = ("float16", "bfloat16", "float32")
#: Filters of torchvision that work on tensors, by the value of its ``InterpolationMode``.
_FILTERS = ("nearest", "nearest-exact", "bilinear", "bicubic")


def split(options: Mapping[str, Any]) -> Tuple[Dict[str, Any], Tuple[Callable[..., Any], ...]]:
    """Options without ``transforms``, and the transforms that are called on tensors.

    Leading transforms of torchvision that say what a reader's options say become such options: ``Resize``, ``CenterCrop``,
    ``ToDtype`` (``ConvertImageDtype``) and ``Normalize``, in this order, and ``ToImage``, ``ToPureTensor`` and ``Identity``, which leave
    tensors as they are. From the first other one on, all are called.

    A ``dtype`` of None becomes "float32" with ``normalize``, whose values are fractions, and "uint8" without.
    """
    made = dict(options)
    if made["dtype"] is None:
        made["dtype"] = "uint8" if made["normalize"] in (None, False) else "float32"
    transforms = made.pop("transforms", None)
    if transforms is None:
        return made, ()
    listed = _listed(transforms)
    rest = list(listed)
    while rest:
        fused = _fused(rest[0], made)
        if fused is None:
            break
        made.update(fused)
        rest.pop(0)
    if rest and made.get("layout") not in ("TCHW", "NCHW"):
        raise bad("layout", made.get("layout"), "'TCHW' with transforms, which work on rows and columns at the end")
    return made, tuple(rest)


def apply(rest: Sequence[Callable[..., Any]], data: Any) -> Any:
    """Calls transforms, one after the other, on a batch of frames."""
    for transform in rest:
        data = transform(data)
    return data


def _listed(transforms: Any) -> List[Callable[..., Any]]:
    """The transforms of a list or a ``Compose``, in order."""
    if _name(transforms) in ("Compose", "Sequential"):
        return [one for each in getattr(transforms, "transforms", transforms) for one in _listed(each)]
    if isinstance(transforms, (list, tuple)):
        return [one for each in transforms for one in _listed(each)]
    if not callable(transforms):
        raise bad("transforms", transforms, "a transform of torchvision.transforms.v2, a callable, or a list of them")
    return [transforms]


def _name(transform: Any) -> Optional[str]:
    """The class of a transform of torchvision's."""
    kind = type(transform)
    is_known = kind.__module__.startswith("torchvision.transforms") or kind.__module__.startswith("torch.nn")
    return kind.__name__ if is_known else None


def _fused(transform: Any, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """A transform as options of a reader; None if it has to be called."""
    name = _name(transform)
    if name in ("ToImage", "ToPureTensor", "Identity"):
        return {}
    if options["channels"] == "yuv" or options["exact"] is not None:
        return None
    if name == "Resize":
        return _resize(transform, options)
    if name == "CenterCrop":
        return _center_crop(transform, options)
    if name in ("ToDtype", "ConvertImageDtype"):
        return _to_dtype(transform, options)
    return _normalize(transform, options) if name == "Normalize" else None


def _is_raw(options: Mapping[str, Any]) -> bool:
    """Whether pixels are still bytes, as size transforms expect."""
    return options["dtype"] == "uint8" and options["normalize"] in (None, False)


def _resize(transform: Any, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    is_taken = any(options[name] is not None for name in ("size", "max_size", "center_crop"))
    if is_taken or options["fit"] != "stretch" or not _is_raw(options):
        return None
    filter = getattr(transform.interpolation, "value", transform.interpolation)
    antialias = getattr(transform, "antialias", None)
    size = transform.size
    if filter not in _FILTERS or not isinstance(antialias, bool):
        return None
    sides = [size] if isinstance(size, int) else [] if size is None else list(size)
    if len(sides) > 2:
        return None
    chosen = tuple(sides) if len(sides) == 2 else sides[0] if sides else None
    return {"size": chosen, "max_size": transform.max_size, "resize": filter, "antialias": antialias}


def _center_crop(transform: Any, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    if options["center_crop"] is not None or options["fit"] != "stretch" or not _is_raw(options):
        return None
    height, width = transform.size
    return {"center_crop": (int(height), int(width))}


def _to_dtype(transform: Any, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    if not _is_raw(options):
        return None
    try:
        wanted = dtype_name(transform.dtype)
    except ValueError:
        return None
    scale = getattr(transform, "scale", True)
    if wanted == "uint8":
        return {}
    return {"dtype": wanted, "normalize": UNIT if scale else None} if wanted in _FLOATS else None


def _normalize(transform: Any, options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    mean, std = ([float(value) for value in values] for values in (transform.mean, transform.std))
    is_fit = options["dtype"] in _FLOATS and options["channels"] in ("rgb", "bgr") and len(mean) == len(std) == 3
    if not is_fit or options["normalize"] not in (None, False, UNIT):
        return None
    # Without scaling, values are 0 to 255.
    unit = 1.0 if options["normalize"] == UNIT else 255.0
    return {"normalize": Normalize((mean[0] / unit, mean[1] / unit, mean[2] / unit), (std[0] / unit, std[1] / unit, std[2] / unit))}
