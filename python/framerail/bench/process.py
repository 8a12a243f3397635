"""A worker process: it may crash or hang without affecting the run."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict

#: Importing PyTorch and making a CUDA context takes a while on a busy machine.
START_LIMIT_SECS = 180.0


#: What a worker is asked and answers: one JSON object a line.
Message = Dict[str, Any]


class WorkerError(Exception):
    """A reader that crashed, exceeded its time or raised; the message says which."""


class WorkerProcess:
    """One reader in a separate process. Starts at once; :attr:`greeting` has its version or the reason why it cannot be used."""

    def __init__(self, reader: str, device: str, layout: str) -> None:
        script = Path(__file__).resolve().with_name("worker.py")
        # framerail is imported from where this package was found.
        found = [str(script.parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found))}
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, str(script), reader, device, layout],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )
        self._answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.greeting = self._answer(START_LIMIT_SECS)
        except WorkerError:
            self.close()
            raise

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def ask(self, command: Message, limit_secs: float) -> Message:
        """Sends a command and waits for its response. After a :class:`WorkerError` of crash or time the process is gone."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._last_words()) from None
        answer = self._answer(limit_secs)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _answer(self, limit_secs: float) -> Message:
        try:
            line = self._answers.get(timeout=limit_secs)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer within {limit_secs:.0f} s") from None
        if not line:
            raise WorkerError(self._last_words())
        answer: Message = json.loads(line)
        return answer

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _last_words(self) -> str:
        self.close()
        code = self._process.returncode
        cause = f"crashed ({signal.Signals(-code).name})" if code and code < 0 else f"ended with code {code}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{cause}: {lines[-1][:200]}" if lines else cause

    def close(self) -> None:
        """Ends the process and its children."""
        if self._process.stdin:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(timeout=2 if self._answers.empty() else 0.1)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
