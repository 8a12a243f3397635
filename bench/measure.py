"""Runs a command and measures time, CPU and memory of its whole process tree (Linux)."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# Reading a large process walks its pages; ten samples a second cost about a hundredth of a core.
SAMPLE_SECS = 0.1


@dataclass
class Run:
    """What one run of a command cost."""

    wall_secs: float
    user_secs: float
    system_secs: float
    #: Largest resident set of any one process of the tree, as the kernel saw it.
    peak_process_mib: float
    #: Largest sum of proportional sets over the tree, sampled: pages shared by processes count once.
    peak_tree_mib: float

    @property
    def cpu_secs(self) -> float:
        return self.user_secs + self.system_secs

    def as_json(self) -> dict:
        return {**asdict(self), "cpu_secs": self.cpu_secs}


def children_of(pid: int) -> list[int]:
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass  # ended meanwhile
    return found


def tree_of(pid: int) -> list[int]:
    tree = [pid]
    for member in tree:
        tree += children_of(member)
    return tree


def proportional_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass  # ended meanwhile
    return 0


class TreeSampler(threading.Thread):
    """Samples the memory of a process and its descendants until told to stop."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_kib = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(SAMPLE_SECS):
            total = sum(map(proportional_kib, tree_of(self.pid)))
            self.peak_kib = max(self.peak_kib, total)


def measure(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Run:
    """Runs `command`; its output goes to `log`.

    CPU time and the largest process include descendants that their parents waited for.
    Raises RuntimeError with the end of the log when the command fails.
    """
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        sampler = TreeSampler(process.pid)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
        wall = time.perf_counter() - began
        sampler.stopped.set()
        sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    return Run(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1024, sampler.peak_kib / 1024)
