"""Runs that are watched over HTTP."""

import http.server
import json
import socket
import threading
import urllib.error
import urllib.request

import framerail as fr
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_hang")


def ask(address, path, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read()


def test_a_run_is_watched_while_it_goes_on(clip):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    told = []

    def look(batch):
        if batch[0].index == 5:
            address = pipeline.serve_address
            stats = json.loads(ask(address, "/stats"))
            told.append((address, stats["stages"][0]["name"], b"<html" in ask(address, "/")))

    assert pipeline.serve_address is None
    pipeline.on("read", look).run(serve="127.0.0.1:0")
    assert pipeline.serve_address is None
    ((address, stage, is_page),) = told
    assert address.startswith("127.0.0.1:") and not address.endswith(":0") and stage == "read" and is_page
    with pytest.raises(urllib.error.URLError):
        ask(address, "/stats")


def test_images_are_shown_and_the_page_stops_the_run(long_clip):
    pipeline = fr.Pipeline(f"read '{long_clip}' device=cpu realtime=yes stay=yes ! null")
    started, result = threading.Event(), {}
    pipeline.on("read", lambda batch: started.set())
    thread = threading.Thread(target=lambda: result.update(pipeline.run(serve="127.0.0.1:0", serve_view="read")))
    thread.start()
    assert started.wait(60)
    address = pipeline.serve_address
    assert ask(address, "/frames/0.jpg")[:2] == b"\xff\xd8"
    urllib.request.urlopen(urllib.request.Request(f"http://{address}/stop", method="POST"), timeout=30).close()
    thread.join(60)
    assert not thread.is_alive() and result["stages"][0]["name"] == "read"


def test_who_may_watch_is_reported_as_on_the_command_line(clip, monkeypatch):
    monkeypatch.delenv("FRAMERAIL_SERVE_TOKEN", raising=False)
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options, kind, words in [
            ({"serve": "nowhere"}, "usage", "not an address to serve at"),
            ({"serve": "0.0.0.0:0"}, "usage", "FRAMERAIL_SERVE_TOKEN"),
            ({"serve": "127.0.0.1:0", "serve_token": "short"}, "usage", "8 to 256"),
            ({"serve": "127.0.0.1:0", "serve_view": "blur"}, "usage", "there are read, null"),
            ({"serve_view": "read"}, "usage", "the address to serve at is missing"),
            ({"serve": f"127.0.0.1:{taken.getsockname()[1]}"}, "resource", "is in use"),
        ]:
            with pytest.raises(fr.PipelineError, match=words) as error:
                pipeline.run(**options)
            assert error.value.kind == kind
    with pytest.raises(ValueError, match="option 'serve': True"):
        pipeline.run(serve=True)
    assert pipeline.run()["stages"][0]["frames_out"] == 60, "nothing of it stays"


def test_faces_are_covered_while_someone_watches(clip, tmp_path):
    with pytest.raises(fr.PipelineUsageError, match="not an address to serve at"):
        fr.blur_faces(clip, tmp_path / "out.mp4", device="cpu", serve="nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_token_is_asked_for(clip, monkeypatch):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    answers = []

    def look(batch):
        if batch[0].index == 0:
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(pipeline.serve_address, "/stats")
            answers.append((refused.value.code, len(ask(pipeline.serve_address, "/stats", "a-token-of-the-test")) > 2))

    pipeline.on("read", look)
    pipeline.run(serve="127.0.0.1:0", serve_token="a-token-of-the-test")
    monkeypatch.setenv("FRAMERAIL_SERVE_TOKEN", "a-token-of-the-test")
    pipeline.run(serve="127.0.0.1:0")
    assert answers == [(401, True)] * 2


def test_a_file_may_say_where(clip, tmp_path):
    file = tmp_path / "watched.toml"
    file.write_text(
        f"[serve]\naddress = '127.0.0.1:0'\n[[stage]]\nuse = 'read'\nargs = ['{clip}']\ndevice = 'cpu'\n[[stage]]\nuse = 'null'\n"
    )
    pipeline = fr.Pipeline(file)
    addresses = set()
    pipeline.on("read", lambda batch: addresses.add(pipeline.serve_address))
    pipeline.run(serve=False)
    assert addresses == {None}
    pipeline.run()
    assert len(addresses) == 2


def test_the_confidence_of_a_model_is_changed_while_it_runs(clip):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m batch=4 ! null")
    calls, found, refused = [], [], []
    (_, stage, _) = pipeline.stages

    def change(value):
        body = json.dumps({"stage": stage, "name": "confidence", "value": value}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{pipeline.serve_address}/settings", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())

    def model(pictures):
        calls.append(len(pictures))
        if len(calls) == 3 and pipeline.serve_address:
            (setting,) = change(0.9)
            assert (setting["initial"], setting["value"], setting["min"], setting["max"]) == (0.25, 0.9, 0, 1)
            with pytest.raises(urllib.error.HTTPError) as error:
                change(1.5)
            refused.append(error.value.code)
        return np.tile(np.array([[4, 4, 8, 8, 0.5, 0]], np.float32), (len(pictures), 1, 1))

    pipeline.model("m", model, confidence=0.25, arrays="numpy")
    pipeline.on("m", lambda batch: found.append(len(batch[0].detections)))
    pipeline.run(serve="127.0.0.1:0")
    assert found == [1] * 8 + [0] * 52 and refused == [400]
    found.clear()
    pipeline.run()
    assert found == [1] * 60, "another run begins as it is written"


def test_a_postprocess_of_one_s_own_has_no_confidence_to_change(clip):
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! torch m ! null")
    pipeline.model("m", len, postprocess=lambda outputs, batch: [[]] * len(batch), confidence=0.5, arrays="numpy")
    settings = []
    pipeline.on("m", lambda batch: settings.append(ask(pipeline.serve_address, "/settings")))
    pipeline.run(serve="127.0.0.1:0")
    assert set(settings) == {b"[]"}


class Collector:
    """An OpenTelemetry collector that notes which paths were posted to."""

    def __init__(self):
        self.paths = paths = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                paths.append((self.path, self.headers["Content-Type"], len(body) > 0))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self):
        taken = {path for path, kind, has_body in self.paths if kind == "application/x-protobuf" and has_body}
        self.paths.clear()
        return taken


def test_metrics_and_traces_go_to_a_collector(clip, tmp_path):
    collector = Collector()
    everything = {"/v1/traces", "/v1/metrics"}
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    pipeline.run(otlp=collector.url, otlp_trace=10, otlp_interval=600)
    assert collector.take() == everything
    pipeline.run(otlp=collector.url, otlp_trace=0)
    assert collector.take() == {"/v1/metrics"}
    pipeline.run()
    assert collector.take() == set()
    path = tmp_path / "pipeline.toml"
    stages = f"[[stage]]\nuse = 'read'\nargs = ['{clip}']\ndevice = 'cpu'\n[[stage]]\nuse = 'null'\n"
    path.write_text(f"[otlp]\nurl = '{collector.url}'\ntrace = 0\n" + stages)
    pipeline = fr.Pipeline(path)
    pipeline.run()
    assert collector.take() == {"/v1/metrics"}
    pipeline.run(otlp_trace=1)
    assert collector.take() == everything
    pipeline.run(otlp=False)
    assert collector.take() == set()
    collector.server.shutdown()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"otlp_trace": 5}, "need a collector"),
        ({"otlp_interval": 5}, "need a collector"),
        ({"otlp": 4318}, "option 'otlp'"),
        ({"otlp": "http://127.0.0.1:1", "otlp_interval": 0}, "option 'otlp_interval'"),
        ({"otlp": "collector:4318"}, "write it as http://host:4318"),
    ],
)
def test_what_is_wrong_with_an_export_is_reported(clip, options, words):
    with pytest.raises((ValueError, TypeError, fr.PipelineError), match=words):
        fr.Pipeline(f"read '{clip}' device=cpu ! null").run(**options)
