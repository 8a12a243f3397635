"""A headless Chromium, driven over its debugging pipe with nothing but the standard library."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: Seconds until a call counts as unanswered. Chromium loses the answer to a script whose page is replaced at that moment.
PATIENCE = 60
SCRIPT_PATIENCE = 5
#: Seconds for a whole test, below the limit of the test runner, which would not name what was waited for.
TEST_PATIENCE = 240


def program():
    """The browser's path, or None where there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class NavigationInProgress(RuntimeError):
    """The page is being loaded again, so that no script can run at this moment."""


class Page:
    """One page in a separate browser."""

    def __init__(self, width=1280, height=900):
        self.last_moment = time.monotonic() + TEST_PATIENCE
        self.start(width, height)
        try:
            self.attach(width, height)
        except BaseException:
            self.close()
            raise

    def start(self, width, height):
        self.folder = tempfile.mkdtemp(prefix="framerail-chromium-")
        to_child, self.send_end = os.pipe()
        self.receive_end, from_child = os.pipe()

        def pipes():
            # The browser reads from 3 and writes to 4; both ends may have these numbers already.
            incoming, outgoing = os.dup(to_child), os.dup(from_child)
            os.dup2(incoming, 3)
            os.dup2(outgoing, 4)

        arguments = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--remote-debugging-pipe", f"--user-data-dir={self.folder}", f"--window-size={width},{height}", "about:blank"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=pipes, close_fds=False)
        os.close(to_child)
        os.close(from_child)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.complaints = []

    def attach(self, width, height):
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, deadline, method):
        """The next message, an answer or an event. Events come all the time, so they do not postpone the deadline."""
        while (left := deadline - time.monotonic()) > 0 and b"\0" not in self.buffer:
            ready, _, _ = select.select([self.receive_end], [], [], left)
            if not ready:
                break
            part = os.read(self.receive_end, 1 << 20)
            if not part:
                raise ConnectionError("the browser has ended")
            self.buffer += part
        if left <= 0 or b"\0" not in self.buffer:
            raise TimeoutError(f"the browser does not answer {method}")
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, patience=PATIENCE, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send_end, json.dumps(message).encode() + b"\0")
        deadline = min(time.monotonic() + patience, self.last_moment)
        while True:
            told = self.receive(deadline, method)
            if told.get("id") == self.number:
                if "error" in told:
                    if "navigat" in told["error"].get("message", "") or "context" in told["error"].get("message", ""):
                        raise NavigationInProgress(told["error"]["message"])
                    raise RuntimeError(f"{method}: {told['error']}")
                return told["result"]
            self.note(told)

    def note(self, told):
        """Errors of scripts and of the page's policy are kept."""
        if told.get("method") == "Runtime.exceptionThrown":
            details = told["params"]["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            entry = told["params"]["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def open(self, address):
        self.call("Page.navigate", url=address)

    def evaluate(self, script, patience=PATIENCE):
        told = self.call("Runtime.evaluate", patience, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait_for(self, script, what, patience=PATIENCE):
        """The script's value once it counts as true. The script only reads, so it is run again if its answer is lost."""
        deadline = min(time.monotonic() + patience, self.last_moment)
        while time.monotonic() < deadline:
            try:
                value = self.evaluate(script, SCRIPT_PATIENCE)
            except (NavigationInProgress, TimeoutError):
                value = None
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"{what} does not happen; {self.complaints}")

    def press(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
            more = {"text": text} if text and kind == "keyDown" else {}
            virtual = {"Enter": 13, " ": 32, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Escape": 27}.get(key, 0)
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, windowsVirtualKeyCode=virtual, **more)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def prefer(self, **features):
        """Such as `prefers_color_scheme="dark"`."""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=pairs)

    def screenshot(self, path, whole=False):
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))

    def accessible_nodes(self):
        return self.call("Accessibility.getFullAXTree")["nodes"]
