"""The process of one reader: reads commands as lines of JSON and responds to each with one.

Run as a script, so that the package ``framerail`` is loaded by the adapter for framerail alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import Adapter
    from .process import Message


def _package() -> Callable[[str], Any]:
    """This folder as a separate package, without its parent."""
    import importlib.util

    folder = Path(__file__).resolve().parent
    # A script's folder is first on the path, where its modules would hide others of the same names.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != folder]
    spec = importlib.util.spec_from_file_location(
        "framerail_bench", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["framerail_bench"] = package
    spec.loader.exec_module(package)
    return importlib.import_module


def pictures_of(adapter: Adapter, opened: object, step: Message) -> Iterator[Any]:
    """The frames that a step reads."""
    return adapter.sequence(opened) if step["numbers"] is None else adapter.pictures(opened, step["numbers"])


def run(adapter: Adapter, command: Message) -> Message:
    """Runs the steps of a case against the clock, until they are done or the budget is spent."""
    began = time.perf_counter()
    deadline = began + command["budget_secs"]
    count, is_complete = 0, True
    for step in command["steps"]:
        opened = adapter.open(step["path"], step["mode"], step["size"])
        for pictures in pictures_of(adapter, opened, step):
            count += adapter.count(pictures)
            if time.perf_counter() > deadline:
                is_complete = False
                break
        adapter.close(opened)
        if time.perf_counter() > deadline:
            is_complete = False
            break
    adapter.synchronize()
    return {"seconds": time.perf_counter() - began, "count": count, "is_complete": is_complete}


def check(adapter: Adapter, command: Message, modules: Callable[[str], Any]) -> Message:
    """Runs the steps of a case and compares every frame with the reference."""
    import numpy as np

    comparison = modules("framerail_bench.check").Comparison()
    signature = modules("framerail_bench.footage").signature
    references: dict[str, Any] = {}
    for step in command["steps"]:
        file = command["references"][step["path"]]
        reference = references.setdefault(file, np.load(file))
        numbers = list(range(len(reference))) if step["numbers"] is None else step["numbers"]
        size = tuple(step["size"] or command["size"] or ())
        opened = adapter.open(step["path"], step["mode"], step["size"])
        place = 0
        for pictures in pictures_of(adapter, opened, step):
            for image in adapter.images(pictures):
                if size:
                    comparison.sized((image.shape[1], image.shape[0]), size)
                if place < len(numbers):
                    comparison.add(signature(image), numbers[place], reference)
                place += 1
        adapter.close(opened)
        comparison.missed(len(numbers) - place)
    verdict = comparison.finish()
    return {
        "is_right": verdict.is_right,
        "words": verdict.words(),
        "checked": verdict.checked,
        "wrong": verdict.wrong[:100],
        "mean_difference": verdict.difference,
    }


def start(modules: Callable[[str], Any], name: str, device: str, layout: str) -> tuple[Adapter | None, Message]:
    """The adapter, or the reason why it cannot be used."""
    unavailable = modules("framerail_bench.adapter").Unavailable
    try:
        adapter = modules("framerail_bench.catalog").find(name, device)(device, layout)
        return adapter, {"version": adapter.version(), "modes": list(adapter.modes)}
    except ModuleNotFoundError as error:
        return None, {"unavailable": f"{error.name} is not installed"}
    except (ImportError, OSError, RuntimeError, unavailable) as error:
        return None, {"unavailable": str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}


def end_with(parent: int) -> None:
    """Ends this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    name, device, layout = sys.argv[1:4]
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    # Libraries print to standard output; responses use a separate pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    modules = _package()
    adapter, answer = start(modules, name, device, layout)
    print(json.dumps(answer), file=answers, flush=True)
    if adapter is None:
        return 0
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = run(adapter, command) if command["do"] == "run" else check(adapter, command, modules)
        except Exception as error:  # noqa: BLE001 - whatever a reader raises is its result
            words = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {words}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
