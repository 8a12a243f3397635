#!/usr/bin/env python3
"""Cost of monitoring a run: throughput without --serve, with it, and with a client of the page.

Usage: bench/watch.py [--framerail PROGRAM] [--clip bigbuckbunny.mp4] [--copies 3] [--rounds 7] [--rest 'infer centerface ! null']

The three ways take turns, so that a machine that gets slower or faster does not favour one. The watcher does what the page
does: it reads /events, and asks for each picture as soon as the one before has come. It runs on the same machine and its own work
is counted against the run, as a browser's there would be.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Watcher:
    """A page's requests, from threads of its own, until the run ends."""

    def __init__(self, address):
        self.address, self.pictures, self.stream = address, 0, 0
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.look, self.listen)]
        for thread in self.threads:
            thread.start()

    def look(self):
        after = 0
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while True:
            try:
                connection.request("GET", f"/frames/{self.stream}.jpg?after={after}")
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                return
            if reply.status == 200:
                self.pictures += 1
                after = int(reply.headers["x-framerail-sequence"])

    def listen(self):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", "/events")
            for line in connection.getresponse():
                if line.startswith(b'data: {"version"'):
                    streams = json.loads(line[6:])["stats"]["streams"]
                    self.stream = next((stream["id"] for stream in streams if stream["state"] == "running"), self.stream)
        except (OSError, http.client.HTTPException):
            return

    def join(self):
        for thread in self.threads:
            thread.join(5)


def run(program, text, way):
    """Frames per second of a run, its processor seconds per frame, and pictures per second of the watcher."""
    with tempfile.TemporaryDirectory() as folder:
        stats = pathlib.Path(folder, "stats.json")
        command = [program, "run", text, "--no-progress", "--stats", stats, *(["--serve", "127.0.0.1:0"] if way != "alone" else [])]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        watcher = None
        for line in process.stderr:
            found = re.search(r"watch it at http://(\S+)/", line)
            if found and way == "watched":
                watcher = Watcher(found[1])
        if process.wait():
            raise SystemExit(f"{command} failed")
        told = json.loads(stats.read_text())
    if watcher:
        watcher.join()
    frames = max(stage["frames_in"] for stage in told["stages"])
    return frames / told["wall_secs"], told["cpu_secs"] / frames, watcher.pictures / told["wall_secs"] if watcher else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framerail", default=str(ROOT / "target/release/framerail"))
    parser.add_argument("--clip", default=str(ROOT / ".framerail/clips/bigbuckbunny.mp4"))
    parser.add_argument("--copies", type=int, default=1, help="how often the clip is read in a run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rest", default="infer centerface ! null")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The same file under several names is several streams, one after another: the first alone would end too soon.
        clips = [pathlib.Path(folder, f"clip{number}.mp4") for number in range(options.copies)]
        for clip in clips:
            clip.symlink_to(os.path.abspath(options.clip))
        text = f"read {' '.join(map(str, clips))} ! {options.rest}"
        ways = {"alone": [], "served": [], "watched": []}
        costs, pictures = {way: [] for way in ways}, []
        for number in range(options.rounds):
            order = list(ways) if number % 2 == 0 else list(ways)[::-1]
            for way in order:
                rate, cost, shown = run(options.framerail, text, way)
                ways[way].append(rate)
                costs[way].append(cost)
                pictures += [shown] if way == "watched" else []
    alone, cost_alone = statistics.median(ways["alone"]), statistics.median(costs["alone"])
    print(f"{text.replace(str(folder), '')}: medians of {options.rounds} rounds")
    for way, rates in ways.items():
        median, cost = statistics.median(rates), statistics.median(costs[way])
        spread = f"(from {min(rates):.2f} to {max(rates):.2f})"
        print(f"{way:8} {median:7.2f} frames/s  {100 * (median / alone - 1):+5.1f}%  {spread}", end="  ")
        print(f"{1e3 * cost:7.2f} ms of processor a frame  {100 * (cost / cost_alone - 1):+5.1f}%")
    print(f"pictures shown: {statistics.median(pictures):.1f} a second")


if __name__ == "__main__":
    main()
