"""Runs TorchCodec's or decord's own tests over framerail's compat modules (docs/switching.md has the results).

    python scripts/test_upstream.py torchcodec CHECKOUT [ARGUMENT OF PYTEST..]
    python scripts/test_upstream.py decord CHECKOUT [ARGUMENT OF PYTEST..]

CHECKOUT is a clone of the reader's repository with its test files. In the environment of `make test-ecosystem`, with PYTHONPATH=python.

For TorchCodec, a table of results goes to the file TABLE (torchcodec-tests.md), with the reason of each failure. `-m needs_cuda` runs the tests
for GPUs alone. PART=0/4 runs a quarter of the tests, to run four quarters at once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import pytest


#: Tests of TorchCodec that are left out: files, and classes of the others.
LEFT_OUT = {
    "smoke_test.py": "wheels of TorchCodec",
    "plugin": "its plugins",
    "third-party-interface": "its C++ interface",
    "test_ffmpeg_optional.py": "TorchCodec without FFmpeg",
    "test_ops.py": "internal operators",
    "test_video_clip_sampler.py": "a class that was removed",
    "test_logging.py": "log levels of its C++ code",
    "TestCoreVideoDecoderTransformOps": "internal operators",
    "TestBlocks": "demuxer, packet decoder and colour converter as separate classes (private in TorchCodec)",
    "TestImageDecoder": "images",
    "TestImageEncoders": "images",
}


class Missing:
    """Stands for what tests import and the interface lacks: tests that use it fail."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(f"{self._name}.{name}")

    def __call__(self, *arguments, **named):
        # The libraries are what the tests look for to find out which images can be decoded.
        images = " (libjpeg, libpng, libwebp, libavif, libheif)" if "decode_" in self._name else ""
        raise NotImplementedError(f"framerail.compat has no {self._name}{images}")

    def __repr__(self):
        return self._name


def lenient(name):
    """Lets imports of unknown names from this module succeed."""
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        parent, _, last = name.rpartition(".")
        setattr(sys.modules[parent], last, sys.modules[name])
    module = sys.modules[name]
    if not hasattr(module, "__getattr__"):

        def missing(attribute):
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            return Missing(f"{name}.{attribute}")

        module.__getattr__ = missing


class Table:
    """Counts results by file and class, and keeps the first line of each failure."""

    def __init__(self):
        self.counts, self.reasons, self.skipped = {}, {}, {}

    def pytest_collection_modifyitems(self, items):
        part, parts = map(int, os.environ.get("PART", "0/1").split("/"))
        items[:] = items[part::parts]

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        path, *names = report.nodeid.split("::")
        group = Path(path).name + (f", {names[0]}" if len(names) > 1 else "")
        counts = self.counts.setdefault(group, {"passed": 0, "skipped": 0, "failed": 0})
        counts[report.outcome] += 1
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = (crash.message if crash else str(report.longrepr)).strip().splitlines()
            self.reasons[f"{Path(path).name}::{'::'.join(names)}"] = " ".join(lines)[:240]
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def write(self, path, seconds):
        rows = ["| tests | passed | skipped | failed |", "|---|---|---|---|"]
        rows += [f"| {name} | {c['passed']} | {c['skipped']} | {c['failed']} |" for name, c in sorted(self.counts.items())]
        total = {key: sum(c[key] for c in self.counts.values()) for key in ("passed", "skipped", "failed")}
        rows.append(f"| together | {total['passed']} | {total['skipped']} | {total['failed']} |")
        share = 100 * total["passed"] / max(total["passed"] + total["failed"], 1)
        rows += ["", f"{share:.1f}% of those that ran passed, in {seconds:.0f} s.", ""]
        rows += [f"skipped {count}: {reason}" for reason, count in sorted(self.skipped.items(), key=lambda item: -item[1])]
        rows += ["", *(f"failed {name}: {reason}" for name, reason in sorted(self.reasons.items()))]
        path.write_text("\n".join(rows) + "\n")


def torchcodec(checkout, arguments):
    import framerail.compat.torchcodec as compat

    compat.install()
    for part in ("", "._core", "._core.ops", ".decoders", ".decoders._blocks", ".decoders._decoder_utils", ".decoders._image_decoders",
                 ".decoders._video_decoder", ".encoders"):  # fmt: skip
        lenient(f"torchcodec{part}")
    options = [f"--ignore={checkout / 'test' / name}" for name in LEFT_OUT if not name.startswith("Test")]
    options += ["-k", " and ".join(f"not {name}" for name in LEFT_OUT if name.startswith("Test"))]
    sys.path.insert(0, str(checkout))
    table, began = Table(), time.monotonic()
    code = pytest.main([str(checkout / "test"), "-q", "-p", "no:cacheprovider", "--tb=short", *options, *arguments], plugins=[table])
    table.write(Path(os.environ.get("TABLE", "torchcodec-tests.md")), time.monotonic() - began)
    return code


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments], check=True)


def media_of_decord(folder):
    """Files of the lengths that decord's tests ask of two recordings that its repository lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples, frames, channels in (("count_down.mov", 482_240, 328, 1), ("sample-mov-file.mov", 5_555_200, 3_779, 2)):
        tone = "|".join(["0.3*sin(2*PI*t*330)"] * channels)
        ffmpeg(
            "-f", "lavfi", "-i", f"testsrc2=s=128x96:r=30,trim=end_frame={frames}",
            "-f", "lavfi", "-i", f"aevalsrc='{tone}':s=44100,atrim=end_sample={samples}",
            "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", str(folder / name),
        )  # fmt: skip


def decord(checkout, arguments):
    import framerail.compat.decord as compat

    compat.install()
    nose = types.ModuleType("nose.tools")

    def assert_raises(error, call, *values):
        with pytest.raises(error):
            call(*values)

    nose.assert_raises = assert_raises
    sound = types.ModuleType("simpleaudio")
    sound.play_buffer = lambda *_: types.SimpleNamespace(wait_done=lambda: None)
    sys.modules.update({"nose": types.ModuleType("nose"), "nose.tools": nose, "simpleaudio": sound})
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "decord"
        shutil.copytree(checkout / "tests", copy / "tests")
        shutil.copytree(checkout / "examples", copy / "examples")
        media_of_decord(copy / "tests/cpp/audio")
        # Some tests name folders of their authors.
        for path in (copy / "tests/python/unittests").glob("test_*.py"):
            text = path.read_text()
            for author in ("/Users/weisy/Developer/yinweisu/decord/", "~/Dev/decord/"):
                text = text.replace(author, f"{copy}/")
            path.write_text(text)
        return pytest.main([str(copy / "tests/python/unittests"), "-q", "-p", "no:cacheprovider", *arguments])


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("torchcodec", "decord"):
        sys.exit(__doc__)
    sys.exit({"torchcodec": torchcodec, "decord": decord}[sys.argv[1]](Path(sys.argv[2]).resolve(), sys.argv[3:]))
