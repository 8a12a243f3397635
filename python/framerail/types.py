"""Types in framerail's signatures. PyTorch's and NumPy's are for type checkers only, so neither is imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Dict, List, Optional, Protocol, SupportsIndex, Tuple, TypedDict, Union

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from typing_extensions import TypeAlias, TypeVar

    from . import _framerail
    from .options import Normalize

    #: Frames and images of NumPy; which of the types it is, option ``dtype`` decides.
    NumpyFrames: TypeAlias = npt.NDArray[Union[np.uint8, np.uint16, np.float16, np.float32]]
    #: Frames in any of the libraries that ``output`` names.
    AnyFrames: TypeAlias = Union[torch.Tensor, NumpyFrames, _framerail.Tensor]
    #: Numbers, times and flags of frames.
    NumpyColumn: TypeAlias = npt.NDArray[Union[np.int64, np.float64, np.bool_]]
    AnyColumn: TypeAlias = Union[torch.Tensor, NumpyColumn]
    #: Arrays from user models and functions.
    AnyArray: TypeAlias = Union[torch.Tensor, npt.NDArray[np.generic], Sequence[object]]
    Device: TypeAlias = Union[str, torch.device]
    DType: TypeAlias = Union[str, torch.dtype, np.dtype[np.generic], type[np.generic]]
    #: A selection of frames: numbers, or a mask with one entry for each frame of the video.
    Numbers: TypeAlias = Union[Iterable[SupportsIndex], npt.NDArray[np.generic], torch.Tensor]
    Seconds: TypeAlias = Union[Iterable[float], npt.NDArray[np.generic], torch.Tensor]

    #: Library of the frames; numbers use the same, except with ``output="dlpack"``, which has them in NumPy.
    Frames = TypeVar("Frames", default=torch.Tensor)
    Column = TypeVar("Column", default=Frames)
    #: Images passed in and returned in the same library.
    Images = TypeVar("Images", torch.Tensor, npt.NDArray[np.uint8], npt.NDArray[np.float32], NumpyFrames)
else:
    from typing import TypeVar

    Frames = TypeVar("Frames")
    Column = TypeVar("Column")


class SeekableBytes(Protocol):
    """A file opened for bytes, or an object like it."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int, /) -> int: ...


Path = Union[str, "os.PathLike[str]"]
#: A transform of torchvision or a function of tensors, or several.
Transforms = Union[Callable[..., object], Sequence[Callable[..., object]]]
#: Arrays and tensors have the bytes of a file.
Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, SeekableBytes, "npt.NDArray[np.uint8]", "torch.Tensor"]
#: (height, width), or one number for both.
Size = Union[int, Tuple[int, int]]
Box = Tuple[float, float, float, float]


class IndexRow(TypedDict):
    """Properties of one video in an index. Columns added to the file have their own names."""

    path: str
    size_bytes: int
    modified_nanos: int
    hash: Optional[str]
    container: Optional[str]
    codec: Optional[str]
    width: Optional[int]
    height: Optional[int]
    pixel_format: Optional[str]
    frame_rate: Optional[float]
    duration_seconds: Optional[float]
    frames: Optional[int]
    keyframes: Optional[List[int]]
    packets: Optional[bytes]
    error: Optional[str]


class IndexTable(TypedDict):
    """An index by column; see ``IndexRow``."""

    path: List[str]
    size_bytes: List[int]
    modified_nanos: List[int]
    hash: List[Optional[str]]
    container: List[Optional[str]]
    codec: List[Optional[str]]
    width: List[Optional[int]]
    height: List[Optional[int]]
    pixel_format: List[Optional[str]]
    frame_rate: List[Optional[float]]
    duration_seconds: List[Optional[float]]
    frames: List[Optional[int]]
    keyframes: List[Optional[List[int]]]
    packets: List[Optional[bytes]]
    error: List[Optional[str]]


class OutputOptions(TypedDict, total=False):
    """Output options of ``VideoReader``, ``batches`` and ``set_output``."""

    layout: str
    dtype: Optional[DType]
    size: Optional[Size]
    max_size: Optional[int]
    center_crop: Optional[Size]
    resize: str
    antialias: bool
    fit: str
    pad: int
    interpolation: Optional[str]
    channels: str
    crop: Optional[Box]
    normalize: Union[None, bool, Normalize]
    exact: Optional[str]
    tone_map: Optional[str]
    transforms: Optional[Transforms]


class SourceOptions(OutputOptions, total=False):
    """Options of ``VideoReader`` except ``output``."""

    device: Union[Device, Sequence[str]]
    mode: str
    stream: Optional[int]
    index: str
    index_cache: Union[None, str, os.PathLike[str]]
    threads: int
    queue: int
    timeout: Optional[float]
    on_error: str
    format: Optional[str]
    allow: str
    insecure: bool


class Copies(TypedDict):
    """Copies of frames that a stage made."""

    kind: str
    count: int
    bytes: int


class DeviceMemory(TypedDict):
    """Peak memory of a device used by a stage."""

    device: str
    peak_bytes: int


class StageStats(TypedDict):
    """Statistics of a stage; see the page on statistics."""

    name: str
    workers: int
    frames_in: int
    frames_out: int
    items_in: int
    items_out: int
    busy_secs: float
    wait_input_secs: float
    wait_output_secs: float
    copies: List[Copies]
    syncs: int
    memory: List[DeviceMemory]
    counters: Dict[str, int]
    settings: Dict[str, float]
    notices: List[str]
    failure: Optional[str]


#: Statistics of a queue between two stages.
EdgeStats = TypedDict(
    "EdgeStats",
    {
        "from": str, "to": str, "capacity": int, "depth": int, "mean_depth": float, "max_depth": int, "frames": int, "dropped": int,
        "format": str,
    },
)  # fmt: skip


class Outcome(TypedDict):
    """Statistics of a run, as ``Pipeline.run`` returns them: a dict with these keys.

    Attributes
    ----------
    wall_secs, cpu_secs : float
        Duration of the run, and processor time of all its threads, in seconds.
    memory_bytes, memory_peak_bytes : int
        Resident memory of the process at the end, and its peak; 0 if the system does not report it.
    frame_memory_peak_bytes, frame_memory_limit_bytes : int
        Peak host memory of frames in flight, and its limit.
    limiting_stage : str or None
        The stage for which the others waited; None for short runs.
    stages, edges : list of dict
        Statistics of each stage and of each queue; the page on statistics lists their keys.
    """

    wall_secs: float
    cpu_secs: float
    memory_bytes: int
    memory_peak_bytes: int
    frame_memory_peak_bytes: int
    frame_memory_limit_bytes: int
    limiting_stage: Optional[str]
    stages: List[StageStats]
    edges: List[EdgeStats]


#: Draws progress: True for a line on the terminal, or a function that gets the statistics so far.
Progress = Union[bool, Callable[[Outcome], object]]
