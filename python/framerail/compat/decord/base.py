"""decord's exceptions."""


ALL = -1


class DECORDError(RuntimeError):
    """A file that cannot be read or decoded."""


class DECORDLimitReachedError(Exception):
    """More frames were repaired than ``fault_tol`` allows."""
