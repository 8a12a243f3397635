"""The frames that a caller requests: numbers, masks, ranges and spans of time."""

from __future__ import annotations

import bisect
import math
import operator
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from .options import bad, real, whole

if TYPE_CHECKING:
    from .frames import FrameTimes

#: More frames than any video has.
_NUMBERS = 2**48


class Selector:
    """Converts a caller's selection to frame numbers of one video.

    ``name`` is the video's in messages; ``count`` and ``times`` are called only where a choice depends on them.
    """

    def __init__(self, name: str, count: Callable[[], int], times: Callable[[], FrameTimes]) -> None:
        self._name = name
        self._count = count
        self._times = times

    def numbers(self, numbers: Any) -> Tuple[List[int], bool]:
        """Frame numbers from 0, and whether they depend on the number of frames."""
        if isinstance(numbers, (Set, Mapping)):
            raise TypeError(f"frame numbers must be in order, and a {type(numbers).__name__} has none; give a list")
        numbers = list(numbers)
        if numbers and all(map(_is_bool, numbers)):
            count = self._count()
            if len(numbers) != count:
                raise IndexError(f"{self._name}: a mask of {len(numbers)} entries for {count} frames")
            return [number for number, is_chosen in enumerate(numbers) if is_chosen], True
        wanted = [_whole(number) for number in numbers]
        is_relative = any(number < 0 for number in wanted)
        if any(number < 0 or number >= _NUMBERS for number in wanted):
            count = self._count()
            for at, number in enumerate(wanted):
                if not -count <= number < max(count, 1):
                    raise IndexError(f"{self._name}: frame {number} of {count} does not exist")
                wanted[at] = number + count if number < 0 else number
        return wanted, is_relative

    def batches(
        self, start: Any, stop: Any, every: int, numbers: Any, fps: Any, start_seconds: Any, end_seconds: Any
    ) -> Dict[str, Any]:
        """The options of ``VideoReader.batches`` for the compiled part."""
        if sum((numbers is not None, fps is not None, (start, stop, every) != (None, None, 1))) > 1:
            raise ValueError("options 'numbers', 'fps' and 'start', 'stop', 'every' choose frames in different ways; use one")
        if fps is None and (start_seconds, end_seconds) != (None, None):
            if numbers is not None or (start, stop) != (None, None):
                raise ValueError("options 'start_seconds' and 'end_seconds' choose frames by time; leave out 'numbers', 'start' and 'stop'")
            start, stop = self._between(start_seconds, end_seconds)
        if numbers is not None:
            numbers = plain(numbers)
            return {"list": self.numbers(numbers if hasattr(numbers, "__len__") else list(numbers))[0]}
        if fps is not None:
            secs = "finite seconds"
            return {
                "fps": {
                    "fps": real("fps", fps, "frames per second above 0", above=0.0),
                    "start": None if start_seconds is None else real("start_seconds", start_seconds, secs),
                    "end": None if end_seconds is None else real("end_seconds", end_seconds, secs),
                }
            }
        start, stop = (None if at is None else operator.index(at) for at in (start, stop))
        step = whole("every", every, 1)
        if stop is not None or (start or 0) < 0:
            start, stop, _ = slice(start, stop).indices(self._count())
        return {"range": {"start": start or 0, "stop": stop, "step": step}}

    def _between(self, start: Optional[float], end: Optional[float]) -> Tuple[int, int]:
        """The first frame on screen in a span of time, and the number after the last one."""
        secs, times = "finite seconds", self._times()
        if not len(times):
            return 0, 0
        first = -math.inf if start is None else real("start_seconds", start, secs)
        last = math.inf if end is None else real("end_seconds", end, secs)
        if last < first:
            raise bad("end_seconds", end, f"a time from start_seconds, {start}, on")
        seconds = times.seconds.tolist()
        ends = [second + duration for second, duration in zip(seconds, times.durations.tolist())]
        begin = bisect.bisect_right(ends, first)
        return begin, max(begin, bisect.bisect_left(seconds, last))


def plain(values: Any) -> Any:
    """Entries of an array as Python numbers."""
    return values.tolist() if hasattr(values, "tolist") else values


def is_one(values: Any) -> bool:
    """Whether this is a single number; anything else is checked later."""
    return not hasattr(values, "__iter__") and not hasattr(values, "__getitem__")


def is_mask(values: Any) -> bool:
    """Whether an array holds bools."""
    return str(getattr(values, "dtype", "")) in ("bool", "torch.bool")


def _whole(number: Any) -> int:
    try:
        if _is_bool(number):
            raise TypeError
        return operator.index(number)
    except TypeError:
        raise TypeError(f"frame numbers must be whole numbers, or a mask of bools, not {number!r}") from None


def _is_bool(value: Any) -> bool:
    # NumPy's type has another name in each major version.
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
