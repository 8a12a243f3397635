"""``decord.audio_reader``."""

from ._readers import AudioReader

__all__ = ["AudioReader"]
