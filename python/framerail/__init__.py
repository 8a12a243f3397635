"""framerail: video frames for deep learning.

``VideoReader`` gives frames by number, by time and in sequence as tensors; ``sample_clips`` and ``framerail.torch`` feed
training; ``Pipeline`` runs detection and writes video. See ``docs/python.md``.
"""

from typing import TYPE_CHECKING
from typing import List as _List

# The first: it says why the others cannot be imported.
from . import compiled as _compiled  # noqa: F401
from . import _framerail
from ._framerail import Attribute, DenseMap, Detection, FrameItem, InstanceMask, Tensor, set_log_level
from .audio import AudioMetadata, AudioReader, AudioSamples
from .audio_writer import AudioWriter, AudioWriteReport
from .augment import Augment, ColorJitter, RandomBlur, RandomErase, RandomResizedCrop, mixed_seed
from .batch import ItemBatch
from .batches import BatchIterator
from .clips import Clips, clip_numbers, sample_clips
from .doctor import doctor
from .errors import CudaError, DecodeError, PipelineError, PipelineUsageError, UnsupportedError
from .frame_input import FrameInput
from .frames import Frame, FrameBatch, FrameTimes, Planes, VideoMetadata
from .functions import stage
from .interop import to_pandas, to_supervision
from .live import LiveBatch, LiveFrames, live
from .options import IMAGENET, UNIT, Normalize, Preprocess
from .pipeline import Pipeline, blur_faces, stages
from .reader import VideoReader
from .remote import RemoteFile
from .sampling import fitting_size, sample_frames, sampled_numbers
from .types import Outcome
from .video_index import index_videos, read_index
from .writer import VideoWriter, WriteReport

__version__ = _framerail.version()

__all__ = [
    "IMAGENET",
    "UNIT",
    "Attribute",
    "AudioMetadata",
    "AudioReader",
    "AudioSamples",
    "AudioWriteReport",
    "AudioWriter",
    "Augment",
    "BatchIterator",
    "Clips",
    "ColorJitter",
    "CudaError",
    "DecodeError",
    "DenseMap",
    "Detection",
    "Frame",
    "FrameBatch",
    "FrameInput",
    "FrameItem",
    "FrameTimes",
    "InstanceMask",
    "ItemBatch",
    "LiveBatch",
    "LiveFrames",
    "Normalize",
    "Outcome",
    "Pipeline",
    "PipelineError",
    "PipelineUsageError",
    "Planes",
    "Preprocess",
    "RandomBlur",
    "RandomErase",
    "RandomResizedCrop",
    "RemoteFile",
    "Tensor",
    "UnsupportedError",
    "VideoMetadata",
    "VideoReader",
    "VideoWriter",
    "WriteReport",
    "blur_faces",
    "clip_numbers",
    "doctor",
    "index_videos",
    "live",
    "fitting_size",
    "mixed_seed",
    "read_index",
    "sample_clips",
    "sample_frames",
    "sampled_numbers",
    "set_log_level",
    "stage",
    "stages",
    "to_pandas",
    "to_supervision",
]


def __dir__() -> _List[str]:
    return sorted([*__all__, "__version__", "torch"])


if TYPE_CHECKING:
    from . import compat as compat, torch as torch
else:

    def __getattr__(name: str) -> object:
        # These import optional packages such as PyTorch, so only on request.
        if name in ("compat", "torch"):
            import importlib

            return importlib.import_module(f".{name}", __name__)
        from . import deprecated

        if name in deprecated.CLASSES:
            deprecated.warn(f"framerail.{name}", deprecated.CLASSES[name])
            return globals()[deprecated.CLASSES[name]]
        near = __import__("difflib").get_close_matches(name, [*__all__, "torch"], 1)
        hint = f"; did you mean {near[0]!r}?" if near and not name.startswith("_") else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
