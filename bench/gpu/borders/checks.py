"""The checks by name, and what they are made with."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


class Skip(Exception):
    """A check that this machine cannot run."""


CHECKS = {}


def check(name):
    def add(function):
        CHECKS[name] = function
        return function

    return add


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def in_new_process(code, clip, seconds=120, **environment):
    """Runs Python code that has `clip`; gives what it printed."""
    here = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
    begin = f"clip = {str(clip)!r}\nimport framerail as fr\n"
    done = subprocess.run([sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True, timeout=seconds, env=here)
    need(done.returncode == 0, f"exit code {done.returncode}: {(done.stdout + done.stderr)[-2500:]}")
    return done.stdout
