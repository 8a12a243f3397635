"""Options of readers: checked here, sent to the compiled part as JSON."""

from __future__ import annotations

import json
import math
import numbers
import operator
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, TypeVar, Union

if TYPE_CHECKING:
    from .types import Box, DType, OutputOptions, Size

_Name = TypeVar("_Name", bound=str)

DTYPES = ("uint8", "uint16", "float16", "bfloat16", "float32")
FILTERS = ("bilinear", "bicubic", "area", "lanczos", "nearest", "nearest-exact")
FITS = ("stretch", "letterbox")
OUTPUTS = ("auto", "torch", "numpy", "dlpack")
ALLOWANCES = ("nothing", "network", "outside", "all")


@dataclass(frozen=True)
class Normalize:
    """Normalisation of channels: ``(value / 255 - mean) / std`` for values of 0 to 255.

    Parameters
    ----------
    mean, std : three floats
        For values of 0 to 1, in the order of ``channels``. With one channel the first of each is used.
    """

    mean: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: Tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            try:
                given = tuple(float(number) for number in value)
            except TypeError:
                raise bad(name, value, "three numbers") from None
            if len(given) != 3 or not all(map(math.isfinite, given)) or (name == "std" and 0.0 in given):
                raise bad(name, value, "three finite numbers" + (" other than 0" if name == "std" else ""))
            object.__setattr__(self, name, given)


#: Normalisation of models trained on ImageNet, for RGB.
IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: Values of 0 to 1.
UNIT = Normalize()


def bad(option: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"option '{option}': {value!r}; use {allowed}")


def listed(names: Sequence[str]) -> str:
    first = ", ".join(repr(name) for name in names[:-1])
    return f"{first} or {names[-1]!r}" if first else repr(names[-1])


def choice(option: str, value: _Name, names: Sequence[str]) -> _Name:
    if value not in names:
        raise bad(option, value, listed(names))
    return value


def whole(option: str, value: Any, lowest: int, what: str = "", highest: float = math.inf) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise bad(option, value, what or f"a whole number from {lowest}") from None
    if isinstance(value, bool) or not lowest <= number <= highest:
        raise bad(option, value, what or f"a whole number from {lowest}")
    return number


def flag(option: str, value: Any) -> bool:
    """A switch. Texts such as "no" would all be true."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__bool__") or value not in (True, False):
        raise bad(option, value, "True or False")
    return bool(value)


def real(option: str, value: Any, what: str, above: float = -math.inf) -> float:
    if isinstance(value, bool) or (not isinstance(value, numbers.Real) and not hasattr(value, "__float__")):
        raise bad(option, value, what)
    number = float(value)
    if not math.isfinite(number) or number <= above:
        raise bad(option, value, what)
    return number


def dtype_name(value: Any) -> str:
    """The name of an element type given by name, or as a NumPy or PyTorch dtype."""
    name = value if isinstance(value, str) else getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
    name = str(name)
    name = name[len("torch.") :] if name.startswith("torch.") else name
    name = {"half": "float16", "float": "float32"}.get(name, name)
    if name not in DTYPES:
        raise bad("dtype", value, listed(DTYPES) + ", or the same of NumPy or PyTorch")
    return name


def device_name(value: Any) -> str:
    """The name of a device, or of several that share the work, such as "cuda:0,1"."""
    if isinstance(value, (list, tuple)):
        names = [numbered_device(one) for one in value]
        if not names or any(not re.fullmatch(r"cuda:\d{1,3}", name) for name in names):
            raise bad("device", value, "a list of GPUs, such as ['cuda:0', 'cuda:1']")
        name = "cuda:" + ",".join(one[len("cuda:") :] for one in names)
    else:
        name = str(value)
    if name not in ("cpu", "auto", "cuda", "cuda:all") and not re.fullmatch(r"cuda:\d{1,3}(,\d{1,3})*", name):
        raise bad("device", value, "'cpu', 'auto', 'cuda', 'cuda:N', or several as ['cuda:0', 'cuda:1'] or 'cuda:all'")
    return name


def current_gpu() -> int:
    """The GPU for "cuda" and "auto": PyTorch's current device if PyTorch uses GPUs, else the first one."""
    torch = sys.modules.get("torch")
    # Asking PyTorch before its first use of a GPU would initialise one.
    return torch.cuda.current_device() if torch is not None and torch.cuda.is_initialized() else 0


def numbered_device(value: Any) -> str:
    """A device's name; "cuda" with the number of its current GPU."""
    name = device_name(value)
    return f"cuda:{current_gpu()}" if name == "cuda" else name


def sides(option: str, value: Any) -> Optional[Tuple[int, int]]:
    return None if value is None else _sides(option, value)


def _sides(option: str, value: Any) -> Tuple[int, int]:
    what = "(height, width), each from 1 to 32768"
    value = value.tolist() if hasattr(value, "tolist") else value
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2:
        raise bad(option, value, what)
    height, width = (whole(option, side, 1, what) for side in sides)
    if max(height, width) > 32768:
        raise bad(option, value, what)
    return height, width


def _size(options: Mapping[str, Any], fit: str) -> Dict[str, Any]:
    """Both sides, or the shorter one and the maximum of the longer one."""
    size: Any = options["size"]
    size = size.tolist() if hasattr(size, "tolist") else size
    longest = options["max_size"]
    if isinstance(size, (tuple, list)) and len(size) == 1:
        size = size[0]
    is_short_side = size is not None and not isinstance(size, (tuple, list)) and fit == "stretch"
    if longest is not None:
        if fit != "stretch" or (size is not None and not is_short_side):
            raise bad("max_size", longest, "it with one number as size, or alone; a letterbox and (height, width) have both sides")
        longest = whole("max_size", longest, 1, "pixels of the longer side, from 1 to 32768")
        if longest > 32768 or (is_short_side and longest <= whole("size", size, 1)):
            raise bad("max_size", longest, f"more than size, {size}, and 32768 at most")
    if is_short_side:
        short, _ = _sides("size", size)
        return {"size": None, "short_side": short, "max_size": longest}
    return {"size": sides("size", size), "short_side": None, "max_size": longest}


def renamed(options: Mapping[str, Any]) -> Dict[str, Any]:
    """Renames old options: ``resize`` was ``fit``, and ``interpolation`` is ``resize``."""
    made = dict(options)
    if made["resize"] in FITS:
        warnings.warn(f"resize='{made['resize']}' is called fit='{made['resize']}' now; resize names the filter", DeprecationWarning, 3)
        made["fit"], made["resize"] = made["resize"], OUTPUT_DEFAULTS["resize"]
    if made["interpolation"] is not None:
        warnings.warn("option 'interpolation' is called 'resize' now", DeprecationWarning, 3)
        made["resize"], made["interpolation"] = made["interpolation"], None
    return made


def _crop(value: Any) -> Optional[Tuple[float, ...]]:
    if value is None:
        return None
    what = "(x, y, width, height) in pixels of the frame, with sides above 0"
    try:
        given = tuple(real("crop", number, what) for number in value)
    except TypeError:
        raise bad("crop", value, what) from None
    if len(given) != 4 or given[2] <= 0 or given[3] <= 0:
        raise bad("crop", value, what)
    return given


OUTPUT_DEFAULTS: Mapping[str, Any] = {
    "layout": "TCHW",
    "dtype": None,
    "size": None,
    "max_size": None,
    "center_crop": None,
    "resize": "bilinear",
    "antialias": True,
    "fit": "stretch",
    "pad": 114,
    "interpolation": None,
    "channels": "rgb",
    "crop": None,
    "normalize": None,
    "exact": None,
    "tone_map": None,
    "transforms": None,
}


def output_json(options: Mapping[str, Any]) -> str:
    """Checks the output options, without transforms that are called on tensors."""
    from . import transforms

    options, _ = transforms.split(renamed(options))
    layout: str = options["layout"]
    layout = choice("layout", {"NCHW": "TCHW", "NHWC": "THWC"}.get(layout, layout), ("TCHW", "THWC"))
    dtype = dtype_name(options["dtype"])
    channels = choice("channels", options["channels"], ("rgb", "bgr", "gray", "hsv", "rgba", "yuv"))
    exact = options["exact"]
    if exact not in (None, "swscale"):
        raise bad("exact", exact, "None or 'swscale'")
    normalize = options["normalize"]
    if isinstance(normalize, bool):
        normalize = UNIT if normalize else None
    if normalize is not None and not isinstance(normalize, Normalize):
        raise bad("normalize", normalize, "None, True, False, framerail.IMAGENET or framerail.Normalize(mean, std)")
    if normalize is not None and dtype in ("uint8", "uint16"):
        raise bad("normalize", normalize, f"a dtype of 'float16', 'bfloat16' or 'float32' with it; {dtype} holds no fractions")
    fit = choice("fit", options["fit"], FITS)
    size, crop = _size(options, fit), _crop(options["crop"])
    center_crop = sides("center_crop", options["center_crop"])
    if center_crop is not None and fit != "stretch":
        raise bad("center_crop", center_crop, "it without fit='letterbox'")
    if exact or channels == "yuv":
        name = "exact='swscale'" if exact else "channels='yuv'"
        dtypes = ("uint8", "uint16") if exact else ("uint8",)
        resized = (("size", options["size"]), ("max_size", options["max_size"]), ("center_crop", center_crop), ("crop", crop))
        for option, is_left in (*((option, value is None) for option, value in (*resized, ("normalize", normalize))), ("dtype", dtype in dtypes)):
            if not is_left:
                raise bad(option, options[option], f"the default with {name}: frames come at their own size, as whole numbers or as decoded")
    if exact and channels not in ("rgb", "bgr", "gray", "rgba"):
        raise bad("channels", channels, "'rgb', 'bgr', 'gray' or 'rgba' with exact='swscale'")
    scale, mean, std = 1.0, (0.0,) * 3, (1.0,) * 3
    if normalize is not None:
        scale, mean, std = 1.0 / 255.0, normalize.mean, normalize.std
    made = {
        "layout": layout,
        "dtype": dtype,
        **size,
        "center_crop": center_crop,
        "fit": fit,
        "pad": whole("pad", options["pad"], 0, "a whole number from 0 to 255", 255),
        "resize": choice("resize", options["resize"], FILTERS),
        "antialias": flag("antialias", options["antialias"]),
        "channels": channels,
        "crop": crop,
        "scale": scale,
        "mean": mean,
        "std": std,
        "swscale": exact == "swscale",
        "tone_map": None if options["tone_map"] is None else choice("tone_map", options["tone_map"], ("bt2390", "hable")),
    }
    return json.dumps(made)


@dataclass(frozen=True)
class Preprocess:
    """Conversion of frames to a model's input: one pass over the decoded frame, on its device.

    The names are those of ``VideoReader``: ``VideoReader(path, **preprocess.options)`` returns the same tensors.

    Parameters
    ----------
    size : (height, width) or int, optional
        Size of the model's input; the frames' own by default. One number is the shorter side, as in torchvision's ``Resize``, and both
        sides of a letterbox.
    max_size : int, optional
        Maximum length of the longer side in pixels, with one number as ``size``.
    center_crop : (height, width) or int, optional
        The middle of the resized frame that is kept.
    resize : str
        The filter: "bilinear", "bicubic", "area", "lanczos", "nearest" or "nearest-exact".
    antialias : bool
        Whether the filter is widened when frames shrink: use the setting of the model's training.
    fit : str
        "stretch" or "letterbox" (aspect ratio kept, filled with ``pad``).
    pad : int
        0 to 255, for "letterbox".
    interpolation : str, optional
        Old name of ``resize``.
    channels : str
        "rgb", "bgr", "gray", "hsv" or "rgba".
    crop : (x, y, width, height), optional
        Region of the frame to use, in frame pixels.
    normalize : Normalize, bool or None
        ``framerail.IMAGENET``, ``framerail.Normalize(mean, std)``, True for values of 0 to 1, None or False for 0 to 255.
    dtype : optional
        "uint8", "uint16", "float16", "bfloat16" or "float32", or the same of NumPy or PyTorch; by default that of the model's weights.
    layout : str
        "TCHW" (or "NCHW"), "THWC" (or "NHWC").

    Examples
    --------
    >>> import framerail as fr
    >>> fr.Preprocess(size=(300, 300), normalize=fr.IMAGENET).options["size"]
    (300, 300)
    """

    size: Optional[Size] = None
    resize: str = "bilinear"
    pad: int = 114
    interpolation: Optional[str] = None
    channels: str = "rgb"
    crop: Optional[Box] = None
    normalize: Union[None, bool, Normalize] = True
    dtype: Optional[DType] = None
    layout: str = "TCHW"
    fit: str = "stretch"
    antialias: bool = True
    max_size: Optional[int] = None
    center_crop: Optional[Size] = None

    def __post_init__(self) -> None:
        names = ("resize", "interpolation", "fit")
        for name, value in renamed({name: getattr(self, name) for name in names}).items():
            object.__setattr__(self, name, value)
        self._json()

    @property
    def options(self) -> OutputOptions:
        """The same as options of ``VideoReader``."""
        names = ("size", "max_size", "center_crop", "resize", "antialias", "fit", "pad", "channels", "crop", "normalize", "layout")
        given: Any = {**{name: getattr(self, name) for name in names}, "dtype": self._dtype("float32")}
        options: OutputOptions = given
        return options

    def _dtype(self, otherwise: str) -> str:
        return otherwise if self.dtype is None else dtype_name(self.dtype)

    def _json(self, otherwise: str = "float32") -> str:
        if self.channels == "yuv":
            raise bad("channels", self.channels, "'rgb', 'bgr', 'gray', 'hsv' or 'rgba'")
        return output_json({**OUTPUT_DEFAULTS, **self.options, "dtype": self._dtype(otherwise)})


READER_DEFAULTS: Mapping[str, Any] = {
    "device": "cpu",
    "mode": "auto",
    **OUTPUT_DEFAULTS,
    "stream": None,
    "index": "exact",
    "index_cache": None,
    "threads": 0,
    "queue": 2,
    "memory": None,
    "timeout": 60.0,
    "on_error": "repair",
    "format": None,
    "allow": "nothing",
    "insecure": False,
    "output": "auto",
}


def output_kind(output: Any) -> str:
    """The library of tensors; "auto" where `output` names a device."""
    return "auto" if str(output).startswith("cuda") else choice("output", output, OUTPUTS)


def output_device(output: Any, device: str) -> Optional[str]:
    """The GPU of the returned frames, where `output` names one."""
    if not str(output).startswith("cuda"):
        choice("output", output, OUTPUTS)
        return None
    name = numbered_device(output)
    if not device.startswith("cuda") or not re.fullmatch(r"cuda:\d{1,3}", name):
        raise bad("output", output, "one GPU, such as 'cuda:0', where frames are decoded on GPUs")
    return name


def reader_json(options: Mapping[str, Any]) -> str:
    """Checks the options of a reader."""
    cache, timeout, stream = options["index_cache"], options["timeout"], options["stream"]
    if cache is not None:
        try:
            cache = os.fspath(cache)
        except TypeError:
            raise bad("index_cache", cache, "None, 'sidecar' or a folder") from None
    device = numbered_device(options["device"])
    made = {
        "device": device,
        "hand_out": output_device(options["output"], device),
        "current_gpu": current_gpu(),
        "mode": choice("mode", options["mode"], ("auto", "seek", "stream")),
        "output": json.loads(output_json({name: options[name] for name in OUTPUT_DEFAULTS})),
        "index": choice("index", options["index"], ("exact", "approximate")),
        "index_cache": cache,
        "threads": whole("threads", options["threads"], 0),
        "queue": whole("queue", options["queue"], 1),
        "memory": None if options["memory"] is None else whole("memory", options["memory"], 1),
        "timeout": None if timeout is None else real("timeout", timeout, "None or seconds above 0", above=0.0),
        "stream": None if stream is None else whole("stream", stream, 0),
        "on_error": choice("on_error", options["on_error"], ("repair", "fail")),
        "format": options["format"],
        "allow": choice("allow", options["allow"], ALLOWANCES),
        "insecure": flag("insecure", options["insecure"]),
    }
    return json.dumps(made)


def known(options: Mapping[str, Any], defaults: Mapping[str, Any], others: Iterable[str] = ()) -> None:
    """Refuses unknown option names; ``others`` are names that the caller handles itself."""
    import difflib

    for name in options:
        if name not in defaults:
            near = difflib.get_close_matches(name, [*defaults, *others], 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(defaults))}"
            raise TypeError(f"unknown option '{name}'{hint}")


def reader_options(options: Mapping[str, Any], others: Iterable[str] = ()) -> Dict[str, Any]:
    """Checks the options of readers that are opened in other processes, for arrays of NumPy on the host; returns them."""
    from . import transforms

    known(options, READER_DEFAULTS, others)
    if options.get("output", "numpy") not in ("numpy", "auto"):
        raise bad("output", options["output"], "the default only: frames are arrays of NumPy")
    given = {"layout": "THWC", "threads": 1, **options, "output": "numpy"}
    checked = {**READER_DEFAULTS, **given}
    if transforms.split({**renamed(checked), "layout": "TCHW"})[1]:
        raise bad("transforms", options["transforms"], "those that VideoReader turns into its own options")
    reader_json(checked)
    return given
