"""``python -m framerail``: the version, what this machine has, models, and indexes of data sets."""

import argparse
import sys

from . import _framerail, fetch_models, video_index
from .doctor import doctor


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m framerail", description="framerail for Python")
    parser.add_argument("--version", action="version", version=f"framerail {_framerail.version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("doctor", help="look at what framerail needs")
    fetch_models.add_command(commands)
    video_index.add_command(commands)
    arguments = parser.parse_args()
    if arguments.command is None:
        parser.print_help()
        return 2
    if arguments.command == "index":
        return video_index.command(arguments)
    if arguments.command == "fetch-models":
        return fetch_models.command(arguments)
    doctor()
    return 0


if __name__ == "__main__":
    sys.exit(main())
