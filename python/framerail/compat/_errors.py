"""Errors of the kinds that the other readers raise."""


class MissingFileError(RuntimeError, FileNotFoundError):
    """A file that is not there. TorchCodec and torchvision raise RuntimeError for it."""
