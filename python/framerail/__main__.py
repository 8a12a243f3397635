"""``python -m framerail``, and the command ``framerail`` of a wheel: the program, ``index`` for data sets and ``fetch-models``."""

from __future__ import annotations

import os
import signal
import sys
from typing import List, Optional

from . import _framerail, fetch_models, resources, video_index
from .doctor import python_lines
from .standard_output import ArgumentParser, ends_as_unix_tools

_MORE = """
Of the Python package:
  index         Write the properties of each video of a data set into one Parquet file
  fetch-models  Fetch the face detector
"""


@ends_as_unix_tools
def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["index"], ["fetch-models"]):
        parser = ArgumentParser(prog="framerail", description="framerail for Python")
        commands = parser.add_subparsers(dest="command", metavar="COMMAND")
        video_index.add_command(commands)
        fetch_models.add_command(commands)
        given = parser.parse_args(arguments)
        return video_index.command(given) if given.command == "index" else fetch_models.command(given)
    resources.find()
    # For `framerail quantize`, which runs ONNX Runtime's tools.
    os.environ.setdefault("FRAMERAIL_PYTHON", sys.executable)
    # The program has its own handlers; replaced ones would be called as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    code = _framerail.program(["framerail", *arguments])
    if code == 4:
        return code
    if arguments == ["doctor"]:
        for line in python_lines():
            print(line)
    elif not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_MORE, end="", file=sys.stdout if arguments else sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
