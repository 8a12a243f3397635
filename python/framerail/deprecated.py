"""Names that were renamed: they work with a ``DeprecationWarning`` until 1.0."""

from __future__ import annotations

import warnings

#: Old names of the package's classes.
CLASSES = {"Batch": "ItemBatch", "Batches": "BatchIterator"}


def warn(old: str, new: str) -> None:
    """Warns that a name was renamed, at the line that uses it."""
    warnings.warn(f"{old} was renamed to {new}; the old name goes with framerail 1.0", DeprecationWarning, stacklevel=3)
