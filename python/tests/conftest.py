import importlib.util
import os
import subprocess
import threading

import pytest
from clips import make_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """60 numbered frames, 25 a second, groups of 12 with B-frames."""
    return make_clip(tmp_path_factory.mktemp("clips") / "numbers.mp4")


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory):
    """600 numbered frames in groups of 30, for what takes a while."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames=600, gop=30)


@pytest.fixture(scope="session")
def av_clip(tmp_path_factory, clip):
    """The numbered clip with audio."""
    path = tmp_path_factory.mktemp("av") / "numbers.mp4"
    sound = ["-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*t*(200+100*t))|0.2*cos(2*PI*300*t)':s=48000:d=2.4"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), *sound, "-c:v", "copy", "-c:a", "aac", str(path)], check=True)
    return path


@pytest.fixture
def no_hang():
    """Ends the whole run when a test does not end: better than a job that waits for ever."""
    timer = threading.Timer(300, lambda: os._exit(70))
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


def pytest_report_header(config):
    if importlib.util.find_spec("torch") is None:
        return "framerail: PyTorch is NOT installed here: its tests are SKIPPED (make test-torch runs them)"
    return "framerail: PyTorch is here, its tests run"


def pytest_terminal_summary(terminalreporter):
    if importlib.util.find_spec("torch") is None:
        terminalreporter.write_line("framerail: tests with PyTorch were SKIPPED; make test-torch runs them", yellow=True)
