from . import data as data, dlpack as dlpack
