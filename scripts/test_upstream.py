"""Runs TorchCodec's or decord's own tests over framerail's compat modules (docs/switching.md has the results).

    python scripts/test_upstream.py torchcodec CHECKOUT [ARGUMENT OF PYTEST..]
    python scripts/test_upstream.py decord CHECKOUT [ARGUMENT OF PYTEST..]

CHECKOUT is a clone of the reader's repository with its test files; TorchCodec's is of release 0.7. In the environment of `make
test-ecosystem`, with PYTHONPATH=python. pytest must be older than 9 for TorchCodec's tests.
"""

import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest


def torchcodec(checkout, arguments):
    import framerail.compat.torchcodec as compat

    compat.install()
    # test_metadata.py imports internal operators at its head; those of its tests that call them fail.
    core = sys.modules["torchcodec._core"]
    for name in ("add_video_stream", "create_from_file", "get_container_metadata", "get_container_metadata_from_header"):
        if not hasattr(core, name):
            setattr(core, name, None)
    left_out = ("test_ops.py", "test_video_clip_sampler.py")
    options = [f"--ignore={checkout / 'test' / name}" for name in left_out]
    sys.path.insert(0, str(checkout))
    return pytest.main([str(checkout / "test"), "-q", "-p", "no:cacheprovider", *options, *arguments])


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
