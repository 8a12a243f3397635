"use strict";
// The page is made here from the data; nothing is loaded and nothing leaves it but the corrections.
const data = JSON.parse(document.getElementById("data").textContent);
const [WIDTH, HEIGHT] = data.size;
const byId = new Map(data.tracks.map((track) => [track.id, track]));
const key = `framerail review ${data.input} ${data.frames} ${data.boxes}`;
const state = { tracks: {}, added: [], done: {} };
try { Object.assign(state, JSON.parse(localStorage.getItem(key) || "{}")); } catch { /* no storage: nothing is remembered */ }
let shown = 0;
let chosen = -1;

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) node.addEventListener(attribute.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(attribute, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
function clock(secs) {
  const sign = secs < 0 ? "-" : "";
  const millis = Math.round(Math.abs(secs) * 1000);
  const pad = (number, digits) => String(number).padStart(digits, "0");
  const hours = Math.floor(millis / 3600000);
  const minutes = Math.floor(millis / 60000) % 60;
  const rest = `${pad(Math.floor(millis / 1000) % 60, 2)}.${pad(millis % 1000, 3)}`;
  return sign + (hours ? `${hours}:${pad(minutes, 2)}:${rest}` : `${minutes}:${rest}`);
}
function counted(count, noun) { return `${count} ${noun}${count === 1 ? "" : "s"}`; }
function ruling(id) { return state.tracks[id] || "cover"; }

// The frame's time, from the nearest frame that is known.
const known = data.shown.map((one) => [one.frame, one.secs]);
function secsOf(frame) {
  let best = known[0] || [0, 0];
  for (const one of known) if (Math.abs(one[0] - frame) < Math.abs(best[0] - frame)) best = one;
  return best[1] + (frame - best[0]) / data.rate;
}

// ---- corrections ----

function quoted(text) {
  const escaped = [...text].map((letter) => {
    const code = letter.codePointAt(0);
    if (letter === "\\" || letter === '"') return "\\" + letter;
    return code < 32 || code === 127 ? "\\u" + code.toString(16).padStart(4, "0") : letter;
  });
  return `"${escaped.join("")}"`;
}
function corrections() {
  const lines = [`# Corrections of ${data.name.replace(/[\x00-\x1f\x7f]/g, " ")}, made on its review page.`];
  if (data.detections) lines.push(`detections = ${quoted(data.detections)}`);
  lines.push(`input = ${quoted(data.input)}`, `size = [${WIDTH}, ${HEIGHT}]`);
  for (const track of data.tracks) {
    if (ruling(track.id) === "remove") lines.push("", `# not a ${data.one}: ${clock(track.from)} to ${clock(track.to)}`, "[[remove]]", `track = ${track.id}`);
    if (ruling(track.id) === "visible") lines.push("", `# left visible: ${clock(track.from)} to ${clock(track.to)}`, "[[visible]]", `track = ${track.id}`);
  }
  for (const one of state.added) {
    const boxes = one.boxes.map((box) => `    [${box.map((at) => Math.round(at * 10) / 10).map((at, place) => (place ? at.toFixed(1) : at)).join(", ")}],`);
    lines.push("", `# missed: ${clock(secsOf(one.first))} to ${clock(secsOf(one.last))}`, "[[add]]", `first = ${one.first}`, `last = ${one.last}`, "boxes = [", ...boxes, "]");
  }
  return lines.join("\n") + "\n";
}
function changes() {
  const rulings = data.tracks.map((track) => ruling(track.id));
  const parts = [];
  const removed = rulings.filter((one) => one === "remove").length;
  const visible = rulings.filter((one) => one === "visible").length;
  if (removed) parts.push(`${removed} removed`);
  if (visible) parts.push(`${visible} left visible`);
  if (state.added.length) parts.push(`${state.added.length} added`);
  return parts.join(", ");
}
function download() {
  const url = URL.createObjectURL(new Blob([corrections()], { type: "application/toml" }));
  const link = make("a", { href: url, download: "corrections.toml" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
async function copy(event) {
  const button = event.target;
  try {
    await navigator.clipboard.writeText(corrections());
    button.textContent = "Copied";
  } catch {
    text.hidden = false;
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
function changed() {
  try { localStorage.setItem(key, JSON.stringify(state)); } catch { /* no storage */ }
  status.textContent = changes() || "No corrections yet";
  for (const id of ["download", "copy", "show"]) document.getElementById(id).disabled = !changes();
  text.textContent = corrections();
  drawTimeline();
  drawViewer();
  drawAdded();
  for (const refresh of refreshers) refresh();
}
const refreshers = [];

// ---- pictures with boxes ----

const images = new Map();
function imageOf(one) {
  if (!images.has(one)) {
    const image = new Image();
    image.src = one.image;
    images.set(one, image);
  }
  return images.get(one);
}
function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }
function addedAt(one, frame) {
  if (frame < one.first || frame > one.last) return null;
  const after = one.boxes.findIndex((box) => box[0] > frame);
  if (after === 0) return one.boxes[0].slice(1);
  if (after < 0) return one.boxes[one.boxes.length - 1].slice(1);
  const [from, to] = [one.boxes[after - 1], one.boxes[after]];
  const way = (frame - from[0]) / (to[0] - from[0]);
  return from.slice(1).map((at, place) => at + (to[place + 1] - at) * way);
}
// The part of the frame around a box, in the frame's shape.
function around(box) {
  const wide = Math.min(WIDTH, Math.max(WIDTH * 0.35, (box[2] - box[0]) * 4, ((box[3] - box[1]) * 4 * WIDTH) / HEIGHT));
  const high = (wide * HEIGHT) / WIDTH;
  const inside = (middle, side, most) => Math.max(0, Math.min(most - side, middle - side / 2));
  return [inside((box[0] + box[2]) / 2, wide, WIDTH), inside((box[1] + box[3]) / 2, high, HEIGHT), wide, high];
}
// Draws a shown frame with what is covered on it; `marks` are boxes to point out, `part` what is shown.
function paint(canvas, one, marks = [], part = [0, 0, WIDTH, HEIGHT]) {
  const image = imageOf(one);
  const draw = () => {
    canvas.width = image.naturalWidth || 640;
    canvas.height = image.naturalHeight || 360;
    const context = canvas.getContext("2d");
    const [left, top, wide, high] = part;
    const [across, down] = [canvas.width / wide, canvas.height / high];
    const [tall, broad] = [image.naturalHeight / HEIGHT, image.naturalWidth / WIDTH];
    context.drawImage(image, left * broad, top * tall, wide * broad, high * tall, 0, 0, canvas.width, canvas.height);
    const outline = (box, name, dashes = [], label = "") => {
      context.strokeStyle = color(name);
      context.lineWidth = 2;
      context.setLineDash(dashes);
      context.strokeRect((box[0] - left) * across, (box[1] - top) * down, (box[2] - box[0]) * across, (box[3] - box[1]) * down);
      if (label) {
        context.font = "12px system-ui, sans-serif";
        context.fillStyle = color(name);
        context.fillText(label, (box[0] - left) * across, Math.max(11, (box[1] - top) * down - 4));
      }
    };
    const looks = { cover: "seen", remove: "line", visible: "visible" };
    for (const found of one.boxes) outline(found.box, looks[ruling(found.track)], ruling(found.track) === "cover" ? [] : [5, 4], `${found.track}`);
    state.added.forEach((added, place) => {
      const box = addedAt(added, one.frame);
      if (box) outline(box, "added", place === chosen ? [] : [6, 3], "added");
    });
    for (const box of marks) outline(box, "open", [4, 4]);
  };
  if (image.complete && image.naturalWidth) draw();
  else image.addEventListener("load", draw, { once: true });
}
function nearestShown(frame) {
  let best = 0;
  data.shown.forEach((one, place) => {
    if (Math.abs(one.frame - frame) < Math.abs(data.shown[best].frame - frame)) best = place;
  });
  return best;
}

// ---- added boxes ----

// A new box is covered up to the frames shown before and behind: too far rather than not far enough.
function rangeOf(place) {
  const first = place > 0 ? data.shown[place - 1].frame + 1 : data.first;
  const last = place + 1 < data.shown.length ? data.shown[place + 1].frame - 1 : data.last;
  return [first, last];
}
function addBox(box) {
  const frame = data.shown[shown].frame;
  const [first, last] = rangeOf(shown);
  if (chosen < 0) {
    state.added.push({ first, last, boxes: [] });
    chosen = state.added.length - 1;
  }
  const one = state.added[chosen];
  one.boxes = one.boxes.filter((other) => other[0] !== frame);
  one.boxes.push([frame, ...box]);
  one.boxes.sort((a, b) => a[0] - b[0]);
  one.first = Math.min(one.first, first);
  one.last = Math.max(one.last, last);
  changed();
}
function coverPlace(place, index) {
  const boxes = [];
  if (place.before) boxes.push([Math.max(data.first, place.first - 1), ...place.before.box]);
  if (place.after) boxes.push([place.last + 1, ...place.after.box]);
  const second = Math.round(data.rate);
  const [first, last] = place.kind === "ends" ? [place.first, Math.min(place.last, place.first + second)]
    : place.kind === "begins" ? [Math.max(data.first, place.last - second), place.last] : [place.first, place.last];
  state.added.push({ first, last, boxes });
  chosen = state.added.length - 1;
  state.done[index] = true;
  changed();
}

// ---- parts of the page ----

const status = make("strong", { id: "status" });
const text = make("pre", { id: "corrections", hidden: true });
const input = data.input;
const shell = (word) => (/^[\w.\/:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const timeline = document.createElementNS("http://www.w3.org/2000/svg", "svg");
timeline.setAttribute("class", "timeline");
timeline.setAttribute("role", "img");
timeline.setAttribute("aria-label", "Tracks over time, with the places that are not covered");

function lanes() {
  const ends = [];
  return data.tracks.map((track) => {
    let lane = ends.findIndex((end) => end < track.first);
    if (lane < 0) lane = ends.length < 12 ? ends.push(0) - 1 : ends.indexOf(Math.min(...ends));
    ends[lane] = Math.max(ends[lane], track.last);
    return lane;
  });
}
const laneOf = lanes();
const laneCount = Math.max(1, ...laneOf.map((lane) => lane + 1));
function drawTimeline() {
  // In the page's pixels, so that text has its size on narrow screens too.
  const [wide, row] = [timeline.clientWidth || 1000, 12];
  const high = 8 + row * laneCount + 30;
  const span = Math.max(1, data.last - data.first + 1);
  const x = (frame) => ((frame - data.first) / span) * wide;
  timeline.setAttribute("viewBox", `0 0 ${wide} ${high}`);
  const parts = [];
  const rect = (kind, first, last, y, height, title) => parts.push(
    `<rect class="${kind}" x="${x(first).toFixed(2)}" width="${Math.max(2, x(last + 1) - x(first)).toFixed(2)}" y="${y}" height="${height}"><title>${title}</title></rect>`);
  data.tracks.forEach((track, place) => {
    const kind = { cover: "track", remove: "removed", visible: "visible" }[ruling(track.id)];
    rect(kind, track.first, track.last, 6 + row * laneOf[place], row - 3, `track ${track.id}: ${clock(track.from)} to ${clock(track.to)}`);
  });
  const base = 8 + row * laneCount;
  for (const place of data.places) if (place.kind === "gap") rect("open", place.first, place.last, base, 8, `not covered: ${counted(place.last - place.first + 1, "frame")}`);
  for (const one of state.added) rect("added", one.first, one.last, base, 8, "added");
  if (data.shown.length) rect("cursor", data.shown[shown].frame, data.shown[shown].frame, 0, high - 16, "the frame below");
  for (const part of wide < 560 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
    const anchor = part === 0 ? "start" : part === 1 ? "end" : "middle";
    parts.push(`<text x="${Math.min(Math.max(part * wide, 6), wide - 6)}" y="${high - 4}" text-anchor="${anchor}">${clock(secsOf(data.first + part * (span - 1)))}</text>`);
  }
  timeline.innerHTML = parts.join("");
}
addEventListener("resize", drawTimeline);
timeline.addEventListener("click", (event) => {
  const bounds = timeline.getBoundingClientRect();
  go(nearestShown(data.first + ((event.clientX - bounds.left) / bounds.width) * (data.last - data.first)));
  viewer.scrollIntoView({ block: "nearest" });
});

const canvas = make("canvas", { id: "frame", tabindex: 0, "aria-label": `Frame to draw missed ${data.many} on` });
const slider = make("input", { type: "range", min: 0, max: Math.max(0, data.shown.length - 1), value: 0, "aria-label": "Frame", oninput: () => go(Number(slider.value)) });
const where = make("span", { class: "soft" });
const addedList = make("div", { id: "added" });
function go(place) {
  shown = Math.max(0, Math.min(data.shown.length - 1, place));
  slider.value = shown;
  drawViewer();
  drawTimeline();
}
function drawViewer() {
  const one = data.shown[shown];
  if (!one) return;
  where.textContent = `${clock(one.secs)} (frame ${one.frame}), ${shown + 1} of ${data.shown.length} shown`;
  paint(canvas, one, corner ? [box()] : []);
}
let corner = null;
let opposite = null;
function point(event) {
  const bounds = canvas.getBoundingClientRect();
  const at = (value, from, length, most) => Math.max(0, Math.min(most, ((value - from) / length) * most));
  return [at(event.clientX, bounds.left, bounds.width, WIDTH), at(event.clientY, bounds.top, bounds.height, HEIGHT)];
}
function box() {
  const [x1, x2] = [corner[0], opposite[0]].sort((a, b) => a - b);
  const [y1, y2] = [corner[1], opposite[1]].sort((a, b) => a - b);
  return [x1, y1, x2, y2];
}
canvas.addEventListener("pointerdown", (event) => {
  corner = opposite = point(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!corner) return;
  opposite = point(event);
  drawViewer();
});
canvas.addEventListener("pointerup", () => {
  if (!corner) return;
  const drawn = box();
  const at = corner;
  corner = opposite = null;
  if (drawn[2] - drawn[0] >= 4 && drawn[3] - drawn[1] >= 4) return addBox(drawn);
  const hit = data.shown[shown].boxes.find(({ box: [x1, y1, x2, y2] }) => at[0] >= x1 && at[0] <= x2 && at[1] >= y1 && at[1] <= y2);
  if (hit) document.getElementById(`track-${hit.track}`)?.scrollIntoView({ block: "center" });
  drawViewer();
});
canvas.addEventListener("pointercancel", () => { corner = opposite = null; drawViewer(); });
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) { go(shown + step); event.preventDefault(); }
});
function drawAdded() {
  addedList.replaceChildren(...state.added.map((one, place) => {
    const limit = (name) => make("input", {
      type: "number", min: data.first, max: data.last, value: one[name], "aria-label": `${name} frame`,
      onchange: (event) => {
        const value = Math.round(Number(event.target.value));
        if (Number.isFinite(value)) one[name] = Math.max(data.first, Math.min(data.last, value));
        if (one.first > one.last) one[name === "first" ? "last" : "first"] = one[name];
        changed();
      },
    });
    return make("div", { class: `added ${place === chosen ? "chosen" : ""}` },
      make("p", {}, make("b", {}, `Added ${place + 1}`), ` ${clock(secsOf(one.first))} to ${clock(secsOf(one.last))}, ${one.boxes.length} box${one.boxes.length === 1 ? "" : "es"}`),
      make("p", {}, "frames ", limit("first"), " to ", limit("last")),
      make("div", { class: "buttons" },
        make("button", { onclick: () => { chosen = place; go(nearestShown(one.boxes[0][0])); drawAdded(); } }, place === chosen ? "Drawing this one" : "Draw more of it"),
        make("button", { onclick: () => { state.added.splice(place, 1); chosen = -1; changed(); } }, "Delete")));
  }));
  fresh.disabled = chosen < 0;
}
const fresh = make("button", { id: "new", onclick: () => { chosen = -1; drawViewer(); drawAdded(); } }, `Draw another ${data.one}`);
const viewer = make("div", { class: "viewer", id: "viewer" },
  make("div", {}, canvas, slider,
    make("div", { class: "moves" }, where,
      make("button", { onclick: () => go(shown - 1) }, "Back"), make("button", { onclick: () => go(shown + 1) }, "Next"))),
  make("div", {}, make("p", { class: "soft" }, `Draw a box around each missed ${data.one}. To follow one that moves, draw it again on later frames: in between, the box moves along.`), fresh, addedList));

function placeCard(place, index) {
  const one = data.shown[nearestShown(place.first)];
  const picture = make("canvas", { "aria-label": "The first frame without a cover", onclick: () => { go(nearestShown(place.first)); viewer.scrollIntoView({ block: "start" }); } });
  const frames = place.last - place.first + 1;
  const words = {
    gap: `Not covered for ${counted(frames, "frame")} (${(frames / data.rate).toFixed(2)} s), between track ${place.before?.track} and ${place.after?.track}`,
    ends: `Track ${place.before?.track} ends here, away from the border`,
    begins: `Track ${place.after?.track} begins after this frame, away from the border`,
  }[place.kind];
  const cover = { gap: "Cover the gap", ends: "Cover 1 s more", begins: "Cover 1 s before" }[place.kind];
  const card = make("div", { class: "card", "data-place": place.kind },
    picture,
    make("div", {}, make("p", {}, make("b", {}, clock(place.secs)), ` ${words}`),
      make("div", { class: "buttons" },
        make("button", { class: place.kind === "gap" ? "main cover" : "cover", onclick: () => coverPlace(place, index) }, cover),
        make("button", { class: "fine", onclick: () => { state.done[index] = !state.done[index]; changed(); } }, "Checked"))));
  const refresh = () => {
    card.classList.toggle("done", Boolean(state.done[index]));
    card.querySelector(".fine").classList.toggle("on", Boolean(state.done[index]));
    const mark = place.before?.box || place.after?.box;
    if (one) paint(picture, one, [mark], around(mark));
  };
  refreshers.push(refresh);
  return card;
}
function trackRow(track) {
  const set = (value) => () => { state.tracks[track.id] = value; changed(); };
  const choices = [["cover", "Cover"], ["remove", `Not a ${data.one}`], ["visible", "Leave visible"]];
  const buttons = choices.map(([value, label]) => make("button", { "data-set": value, onclick: set(value) }, label));
  const strip = track.thumbnails.map((one) => make("figure", { class: one.origin, title: `frame ${one.frame}`, onclick: () => { go(nearestShown(one.frame)); viewer.scrollIntoView({ block: "start" }); } },
    make("img", { src: one.image, alt: `Track ${track.id} at ${clock(one.secs)}`, loading: "lazy" }),
    `${clock(one.secs)} · ${one.origin === "seen" ? one.score.toFixed(2) : "filled"}`));
  const row = make("div", { class: "track", id: `track-${track.id}` },
    make("div", { class: "head" }, make("b", {}, `Track ${track.id}`),
      make("span", { class: "soft" }, `${clock(track.from)} to ${clock(track.to)} · ${counted(track.seen, "time")} seen, ${track.filled} filled in` + (track.seen ? ` · scores ${track.lowest.toFixed(2)} to ${track.best.toFixed(2)}` : "")),
      make("div", { class: "buttons" }, ...buttons)),
    make("div", { class: "strip" }, ...strip));
  refreshers.push(() => {
    row.className = `track ${ruling(track.id)}`;
    for (const button of buttons) {
      button.classList.toggle("on", button.dataset.set === ruling(track.id));
      button.setAttribute("aria-pressed", String(button.dataset.set === ruling(track.id)));
    }
  });
  return row;
}
function legend(...entries) {
  return make("div", { class: "legend" }, ...entries.map(([name, words]) => make("span", {}, make("i", { style: `background:var(--${name})` }), words)));
}

// Weak tracks first: they are wrong most often.
const order = [...data.tracks].sort((a, b) => a.best - b.best || a.first - b.first);
const gaps = data.places.filter((place) => place.kind === "gap").length;
const tracks = make("section", {}, ...order.map(trackRow));
const cards = data.places.map(placeCard);
const MOST_CARDS = 12;
const more = make("button", { onclick: () => { cards.forEach((card) => { card.hidden = false; }); more.hidden = true; } }, `Show all ${cards.length}`);
cards.slice(MOST_CARDS).forEach((card) => { card.hidden = true; });
more.hidden = cards.length <= MOST_CARDS;

document.querySelector("main").append(
  make("h1", {}, document.title),
  make("p", { class: "soft" }, `${counted(data.frames, "frame")}, ${data.covered} with ${data.many}; ${data.boxes} boxes, ${data.filled} of them filled in; ${counted(data.tracks.length, "track")}; ${counted(gaps, "gap")} left open.`),
  make("p", { class: "warning", role: "note" }, make("strong", {}, "The images on this page are not blurred."), " Protect the page as you protect the footage."),
  make("div", { class: "bar" }, status,
    make("button", { class: "main", id: "download", onclick: download }, "Download corrections.toml"),
    make("button", { id: "copy", onclick: copy }, "Copy"),
    make("button", { id: "show", onclick: () => { text.hidden = !text.hidden; } }, "Show")),
  text,
  make("p", { class: "soft" }, "Afterwards, without running the detector again (with the same --start, --end and --duration, if there were any):"),
  make("pre", { id: "command" }, `framerail blur-faces ${shell(input)} -o covered.mp4 --corrections corrections.toml`),
  timeline,
  legend(["seen", "covered"], ["open", "left open"], ["added", "added"], ["visible", "left visible"], ["line", "removed"]),
  make("h2", {}, "Look here first"),
  cards.length ? make("p", { class: "soft" }, "Places without a cover next to covered ones, the longest gaps first. Red: where it was covered last.") : make("p", { class: "soft" }, "No track ends or begins away from the frame's border."),
  make("div", { class: "cards" }, ...cards), more,
  make("h2", {}, `Missed ${data.many}`), viewer,
  make("h2", {}, "Tracks"),
  make("p", { class: "soft" }, "Those with the lowest scores first."), tracks);
if (!data.shown.length) viewer.replaceChildren("There are no frames.");
changed();
