"""Loads the compiled part of the package, or says why it cannot be loaded."""

import importlib
import sys
from typing import Optional

_SUBINTERPRETER = (
    "framerail cannot be used in a subinterpreter; import it in the main interpreter (with mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
)


def _load() -> None:
    if _is_subinterpreter():
        raise ImportError(_SUBINTERPRETER)
    error: Optional[ImportError] = None
    try:
        from . import _framerail  # noqa: F401
    except ImportError as caught:
        error = caught
    if error is None:
        return
    if "subinterpreter" in str(error):
        raise ImportError(_SUBINTERPRETER) from error
    raise ImportError(
        f"the compiled part of framerail is missing, or was built for another system ({error}); "
        "install a wheel, or build it with scripts/test_python.sh"
    ) from error


def _is_subinterpreter() -> bool:
    """From CPython 3.12 on, the import fails there; in earlier releases, calls would hang."""
    if sys.version_info >= (3, 12):
        return False
    try:
        interpreters = importlib.import_module("_xxsubinterpreters")
    except ImportError:
        return False
    return bool(interpreters.get_current() != interpreters.get_main())


_load()
