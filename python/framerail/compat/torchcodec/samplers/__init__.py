"""Samplers of clips under TorchCodec's names."""

from ._index_based import clips_at_random_indices, clips_at_regular_indices
from ._time_based import clips_at_random_timestamps, clips_at_regular_timestamps

__all__ = ["clips_at_random_indices", "clips_at_random_timestamps", "clips_at_regular_indices", "clips_at_regular_timestamps"]
