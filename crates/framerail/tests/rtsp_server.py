"""An RTSP server for one test: `rtsp_server.py PORT [FOLDER]`.

A camera is at /cam, told by lines on standard input to starve its viewers and to feed them again, and one with audio at /talk. With a folder the server takes what is
pushed to /in, and /sound for video with AAC, and puts each connection's video into a file of its own: 0.h264, 1.h264 and so on.

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

TALK = CAMERA[:-1] + " audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8 )"

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


def obey(camera, loop):
    for line in sys.stdin:
        command = line.strip()
        if command in ("starve", "feed"):
            GLib.idle_add(camera.set, command == "starve")
    loop.quit()


def main():
    Gst.init(None)
    port, camera, loop = sys.argv[1], Camera(), GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for path, launch in (("/cam", CAMERA), ("/talk", TALK)):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        factory.set_shared(True)
        factory.connect("media-configure", camera.configure)
        server.get_mount_points().add_factory(path, factory)
    if len(sys.argv) > 2:
        recorder = Recorder(sys.argv[2])
        server.get_mount_points().add_factory("/in", recorder.factory(RECORDER))
        with_sound = RECORDER + " rtpmp4gdepay name=depay1 ! fakesink sync=false async=false"
        server.get_mount_points().add_factory("/sound", recorder.factory(with_sound))
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    print("ready", server.get_bound_port(), flush=True)
    threading.Thread(target=obey, args=(camera, loop), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
