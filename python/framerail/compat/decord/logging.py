"""``decord.logging``: levels of FFmpeg's messages. framerail reports through exceptions and Python's ``logging``."""

QUIET, PANIC, FATAL, ERROR, WARNING, INFO, VERBOSE, DEBUG, TRACE = range(-8, 57, 8)
CRITICAL = FATAL


def set_level(lvl: int = ERROR) -> None:
    """Accepted; has no effect."""
