import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import framerail as fr
import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, clip):
    done = subprocess.run([sys.executable, str(example), str(clip)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "wrote 30 frames" in done.stdout and "frame 3 again: True" in done.stdout


def test_everything_public_says_what_it_is():
    for name in fr.__all__:
        thing = getattr(fr, name)
        if callable(thing):
            assert thing.__doc__, name
            for member, value in vars(thing).items() if isinstance(thing, type) else ():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{member}"


def test_the_api_reference_is_up_to_date():
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    done = subprocess.run([sys.executable, str(Path(sources) / "scripts" / "python_api.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def pages():
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    # The reference's blocks are signatures.
    found = [Path(sources) / "README.md", *(page for page in sorted((Path(sources) / "docs").glob("*.md")) if page.name != "python-api.md")]
    return [(page.name, re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)) for page in found]


def named(node):
    """`fr.torch.ClipDataset` as its parts, or None for anything that does not begin with `fr`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return parts if isinstance(node, ast.Name) and node.id in ("fr", "framerail") and parts else None


def resolve(parts):
    thing = fr
    for part in parts:
        if inspect.ismodule(thing) and not hasattr(thing, part):
            importlib.import_module(f"{thing.__name__}.{part}")
        thing = getattr(thing, part)
    return thing


def test_python_in_the_documentation_names_what_exists():
    checked = 0
    for page, blocks in pages():
        for block in blocks:
            # Shortened code, such as `for batch in batches: ...`, is valid Python too.
            tree = ast.parse(inspect.cleandoc(block) if block.startswith(" ") else block)
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call) or not (parts := named(node.func)) or (parts[0] in ("torch", "compat") and not has_torch()):
                    continue
                function = resolve(parts)
                known = inspect.signature(function).parameters
                takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
                for keyword in node.keywords:
                    assert takes_all or keyword.arg is None or keyword.arg in known, f"{page}: {'.'.join(parts)}({keyword.arg}=...)"
                checked += 1
    assert checked > 30, f"only {checked} calls were found"


def has_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
