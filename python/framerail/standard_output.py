"""Ends commands as Unix tools end: quietly when the reader of standard output has gone, with one line when it cannot be written."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, List, Optional, TypeVar, cast

Command = TypeVar("Command", bound=Callable[..., int])


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, for commands of ``ends_as_unix_tools``: help that cannot be written raises ``OSError``, which argparse ignores."""

    def print_help(self, file: Any = None) -> None:
        """Writes the help to ``file``, or to standard output."""
        (sys.stdout if file is None else file).write(self.format_help())


def ends_as_unix_tools(command: Command) -> Command:
    """Flushes standard output after a command, whose result is the exit code: 4 where that fails."""

    @functools.wraps(command)
    def wrapped(arguments: Optional[List[str]] = None) -> int:
        code = 0
        try:
            try:
                code = command(arguments)
            except SystemExit as end:  # argparse, after its help
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
        except OSError as error:
            # A file's error has its own words.
            if error.filename is not None:
                raise
            _discard_output()
            print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr)
            code = 4
        return code

    return cast(Command, wrapped)


def _discard_output() -> None:
    """What is buffered is written once more at exit, where a failure would be reported."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
