#!/usr/bin/env python3
"""Checks the borders between framerail and other CUDA libraries on a host with one card or two.

    python3 check_borders.py                          # all checks, below five minutes
    python3 check_borders.py --only contexts oom      # some of them; --list names them
    python3 check_borders.py --clip numbers.mp4       # use an existing clip (made with --make) on hosts without ffmpeg
    python3 check_borders.py --long h264-960.mp4      # reading speed on a clip of your own as well

Needs framerail and PyTorch; CuPy and JAX are checked where they are installed. Prints PASS, FAIL or SKIP for each check and a
summary; the exit code is 1 when one failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
import tempfile
import time
import traceback

import numpy as np

from borders import contexts, libraries, memory, speed  # noqa: F401, each names its checks
from borders.checks import CHECKS, Skip
from borders.clip import make_clip

#: Seconds that one check may take before the whole run is ended with every thread's place.
LIMIT = 240


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="the numbered clip; made with ffmpeg by default")
    parser.add_argument("--make", metavar="FILE", help="make the numbered clip and end")
    parser.add_argument("--long", metavar="FILE", help="a clip for the reading speed")
    parser.add_argument("--batches", type=int, default=10_000, help="batches of the prefetching loop (default: 10000)")
    parser.add_argument("--only", nargs="+", metavar="CHECK", choices=sorted(CHECKS), help="only these checks")
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    options = parser.parse_args()
    if options.list:
        for name, function in CHECKS.items():
            print(f"{name:14} {(function.__doc__ or '').splitlines()[0]}")
        return 0
    if options.make:
        make_clip(options.make)
        return 0
    import torch

    import framerail as fr

    print(f"framerail {fr.__version__}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.device_count()} cards, NumPy {np.__version__}")
    failed, passed, skipped = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        if options.clip is None:
            options.clip = os.path.join(folder, "numbers.mp4")
            make_clip(options.clip)
        began = time.perf_counter()
        for name, function in CHECKS.items():
            if options.only and name not in options.only:
                continue
            start = time.perf_counter()
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            try:
                word, said = "PASS", function(options)
                passed += 1
            except Skip as skip:
                word, said = "SKIP", skip
                skipped += 1
            except BaseException as error:  # noqa: BLE001
                traceback.print_exc()
                word, said = "FAIL", f"{type(error).__name__}: {error}"
                failed.append(name)
            faulthandler.cancel_dump_traceback_later()
            print(f"{word} {name} ({time.perf_counter() - start:.1f} s): {said}", flush=True)
            gc.collect()
        print(f"{passed} passed, {len(failed)} failed, {skipped} skipped in {time.perf_counter() - began:.0f} s {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
