"""Runs that are watched over HTTP."""

import json
import socket
import threading
import urllib.error
import urllib.request

import framerail as fr
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


def test_pictures_are_shown_and_the_page_stops_the_run(long_clip):
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


def test_who_may_watch_is_said_as_on_the_command_line(clip, monkeypatch):
    monkeypatch.delenv("FRAMERAIL_SERVE_TOKEN", raising=False)
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options, kind, words in [
            ({"serve": "nowhere"}, "usage", "no address to serve at"),
            ({"serve": "0.0.0.0:0"}, "usage", "FRAMERAIL_SERVE_TOKEN"),
            ({"serve": "127.0.0.1:0", "serve_token": "short"}, "usage", "8 to 256"),
            ({"serve": "127.0.0.1:0", "serve_view": "blur"}, "usage", "there are read, null"),
            ({"serve_view": "read"}, "usage", "no address to serve at"),
            ({"serve": f"127.0.0.1:{taken.getsockname()[1]}"}, "resource", "is in use"),
        ]:
            with pytest.raises(fr.PipelineError, match=words) as error:
                pipeline.run(**options)
            assert error.value.kind == kind
    with pytest.raises(ValueError, match="option 'serve': True"):
        pipeline.run(serve=True)
    assert pipeline.run()["stages"][0]["frames_out"] == 60, "nothing of it stays"


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
