"""An RTSP server for one test: a camera at /cam, told by lines on standard input to starve its viewers and to feed them again.

It says `ready PORT` on standard output once it listens.
"""

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
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(CAMERA)
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    print("ready", server.get_bound_port(), flush=True)
    threading.Thread(target=obey, args=(camera, loop), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
