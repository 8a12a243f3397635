"""Looks at the page of a run as its users do: pictures, numbers, a stream added and removed, a slider, a keyboard, a screen reader.

Usage: page.py ADDRESS CLIP. Ends with 0 when all is as it should be; what is not is told on standard error.
"""

import sys

import chromium

address, clip = sys.argv[1:]

# Whether a picture has been decoded and shows more than one colour.
PICTURE = """(() => {
    const image = document.querySelector(".picture img");
    if (!image || image.hidden || !image.naturalWidth) return 0;
    const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 32, 32);
    return new Set(new Uint32Array(context.getImageData(0, 0, 32, 32).data.buffer)).size;
})()"""
SPREAD = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def text(selector):
    return f"document.querySelector({selector!r})?.textContent"


def row(name):
    """A stream's row of the table, as a script."""
    return f"[...document.querySelectorAll('#streams tbody tr')].find((row) => row.querySelector('th span').textContent === {name!r})"


def look(page):
    page.open(address)
    page.wait_for(f"{text('#state')} === 'running'", "the run's state")
    page.wait_for(f"{PICTURE} > 8", "the picture")
    page.wait_for("document.querySelector('#graph').naturalWidth > 100", "the graph")
    first = page.evaluate("document.querySelector('.picture img').src")
    page.wait_for(f"document.querySelector('.picture img').src !== {first!r}", "another picture")
    frames = page.wait_for(f"Number({text('#figure-frames')}.replaceAll(',', ''))", "a count of frames")
    page.wait_for(f"Number({text('#figure-frames')}.replaceAll(',', '')) > {frames}", "more frames")
    page.wait_for(f"Number({text('#figure-rate')}) > 0", "a rate")
    page.wait_for("document.querySelector('#chart-rate .plot-line').getAttribute('d').length > 20", "a chart")


def add_and_remove(page):
    before = page.evaluate("document.querySelectorAll('#streams tbody tr').length")
    page.evaluate("document.querySelector('#source').focus()")
    page.type("/no/such/clip.mp4")
    page.press("Enter")
    page.wait_for(f"{text('#problem')}.includes('clip.mp4')", "word of a source that is not there")
    page.evaluate("document.querySelector('#source').select()")
    page.type(clip)
    page.press("Enter")
    page.wait_for(f"document.querySelectorAll('#streams tbody tr').length === {before + 1}", "the new stream")
    page.wait_for(f"{text('#announcer')}.includes('was added')", "word of it for those who do not see")
    page.wait_for("document.querySelector('#problem').hidden", "the end of the complaint")
    page.wait_for("document.querySelectorAll('.picture').length === 2", "its picture")
    name = page.evaluate("[...document.querySelectorAll('#streams tbody th span:first-child')].map((name) => name.textContent).pop()")
    page.wait_for(f"{row(name)}.querySelector('.tag').textContent === 'running'", "its state")
    # By the keyboard alone.
    page.evaluate(f"{row(name)}.querySelector('button').focus()")
    page.press("Enter")
    page.wait_for(f"{row(name)}.querySelector('.tag').textContent === 'removed'", "its end")
    page.wait_for("document.querySelectorAll('.picture').length === 1", "the end of its picture")


def set_by_keyboard(page):
    slider = "document.querySelector('.setting input')"
    page.wait_for(f"!!{slider}", "a setting")
    before = page.evaluate(f"Number({slider}.value)")
    page.evaluate(f"{slider}.focus()")
    page.press("ArrowRight")
    now = page.wait_for(f"Number({slider}.value) !== {before} && Number({slider}.value)", "the slider's move")
    script = "fetch('/settings').then((reply) => reply.json()).then((settings) => settings.find((setting) => document.activeElement.id === `setting-${setting.stage}-${setting.name}`.replaceAll('_', '-')).value)"
    page.wait_for(f"{script}.then((value) => Math.abs(value - {now}) < 1e-9)", "the change of the setting")


def switch_by_keyboard(page):
    switch = "document.querySelector('#setting-draw-labels')"
    page.wait_for(f"{switch}?.type === 'checkbox' && {switch}.checked", "a switch that is on")
    page.evaluate(f"{switch}.focus()")
    page.press(" ", "Space")
    page.wait_for(f"!{switch}.checked && {switch}.closest('.setting').querySelector('output').textContent === 'off'", "the switch's turn")
    script = "fetch('/settings').then((reply) => reply.json()).then((settings) => settings.find((setting) => setting.stage === 'draw' && setting.name === 'labels').value)"
    page.wait_for(f"{script}.then((value) => value === 0)", "the change of the setting")


def pause(page):
    page.evaluate("document.querySelector('#pause').click()")
    assert page.evaluate("document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    page.evaluate("document.querySelector('#pause').click()")


CONTROLS = {"button", "checkbox", "link", "textbox", "slider", "image", "table", "region", "main", "dialog"}


def check_names(page):
    """What a screen reader meets has a name, and the page has its landmarks."""
    roles = set()
    for node in page.accessible_nodes():
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in CONTROLS | {"banner", "contentinfo", "heading", "status"}:
            continue
        roles.add(role)
        name = node.get("name", {}).get("value", "").strip()
        assert role not in CONTROLS - {"main"} or name, f"a {role} without a name: {node}"
    missing = {"banner", "main", "contentinfo", "heading", "button", "textbox", "table", "slider", "image", "region"} - roles
    assert not missing, f"the page has no {missing}"
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].filter((head) => !head.closest('dialog')).map((head) => head.localName)")
    assert levels[0] == "h1" and levels.count("h1") == 1, levels
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids)), "an id comes twice"
    chatter = page.evaluate("[...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')].map((node) => node.id)")
    assert chatter == ["announcer"], f"what changes once a second must not be read out: {chatter}"


def check_keyboard(page):
    """Every control is reached with Tab, and shows it."""
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0); window.getSelection().removeAllRanges()")
    reached = set()
    for _ in range(40):
        page.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.localName"))
        shows = page.evaluate("document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'")
        assert shows, f"focus cannot be seen: {page.evaluate('document.activeElement.outerHTML')}"
    missing = {"skip", "stop", "pause", "source", "graph"} - reached
    assert not missing, f"Tab does not reach {missing}, but {reached}"


CONTRAST = """(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const color = rgba(getComputedStyle(node).backgroundColor);
            if (color[3] > 250) return color;
        }
        return [255, 255, 255];
    };
    const poor = [];
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const node = words.currentNode.parentElement;
        if (!words.currentNode.textContent.trim() || !node.checkVisibility() || node.closest(".visually-hidden, noscript, :disabled")) continue;
        const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${words.currentNode.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return poor;
})()"""


def check_looks(page):
    """Contrast as WCAG 2.2 asks of text (1.4.3), in both colours; nothing wider than a phone."""
    for scheme in ("light", "dark"):
        # Without motion colours change at once.
        page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        poor = page.evaluate(CONTRAST)
        assert not poor, f"{scheme}: hard to read: {poor}"
    for width in (360, 1280):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        assert page.evaluate(SPREAD), f"at {width} pixels the page can be scrolled to the side"


def stop(page):
    page.evaluate("document.querySelector('#stop').focus()")
    page.press("Enter")
    page.wait_for("document.querySelector('#confirm').open", "the question")
    assert page.evaluate("document.activeElement.id") == "confirm-no", "the harmless answer comes first"
    page.press("Tab")
    page.press("Enter")
    page.wait_for(f"{text('#state')} === 'ended'", "the end of the run")
    assert page.evaluate("document.querySelector('#stop').disabled")


page = chromium.Page()
try:
    look(page)
    add_and_remove(page)
    set_by_keyboard(page)
    switch_by_keyboard(page)
    pause(page)
    check_names(page)
    check_keyboard(page)
    check_looks(page)
    # A source that is not there was tried on purpose.
    complaints = [told for told in page.complaints if "/streams" not in told]
    assert not complaints, complaints
    stop(page)
finally:
    page.close()
