"""Readers on the CPU, each called as its documentation recommends for speed: all cores, no needless copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .adapter import SEEK, Adapter, Unavailable, batches

#: Distance in frames up to which reading on is faster than seeking, for readers that leave the choice to their user.
NEAR = 16


class Framerail(Adapter):
    name = "framerail"
    package = "framerail"
    devices = ("cpu", "cuda")

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import framerail

        if not hasattr(framerail, "VideoReader"):
            raise Unavailable("its compiled part is not built here")
        self._module = framerail
        self._where = "cuda:0" if device == "cuda" else "cpu"

    def version(self) -> str:
        return self._module.__version__

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        wanted: dict[str, Any] = {} if size is None else {"size": size[::-1]}
        output = "torch" if self.device == "cuda" else "numpy"
        reader: Any = self._module.VideoReader
        return reader(path, device=self._where, mode=mode, layout=self.layout, output=output, **wanted)

    def sequence(self, opened: Any) -> Iterator[Any]:
        for batch in opened.batches(16):
            yield batch.data

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        for part in batches(numbers):
            yield opened.read_frames(list(part))

    def close(self, opened: Any) -> None:
        opened.close()

    def synchronize(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


class OpenCv(Adapter):
    name = "opencv"
    package = "opencv-python"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import cv2

        self._cv2: Any = cv2

    def version(self) -> str:
        return str(self._cv2.__version__)

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        capture = self._cv2.VideoCapture(path)
        if not capture.isOpened():
            raise OSError(f"OpenCV does not open {path}")
        return capture, mode, size

    def _picture(self, image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
        if size is not None:
            image = self._cv2.resize(image, size)
        return self.laid_out(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB))

    def sequence(self, opened: Any) -> Iterator[Any]:
        capture, _, size = opened
        while True:
            is_read, image = capture.read()
            if not is_read:
                return
            yield self._picture(image, size)

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        capture, mode, size = opened
        place = 0
        for number in numbers:
            if mode == SEEK and not 0 <= number - place <= NEAR:
                capture.set(self._cv2.CAP_PROP_POS_FRAMES, number)
                place = number
            while place < number and capture.grab():
                place += 1
            is_read, image = capture.read()
            place += 1
            if not is_read:
                raise ValueError(f"OpenCV does not read frame {number}")
            yield self._picture(image, size)

    def close(self, opened: Any) -> None:
        opened[0].release()


class PyAv(Adapter):
    name = "pyav"
    package = "av"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import av

        self._av = av

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        container = self._av.open(path)
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return container, stream, mode, size

    def _picture(self, frame: Any, size: tuple[int, int] | None) -> np.ndarray:
        if size is not None:
            return self.laid_out(frame.reformat(*size, "rgb24").to_ndarray())
        return self.laid_out(frame.to_ndarray(format="rgb24"))

    def sequence(self, opened: Any) -> Iterator[Any]:
        container, stream, _, size = opened
        for frame in container.decode(stream):
            yield self._picture(frame, size)

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        container, stream, mode, size = opened
        yield from self._sought(opened, numbers) if mode == SEEK else self._counted(container, stream, size, numbers)

    def _counted(self, container: Any, stream: Any, size: tuple[int, int] | None, numbers: Sequence[int]) -> Iterator[Any]:
        wanted = iter(numbers)
        number = next(wanted, None)
        for place, frame in enumerate(container.decode(stream)):
            if number is None:
                return
            if place == number:
                yield self._picture(frame, size)
                number = next(wanted, None)

    def _sought(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        """PyAV has times, not frame numbers: the usual way assumes a constant rate."""
        container, stream, _, size = opened
        ticks = 1 / (stream.average_rate * stream.time_base)
        frames: Iterator[Any] = iter(())
        place = -NEAR - 1
        for number in numbers:
            aim = (stream.start_time or 0) + round(number * ticks)
            if not 0 <= number - place <= NEAR:
                container.seek(aim, stream=stream)
                frames = container.decode(stream)
            frame = next((frame for frame in frames if frame.pts is not None and frame.pts + ticks / 2 > aim), None)
            if frame is None:
                raise ValueError(f"PyAV does not read frame {number}")
            yield self._picture(frame, size)
            place = number + 1

    def close(self, opened: Any) -> None:
        opened[0].close()


class TorchVision(Adapter):
    """``torchvision.io.read_video``, in releases before 0.25."""

    name = "torchvision"
    package = "torchvision"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import torchvision

        if not hasattr(torchvision.io, "read_video"):
            raise Unavailable(f"torchvision {torchvision.__version__} no longer decodes video")
        self._io = torchvision.io

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        times, rate = self._io.read_video_timestamps(path, pts_unit="sec")
        return path, [float(time) for time in times], rate, size

    def _range(self, opened: Any, first: int, last: int) -> Any:
        path, times, _, size = opened
        video, _, _ = self._io.read_video(
            path, times[first], times[last], pts_unit="sec", output_format="THWC" if self.layout == "THWC" else "TCHW"
        )
        if size is None:
            return video
        import torch

        channels_first = video if self.layout == "TCHW" else video.permute(0, 3, 1, 2)
        scaled = torch.nn.functional.interpolate(channels_first, size[::-1], mode="bilinear", antialias=True)
        return (scaled if self.layout == "TCHW" else scaled.permute(0, 2, 3, 1)).contiguous()

    def sequence(self, opened: Any) -> Iterator[Any]:
        for part in batches(range(len(opened[1]))):
            yield self._range(opened, part[0], part[-1])

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        for number in numbers:
            yield self._range(opened, number, number)[:1]


class TorchCodec(Adapter):
    """The fast setting: frame numbers from the header's average rate."""

    name = "torchcodec"
    package = "torchcodec"
    devices = ("cpu", "cuda")
    modes = (SEEK,)
    seek_mode = "approximate"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        from torchcodec import decoders

        self._decoders = decoders

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        from torchcodec import transforms

        order = "NHWC" if self.layout == "THWC" else "NCHW"
        wanted = {} if size is None else {"transforms": [transforms.Resize((size[1], size[0]))]}
        where = {"device": "cuda:0"} if self.device == "cuda" else {"num_ffmpeg_threads": 0}
        return self._decoders.VideoDecoder(path, dimension_order=order, seek_mode=self.seek_mode, **where, **wanted)

    def sequence(self, opened: Any) -> Iterator[Any]:
        for part in batches(range(len(opened))):
            yield opened.get_frames_in_range(part[0], part[-1] + 1).data.contiguous()

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        for part in batches(numbers):
            yield opened.get_frames_at(list(part)).data.contiguous()

    def synchronize(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


class TorchCodecExact(TorchCodec):
    """The exact setting, its default: every packet is scanned while opening."""

    name = "torchcodec-exact"
    seek_mode = "exact"


class Decord(Adapter):
    name = "decord"
    package = "decord"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import decord

        self._decord = decord

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        width, height = size or (-1, -1)
        return self._decord.VideoReader(path, width=width, height=height, num_threads=0), mode

    def _picture(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if self.layout == "TCHW" else array

    def sequence(self, opened: Any) -> Iterator[Any]:
        for part in batches(range(len(opened[0]))):
            yield self._picture(opened[0].get_batch(part).asnumpy())

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        reader, mode = opened
        if mode == SEEK:
            for part in batches(numbers):
                yield self._picture(reader.get_batch(part).asnumpy())
            return
        place = 0
        for number in numbers:
            if number > place:
                reader.skip_frames(number - place)
            yield self.laid_out(reader.next().asnumpy())
            place = number + 1


class ImageIo(Adapter):
    """imageio's FFmpeg reader: an ``ffmpeg`` process for each opened clip."""

    name = "imageio"
    package = "imageio"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import imageio.v2
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
        self._imageio = imageio.v2

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        wanted = {} if size is None else {"size": f"{size[0]}x{size[1]}"}
        return self._imageio.get_reader(path, "ffmpeg", **wanted), mode

    def sequence(self, opened: Any) -> Iterator[Any]:
        for image in opened[0]:
            yield self.laid_out(np.asarray(image))

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        reader, mode = opened
        if mode == SEEK:
            for number in numbers:
                yield self.laid_out(np.asarray(reader.get_data(number)))
            return
        wanted = iter(numbers)
        following = next(wanted, None)
        for place, image in enumerate(reader):
            if place == following:
                yield self.laid_out(np.asarray(image))
                following = next(wanted, None)
            if following is None:
                return

    def close(self, opened: Any) -> None:
        opened[0].close()


READERS: tuple[type[Adapter], ...] = (Framerail, OpenCv, PyAv, TorchVision, TorchCodec, TorchCodecExact, Decord, ImageIo)
