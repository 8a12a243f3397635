"""decord's exceptions."""


class DECORDError(Exception):
    """A file that cannot be read or decoded."""


class DECORDLimitReachedError(Exception):
    """More frames were repaired than ``fault_tol`` allows."""
