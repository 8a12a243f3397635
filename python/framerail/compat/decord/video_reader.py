"""``decord.video_reader``."""

from ._readers import VideoReader

__all__ = ["VideoReader"]
