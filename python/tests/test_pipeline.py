import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, number_of, numbers_of, require

pytestmark = pytest.mark.usefixtures("no_hang")


def test_a_pipeline_runs_and_says_what_it_did(clip, tmp_path):
    out = tmp_path / "out.mp4"
    pipeline = fr.Pipeline(f"read '{clip}' ! sample every=2 ! write '{out}'")
    assert pipeline.stages == ["read", "sample", "write"] and "sample" in repr(pipeline)
    assert [(source, to) for source, to, _ in pipeline.edges()] == [("read", "sample"), ("sample", "write")]
    stats = pipeline.run()
    assert stats["stages"][0]["frames_out"] == 60 and stats["stages"][-1]["frames_in"] == 30
    assert pipeline.stats == stats
    with fr.VideoReader(out, output="numpy") as reader:
        assert numbers_of(reader[:]) == list(range(0, 60, 2))


def test_callbacks_see_frames(clip):
    seen = []

    def look(batch):
        (item,) = batch
        seen.append((item.index, item.seconds, item.stream, item.width, item.height, item.pixel_format, item.device, item.status))
        luma = np.asarray(item.planes()[0])
        assert not luma.flags.writeable and luma.shape == (HEIGHT, WIDTH)
        assert number_of(luma[None]) == item.index
        rgb = np.asarray(item.rgb())
        assert rgb.shape == (HEIGHT, WIDTH, 3) and number_of(rgb, "THWC") == item.index
        assert item.detections == [] and not item.analysed

    fr.Pipeline(f"read '{clip}' device=cpu ! null").on("read", look).run()
    assert [entry[0] for entry in seen] == list(range(60))
    assert seen[10][1:] == (pytest.approx(0.4), 0, WIDTH, HEIGHT, "yuv420p", "cpu", "ok")


def test_callbacks_on_the_last_stage_and_in_batches(clip):
    sizes, numbers = [], []

    def look(batch):
        sizes.append(len(batch))
        numbers.extend(item.index for item in batch)

    fr.Pipeline(f"read '{clip}' ! null").on("null", look, batch=16).run()
    assert sizes == [16, 16, 16, 12] and numbers == list(range(60))


def test_callbacks_drop_frames_and_change_detections(clip):
    def change(batch):
        (item,) = batch
        if item.index % 3:
            return False
        item.detections = [fr.Detection((1, 2, 30, 40), 0.5, "face", track_id=item.index)]
        item.detections.append(fr.Detection((0, 0, 5, 5), label="dog", label_id=3))
        return None

    pipeline = fr.Pipeline(f"read '{clip}' ! sample every=1 ! null")
    later = []
    pipeline.on("read", change).on("sample", lambda batch: later.extend(batch[0].detections))
    stats = pipeline.run()
    assert stats["edges"][0]["dropped"] == 40 and stats["stages"][-1]["frames_in"] == 20
    assert len(later) == 40 and later[0].bbox_xyxy == (1, 2, 30, 40) and later[1].label == "dog"
    assert later[0].origin == "detected" and "face" in repr(later[0])


def test_what_a_callback_raises_comes_out_of_run(clip, tmp_path):
    class Mine(Exception):
        pass

    def fail(batch):
        if batch[0].index == 7:
            raise Mine("seven")

    out = tmp_path / "out.mp4"
    with pytest.raises(Mine, match="seven"):
        fr.Pipeline(f"read '{clip}' ! write '{out}'").on("read", fail).run()
    assert not out.exists(), "nothing unfinished is kept"
    with pytest.raises(ValueError, match="False"):
        fr.Pipeline(f"read '{clip}' ! null").on("read", lambda batch: 5).run()


def test_stop_completes_files(long_clip, tmp_path):
    out = tmp_path / "out.mp4"
    pipeline = fr.Pipeline(f"read '{long_clip}' ! write '{out}'")

    def look(batch):
        if batch[0].index == 50:
            pipeline.stop()

    pipeline.on("read", look).run()
    with fr.VideoReader(out, output="numpy") as reader:
        assert 50 <= len(reader) < 600 and numbers_of(reader[:3]) == [0, 1, 2]


def test_other_threads_run_meanwhile_and_may_stop(long_clip):
    pipeline = fr.Pipeline(f"read '{long_clip}' ! null")
    began = threading.Event()
    thread = threading.Thread(target=lambda: (began.wait(), pipeline.stop()))
    thread.start()

    def look(batch):
        began.set()
        thread.join()

    pipeline.on("read", look)
    assert pipeline.run()["stages"][-1]["frames_in"] < 600


def test_a_model_is_replaced_and_a_setting_changed_while_it_runs(clip, tmp_path):
    sources = os.environ.get("FRAMERAIL_SOURCES")
    if not sources:
        pytest.skip("only with the sources: an installed package is tested")
    card = Path(sources) / "examples" / "models" / "colour.toml"
    other = tmp_path / "other.toml"
    other.write_text(card.read_text().replace('file = "colour.onnx"', f'file = "{card.parent / "colour.onnx"}"'))
    pipeline = fr.Pipeline(f"read '{clip}' ! infer '{card}' ! null", device="cpu")
    models = []

    def change(batch):
        (item,) = batch
        models.append(item.index)
        if item.index == 5:
            pipeline.replace_model("infer", other)
            pipeline.set("infer", "confidence", 0.25)
            with pytest.raises(fr.PipelineUsageError, match="there is no stage `inferr`; did you mean `infer`"):
                pipeline.replace_model("inferr", other)
            with pytest.raises(fr.PipelineUsageError, match="no setting `confidense`"):
                pipeline.set("infer", "confidense", 0.5)
            with pytest.raises(fr.PipelineError, match="nowhere.toml"):
                pipeline.replace_model("infer", tmp_path / "nowhere.toml")
        return None

    stats = pipeline.on("read", change).run()
    assert models == list(range(60)), "no frame is lost"
    counters = {stage["name"]: stage["counters"] for stage in stats["stages"]}
    assert counters["infer"]["models_replaced"] == 1 and stats["stages"][-1]["frames_in"] == 60
    with pytest.raises(RuntimeError, match="is not running"):
        pipeline.replace_model("infer", other)
    with pytest.raises(ValueError, match="value"):
        pipeline.set("infer", "confidence", "high")


@pytest.mark.parametrize(
    "text, words",
    [
        ("read in.mp4 ! blurr ! null", "did you mean `blur`"),
        ("read in.mp4 ! blur strenght=1 ! null", "strenght"),
        ("blur ! null", "read"),
    ],
)
def test_mistakes_are_shown_in_the_text(text, words):
    with pytest.raises(fr.PipelineUsageError, match=words) as caught:
        fr.Pipeline(text)
    assert (caught.value.kind, caught.value.exit_code) == ("usage", 2) and isinstance(caught.value, ValueError)


def test_errors_say_what_they_call_for(tmp_path, clip):
    with pytest.raises(fr.PipelineError) as caught:
        fr.Pipeline("read missing.mp4 ! null").run()
    assert (caught.value.kind, caught.value.exit_code) == ("input", 3)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(fr.PipelineError) as caught:
        fr.Pipeline(f"read '{clip}' ! write '{tmp_path}/file/out.mp4'").run()
    assert caught.value.kind == "output"
    with pytest.raises(ValueError, match="one of read, null"):
        fr.Pipeline(f"read '{clip}' ! null").on("blur", print)
    with pytest.raises(ValueError, match="device"):
        fr.Pipeline(f"read '{clip}' ! null", device="gpu")


def test_memory_of_frames_is_limited(clip):
    outcome = fr.Pipeline(f"read '{clip}' ! null").run(memory=50_000_000)
    assert outcome["frame_memory_limit_bytes"] == 50_000_000
    with pytest.raises(fr.PipelineError, match="memory=") as caught:
        fr.Pipeline(f"read '{clip}' ! null").run(memory=1000)
    assert caught.value.kind == "resource"
    with pytest.raises(ValueError, match="option 'memory'"):
        fr.Pipeline(f"read '{clip}' ! null").run(memory=0)
    assert len(list(fr.VideoReader(clip, memory=1_000_000))) == len(fr.VideoReader(clip))


def test_files_with_pipelines(clip, tmp_path):
    file = tmp_path / "pipeline.toml"
    file.write_text(f'[[stage]]\nuse = "read"\nargs = ["{clip}"]\n\n[[stage]]\nuse = "null"\n')
    pipeline = fr.Pipeline(file)
    assert pipeline.run()["stages"][0]["frames_out"] == 60
    with pytest.raises(fr.PipelineError):
        fr.Pipeline(tmp_path / "missing.toml")


def test_progress_is_reported(long_clip, capsys):
    told = []
    fr.Pipeline(f"read '{long_clip}' ! sample every=1 ! null").on("sample", lambda batch: None).run(progress=told.append)
    assert all(stats["stages"] for stats in told)
    fr.Pipeline(f"read '{long_clip}' ! null").run(progress=True)

    def broken(stats):
        raise ZeroDivisionError

    import time

    with pytest.raises(ZeroDivisionError):
        fr.Pipeline(f"read '{long_clip}' ! null").on("read", lambda batch: time.sleep(0.01)).run(progress=broken)


def test_ctrl_c_finishes_the_file(long_clip, tmp_path):
    out = tmp_path / "out.mp4"
    script = """
        import sys, time
        import framerail as fr
        def look(batch):
            if batch[0].index == 20:
                print("twenty", flush=True)
            time.sleep(0.01)
        try:
            fr.Pipeline(f"read '{sys.argv[1]}' ! write '{sys.argv[2]}'").on("read", look).run()
        except KeyboardInterrupt:
            print("interrupted")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(long_clip), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "twenty"
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert "interrupted" in said, errors
    with fr.VideoReader(out, output="numpy") as reader:
        assert 20 <= len(reader) < 600 and numbers_of(reader[:3]) == [0, 1, 2]


def test_stages_are_listed():
    assert "blur" in json.dumps(fr.stages())


def test_faces_are_covered(clip, tmp_path):
    found = fr.doctor(quiet=True)
    require("onnxruntime", "error" not in found["onnxruntime"] and found["centerface"].get("file"), "run make setup")
    out = tmp_path / "out.mp4"
    stats = fr.blur_faces(clip, out, every=10, detection_size=(96, 128), write={"crf": 10}, save=tmp_path / "boxes.jsonl")
    assert stats["stages"][0]["frames_out"] == 60 and len(fr.VideoReader(out)) == 60
    with pytest.raises(ValueError, match="cover"):
        fr.blur_faces(clip, out, cover="paint")
    with pytest.raises(fr.PipelineError, match="exists"):
        fr.blur_faces(clip, out)


def test_doctor_and_the_command_line(capsys):
    found = fr.doctor()
    assert found["ffmpeg"]["version"] and "h264" in found["ffmpeg"]["decoders"]
    assert "ffmpeg" in capsys.readouterr().out
    said = subprocess.run([sys.executable, "-m", "framerail", "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"framerail {fr.__version__} (FFmpeg ")


def test_detections_are_checked():
    with pytest.raises(ValueError, match="finite"):
        fr.Detection((0, 0, float("nan"), 1))
    with pytest.raises(ValueError, match="origin"):
        fr.Detection((0, 0, 1, 1), origin="guessed")


def test_a_model_loads_without_a_word_on_standard_error(clip):
    code = f"import framerail as fr; fr.Pipeline(\"read '{clip}' ! sample count=2 every=1 ! infer centerface ! null\").run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
