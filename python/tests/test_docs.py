import os
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
