"""The available readers, by device, and how to name your own."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from . import cpu_readers, cuda_readers
from .adapter import Adapter, Unavailable


def known(device: str) -> dict[str, type[Adapter]]:
    """Readers for a device by name, framerail first."""
    readers = (*cpu_readers.READERS, *cuda_readers.READERS)
    return {reader.name: reader for reader in readers if device in reader.devices}


def find(name: str, device: str) -> type[Adapter]:
    """A reader by its name, or your own adapter as ``module:Class`` or ``file.py:Class``."""
    if ":" not in name:
        try:
            return known(device)[name]
        except KeyError:
            raise Unavailable(f"no reader for {device} is called {name}; there are {', '.join(known(device))}") from None
    module_name, _, class_name = name.rpartition(":")
    if module_name.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(module_name).stem, module_name)
        if spec is None or spec.loader is None:
            raise Unavailable(f"{module_name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_name)
    adapter: type[Adapter] = getattr(module, class_name)
    return adapter


def title(name: str) -> str:
    """A reader's name in tables."""
    return name.rpartition(":")[2]
