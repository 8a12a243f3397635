#!/usr/bin/env python3
"""Sixteen live streams on two cores for some minutes: what is late, dropped and lost, and whether memory stays flat.

Usage: bench/live16.py [--minutes 10] [--framerail PROGRAM] [--json OUT.json]

Fifteen files of 640x360 at 10 frames/s are paced as cameras are; the sixteenth is an RTSP camera (GStreamer's server, of Debian's packages)
that is killed in the middle of each minute and started again 5 s later. All of them: CenterFace at 320x192 on every third frame, and
tracking between. The run is stopped as by Ctrl-C. Each frame must be accounted for: delivered in time, delivered late and
counted, or dropped and counted. The table and the JSON file say what became of them, by stream and place.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

STREAMS = 16
RATE = 10
PYTHON = "/usr/bin/python3"  # Debian's, which sees Debian's GStreamer
AWAY_SECS = 5


def serve(port, clip):
    """An RTSP camera that shows a clip: run in a process of its own, to be killed."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f'( filesrc location="{clip}" ! qtdemux ! rtph264pay name=pay0 pt=96 config-interval=-1 )')
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    GLib.MainLoop().run()


def make_clips(folder, source, seconds):
    """A clip for each stream in H.264 as cameras send it: a minute encoded once, repeated without encoding it again."""
    minute = folder / "minute.mp4"
    inputs = ["-stream_loop", "-1", "-i", source] if source else ["-f", "lavfi", "-i", f"testsrc2=size=640x360:rate={RATE}"]
    picture = f"fps={RATE},scale=640:360,format=yuv420p"
    encode = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", "20", "-t", "60"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, "-vf", picture, *encode, minute], check=True)
    clips = []
    for number in range(STREAMS):
        clip = folder / f"cam{number}.mp4"
        repeat = ["-stream_loop", "-1", "-i", minute, "-c", "copy", "-t", str(seconds), "-movflags", "+faststart"]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *repeat, clip], check=True)
        clips.append(clip)
    return clips


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Camera:
    """The server, which is killed each minute."""

    def __init__(self, port, clip):
        self.command = [PYTHON, __file__, "--serve", str(port), str(clip)]
        self.kills = 0
        self.server = subprocess.Popen(self.command)

    def die_each_minute(self, ended):
        while not ended.wait(30):
            self.server.kill()
            self.server.wait()
            self.kills += 1
            if ended.wait(AWAY_SECS):
                return
            self.server = subprocess.Popen(self.command)
            if ended.wait(60 - 30 - AWAY_SECS):
                return

    def end(self):
        self.server.kill()
        self.server.wait()


def resident_bytes(process):
    try:
        text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS:"))


def run(options, folder, clips):
    """Runs the pipeline for the time that is asked for; gives its statistics, memory by second, and how often the camera was killed."""
    port, seconds = free_port(), options.minutes * 60
    camera = Camera(port, clips[-1])
    sources = " ".join([*map(str, clips[:-1]), f"rtsp://127.0.0.1:{port}/cam"])
    read = f"read {sources} realtime=yes latency={options.latency} timeout=3s retry_wait=200ms device=cpu"
    text = f"{read} ! infer centerface size=320x192 every=3 device=cpu ! track ! save {folder}/boxes-{{stream}}.jsonl"
    stats = folder / "stats.json"
    cores = [int(core) for core in options.cores.split(",")]
    process = subprocess.Popen(
        [options.framerail, "run", "-q", "--stats", stats, text], preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    ended, memory, began = threading.Event(), [], time.monotonic()
    killer = threading.Thread(target=camera.die_each_minute, args=(ended,))
    killer.start()
    while process.poll() is None and time.monotonic() - began < seconds:
        time.sleep(1)
        memory.append(resident_bytes(process))
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)
    ended.set()
    killer.join()
    camera.end()
    if not stats.exists():
        raise SystemExit(f"the run failed with code {code}")
    return json.loads(stats.read_text()), memory, camera.kills, code


def verdict(stats, memory, kills, budget_secs):
    """What did not hold, in words."""
    found = []
    for stream in stats["streams"]:
        on_the_way = stream["frames_read"] - stream["frames_delivered"] - stream["frames_dropped"]
        if on_the_way:
            found.append(f"{stream['name']}: {on_the_way} frames are neither delivered nor counted as dropped")
        if stream["latency_max_secs"] > budget_secs and not stream["frames_late"]:
            found.append(f"{stream['name']}: late by {stream['latency_max_secs']:.2f} s and not counted")
    reconnects = sum(stream["reconnects"] for stream in stats["streams"])
    if reconnects < kills:
        found.append(f"the camera was killed {kills} times and came back {reconnects} times")
    settled = memory[len(memory) // 4 :]
    if settled:
        first, last = settled[: max(1, len(settled) // 5)], settled[-max(1, len(settled) // 5) :]
        growth = (sum(last) / len(last)) / (sum(first) / len(first)) - 1
        if growth > 0.05:
            found.append(f"memory grew by {100 * growth:.1f}%")
    return found


def table(stats, memory, kills):
    lines = ["| stream | read | delivered | late | dropped | by place | reconnects | mean ms | most ms |", "|---|---|---|---|---|---|---|---|---|"]
    for stream in stats["streams"]:
        drops = ", ".join(f"{place} {count}" for place, count in stream["drops"].items()) or "-"
        counts = [stream[key] for key in ("frames_read", "frames_delivered", "frames_late", "frames_dropped")]
        times = [f"{1000 * stream[key]:.0f}" for key in ("latency_mean_secs", "latency_max_secs")]
        lines.append("| " + " | ".join(map(str, [stream["name"], *counts, drops, stream["reconnects"], *times])) + " |")
    at = lambda share: memory[min(len(memory) - 1, int(share * len(memory)))] / 1e6 if memory else 0
    points = ", ".join(f"{100 * share:.0f}%: {at(share):.0f} MB" for share in (0.1, 0.25, 0.5, 0.75, 1.0))
    lines += ["", f"memory over the run: {points}", f"{stats['cpu_secs'] / stats['wall_secs']:.2f} cores at work; camera killed {kills} times"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framerail", default="target/release/framerail")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--latency", default="1s", help="budget of each frame, in whole seconds")
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--clip", help="what the streams show; the clip with a face of the set-up, or a test picture, otherwise")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "CLIP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(*options.serve)
    faces = sorted(pathlib.Path(os.environ.get("FRAMERAIL_HOME", ".framerail")).rglob("carphone_pristine.mp4"))
    source = options.clip or (str(faces[0]) if faces else None)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        clips = make_clips(folder, source, int(options.minutes * 60) + 30)
        stats, memory, kills, code = run(options, folder, clips)
    found = verdict(stats, memory, kills, float(options.latency.removesuffix("s")))
    if code not in (0, 130):  # 130: ended by Ctrl-C, as it was
        found.append(f"the run ended with code {code}")
    print(table(stats, memory, kills))
    print("\n".join(found) if found else "every frame is accounted for, and memory is flat")
    if options.json:
        result = {"minutes": options.minutes, "cores": options.cores, "source": source, "kills": kills, "problems": found}
        options.json.write_text(json.dumps({**result, "memory_bytes": memory, "stats": stats}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
