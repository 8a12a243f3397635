"""An RTSP server for one test: `rtsp_server.py PORT [FOLDER | --clip FILE]`.

A camera is at /cam. Lines on standard input have it starve its viewers, feed them again, or drop their connections. With a folder the
server takes what is pushed to /in, and /sound for video with AAC, and puts each connection's video into a separate file: 0.h264,
1.h264 and so on. With a clip of H.264 and A-law each viewer of /clip has it from its start.

It says `ready PORT` on standard output once it listens.
"""

import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

CAMERA = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! valve name=valve"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)

CLIP = (
    "( filesrc name=file ! matroskademux name=demux demux. ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1"
    " demux. ! queue ! rtppcmapay name=pay1 pt=8 )"
)

# What comes is written at once: the server may be killed at any time.
RECORDER = (
    "rtph264depay name=depay0 ! video/x-h264,stream-format=byte-stream,alignment=au"
    " ! filesink name=file buffer-mode=unbuffered sync=false async=false"
)


class Recorder:
    """Gives each connection the next file that is not there yet."""

    def __init__(self, folder):
        self.folder = folder

    def configure(self, _factory, media):
        number = 0
        while os.path.exists(path := os.path.join(self.folder, f"{number}.h264")):
            number += 1
        open(path, "x").close()
        media.get_element().get_by_name("file").set_property("location", path)

    def factory(self, launch):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        factory.set_launch(f"( {launch} )")
        factory.connect("media-configure", self.configure)
        return factory


class Camera:
    """Keeps the valve of the running stream, and what it is to be."""

    def __init__(self):
        self.valve = None
        self.starves = False

    def configure(self, _factory, media):
        self.valve = media.get_element().get_by_name_recurse_up("valve") or media.get_element().get_by_name("valve")
        self.set(self.starves)

    def set(self, starves):
        self.starves = starves
        if self.valve is not None:
            self.valve.set_property("drop", starves)


def play(media, path):
    media.get_element().get_by_name("file").set_property("location", path)


def drop_all(server):
    server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)


def obey(camera, server, loop):
    for line in sys.stdin:
        command = line.strip()
        if command in ("starve", "feed"):
            GLib.idle_add(camera.set, command == "starve")
        elif command == "drop":
            GLib.idle_add(drop_all, server)
    loop.quit()


def main():
    Gst.init(None)
    port, camera, loop = sys.argv[1], Camera(), GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(CAMERA)
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server.get_mount_points().add_factory("/cam", factory)
    if len(sys.argv) > 3:
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(CLIP)
        factory.connect("media-configure", lambda _factory, media: play(media, sys.argv[3]))
        server.get_mount_points().add_factory("/clip", factory)
    elif len(sys.argv) > 2:
        recorder = Recorder(sys.argv[2])
        server.get_mount_points().add_factory("/in", recorder.factory(RECORDER))
        with_sound = RECORDER + " rtpmp4gdepay name=depay1 ! fakesink sync=false async=false"
        server.get_mount_points().add_factory("/sound", recorder.factory(with_sound))
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    print("ready", server.get_bound_port(), flush=True)
    threading.Thread(target=obey, args=(camera, server, loop), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
