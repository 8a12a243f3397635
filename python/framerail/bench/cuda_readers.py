"""Readers that return frames on a CUDA device, in addition to those of :mod:`.cpu_readers` that do both.

Each ends with planar RGB, 8 bit, in device memory; ``THWC`` is made from it where a reader does not give it. PyTorch is
needed to wait for the device and to look at pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .adapter import SEEK, STREAM, Adapter, Unavailable, batches


class CudaAdapter(Adapter):
    """Common parts of readers on a device."""

    devices = ("cuda",)

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import torch

        if not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no CUDA device")
        self._torch = torch

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def images(self, pictures: Any) -> Iterator[np.ndarray]:
        for picture in pictures if isinstance(pictures, list) else [pictures]:
            tensor = self._torch.from_dlpack(picture)
            height = tensor.shape[-2] // (1 if tensor.ndim == 3 else 3)
            array = tensor.reshape(-1, height, tensor.shape[-1]).cpu().numpy() if tensor.ndim == 2 else tensor.cpu().numpy()
            yield array.transpose(1, 2, 0) if array.shape[0] == 3 else array

    def placed(self, picture: Any) -> Any:
        """A planar frame in the requested layout."""
        if self.layout == "TCHW":
            return picture
        tensor = self._torch.from_dlpack(picture)
        planar = tensor if tensor.ndim == 3 else tensor.reshape(3, -1, tensor.shape[-1])
        return planar.permute(1, 2, 0).contiguous()


class PyNvVideoCodec(CudaAdapter):
    name = "pynvvideocodec"
    package = "pynvvideocodec"
    modes = (SEEK,)

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import PyNvVideoCodec

        self._codec = PyNvVideoCodec

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        if size is not None:
            raise Unavailable("its decoder does not resize to RGB")
        planar = self._codec.OutputColorType.RGBP
        return self._codec.SimpleDecoder(path, gpu_id=0, use_device_memory=True, output_color_type=planar)

    def sequence(self, opened: Any) -> Iterator[Any]:
        count, length = 0, len(opened)
        while count < length:
            frames = opened.get_batch_frames(16)
            if not frames:
                return
            count += len(frames)
            yield [self.placed(frame) for frame in frames]

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        for part in batches(numbers):
            yield [self.placed(frame) for frame in opened.get_batch_frames_by_index(list(part))]


class Vali(CudaAdapter):
    name = "vali"
    package = "python-vali"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        import python_vali

        self._vali = python_vali

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        vali = self._vali
        decoder = vali.PyDecoder(path, {}, 0)
        width, height = decoder.Width, decoder.Height
        coded = vali.Surface.Make(decoder.Format, width, height, 0)
        resizer = scaled = None
        if size is not None:
            width, height = size
            resizer, scaled = vali.PySurfaceResizer(decoder.Format, 0), vali.Surface.Make(decoder.Format, width, height, 0)
        rgb = vali.Surface.Make(vali.PixelFormat.RGB, width, height, 0)
        planar = vali.Surface.Make(vali.PixelFormat.RGB_PLANAR, width, height, 0)
        return decoder, vali.PySurfaceConverter(0), coded, (resizer, scaled), rgb, planar, mode

    def _converted(self, opened: Any) -> Any:
        _, converter, coded, (resizer, scaled), rgb, planar, _ = opened
        if resizer is not None:
            resizer.Run(coded, scaled)
            coded = scaled
        # Both are queued on the converter's stream; only the second is waited for.
        first, _ = converter.RunAsync(coded, rgb)
        second, info = converter.Run(rgb, planar)
        if not (first and second):
            raise RuntimeError(f"VALI does not convert: {info}")
        return self.placed(planar)

    def sequence(self, opened: Any) -> Iterator[Any]:
        while opened[0].DecodeSingleSurface(opened[2])[0]:
            yield self._converted(opened)

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        decoder, coded, mode = opened[0], opened[2], opened[-1]
        place = 0
        for number in numbers:
            if mode == STREAM:
                while place < number and decoder.DecodeSingleSurface(coded)[0]:
                    place += 1
                is_read, info = decoder.DecodeSingleSurface(coded)
                place += 1
            else:
                is_read, info = decoder.DecodeSingleSurface(coded, self._vali.SeekContext(seek_frame=number))
            if not is_read:
                raise ValueError(f"VALI does not read frame {number}: {info}")
            yield self._converted(opened)


class OpenCvUploaded(CudaAdapter):
    """OpenCV on the CPU, each frame uploaded and converted to planes there."""

    name = "opencv"
    package = "opencv-python"

    def __init__(self, device: str, layout: str) -> None:
        super().__init__(device, layout)
        from .cpu_readers import OpenCv

        self._reader = OpenCv("cpu", "THWC")

    def version(self) -> str:
        return self._reader.version()

    def open(self, path: str, mode: str, size: tuple[int, int] | None = None) -> Any:
        return self._reader.open(path, mode, size)

    def _uploaded(self, image: np.ndarray) -> Any:
        tensor = self._torch.from_numpy(image).cuda()
        return tensor.permute(2, 0, 1).contiguous() if self.layout == "TCHW" else tensor

    def sequence(self, opened: Any) -> Iterator[Any]:
        return map(self._uploaded, self._reader.sequence(opened))

    def pictures(self, opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
        return map(self._uploaded, self._reader.pictures(opened, numbers))

    def close(self, opened: Any) -> None:
        self._reader.close(opened)


READERS: tuple[type[Adapter], ...] = (PyNvVideoCodec, Vali, OpenCvUploaded)
