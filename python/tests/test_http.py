"""Addresses: a server of our own that knows ranges."""

import http.server
import threading

import framerail as fr
import pytest
from clips import numbers_of


class Ranges(http.server.BaseHTTPRequestHandler):
    content = b""
    sent = 0

    def do_GET(self):
        first, last = 0, len(self.content) - 1
        wanted = self.headers.get("Range")
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end), last) if end else last
        part = self.content[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.end_headers()
        try:
            self.wfile.write(part)
            type(self).sent += len(part)
        except OSError:
            pass  # The reader has seen enough.

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server(long_clip):
    Ranges.content, Ranges.sent = long_clip.read_bytes(), 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/long.mp4"
    server.shutdown()


@pytest.mark.usefixtures("no_hang")
def test_an_address_is_read_like_a_file(server):
    with fr.VideoReader(server, output="numpy", timeout=30) as reader:
        assert len(reader) == 600
        assert numbers_of(reader.read_frames([599, 0, 300])) == [599, 0, 300]


@pytest.mark.usefixtures("no_hang")
def test_a_missing_server_is_reported(server):
    with pytest.raises((OSError, fr.DecodeError)):
        fr.VideoReader("http://127.0.0.1:9/none.mp4", timeout=5)
