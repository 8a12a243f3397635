"""Jobs over many files, without a cluster: texts, inputs, folders, what was done, and files in pieces."""

import contextlib
import json
import os
import socket
import subprocess

import framerail as fr
import numpy as np
import pytest
from clips import make_clip, numbers_of, require, require_x264
from framerail.jobs import Manifest, Report, Task, Template, folder, list_inputs, run_task
from framerail.jobs.manifest import note
from framerail.jobs.pieces import divide, join_task, piece_task, why_not
from framerail.jobs.template import quoted, split_words


def copy(clip, *places):
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, place)


def task(text, path, out, **more):
    given = {"device": None, "threads": 1, "overwrite": False, "owned": []}
    return Task(text, list_inputs(path)[0], folder(str(out)), **{**given, **more})


def frames_and_audio(path):
    """The frames of a file with their times, and its audio packets with theirs."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    audio = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a?", "-c", "copy", "-f", "framemd5", "-"]
    return [subprocess.run(one, check=True, capture_output=True, text=True).stdout for one in (command, audio)]


@pytest.mark.parametrize(
    "text",
    ["a 'b c' d=\"e \\\" f\" ! ( g\\ h ) -- x=y", "read 'it'\"'\"'s.mp4' ! write out/{name}.mp4", "read ./a=b.mp4 '!' '('"],
)
def test_words_are_those_of_the_compiled_part(text):
    words = split_words(text)
    again = split_words(" ".join(word.raw if word.sign or word.key else quoted(word.text) for word in words))
    assert [word.text for word in again] == [word.text for word in words]


def test_names_with_every_letter_are_filled_in():
    template = Template("read {path} ! write {out}/{name}.mp4 crf=3")
    strange = "/x/a b'c\"d{e}!(f.mp4"
    text = template.filled(path=strange, name="n {x} '!", out="/o o")
    words = split_words(text)
    assert [word.text for word in words] == ["read", strange, "!", "write", "/o o/n {{x} '!.mp4", "crf=3"]
    assert fr.Pipeline(text).stages == ["read", "write"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("read in.mp4 ! null", "must begin with"), ("null", "must begin"), ("read {path} 'x", "is not closed"), ("", "must begin")],
)
def test_texts_without_an_input_are_refused(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        Template(text)


def test_the_folder_of_outputs_is_found():
    assert Template("read {path} ! null").outputs_folder() is None
    assert Template("read {path} ! write {out}/{name}.mp4").outputs_folder() == "{out}"
    rooted = Template("read {path} ! tee ( save 'o u t/{name}.jsonl' ) ! write 'o u t/v/{name}.mp4'")
    with pytest.raises(ValueError, match="several folders"):
        rooted.outputs_folder()
    rooted = Template("read {path} ! infer m ! write 'o u t/{name}.mp4' crf=3").rooted()
    assert rooted.folder == "o u t" and "{out}/{name}.mp4" in rooted.text and "crf=3" in rooted.text


def test_inputs_have_names_below_their_folder(clip, tmp_path):
    copy(clip, tmp_path / "in/a.mp4", tmp_path / "in/b/a.mp4", tmp_path / "in/b/c.mp4", tmp_path / "in/b/c.mov")
    (tmp_path / "in/notes.txt").write_text("no video")
    found = list_inputs(tmp_path / "in")
    assert [one.name for one in found] == ["a", "b/a", "b/c.mov", "b/c.mp4"] and all(one.size for one in found)
    assert [one.name for one in list_inputs([tmp_path / "in/b/a.mp4", tmp_path / "in/a.mp4"])] == ["b/a", "a"]
    assert [one.name for one in list_inputs(str(tmp_path / "in/*.mp4"))] == ["a"]
    for missing in (tmp_path / "none", str(tmp_path / "*.mkv"), []):
        with pytest.raises(FileNotFoundError):
            list_inputs(missing)
    changed = found[0].ends()
    (tmp_path / "in/other.mp4").write_bytes(clip.read_bytes()[:-1] + b"x")
    assert list_inputs(tmp_path / "in/other.mp4")[0].ends() != changed


def test_names_are_text_and_differ(clip, tmp_path):
    copy(clip, tmp_path / "in/a.mp4", tmp_path / "in/a.mov", tmp_path / "in/a.mp4.mkv")
    os.link(clip, os.fsencode(tmp_path) + b"/in/b\xff.mp4")
    found = list_inputs(tmp_path / "in")
    assert [one.name for one in found] == ["a.mov", "a.mp4", "a.mp4.mkv", "b\\xff"]
    row = run_task(task("read {path} ! write {out}/{name}.mp4 preset=ultrafast", clip, tmp_path / "out")._replace(input=found[-1]))
    assert (row.status, row.frames, row.outputs) == ("done", 60, ("b\\xff.mp4",)), row
    with fr.VideoReader(os.fsdecode(os.fsencode(tmp_path) + b"/in/b\xff.mp4"), output="numpy") as reader:
        assert len(reader) == 60
    Report("read {path}", [row], 1.0).write(str(tmp_path / "report.html"))
    assert "b\\xff.mp4" in (tmp_path / "report.html").read_text()


def test_runs_share_a_folder(clip, tmp_path):
    """Two runs on one folder at the same time: neither removes the work or the records of the other, and nothing is done twice."""
    text = "read {path} ! write {out}/{name}.mp4 preset=ultrafast"
    copy(clip, tmp_path / "in/a.mp4", tmp_path / "in/b.mp4")
    inputs = list_inputs(tmp_path / "in")
    first, second = folder(str(tmp_path / "out")), folder(str(tmp_path / "out"))
    abandoned = tmp_path / "out/.framerail/work/killed"
    abandoned.mkdir(parents=True)
    (abandoned / "lock").write_text(socket.gethostname())
    jobs = [Task(text, one, place, None, 1, False, []) for one, place in zip(inputs, (first, second))]
    with first.claimed():
        records = Manifest(first)
        records.load()
        assert not abandoned.exists()
        staging = first.staging("x")
        with second.claimed():
            assert [run_task(job).status for job in jobs] == ["done", "done"]
            # The second run comes to the first one's input, and the other way round: with the record of one file, then merged.
            assert run_task(jobs[0]._replace(folder=second)).status == "kept"
            Manifest(second).gather()
            assert run_task(jobs[1]._replace(folder=first)).status == "kept"
            assert run_task(jobs[1]._replace(folder=first, pipeline=text + " crf=30")).status == "failed"
        assert os.path.isdir(staging), "work of another run"
        note(first, inputs[0], {"state": "committing", "outputs": []})
        records.gather()
    last = Manifest(first)
    last.load()
    assert [last.is_done(one, text) for one in inputs] == [False, True]
    assert not list((tmp_path / "out/.framerail/work").iterdir()) and len(list((tmp_path / "out/.framerail/done").iterdir())) == 1


def test_outputs_of_several_inputs_have_several_names():
    for target, has_names in (("{out}/{name}.mp4", True), ("{out}/x-{stream}.mp4", True), ("{out}/x.mp4", False)):
        template = Template(f"read {{path}} ! write {target}")
        template.check_outputs(1)
        with contextlib.nullcontext() if has_names else pytest.raises(ValueError, match=r"all 2 inputs have this output; put \{name\}"):
            template.check_outputs(2)


def test_a_folder_that_cannot_be_written_is_reported_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"), folder(str(tmp_path / "file/out")).claimed():
        pass


def test_a_job_leaves_its_output_and_a_record(clip, tmp_path):
    text = "read {path} ! write {out}/{name}.mp4 preset=ultrafast"
    row = run_task(task(text, clip, tmp_path))
    assert (row.status, row.frames, row.outputs) == ("done", 60, ("numbers.mp4",)) and abs(row.video_seconds - 2.4) < 0.01
    manifest = Manifest(folder(str(tmp_path)))
    manifest.load()
    found = list_inputs(clip)[0]
    assert manifest.is_done(found, text) and not manifest.is_done(found, text + " crf=3")
    assert not manifest.is_done(found._replace(size=3), text)
    manifest.gather()
    (merged,) = (tmp_path / ".framerail").glob("manifest*.json")
    assert len(json.loads(merged.read_text())["inputs"]) == 1
    assert not list((tmp_path / ".framerail/done").iterdir()) and not list((tmp_path / ".framerail/work").glob("*/*"))
    assert run_task(task(text, clip, tmp_path)).status == "kept"
    again = run_task(task(text + " crf=3", clip, tmp_path))
    assert (again.status, again.kind) == ("failed", "output") and "numbers.mp4 exists" in again.error
    for other in (text.replace(".mp4", ".mkv"), text):
        # A pipeline with other names of outputs leaves those of the one before, which may be replaced again.
        assert run_task(task(other, clip, tmp_path, owned=manifest.owned(found))).status == "done"
        manifest.load()
    assert manifest.outputs(found) == ["numbers.mp4"] and manifest.owned(found) == ["numbers.mp4", "numbers.mkv"]
    os.unlink(tmp_path / "numbers.mp4")
    assert not manifest.is_done(found, text)


def test_what_fails_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 100)
    row = run_task(task("read {path} ! write {out}/{name}.mp4", tmp_path / "bad.mp4", tmp_path / "out"))
    assert (row.status, row.kind) == ("failed", "input") and "\n" not in row.error and "bad.mp4" not in row.error
    assert ".framerail" not in row.error and [one.name for one in (tmp_path / "out").iterdir()] == [".framerail"]


def test_an_output_that_another_run_made_meanwhile_is_kept(clip, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/numbers.mp4").write_bytes(b"another run's")
    monkeypatch.setattr("framerail.jobs.folders.LocalFolder.size", lambda *_: None)
    row = run_task(task("read {path} ! write {out}/{name}.mp4 preset=ultrafast", clip, tmp_path / "out"))
    assert (row.status, row.kind) == ("failed", "output") and "numbers.mp4 exists" in row.error
    assert (tmp_path / "out/numbers.mp4").read_bytes() == b"another run's"
    assert run_task(task("read {path} ! write {out}/{name}.mp4 preset=ultrafast", clip, tmp_path / "out", overwrite=True)).status == "done"


def test_a_link_that_leads_nowhere_is_one_failed_row(clip, tmp_path):
    copy(clip, tmp_path / "in/a.mp4")
    (tmp_path / "in/gone.mp4").symlink_to("nowhere.mp4")
    found = list_inputs(tmp_path / "in")
    assert [(one.name, bool(one.size)) for one in found] == [("a", True), ("gone", False)]
    row = run_task(task("read {path} ! null", tmp_path / "in", None)._replace(input=found[1], folder=None))
    assert (row.status, row.kind) == ("failed", "input") and row.path.endswith("gone.mp4")


def test_a_torn_record_is_not_one(clip, tmp_path):
    manifest = Manifest(folder(str(tmp_path)))
    found = list_inputs(clip)[0]
    note(folder(str(tmp_path)), found, {"state": "committing", "outputs": [{"name": "numbers.mp4", "bytes": 3}]})
    (tmp_path / ".framerail/done/torn.json").write_text('{"state": "do')
    manifest.load()
    assert not manifest.is_done(found, "x") and manifest.owned(found) == ["numbers.mp4"]


def test_object_storage_takes_outputs(clip, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    place = folder("memory://jobs/out")
    text = "read {path} ! write {out}/{name}.mp4 preset=ultrafast"
    fsspec.filesystem("memory").pipe_file("/jobs/in/numbers.mp4", clip.read_bytes())
    row = run_task(Task(text, list_inputs("memory://jobs/in/")[0], place, None, 1, False, []))
    assert row.status == "done" and row.requests and row.bytes_fetched, row
    assert place.size("numbers.mp4") and place.list("") == ["numbers.mp4"]
    with fr.VideoReader("memory://jobs/out/numbers.mp4", output="numpy") as reader:
        assert len(reader) == 60
    place.remove(".framerail")
    place.remove("numbers.mp4")


def test_a_pipeline_reads_bytes_and_files_of_python(clip):
    data = clip.read_bytes()
    for source in (data, bytearray(data), open(clip, "rb")):  # noqa: SIM115 - closed with the test
        pipeline = fr.Pipeline("read given:numbers.mp4 ! null", sources={"given:numbers.mp4": source})
        assert pipeline.run()["stages"][0]["frames_out"] == 60
    with pytest.raises(ValueError, match="a name with a colon"):
        fr.Pipeline("read x ! null", sources={"x": data})
    with pytest.raises(fr.PipelineError) as caught:
        fr.Pipeline("read given:x ! null", sources={"given:x": b"no video"}).run()
    assert caught.value.kind == "input" and "given:x" in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ("infer m ! track ! write {out}/{name}.mp4", "through the whole file"),
        ("infer m ! zones z.toml ! write {out}/{name}.mp4", "counts entries"),
        ("sample fps=2 ! write {out}/{name}.mp4", "counts frames"),
        ("infer m ! save {out}/{name}.jsonl", "only the files of `write`"),
        ("infer m ! hold start=0.2 ! write {out}/{name}.mp4", "without a time limit"),
        ("tee ( null ) ! write {out}/{name}.mp4", "branches"),
        ("write {out}/{name}.avi", "not .avi"),
        ("infer m every=2 ! hold ! blur ! write {out}/{name}.mp4", None),
    ],
)
def test_pieces_are_refused_with_the_reason(stages, reason):
    found = why_not(Template("read {path} ! " + stages))
    assert found is None if reason is None else reason in found


@pytest.fixture(scope="module")
def with_audio(tmp_path_factory):
    """300 numbered frames in groups of 20, B-frames, audio, tags, on a clock that starts at 1.5 s."""
    place = tmp_path_factory.mktemp("pieces")
    make_clip(place / "plain.mp4", frames=300, gop=20)
    command = ["ffmpeg", "-v", "error", "-i", place / "plain.mp4", "-f", "lavfi", "-i", "sine=d=12", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([*command, "-metadata", "title=Joined", "-output_ts_offset", "1.5", place / "long.mp4"], check=True)
    return place / "long.mp4"


@pytest.mark.parametrize(("ending", "seconds"), [("mp4", 6.0), ("mp4", 3.0), ("mp4", 1.3), ("mkv", 3.0)])
def test_pieces_joined_equal_a_run_in_one_piece(with_audio, tmp_path, ending, seconds):
    require_x264()
    text = f"read {{path}} ! blur all ! write {{out}}/{{name}}.{ending} preset=ultrafast crf=0".replace("blur all ! ", "")
    fr.Pipeline(Template(text).filled(path=str(with_audio), name="whole", out=str(tmp_path))).run()
    work = task(text, with_audio, tmp_path)
    division = divide(work, seconds)
    assert len(division.pieces) in (round(12 / seconds), round(12 / seconds) - 1)
    rows = [piece_task(work, piece) for piece in division.pieces]
    assert all(row.status == "done" for row in rows), rows
    earlier = tmp_path / os.path.dirname(rows[0].outputs[0]) / "../of another pipeline/00000-0-20.mp4"
    earlier.parent.mkdir()
    earlier.touch()
    row = join_task(work, division, rows)
    assert (row.status, row.frames, row.outputs) == ("done", 300, (f"long.{ending}",)), row
    assert frames_and_audio(tmp_path / f"whole.{ending}") == frames_and_audio(tmp_path / f"long.{ending}")
    with fr.VideoReader(tmp_path / f"long.{ending}", layout="THWC", output="numpy") as reader:
        assert numbers_of(reader.read_frames(range(0, 300, 7)), "THWC") == list(range(0, 300, 7))
        assert reader.metadata.tags.get("title", reader.metadata.tags.get("TITLE")) == "Joined"
        whole = fr.VideoReader(tmp_path / f"whole.{ending}", output="numpy")
        assert np.array_equal(reader.times.pts, whole.times.pts)
    assert not list((tmp_path / ".framerail").glob("pieces/*"))


def test_faces_held_across_the_joints_are_covered_as_in_one_run(tmp_path):
    """`hold` fills frames between sightings on both sides of a joint; pixels are compared, lossless."""
    faces = os.path.join(os.environ.get("FRAMERAIL_HOME", ""), "clips/carphone_pristine.mp4")
    model = fr.doctor(quiet=True)["centerface"].get("file")
    require("carphone", os.path.exists(faces) and model, "run make setup")
    require_x264()
    source = tmp_path / "in.mp4"
    sound = ["-f", "lavfi", "-i", "sine=d=8", "-map", "0:v", "-map", "1:a", "-c:a", "aac"]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-shortest", source]
    subprocess.run(["ffmpeg", "-v", "error", "-stream_loop", "1", "-i", faces, *sound, *coding], check=True)
    # With a model every third frame alone, most frames are covered by `hold`.
    text = "read {path} ! infer centerface every=3 size=192x160 ! hold time=200ms ! blur ! write {out}/{name}.mp4 preset=ultrafast crf=0"
    fr.Pipeline(Template(text).filled(path=str(source), name="whole", out=str(tmp_path))).run()
    work = task(text, source, tmp_path / "out")
    division = divide(work, 1.4)
    assert len(division.pieces) >= 5
    row = join_task(work, division, [piece_task(work, piece) for piece in division.pieces])
    assert row.status == "done", row
    assert frames_and_audio(tmp_path / "whole.mp4") == frames_and_audio(tmp_path / "out/in.mp4")
    assert frames_and_audio(tmp_path / "whole.mp4") != frames_and_audio(source), "something is covered"


def test_pieces_of_an_earlier_run_are_taken(with_audio, tmp_path):
    work = task("read {path} ! write {out}/{name}.mp4 preset=ultrafast", with_audio, tmp_path)
    division = divide(work, 4.0)
    first = piece_task(work, division.pieces[0])
    again = piece_task(work, division.pieces[0])
    assert first.outputs == again.outputs and first.frames and not again.frames
    assert divide(work, 0.0).pieces == (), "a short file is not divided"


def test_pieces_that_do_not_fit_are_refused(with_audio, clip, tmp_path):
    from framerail import _framerail

    require_x264()
    work = task("read {path} ! write {out}/{name}.mp4 preset=ultrafast", with_audio, tmp_path)
    row = piece_task(work, divide(work, 6.0).pieces[0])
    other = tmp_path / "other.mp4"
    fr.Pipeline(f"read {clip} ! write {other} preset=medium keep_start=yes audio=no").run()
    pieces = [str(tmp_path / row.outputs[0]), str(other)]
    with pytest.raises(fr.UnsupportedError, match="other settings than the first"):
        _framerail.join_pieces(pieces, str(with_audio), "long", str(tmp_path / "no.mp4"), True, False)
    assert not (tmp_path / "no.mp4").exists() and not list(tmp_path.glob("*.partial*"))


def test_outputs_of_pipelines_go_to_object_storage(clip, tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    text = f"read {clip} ! write 'memory://uploads/a b.mp4' preset=ultrafast"
    fr.Pipeline(text).run()
    with fr.VideoReader("memory://uploads/a b.mp4", output="numpy") as reader:
        assert len(reader) == 60
    with pytest.raises(fr.PipelineError, match="exists; give overwrite=True") as caught:
        fr.Pipeline(text).run()
    assert (caught.value.kind, caught.value.exit_code) == ("output", 4)
    fr.Pipeline(text + " overwrite=yes").run()
    fr.Pipeline(f"read {clip} {clip} ! write memory://uploads/{{name}}.mkv preset=ultrafast").run()
    assert sorted(path.rpartition("/")[2] for path in memory.ls("/uploads", detail=False)) == ["a b.mp4", "numbers-2.mkv", "numbers.mkv"]
    memory.rm("/uploads", recursive=True)
    with pytest.raises(fr.PipelineError):
        fr.Pipeline("read none.mp4 ! write memory://uploads/x.mp4").run()
    assert not memory.exists("/uploads")
    with pytest.raises(ValueError, match="last part of the name"):
        fr.Pipeline(f"read {clip} ! write memory://uploads/{{name}}/x.mp4")
