"""``python -m framerail``: the version, and what this machine has."""

import argparse
import sys

from . import _framerail
from .doctor import doctor


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m framerail", description="framerail for Python")
    parser.add_argument("--version", action="version", version=f"framerail {_framerail.version()}")
    parser.add_argument("command", nargs="?", choices=["doctor"], help="doctor: look at what framerail needs")
    arguments = parser.parse_args()
    if arguments.command is None:
        parser.print_help()
        return 2
    doctor()
    return 0


if __name__ == "__main__":
    sys.exit(main())
