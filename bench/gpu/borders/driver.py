"""The CUDA driver, for what PyTorch does not show."""

from __future__ import annotations

import ctypes

from .checks import need


class Driver:
    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        need(code == 0, f"{name} gave error {code}")

    def current(self):
        context = ctypes.c_void_p()
        self.call("cuCtxGetCurrent", ctypes.byref(context))
        return context.value

    def set_current(self, context):
        self.call("cuCtxSetCurrent", ctypes.c_void_p(context))

    def new_context(self, ordinal):
        """A second context on a card, current on this thread."""
        context = ctypes.c_void_p()
        if hasattr(self.library, "cuCtxCreate_v4"):
            self.call("cuCtxCreate_v4", ctypes.byref(context), None, 0, ordinal)
        else:
            self.call("cuCtxCreate_v2", ctypes.byref(context), 0, ordinal)
        return context.value

    def destroy(self, context):
        self.call("cuCtxDestroy_v2", ctypes.c_void_p(context))

    def has_primary(self, ordinal):
        flags, active = ctypes.c_uint(), ctypes.c_int()
        self.call("cuDevicePrimaryCtxGetState", ordinal, ctypes.byref(flags), ctypes.byref(active))
        return bool(active.value)

    def new_stream(self):
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 1)
        return stream.value

    def destroy_stream(self, stream):
        self.call("cuStreamDestroy_v2", ctypes.c_void_p(stream))


def cards():
    import torch

    return range(torch.cuda.device_count())


def used(device=0):
    import torch

    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    return total - free
