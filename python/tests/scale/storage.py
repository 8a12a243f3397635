"""An S3 server on loopback, and a proxy before it that is slow, cuts connections, is busy, or refuses credentials."""

import http.client
import os
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{0}</Code><Message>{1}</Message></Error>'

_SIGNED = "AWS4-HMAC-SHA256 Credential=testing/20261201/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a server. ``faults`` are spent on the next GETs: "503", "cut" or "expired"."""

    daemon_threads = True

    def __init__(self, port):
        self.target = port
        self.latency_secs = 0.0
        self.faults = []
        # Large objects that are served from files, by their path: the server copies an object whole for each request.
        self.files = {}
        # Answers of a hub: an address elsewhere for those who have the token, by path.
        self.redirects = {}
        self.tokens = []
        self.requests = self.bytes = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _forward(self):
        proxy = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(proxy.latency_secs)
        fault = proxy.faults.pop(0) if proxy.faults and self.command == "GET" else None
        if fault in ("503", "expired"):
            status, code, words = {"503": (503, "SlowDown", "Please reduce your request rate."), "expired": (400, "ExpiredToken", "The provided token has expired.")}[fault]
            data = _ERROR.format(code, words).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        if self.path in proxy.redirects:
            is_known = self.headers.get("Authorization") == "Bearer hf_secret"
            self.send_response(302 if is_known else 401)
            self.send_header("Location" if is_known else "X-Error-Code", proxy.redirects[self.path] if is_known else "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if (file := proxy.files.get(self.path.partition("?")[0])) and self.command in ("GET", "HEAD"):
            self._serve(file)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=60)
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() != "connection"}
        if not headers.get("authorization", "").startswith("AWS4"):
            # The server takes any signature of Amazon's, but no token of Google's.
            headers["authorization"] = _SIGNED
        upstream.request(self.command, self.path, body=body or None, headers=headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if self.command == "GET":
            proxy.requests += 1
            proxy.bytes += len(data)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self.close_connection = True
            self.connection.close()

    def _serve(self, path):
        self.server.tokens += [self.headers["Authorization"]] if "Authorization" in self.headers else []
        size = os.path.getsize(path)
        first, last = 0, size - 1
        if wanted := self.headers.get("Range"):
            start, _, end = wanted.partition("=")[2].partition("-")
            first, last = int(start), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("ETag", '"file"')
        self.send_header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            with open(path, "rb") as file:
                file.seek(first)
                data = file.read(last - first + 1)
            self.server.requests += 1
            self.server.bytes += len(data)
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - names of the base class

    def log_message(self, *_):
        pass


def served():
    """A server with a bucket, a proxy before it, and the options by which fsspec reaches it through the proxy."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    # Servers of one process share their objects.
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    proxy = Proxy(port)
    options = {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": proxy.url, "region_name": "eu-west-1"}}
    import fsspec

    fsspec.filesystem("s3", **options).mkdir("bucket")
    return server, proxy, options
