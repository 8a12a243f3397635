"""Frames of a pipeline, as stage functions and functions of models get them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, List, Optional, SupportsIndex, Tuple, Union, overload

from . import _framerail
from .arrays import handed_over
from .frames import described
from .lazy import np
from .options import Preprocess, bad
from .types import Box

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas
    import torch
    from typing_extensions import Literal

    from .types import AnyFrames, NumpyFrames


#: Scale across and down, offset across and down: ``model = frame * scale + offset``.
Mapping = Tuple[float, float, float, float]


class ItemBatch(Sequence[_framerail.FrameItem]):
    """Frames of a pipeline with their detections: a sequence of ``FrameItem``.

    Attributes
    ----------
    frames : list of FrameItem
        The frames, in order; ``batch[0]`` and ``for frame in batch`` work as well.
    data : tensor or None
        In a model's ``postprocess``: the model's input.
    areas : list
        Behind ``crop``, ``regions`` or ``tiles``, in a model's ``postprocess``: the part of each frame that the model ran
        on, (left, top, right, bottom) in pixels of the frame; ``frames`` then has a frame once for each of its parts.
        Else None for each frame.
    """

    def __init__(
        self,
        frames: List[_framerail.FrameItem],
        data: Optional[AnyFrames] = None,
        mappings: Optional[List[Mapping]] = None,
        areas: Optional[List[Optional[Box]]] = None,
    ):
        self.frames = frames
        self.data = data
        self.areas: List[Optional[Box]] = [None] * len(frames) if areas is None else areas
        self._mappings = mappings

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: SupportsIndex) -> _framerail.FrameItem: ...
    @overload
    def __getitem__(self, index: slice) -> List[_framerail.FrameItem]: ...
    def __getitem__(self, index: Union[SupportsIndex, slice]) -> Union[_framerail.FrameItem, List[_framerail.FrameItem]]:
        return self.frames[index]

    def __iter__(self) -> Iterator[_framerail.FrameItem]:
        return iter(self.frames)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of the frames within their streams, int64."""
        return np.array([frame.index for frame in self.frames], np.int64)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """Presentation times in seconds, float64."""
        return np.array([frame.seconds for frame in self.frames], np.float64)

    @property
    def streams(self) -> npt.NDArray[np.int64]:
        """Numbers of the frames' streams, int64."""
        return np.array([frame.stream for frame in self.frames], np.int64)

    @property
    def detections(self) -> List[List[_framerail.Detection]]:
        """The detections of each frame. A list of lists may be set."""
        return [frame.detections for frame in self.frames]

    @detections.setter
    def detections(self, lists: List[List[_framerail.Detection]]) -> None:
        lists = list(lists)
        if len(lists) != len(self.frames):
            raise bad("detections", len(lists), f"one list for each of the {len(self.frames)} frames")
        for frame, found in zip(self.frames, lists):
            frame.detections = found

    @overload
    def tensor(self, preprocess: Optional[Preprocess] = None, *, output: Literal["auto", "torch"] = "auto") -> torch.Tensor: ...
    @overload
    def tensor(self, preprocess: Optional[Preprocess] = None, *, output: Literal["numpy"]) -> NumpyFrames: ...
    @overload
    def tensor(self, preprocess: Optional[Preprocess] = None, *, output: Literal["dlpack"]) -> _framerail.Tensor: ...
    def tensor(self, preprocess: Optional[Preprocess] = None, *, output: str = "auto") -> AnyFrames:
        """The frames as one tensor, made in a single pass on their device.

        Parameters
        ----------
        preprocess : Preprocess, optional
            Size, normalisation, type, layout; by default float32 from 0 to 1 at the frames' own size.
        output : str
            "torch", "numpy", "dlpack" or "auto" (PyTorch where it is installed).

        Returns
        -------
        tensor
            [N, C, H, W] or [N, H, W, C]. ``to_frame`` maps from it from now on.

        Raises
        ------
        ValueError
            For frames of several sizes without a size, or on several devices.
        """
        preprocess = Preprocess() if preprocess is None else preprocess
        tensor, self._mappings = _framerail.FrameConverter(preprocess._json()).convert(self.frames)
        made: AnyFrames = handed_over(tensor, output)
        return made

    @overload
    def to_frame(self, places: torch.Tensor, frame: Optional[int] = None) -> torch.Tensor: ...
    @overload
    def to_frame(
        self, places: Union[npt.NDArray[np.generic], Sequence[object]], frame: Optional[int] = None
    ) -> npt.NDArray[np.float32]: ...
    def to_frame(self, places: Any, frame: Optional[int] = None) -> Union[torch.Tensor, npt.NDArray[np.float32]]:
        """Boxes or points from pixels of the model's input to pixels of the frames: undoes resize, letterbox and crop.

        Parameters
        ----------
        places : array or tensor
            [..., 4] for boxes (left, top, right, bottom), [..., 2] for points.
        frame : int, optional
            Number of the frame in this batch. Without it the frames must agree in size, or the first axis be that of the
            frames.

        Returns
        -------
        array or tensor
            float32, of the same library and on the same device.
        """
        if self._mappings is None:
            raise ValueError("to_frame() is for boxes of a model; make its input with batch.tensor() first")
        pytorch = sys.modules.get("torch")
        if pytorch is not None and isinstance(places, pytorch.Tensor):
            given: Any = places
            as_tensor = lambda values: pytorch.tensor(values).to(given.device, non_blocking=True)  # noqa: E731
            of_torch: Any = self._mapped(given.float(), frame, as_tensor)
            return of_torch  # type: ignore[no-any-return]
        of_numpy: npt.NDArray[np.float32] = self._mapped(np.asarray(places, np.float32), frame, lambda values: np.array(values, np.float32))
        return of_numpy

    def _mapped(self, places: Any, frame: Optional[int], as_array: Callable[[List[Any]], Any]) -> Any:
        if self._mappings is None or places.ndim == 0 or places.shape[-1] not in (2, 4):
            raise bad("places", tuple(places.shape), "a last axis of 4 for boxes, or 2 for points")
        rows = self._mappings if frame is None else [self._mappings[frame]]
        if all(row == rows[0] for row in rows):
            rows = rows[:1]
        elif len(places) != len(rows):
            raise bad("frame", frame, "the number of the frame in this batch: its frames differ in size")
        repeat = places.shape[-1] // 2
        scales, offsets = (as_array([row[part] * repeat for row in rows]) for part in (slice(0, 2), slice(2, 4)))
        if len(rows) == 1:
            scales, offsets = scales[0], offsets[0]
        else:
            form = (len(rows), *(1,) * (places.ndim - 2), places.shape[-1])
            scales, offsets = scales.reshape(form), offsets.reshape(form)
        return (places - offsets) / scales

    def to_pandas(self) -> pandas.DataFrame:
        """The detections as a ``pandas.DataFrame``, one row each; see ``framerail.to_pandas``."""
        from .interop import to_pandas

        return to_pandas(self.frames)

    def __repr__(self) -> str:
        if not self.frames:
            return "ItemBatch(0 frames)"
        first = self.frames[0]
        data = "" if self.data is None else f", {described(self.data)}"
        return f"ItemBatch({len(self.frames)} frames from {first.index}, {first.width}x{first.height}{data})"
