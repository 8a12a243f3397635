"""Serves programs that import another reader by its own name."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Dict, Optional


class _Distribution(importlib.metadata.Distribution):
    """What ``importlib.metadata`` says of a package that is served."""

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> Optional[str]:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


class Served(importlib.abc.MetaPathFinder):
    """A package under another name, with the version that programs look for.

    Parameters
    ----------
    name : str
        The other name, such as "torchcodec".
    package : str
        The package that stands for it.
    parts : sequence of str
        Its modules, such as ".decoders"; "" is the package itself.
    version : str
        The release whose interface it has.
    """

    def __init__(self, name: str, package: str, parts: Sequence[str], version: str) -> None:
        self._name, self._package, self._parts, self._version = name, package, tuple(parts), version
        #: Modules that were there before.
        self._replaced: Dict[str, ModuleType] = {}

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Nothing: the modules are in ``sys.modules`` already."""
        return None

    def find_distributions(
        self, context: Optional[importlib.metadata.DistributionFinder.Context] = None
    ) -> Iterable[importlib.metadata.Distribution]:
        """The distribution of the served name."""
        if context is not None and context.name is not None and context.name.lower() == self._name:
            yield _Distribution(self._name, self._version)

    def install(self) -> None:
        """Makes imports of the name give the package, in this process, also where the real one is installed."""
        for part in self._parts:
            name, module = self._name + part, importlib.import_module(self._package + part)
            known = sys.modules.get(name)
            if known is not None and known is not module:
                self._replaced[name] = known
            sys.modules[name] = module
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Undoes ``install``."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        for part in self._parts:
            name = self._name + part
            if name in self._replaced:
                sys.modules[name] = self._replaced.pop(name)
            else:
                sys.modules.pop(name, None)
