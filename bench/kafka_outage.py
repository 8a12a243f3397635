#!/usr/bin/env python3
"""Sends records to Kafka while the broker is down for a few seconds of every minute, and checks that each arrives.

    python3 bench/kafka_outage.py [--minutes 15] [--rate 500] [--down 5] [--program framerail]

The broker is librdkafka's mock cluster (crates/framerail/tests/kafka_broker.py), read all the time by kcat: Debian's package kcat has
both. Records come from a small generated clip, read at its own rate, and the classifier of the examples. Prints one line of JSON: records
sent, missing and repeated, those that came before their turn, and the resident memory of framerail after the first minute and at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def memory_mb(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1000 if lines else 0.0


class Broker:
    """librdkafka's mock cluster with one topic."""

    def __init__(self) -> None:
        command = [sys.executable, str(ROOT / "crates/framerail/tests/kafka_broker.py"), "outage:1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip()

    def tell(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "ok", command


class Reader(threading.Thread):
    """Reads the topic from its beginning and notes the number of each frame. kcat ends when its broker is away; it is started again."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.process: subprocess.Popen | None = None
        self.is_over = False
        self.offset = 0
        self.seen: set[int] = set()
        self.received = 0
        self.out_of_order = 0

    def run(self) -> None:
        latest = -1
        while not self.is_over:
            place = ["-t", "outage", "-p", "0", "-o", str(self.offset), "-f", "%o %s\n"]
            command = ["kcat", "-C", "-q", "-u", "-b", self.address, *place]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for line in self.process.stdout:
                offset, record = line.split(b" ", 1)
                self.offset = int(offset) + 1
                frame = json.loads(record)["frame"]
                self.received += 1
                # A repeated record is not out of order.
                self.out_of_order += frame < latest and frame not in self.seen
                latest = max(latest, frame)
                self.seen.add(frame)
            time.sleep(0.2)

    def end(self) -> None:
        self.is_over = True
        if self.process:
            self.process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=int, default=500, help="records per second")
    parser.add_argument("--down", type=float, default=5, help="seconds of each minute without a broker")
    parser.add_argument("--program", default="framerail")
    arguments = parser.parse_args()
    frames = int(arguments.minutes * 60 * arguments.rate)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        source = f"color=size=32x32:rate={arguments.rate}"
        encode = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(frames), "-preset", "ultrafast", str(clip)]
        subprocess.run(encode, check=True)
        broker = Broker()
        reader = Reader(broker.address)
        reader.start()
        stats = Path(folder, "stats.json")
        model = ROOT / "examples/models/colour.toml"
        text = f"read '{clip}' realtime=yes ! infer '{model}' ! kafka brokers={broker.address} topic=outage when_full=wait buffer=20000"
        run = subprocess.Popen([arguments.program, "run", text, "--no-progress", "--stats", str(stats)])
        began, outages, sizes = time.monotonic(), 0, []
        next_outage = began + 60 - arguments.down
        while run.poll() is None:
            time.sleep(0.5)
            if time.monotonic() - began > 60:
                sizes.append(memory_mb(run))
            if time.monotonic() >= next_outage:
                broker.tell("down")
                time.sleep(arguments.down)
                broker.tell("up")
                outages += 1
                next_outage += 60
        seconds = time.monotonic() - began
        waited = time.monotonic() + 60
        kafka = next(stage for stage in json.loads(stats.read_text())["stages"] if stage["name"] == "kafka")
        # A paced source drops frames on a machine that is too slow for the rate.
        sent = kafka["counters"]["records_sent"]
        while len(reader.seen) < sent and time.monotonic() < waited:
            time.sleep(0.2)
        tenth = max(len(sizes) // 10, 1)
        report = {
            "seconds": round(seconds),
            "exit": run.returncode,
            "outages": outages,
            "frames": frames,
            "records": sent,
            "missing": sent - len(reader.seen),
            "repeated": reader.received - len(reader.seen),
            "out_of_order": reader.out_of_order,
            "memory_mb_first": round(sum(sizes[:tenth]) / tenth, 1) if sizes else None,
            "memory_mb_last": round(sum(sizes[-tenth:]) / tenth, 1) if sizes else None,
            "memory_mb_max": round(max(sizes), 1) if sizes else None,
            "counters": kafka["counters"],
        }
        print(json.dumps(report))
        reader.end()
        broker.process.kill()
        sys.exit(report["missing"] != 0 or run.returncode != 0)


if __name__ == "__main__":
    main()
