"""``AudioDecoder`` over ``framerail.AudioReader``."""

from __future__ import annotations

import warnings
from typing import Optional

import torch

from ....audio import AudioReader
from .._core._metadata import AudioStreamMetadata
from .._frame import AudioSamples
from .._source import Source, open_stream, plain


class AudioDecoder:
    """Decodes one audio stream to float32 samples; TorchCodec's ``AudioDecoder``.

    Parameters
    ----------
    source : str, Path, bytes, uint8 tensor, or file-like object
    stream_index : int, optional
        Number among all streams of the container. Default: FFmpeg's choice of the audio.
    sample_rate, num_channels : int, optional
        Of the returned samples. Default: the stream's own.
    """

    def __init__(
        self,
        source: Source,
        *,
        stream_index: Optional[int] = None,
        sample_rate: Optional[int] = None,
        num_channels: Optional[int] = None,
    ) -> None:
        if num_channels is not None and num_channels <= 0:
            raise RuntimeError(f"num_channels must be > 0. Got: {num_channels}")
        given = plain(source)

        def opened(number: Optional[int]) -> AudioReader:
            return AudioReader(given, stream=number, sample_rate=sample_rate, channels=num_channels, output="torch")

        self._reader = open_stream(stream_index, "an audio", opened, lambda opened: opened.metadata.stream_index)
        known = self._reader.metadata
        self.metadata = AudioStreamMetadata(
            duration_seconds_from_header=known.duration_seconds_header,
            begin_stream_seconds_from_header=known.start_seconds_header,
            bit_rate=None if known.bit_rate is None else float(known.bit_rate),
            codec=known.codec,
            stream_index=known.stream_index,
            sample_rate=known.sample_rate,
            num_channels=known.num_channels,
            sample_format=known.sample_format,
        )
        self.stream_index = known.stream_index
        self._start = known.start_seconds

    def get_all_samples(self) -> AudioSamples:
        """Every sample."""
        return self.get_samples_played_in_range()

    def get_samples_played_in_range(self, start_seconds: float = 0.0, stop_seconds: Optional[float] = None) -> AudioSamples:
        """The samples from ``start_seconds`` to before ``stop_seconds``; default: to the end."""
        if stop_seconds is not None and not start_seconds <= stop_seconds:
            raise ValueError(f"Invalid start seconds: {start_seconds}. It must be less than or equal to stop seconds ({stop_seconds}).")
        is_before = stop_seconds is not None and stop_seconds <= self._start and start_seconds < stop_seconds
        begin = max(start_seconds, self._start)
        try:
            samples = None if is_before else self._reader.read(begin, stop_seconds if stop_seconds is None else max(begin, stop_seconds))
        except ValueError as error:
            raise RuntimeError(f"Couldn't initialize SwrContext: {error}") from error
        is_empty = samples is None or samples.data.shape[1] == 0
        if samples is None or (is_empty and stop_seconds is None):
            raise RuntimeError(
                "No audio frames were decoded. This is probably because start_seconds is too high or stop_seconds is too low: "
                f"start_seconds={start_seconds}, stop_seconds={stop_seconds}, and the stream begins at {self._start}."
            )
        if samples.gaps:
            where = ", ".join(f"{first:.3f} to {last:.3f} s" for first, last in samples.gaps[:3])
            warnings.warn(f"{len(samples.gaps)} spans without samples are silent: {where}{', ...' if len(samples.gaps) > 3 else ''}", stacklevel=2)
        data = torch.as_tensor(samples.data)
        return AudioSamples(data, begin, data.shape[1] / samples.sample_rate, samples.sample_rate)


class WavDecoder(AudioDecoder):
    """An ``AudioDecoder`` of WAV files alone; TorchCodec's ``WavDecoder``."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        if self._reader.metadata.container != "wav":
            raise RuntimeError(f"Missing RIFF header: not a WAV file, but {self._reader.metadata.container}")

    def get_samples_played_in_range(self, start_seconds: float = 0.0, stop_seconds: Optional[float] = None) -> AudioSamples:
        """The samples from ``start_seconds`` to before ``stop_seconds``; default: to the end."""
        start = 0.0 if start_seconds is None else start_seconds
        too_high = f"No samples to decode. This is probably because start_seconds is too high({start:g})"
        try:
            samples = super().get_samples_played_in_range(start, stop_seconds)
        except RuntimeError as error:
            raise RuntimeError(too_high if "No audio frames" in str(error) else str(error)) from error
        if samples.data.shape[1] == 0 and start != stop_seconds:
            raise RuntimeError(too_high)
        return samples
