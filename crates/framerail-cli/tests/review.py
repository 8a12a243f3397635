"""Uses a review page as a person does: marks the first track as wrong, draws a missed face with the mouse, downloads the corrections.

Usage: review.py PAGE FOLDER X1 Y1 X2 Y2. The corners are in frame pixels. The file is FOLDER/corrections.toml.
"""

import os
import pathlib
import sys
import time

import chromium

page_file, folder = sys.argv[1:3]
corners = [float(at) for at in sys.argv[3:]]

FRAME = """(() => {
    const bounds = document.querySelector("#frame").getBoundingClientRect();
    return [bounds.left, bounds.top, bounds.width, bounds.height, ...data.size];
})()"""


def text(selector):
    return f"document.querySelector({selector!r}).textContent"


def mouse(page, kind, x, y):
    buttons = {"mousePressed": 1, "mouseMoved": 1}.get(kind, 0)
    page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)


def draw(page):
    page.evaluate("document.querySelector('#frame').scrollIntoView({ block: 'center' })")
    left, top, width, height, wide, high = page.evaluate(FRAME)
    x1, y1, x2, y2 = corners
    places = [(left + x * width / wide, top + y * height / high) for x, y in [(x1, y1), ((x1 + x2) / 2, y1), (x2, y2)]]
    for kind, place in zip(("mousePressed", "mouseMoved", "mouseMoved"), places, strict=True):
        mouse(page, kind, *place)
    mouse(page, "mouseReleased", *places[-1])


def use(page):
    page.open(pathlib.Path(page_file).resolve().as_uri())
    page.wait_for("document.querySelector('#status')?.textContent === 'No corrections yet'", "the page")
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
    page.wait_for("document.querySelector('.strip img').naturalWidth > 20", "a thumbnail")
    page.wait_for("document.querySelector('#frame').width > 100", "the frame")
    page.evaluate("document.querySelector('.track [data-set=remove]').click()")
    page.wait_for(f"{text('#status')} === '1 removed'", "the removal")
    draw(page)
    page.wait_for(f"{text('#status')} === '1 removed, 1 added'", "the added face")
    # The old document shows the same text until the new one replaces it.
    page.evaluate("window.isOld = true; location.reload()")
    decided = "document.querySelector('#status')?.textContent === '1 removed, 1 added'"
    page.wait_for(f"!window.isOld && {decided}", "what was decided, after a reload")
    page.evaluate("document.querySelector('#download').click()")
    deadline = time.monotonic() + 20
    while not os.path.exists(os.path.join(folder, "corrections.toml")):
        assert time.monotonic() < deadline, "the download does not end"
        time.sleep(0.05)
    wide = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert wide, "the page is wider than its window"
    assert not page.complaints, page.complaints


def main():
    page = chromium.Page()
    try:
        use(page)
    finally:
        page.close()


main()
