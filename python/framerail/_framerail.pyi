"""Types of the compiled part. Use the package `framerail`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Dict, List, Optional, SupportsIndex, Tuple, TypedDict, Union

import numpy as np
import numpy.typing as npt
from typing_extensions import CapsuleType

from .types import AnyArray

class _ArrayInterface(TypedDict):
    version: int
    typestr: str
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]
    data: Tuple[int, bool]

class Tensor:
    """An array in framerail's memory, for `numpy.asarray`, `torch.from_dlpack` and every library that supports DLPack."""

    @property
    def shape(self) -> Tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def __array_interface__(self) -> _ArrayInterface: ...
    def __dlpack__(
        self,
        *,
        stream: Optional[int] = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self) -> Tuple[int, int]: ...
    def copy_to(self, out: Any, stream: int) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: SupportsIndex) -> Tensor:
        """One entry of the first axis, in the same memory."""
    def __iter__(self) -> Iterator[Tensor]: ...

class Reader:
    def __init__(self, source: Any, name: str, options_json: str) -> None: ...
    def is_here(self) -> bool: ...
    def close(self) -> None: ...
    def version(self) -> int: ...
    def metadata(self, is_content: bool) -> str: ...
    def num_frames(self) -> int: ...
    def times(self) -> Dict[str, bytes]: ...
    def frames_at(self, seconds: List[float]) -> List[int]: ...
    def set_output(self, output_json: str) -> None: ...
    def read(self, numbers: List[int]) -> Tuple[Tensor, Dict[str, bytes]]: ...
    def read_into(self, numbers: List[int], out: Any, stream: int) -> Dict[str, bytes]: ...
    def picture(self) -> str: ...
    def batches(self, selection_json: str, batch: int, drop_last: bool, output_json: Optional[str]) -> Batches: ...
    def open_audio(self, stream: Optional[int], is_near: bool) -> Audio: ...
    def stats(self) -> str: ...

class Audio:
    def __init__(self, source: Any, name: str, options_json: str) -> None: ...
    def is_here(self) -> bool: ...
    def info(self) -> str: ...
    def damaged(self) -> int: ...
    def read(
        self,
        start: Optional[float],
        stop: Optional[float],
        sample_rate: Optional[int],
        channels: Optional[int],
        pads: bool,
    ) -> Tuple[Tensor, float, int, List[Tuple[float, float]]]: ...
    def close(self) -> None: ...

class AudioFile:
    def __init__(self, options_json: str) -> None: ...
    @property
    def rate(self) -> int: ...
    def write(self, samples: Any, bytes: int) -> None: ...
    def finish(self) -> str: ...
    def abandon(self) -> Optional[Any]: ...

class Writer:
    def __init__(self, options_json: str, track: Optional[Tuple[Any, str]]) -> None: ...
    def write(
        self,
        pictures: Any,
        count: int,
        height: int,
        width: int,
        channels: int,
        sample_bytes: int,
        is_planar: bool,
        times: Optional[List[float]],
    ) -> None: ...
    def write_audio(self, samples: Any, bytes: int) -> None: ...
    def finish(self) -> str: ...
    def abandon(self) -> Optional[Any]: ...
    def is_here(self) -> bool: ...

class FrameInput:
    def __init__(self, options_json: str) -> None: ...
    def push(
        self,
        pixels: Any,
        height: int,
        width: int,
        channels: int,
        sample_bytes: int,
        is_planar: bool,
        seconds: Optional[float],
    ) -> bool: ...
    def close(self) -> None: ...
    def fail(self, why: str) -> None: ...
    def abandon(self) -> None: ...
    def pushed(self) -> int: ...
    def dropped(self) -> int: ...
    def is_read(self) -> bool: ...

class Batches:
    def next(self) -> Optional[Tuple[Tensor, Dict[str, bytes]]]: ...
    def remaining(self) -> int: ...
    def close(self) -> None: ...

def program(arguments: List[str]) -> int: ...
def index_video(path: str) -> Dict[str, Any]: ...
def write_index(path: Any, columns: List[Tuple[str, str, List[Any]]]) -> None: ...
def read_index(path: Any) -> Dict[str, List[Any]]: ...

class ClipLoader:
    def __init__(self, reader_json: str, sampling_json: str, augment: Optional[Augment], loader_json: str) -> None: ...
    def is_here(self) -> bool: ...
    def shape(self, source: Optional[Tuple[Any, str]]) -> Optional[str]: ...
    def device(self) -> str: ...
    def submit(self, id: int, items: List[Tuple[int, Any, str, int, int, Optional[Tuple[int, int, bytes]]]], out: Any, axes: List[int], dtype: str, stream: int) -> None: ...
    def wait(self, id: int, stream: int) -> Tuple[Dict[str, bytes], List[Tuple[int, Exception]]]: ...
    def forget(self) -> None: ...
    def stats(self) -> str: ...

class Augment:
    def __init__(self, json: str) -> None: ...
    def apply(self, pictures: Any, batch_json: str, stream: int) -> Tensor: ...

class FrameConverter:
    def __init__(self, output_json: str) -> None: ...
    def convert(self, frames: List[FrameItem]) -> Tuple[Tensor, List[Tuple[float, float, float, float]]]: ...

class InstanceMask:
    """Which pixels belong to a detection: a grid of coverage over a box of the frame, usually coarser than pixels.

    Parameters
    ----------
    bbox_xyxy : tuple of float
        The box that the grid fills, in frame pixels.
    coverage : array
        Rows by columns: booleans, bytes from 0 (outside) to 255 (inside), or floats from 0 to 1.
    """

    def __init__(self, bbox_xyxy: Union[Sequence[float], npt.NDArray[np.generic]], coverage: AnyArray) -> None: ...
    @property
    def bbox_xyxy(self) -> Tuple[float, float, float, float]: ...
    @property
    def coverage(self) -> npt.NDArray[np.uint8]:
        """The cells, rows by columns: a read-only array of bytes, 0 outside, 255 inside. A ``memoryview`` without NumPy."""
    def __eq__(self, other: object) -> bool: ...

class DenseMap:
    """A depth, or a motion, for each cell of a grid over a frame: the result of a dense model.

    Parameters
    ----------
    bbox_xyxy : tuple of float
        The box that the grid fills, in frame pixels.
    values : array of float
        Rows by columns of depths, or rows by columns by two of motions: across and down, in frame pixels from the frame before.
    unit : str
        What depths mean: "inverse" (larger is nearer), "relative" (larger is further away) or "metres".
    """

    def __init__(self, bbox_xyxy: Union[Sequence[float], npt.NDArray[np.generic]], values: AnyArray, unit: str = "inverse") -> None: ...
    @property
    def bbox_xyxy(self) -> Tuple[float, float, float, float]: ...
    @property
    def values(self) -> npt.NDArray[np.float32]:
        """Rows by columns of depths, or rows by columns by two of motions: a read-only array. A ``memoryview`` without NumPy."""
    @property
    def unit(self) -> Optional[str]:
        """What depths mean; None for motions."""
    def __eq__(self, other: object) -> bool: ...

class Attribute:
    """A model's output for a detection: exactly one of the following.

    Parameters
    ----------
    model : str
        Name of the model.
    classes : list of (label, score) or (label, score, label_id), optional
        Classes by falling score.
    landmarks : list of (float, float), optional
        Points in frame pixels.
    mask : InstanceMask, optional
        Which pixels belong to the detection.
    embedding : array of float, optional
        A vector for re-identification of detections.
    parts : list of Detection, optional
        Detections inside of it, such as the faces of a person.
    depth : DenseMap, optional
        Depth of each cell of the frame.
    flow : DenseMap, optional
        Motion of each cell of the frame.

    Attributes
    ----------
    kind : str
        "classes", "landmarks", "mask", "embedding", "parts", "depth" or "flow"; the attribute of that name holds the value, the
        others are None.
    """

    def __init__(
        self,
        model: str,
        *,
        classes: Optional[Sequence[Union[Tuple[str, float], Tuple[str, float, int]]]] = None,
        landmarks: Optional[Sequence[Tuple[float, float]]] = None,
        mask: Optional[InstanceMask] = None,
        embedding: Optional[AnyArray] = None,
        parts: Optional[Sequence[Detection]] = None,
        depth: Optional[DenseMap] = None,
        flow: Optional[DenseMap] = None,
    ) -> None: ...
    @property
    def model(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def classes(self) -> Optional[List[Tuple[str, float, int]]]: ...
    @property
    def landmarks(self) -> Optional[List[Tuple[float, float]]]: ...
    @property
    def mask(self) -> Optional[InstanceMask]: ...
    @property
    def embedding(self) -> Optional[npt.NDArray[np.float32]]: ...
    @property
    def parts(self) -> Optional[List[Detection]]: ...
    @property
    def depth(self) -> Optional[DenseMap]: ...
    @property
    def flow(self) -> Optional[DenseMap]: ...

class Detection:
    """One box in a frame.

    Parameters
    ----------
    bbox_xyxy : tuple of float
        Left, top, right and bottom edge in frame pixels; may reach beyond the frame.
    score : float
        Confidence, 0 to 1.
    label : str
        Name of the class.
    label_id : int
        Number of the class in the model's output.
    landmarks : list of (float, float)
        Points in frame pixels, in the order of the model card.
    track_id : int or None
        Identity across frames.
    origin : str
        "detected" by the model, "interpolated" or "held" between sightings.
    attributes : list of Attribute
        Outputs of further models, in the order in which they ran.
    oriented : tuple of float or None
        Centre x, centre y, width, height and clockwise rotation in radians of a rotated box; `bbox_xyxy` is the upright box around it.
    """

    bbox_xyxy: Tuple[float, float, float, float]
    score: float
    label: str
    label_id: int
    landmarks: List[Tuple[float, float]]
    track_id: Optional[int]
    origin: str
    attributes: List[Attribute]
    oriented: Optional[Tuple[float, float, float, float, float]]
    def __init__(
        self,
        bbox_xyxy: Union[Sequence[float], npt.NDArray[np.generic]],
        score: float = 1.0,
        label: str = "object",
        *,
        label_id: int = 0,
        landmarks: List[Tuple[float, float]] = ...,
        track_id: Optional[int] = None,
        origin: str = "detected",
        attributes: Optional[List[Attribute]] = None,
        oriented: Optional[Tuple[float, float, float, float, float]] = None,
    ) -> None: ...

class FrameItem:
    """A frame in a pipeline, with its detections.

    A pickled item comes back without its pixels. Items are equal where everything but pixels and attachments is.

    Attributes
    ----------
    index : int
        Number in presentation order within its stream, as decoded.
    pts : int
        Presentation time in ticks of the stream.
    seconds : float
        The same in seconds.
    stream : int
        Number of the stream, from 0, for pipelines with several sources.
    width, height : int
        Size in pixels.
    pixel_format : str
        FFmpeg's name; empty once the frame has no pixels.
    device : str
        "cpu" or "cuda:N".
    is_keyframe : bool
        Whether decoding can start here.
    status : str
        "ok" or "repaired".
    analysed : bool
        Whether a model ran on this frame.
    detections : list of Detection
        May be changed or replaced by a stage function, and by a callback with batch=1; later stages see the change.
    attributes : list of Attribute
        Outputs of models for the whole frame: its class, its embedding. Changed as `detections` are.
    attachments : dict
        Your values, which travel with the frame to later stage functions. Only later stages see a change.
    """

    detections: List[Detection]
    attributes: List[Attribute]
    attachments: Dict[object, object]
    @property
    def index(self) -> int: ...
    @property
    def pts(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def stream(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def pixel_format(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def is_keyframe(self) -> bool: ...
    @property
    def status(self) -> str: ...
    @property
    def analysed(self) -> bool: ...
    def planes(self, *, writable: bool = False) -> List[Tensor]:
        """The planes in memory, without a copy: rows of bytes.

        In a stage function they are on the frame's device. A callback gets them on the host, copied from a GPU.

        Parameters
        ----------
        writable : bool
            In a stage function: later stages see what is written. A frame that is shared, such as a decoder's reference frame, is
            copied first, and the copy is counted. Write while the function runs, not after it.
        """

    def rgb(self, *, writable: bool = False) -> Tensor:
        """The frame as RGB, 8 bits, [rows, columns, channels]; a copy on the host.

        Parameters
        ----------
        writable : bool
            In a stage function: what is written becomes the frame, converted back once when the function returns. For frames on a
            GPU give the function ``on="cpu"``.
        """

    def hsv(self) -> Tensor:
        """The frame as hue in half degrees (0 to 179), saturation and value (0 to 255), as OpenCV's ``COLOR_RGB2HSV`` gives them:
        8 bits, [rows, columns, channels], for changes in a stage function. What is written becomes the frame, as with ``rgb``.
        """

class Pipeline:
    def __init__(self, text: str, is_file: bool, device: Optional[str]) -> None: ...
    @property
    def text(self) -> str: ...
    @property
    def stages(self) -> List[str]: ...
    def resolve(self, stage: str) -> str: ...
    def named_by(self, kind: str) -> List[str]: ...
    def set_model(self, name: str, model: Any) -> None: ...
    def set_function(self, name: str, function: Any) -> None: ...
    def set_source(self, address: str, object: Any) -> None: ...
    def set_frames(self, address: str, giver: Any, is_live: bool) -> None: ...
    def set_find_source(self, find: Any) -> None: ...
    def insert(self, stage: str, is_after: bool, name: str, function: Any) -> str: ...
    def edges(self) -> List[Tuple[str, str, str]]: ...
    def run(
        self,
        callbacks: List[Tuple[str, Callable[[List[FrameItem]], Any], int]],
        progress: Optional[Callable[[str], Any]],
        limits: Tuple[float, Optional[int]],
        monitoring: Tuple[Dict[str, Any], Dict[str, Any]],
    ) -> str: ...
    @property
    def serve_address(self) -> Optional[str]: ...
    def replace_model(self, stage: str, model: str) -> None: ...
    def set(self, stage: str, name: str, value: float) -> None: ...
    def stop(self) -> None: ...

def sample_clips(sampling_json: str, num_frames: int, times: Optional[Tuple[List[float], float]]) -> List[Tuple[List[int], int]]: ...
def mixed_seed(seed: int, numbers: List[int]) -> int: ...
def container_start(source: Any, name: str) -> float: ...
def keep_models(is_wanted: bool) -> None: ...
def join_pieces(pieces: List[Any], source: Any, name: str, out: Any, with_audio: bool, overwrite: bool) -> str: ...
def version() -> str: ...
def ffmpeg() -> str: ...
def cuda_devices() -> str: ...
def onnxruntime() -> str: ...
def release_cuda_memory(device: int) -> None: ...
def models(name: str) -> str: ...
def stages() -> str: ...
def blur_faces_pipeline(options_json: str) -> str: ...
def set_log_level(level: str) -> None:
    """Sets the log level of Python's logger "framerail": "off", "error", "warn", "info", "debug" or "trace"."""
