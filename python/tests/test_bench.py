"""The comparison of readers: right frames pass, wrong ones are marked, and a reader that fails harms nobody."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

FOLDER = Path(__file__).resolve().parents[1] / "framerail" / "bench"

if not FOLDER.is_dir():  # The tests run against an installed package.
    FOLDER = Path(importlib.util.find_spec("framerail.bench").origin).parent

# Loaded as the worker processes load it: by itself.
spec = importlib.util.spec_from_file_location(
    "framerail_bench", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
)
sys.modules["framerail_bench"] = importlib.util.module_from_spec(spec)
from framerail_bench import cases, chart, check, command, footage, oddities, report, runner  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="clips are made by ffmpeg")

FAKES = '''
import os, subprocess, time
import numpy as np
from framerail_bench.adapter import Adapter

class Right(Adapter):
    """Decodes by ffmpeg, as the reference does."""
    name = package = "right"
    shift = 0
    def version(self):
        return "1"
    def open(self, path, mode, size=None):
        width, height = size or (320, 240)
        scaled = ["-vf", f"scale={width}:{height}:flags=area", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command = ["ffmpeg", "-v", "error", "-i", path, *scaled, "-"]
        data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)
    def sequence(self, opened):
        for first in range(0, len(opened), 16):
            yield opened[first : first + 16]
    def pictures(self, opened, numbers):
        for number in numbers:
            yield self.laid_out(opened[min(number + self.shift, len(opened) - 1)])

class OffByOne(Right):
    shift = 1

class Short(Right):
    def sequence(self, opened):
        yield opened[:-3]

class Crashing(Right):
    def pictures(self, opened, numbers):
        os.abort()

class Hanging(Right):
    def pictures(self, opened, numbers):
        time.sleep(60)

class Raising(Right):
    def pictures(self, opened, numbers):
        raise ValueError("no such frame")

class Absent(Right):
    def __init__(self, device, layout):
        import a_module_that_is_not_there
'''


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    source = "testsrc2=size=320x240:rate=25:duration=3"
    made = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-bf",
        "2",
        "-g",
        "25",
    ]
    subprocess.run([*made, str(path)], check=True)
    return str(path)


@pytest.fixture(scope="module")
def fakes(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("fakes") / "fakes.py"
    path.write_text(FAKES)
    return str(path)


def measure(clip: str, fakes: str, names: list[str], case: str, folder: Path, **settings):
    """Results by name."""
    work = runner.Runner(runner.Settings(rounds=1, budget_secs=5.0, **settings), folder)
    try:
        work.start([f"{fakes}:{name}" for name in names])
        opened = work.use_clip(clip)
        files = footage.make_short_clips(folder, 20) if case == "files" else []
        work.use_short_clips(files)
        wanted = next(found for found in cases.all_cases(opened, files) if found.name == case)
        results = work.run(wanted)
        return wanted, {result.reader.rpartition(":")[2]: result for result in results}, work
    finally:
        work.close()


@pytest.mark.parametrize("layout", ["THWC", "TCHW"])
def test_wrong_frames_are_marked_and_not_ranked(clip, fakes, tmp_path, layout):
    case, results, work = measure(clip, fakes, ["Right", "OffByOne"], "random", tmp_path, layout=layout)
    right, wrong = results["Right"], results["OffByOne"]
    assert right.is_right and right.is_ranked and right.mean_difference < 1
    assert wrong.is_right is False and wrong.runs and not wrong.is_ranked
    assert all(came == asked + 1 for asked, came in wrong.wrong)
    assert report.best_peer(list(results.values())) is right
    text = report.table(case, list(results.values()), work.versions)
    assert "wrong frames" in text and text.index("Right") < text.index("OffByOne")
    picture = chart.draw([(case, list(results.values()))], "heading", "a < b & c")
    xml.etree.ElementTree.fromstring(picture)
    assert chart.WRONG_COLOUR in picture


def test_missing_frames_are_marked(clip, fakes, tmp_path):
    _, results, _ = measure(clip, fakes, ["Right", "Short"], "sequence", tmp_path)
    assert results["Right"].is_right and results["decode alone"].runs
    assert results["Short"].is_right is False and "3 missing" in results["Short"].verdict


def test_resized_frames_are_recognised(clip, fakes, tmp_path):
    _, results, _ = measure(clip, fakes, ["Right"], "resized", tmp_path)
    assert results["Right"].is_right, results["Right"].verdict


def test_many_files_are_opened(clip, fakes, tmp_path):
    case, results, _ = measure(clip, fakes, ["Right", "OffByOne"], "files", tmp_path)
    assert len(case.steps) == 20
    assert results["Right"].is_right and results["OffByOne"].is_right is False


def test_crashes_and_errors_stay_with_their_reader(clip, fakes, tmp_path):
    _, results, work = measure(clip, fakes, ["Crashing", "Raising", "Right", "Absent"], "slice-seek", tmp_path)
    assert "SIGABRT" in results["Crashing"].error
    assert "no such frame" in results["Raising"].error
    assert results["Right"].is_ranked
    assert "a_module_that_is_not_there is not installed" in next(iter(work.unavailable.values()))


def test_a_reader_that_hangs_is_ended(clip, fakes):
    from framerail_bench.process import WorkerError, WorkerProcess

    worker = WorkerProcess(f"{fakes}:Hanging", "cpu", "THWC")
    step = {"path": clip, "mode": "seek", "numbers": [0], "size": None}
    with pytest.raises(WorkerError, match="no answer within 1 s"):
        worker.ask({"do": "run", "budget_secs": 1, "steps": [step]}, 1.0)
    assert not worker.is_alive


def test_indistinguishable_frames_are_right():
    still = np.zeros((5, 4, 3), np.float32)
    still[4] = 40
    comparison = check.Comparison()
    comparison.add(still[0], 3, still)
    comparison.add(still[0] + 200, 2, still)
    verdict = comparison.finish()
    assert verdict.checked == 2 and verdict.wrong == [(2, -1)]


def test_the_command_writes_its_files(clip, fakes, tmp_path, capsys):
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"
    arguments = ["readers", clip, "--readers", f"{fakes}:Right", f"{fakes}:OffByOne", "--cases", "clip", "--rounds", "2"]
    assert command.main([*arguments, "--json", str(out), "--svg", str(picture)]) == 0
    content = json.loads(out.read_text())
    assert content["clip"]["frames"] == 75
    assert {entry["reader"].rpartition(":")[2]: entry["is_right"] for entry in content["results"]} == {
        "Right": True,
        "OffByOne": False,
    }
    assert all(len(entry["runs"]) == 2 for entry in content["results"])
    assert picture.read_text().startswith("<svg")
    assert "10 of 16 neighbouring frames" in capsys.readouterr().out
    assert command.main(["readers", str(tmp_path / "absent.mp4")]) == 1
    assert command.main(["readers", clip, "--cases", "nothing"]) == 2


def test_results_of_odd_files_are_listed_by_reader(fakes, monkeypatch, capsys, tmp_path):
    chosen = ("b-frames", "edit-list", "rotated")
    monkeypatch.setattr(oddities, "ODDITIES", tuple(oddity for oddity in oddities.ODDITIES if oddity.name in chosen))
    out = tmp_path / "out.json"
    assert command.main(["frames", "--readers", f"{fakes}:Right", f"{fakes}:OffByOne", "--json", str(out)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 4 and "| right" in lines[1] and "11 wrong" in lines[1]
    assert all("not rotated" in cell or "wrong" in cell for cell in lines[3].split("|")[2:4])
    assert len(json.loads(out.read_text())["verdicts"]) == 3 * 3 * 2


def test_installed_readers_give_the_right_frames(clip, tmp_path):
    settings = runner.Settings(rounds=1, budget_secs=5.0)
    work = runner.Runner(settings, tmp_path)
    try:
        started = work.start(["framerail", "opencv", "pyav"])
        if not started:
            pytest.skip("no reader is installed")
        opened = work.use_clip(clip)
        for case in cases.all_cases(opened, []):
            if case.name != "files":
                for result in work.run(case):
                    assert result.error is None and result.is_right is not False, (case.name, result)
    finally:
        work.close()
