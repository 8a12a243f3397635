"""Pipelines over folders on Ray: failures, lost workers, kills and resuming, long files in pieces, the command."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import framerail as fr
import framerail.ray as fr_ray
import pytest
from clips import make_clip
from framerail.jobs import Template

pytestmark = pytest.mark.usefixtures("cluster")

TEXT = "read {path} ! write {out}/{name}.mp4 preset=ultrafast"


def files_of(folder):
    """Finished files. A job that runs removes folders meanwhile, which os.walk ignores."""
    found = ((Path(place), name) for place, folders, names in os.walk(folder) for name in names)
    return sorted(str((place / name).relative_to(folder)) for place, name in found if ".framerail" not in place.parts)


def md5(path, stream, copy):
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", f"0:{stream}", *(["-c", "copy"] if copy else []), "-f", "framemd5", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def workers():
    """Processes that run jobs now."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if file.read().startswith(b"ray::framerail_"):
                        found.append(int(entry))
            except OSError:
                continue
    return found


def test_good_files_are_done_and_bad_ones_reported(videos, tmp_path):
    report = fr_ray.run(TEXT, videos, out=tmp_path / "out", report=tmp_path / "report.html")
    assert [(row.name, row.status) for row in report.rows] == [("a", "done"), ("b", "done"), ("below/c", "done"), ("damaged", "failed")]
    assert files_of(tmp_path / "out") == ["a.mp4", "b.mp4", "below/c.mp4"]
    found = report.summary()
    assert found["frames"] == 120 and abs(found["hours"] * 3600 - 4.8) < 0.01 and found["failed"] == 1
    assert report.failed[0].kind == "input" and "finds no media" in report.failed[0].error
    page = (tmp_path / "report.html").read_text()
    assert "damaged" in page and "finds no media" in page and "120" not in report.failed[0].error
    again = fr_ray.run(TEXT, videos, out=tmp_path / "out", resume=True, report=tmp_path / "report.json")
    assert [row.status for row in again.rows] == ["kept", "kept", "kept", "failed"]
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["kept"] == 3
    with pytest.raises(RuntimeError, match="finds no media"):
        fr_ray.run(TEXT, videos, out=tmp_path / "other", errors="fail")


def test_two_runs_on_one_folder_share_the_work(good, tmp_path):
    """Started at the same time, with a name that is not UTF-8 among the inputs."""
    shutil.copytree(good, tmp_path / "in")
    os.link(good / "a.mp4", os.fsencode(tmp_path) + b"/in/\xff.mp4")
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: fr_ray.run(TEXT, tmp_path / "in", out=tmp_path / "out", resume=True), range(2)))
    assert not [row for report in reports for row in report.failed]
    assert files_of(tmp_path / "out") == ["\\xff.mp4", "a.mp4", "b.mp4", "below/c.mp4"]
    again = fr_ray.run(TEXT, tmp_path / "in", out=tmp_path / "out", resume=True)
    assert [row.status for row in again.rows] == ["kept"] * 4 and not list((tmp_path / "out/.framerail/work").iterdir())
    assert fr_ray.read_frames(tmp_path / "in", every=20).count() == 8
    rows = fr_ray.run("read {path} ! infer centerface confidence=0.02 size=128x96 ! save {rows}", tmp_path / "in").take_all()
    assert any(row["path"].endswith("\\xff.mp4") for row in rows) and not any(row["error"] for row in rows)


def test_a_folder_that_cannot_be_written_ends_the_run_at_once(good, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="outputs cannot be written there: Not a directory"):
        fr_ray.run(TEXT, good, out=tmp_path / "file/out")


def test_what_changed_is_done_again(good, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_bytes((good / name).read_bytes())
    fr_ray.run(TEXT, tmp_path / "in", out=tmp_path / "out")
    (tmp_path / "in/a.mp4").write_bytes((good / "b.mp4").read_bytes())
    report = fr_ray.run(TEXT, tmp_path / "in", out=tmp_path / "out", resume=True)
    assert [row.status for row in report.rows] == ["done", "kept"]
    assert [row.status for row in fr_ray.run(TEXT + " crf=30", tmp_path / "in", out=tmp_path / "out", resume=True).rows] == ["done", "done"]


@pytest.mark.parametrize(
    ("text", "options", "wrong"),
    [
        ("read in.mp4 ! null", {}, "must begin with"),
        ("read {path} ! nul", {}, "nul"),
        (TEXT, {}, "option 'out'"),
        ("read {path} ! null", {"resume": True}, "option 'resume'"),
        ("read {path} ! infer m ! track ! write {out}/x.mp4", {"out": "o", "split": 10}, "through the whole file"),
        (TEXT, {"out": "o", "split": "often"}, "option 'split'"),
        (TEXT, {"out": "o", "errors": "no"}, "option 'errors'"),
    ],
)
def test_mistakes_are_found_before_anything_starts(good, text, options, wrong):
    with pytest.raises(ValueError, match=wrong):
        fr_ray.run(text, good, **options)


def test_workers_that_are_killed_lose_nothing(tmp_path):
    """Every good file is done once, every bad one reported. FRAMERAIL_SCALE_FILES=300 is the large form, with 20 damaged ones."""
    count = int(os.environ.get("FRAMERAIL_SCALE_FILES", "24"))
    bad = {f"{number:03}" for number in range(count) if number % (15 if count >= 300 else 6) == 3}
    (tmp_path / "in").mkdir()
    source = make_clip(tmp_path / "source.mp4", frames=120, width=320, height=240)
    for number in range(count):
        target = tmp_path / f"in/{number:03}.mp4"
        target.write_bytes(b"no video" * 99) if target.stem in bad else os.link(source, target)
    drawn, killed, is_over = random.Random(3), [], threading.Event()

    def kill():
        while not is_over.wait(0.3) and len(killed) < count // 6:
            if found := workers():
                killed.append(drawn.choice(found))
                try:
                    os.kill(killed[-1], signal.SIGKILL)
                except ProcessLookupError:
                    killed.pop()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report = fr_ray.run("read {path} ! write {out}/{name}.mp4 preset=slow", tmp_path / "in", out=tmp_path / "out", retries=20)
    finally:
        is_over.set()
        killer.join()
    assert killed, "no worker was killed"
    status = {row.name: row.status for row in report.rows}
    names = [f"{number:03}" for number in range(count)]
    assert status == {name: "failed" if name in bad else "done" for name in names}, report.failed
    assert all(row.kind == "input" for row in report.failed)
    assert files_of(tmp_path / "out") == [f"{name}.mp4" for name in names if name not in bad]
    for name in files_of(tmp_path / "out"):
        with fr.VideoReader(tmp_path / "out" / name, output="numpy") as reader:
            assert len(reader) == 120
    assert not list((tmp_path / "out/.framerail").glob("work/*"))


def test_a_job_that_was_killed_goes_on(cluster, tmp_path):
    """FRAMERAIL_SCALE_FILES=300 is the large form: every 15th file is damaged, and the kill comes after a third of them."""
    count = int(os.environ.get("FRAMERAIL_SCALE_FILES", "10"))
    bad = count // 15
    (tmp_path / "in").mkdir()
    source = make_clip(tmp_path / "source.mp4", frames=120, width=320, height=240)
    for number in range(count):
        target = tmp_path / f"in/{number}.mp4"
        target.write_bytes(b"no video" * 99) if number < bad else os.link(source, target)
    text = f"read {{path}} ! write '{tmp_path}/out/{{name}}.mp4' preset=slow"
    command = [sys.executable, "-m", "framerail.ray", text, str(tmp_path / "in"), "--address", cluster.address, "--no-progress"]
    job = subprocess.Popen(command, start_new_session=True)
    until = time.monotonic() + 120 + count
    while not ((tmp_path / "out").is_dir() and len(files_of(tmp_path / "out")) >= count // 3):
        assert job.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    while workers():
        assert time.monotonic() < until
        time.sleep(0.05)
    for name in files_of(tmp_path / "out"):
        with fr.VideoReader(tmp_path / "out" / name, output="numpy") as reader:
            assert len(reader) == 120, "an output is whole or absent"
    finished = len(files_of(tmp_path / "out"))
    assert count // 3 <= finished < count - bad
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True)
    assert done.returncode == (3 if bad else 0), done.stderr
    found = json.loads(done.stdout)["summary"]
    # Each of the two workers may have been killed between an output's name and its record.
    assert found["done"] + found["kept"] == count - bad and finished - 2 <= found["kept"] <= finished and found["failed"] == bad
    assert len(files_of(tmp_path / "out")) == count - bad and not list((tmp_path / "out/.framerail/work").iterdir())


def test_outputs_inside_the_folder_of_inputs_are_not_inputs(good, tmp_path):
    (tmp_path / "in").mkdir()
    os.link(good / "a.mp4", tmp_path / "in/a.mp4")
    for status in ("done", "kept"):
        report = fr_ray.run(TEXT, tmp_path / "in", out=tmp_path / "in/out", resume=True, report=tmp_path / "new/report.html")
        assert [(row.name, row.status) for row in report.rows] == [("a", status)]
    assert (tmp_path / "new/report.html").exists()


@pytest.mark.parametrize("seconds", [12, 2.7])
def test_a_long_file_in_pieces_equals_one_run(long_video, tmp_path, seconds):
    text = "read {path} ! write {out}/{name}.mp4 preset=ultrafast crf=0"
    fr.Pipeline(Template(text).filled(path=str(long_video), name="whole", out=str(tmp_path))).run()
    report = fr_ray.run(text, long_video, out=tmp_path, split=seconds)
    row = report.rows[0]
    assert (row.status, row.frames, row.pieces) == ("done", 600, round(24 / seconds)), row
    for stream, copy in (("v", False), ("a", True)):
        assert md5(tmp_path / "whole.mp4", stream, copy) == md5(tmp_path / "long.mp4", stream, copy)
    assert fr_ray.run(text, long_video, out=tmp_path, split=seconds, resume=True).rows[0].status == "kept"


def test_pieces_that_fail_are_one_row(long_video, tmp_path):
    report = fr_ray.run("read {path} ! write {out}/{name}.mp4 codec=no_such_encoder", long_video, out=tmp_path, split=5)
    assert len(report.rows) == 1 and report.rows[0].status == "failed" and "no_such_encoder" in report.rows[0].error
    assert files_of(tmp_path) == []


def test_the_command_says_what_is_wrong(tmp_path, cluster):
    def run(*arguments):
        command = [sys.executable, "-m", "framerail.ray", *arguments, "--address", cluster.address]
        return subprocess.run(command, capture_output=True, text=True)

    for arguments, code, words in (
        (("read x ! null", str(tmp_path)), 2, "must begin with `read {path}`"),
        (("read {path} ! null", str(tmp_path / "none")), 3, "no such file or folder"),
    ):
        done = run(*arguments)
        assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr, done.stderr
