"""What belongs to its process: files being written, pipelines, iterators over a decoder."""

from __future__ import annotations

from typing import ClassVar, NoReturn


class InProcess:
    """Cannot be pickled or copied; the error names what to do instead."""

    __slots__ = ()

    _INSTEAD: ClassVar[str] = "create one in each process"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied: it is bound to its process; {self._INSTEAD}")
