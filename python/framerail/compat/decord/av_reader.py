"""``decord.av_reader``."""

from ._readers import AVReader

__all__ = ["AVReader"]
