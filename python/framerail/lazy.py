"""NumPy, imported when it is first used: much of framerail works without it, with PyTorch or with no arrays at all."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING


@functools.cache
def has_numpy() -> bool:
    """Whether NumPy can be imported."""
    return importlib.util.find_spec("numpy") is not None


if TYPE_CHECKING:
    import numpy as np
else:

    class _NumPy:
        def __getattr__(self, name):
            try:
                import numpy
            except ImportError as error:
                raise ImportError("this needs NumPy: pip install 'framerail[numpy]'") from error
            value = getattr(numpy, name)
            setattr(self, name, value)
            return value

    np = _NumPy()

__all__ = ["has_numpy", "np"]
