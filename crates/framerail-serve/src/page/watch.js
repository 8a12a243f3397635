// The monitoring page: receives a report once a second and updates only what changed, so that focus and scroll position are kept.

import { chart, draw, plot, rounded } from "/charts.js";
import { Pictures } from "/pictures.js";

const ROOM = 300;
const SPARK_ROOM = 60;
const MOST_ENDED = 5;
const GRAPH_WIDTH = 860;
const byId = (id) => document.getElementById(id);
const pictures = new Pictures(byId("pictures"));
const charts = { rate: chart(byId("chart-rate")), cpu: chart(byId("chart-cpu")), memory: chart(byId("chart-memory")) };
const samples = [];
const streamRates = new Map();
const ENDED = new Set(["ended", "failed", "removed"]);

let state = "connecting";
let graphAt = 0;
let source;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Announces a text to screen readers once. */
function announce(text) {
  byId("announcer").textContent = text;
}

function tell(text) {
  const problem = byId("problem");
  problem.hidden = !text;
  setText(problem, text ?? "");
}

const whole = new Intl.NumberFormat("en");
const number = (value) => whole.format(Math.round(value));
const rate = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

function duration(secs) {
  const [hours, minutes, seconds] = [Math.floor(secs / 3600), Math.floor(secs / 60) % 60, Math.floor(secs) % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

/** Rates per second of a counter, from one sample to the next. */
function perSecond(pick) {
  const values = [];
  for (let place = 1; place < samples.length; place += 1) {
    const span = samples[place].secs - samples[place - 1].secs;
    values.push(span > 0 ? Math.max(0, (pick(samples[place]) - pick(samples[place - 1])) / span) : 0);
  }
  return values;
}

/** The mean of the last three values, so that displayed numbers stay readable. */
function now(values) {
  const last = values.slice(-3);
  return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
}

function remember(sample) {
  const last = samples.at(-1);
  if (last && sample.secs - last.secs < 0.5) return;
  samples.push(sample);
  if (samples.length > ROOM + 1) samples.shift();
}

/** Updates the rows of a table by key: keeps, adds and removes rows. */
function rows(body, keys, create) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  for (const [key, row] of known) {
    if (!keys.includes(key)) row.remove();
  }
  const focused = document.activeElement;
  const made = keys.map((key, place) => {
    let row = known.get(key);
    if (!row) {
      row = create(key);
      row.dataset.key = key;
    }
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
    return row;
  });
  // Moving a row must not lose keyboard focus.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  return made;
}

function cell(row, className, child) {
  const cell = make("td", className);
  if (child) cell.append(child);
  row.append(cell);
  return cell;
}

function spark() {
  const box = make("span", "spark");
  const svg = plot();
  const output = make("output");
  box.append(svg, output);
  return { box, show: (values, top, text) => { draw(svg, values, top, SPARK_ROOM); setText(output, text); } };
}

function createStage(key) {
  const row = make("tr");
  const head = make("th");
  head.scope = "row";
  head.textContent = key;
  row.append(head);
  row.frames = cell(row, "number");
  for (const name of ["rate", "busy", "queue"]) {
    row[name] = spark();
    cell(row, "", row[name].box);
  }
  row.counted = cell(row, "counted");
  return row;
}

function showStages(stats) {
  const stages = stats.stages;
  const body = byId("stages").tBodies[0];
  const made = rows(body, stages.map((stage) => stage.name), createStage);
  stages.forEach((stage, place) => {
    const row = made[place];
    // A source that mostly waits until frames are due does not limit the run.
    const isLimiting = stats.limiting_stage === stage.name;
    const isPaced = isLimiting && !stats.edges.some((edge) => edge.to === stage.name) && stage.wait_input_secs > stage.busy_secs;
    row.classList.toggle("limiting", isLimiting && !isPaced);
    row.classList.toggle("paced", isPaced);
    setText(row.frames, number(Math.max(stage.frames_in, stage.frames_out)));
    const rates = perSecond((sample) => sample.frames[place] ?? 0);
    row.rate.show(rates, rounded(Math.max(...rates.slice(-SPARK_ROOM), 0)), rate(now(rates)));
    const busy = perSecond((sample) => sample.busy[place] ?? 0).map((share) => Math.min(1, share));
    row.busy.show(busy, 1, `${Math.round(100 * now(busy))} %`);
    const edge = stats.edges.findIndex((edge) => edge.to === stage.name);
    row.queue.box.hidden = edge < 0;
    if (edge >= 0) {
      const depths = samples.map((sample) => sample.depths[edge] ?? 0);
      row.queue.show(depths, stats.edges[edge].capacity, `${stats.edges[edge].depth}/${stats.edges[edge].capacity}`);
    }
    const counted = Object.entries(stage.counters).filter(([, count]) => count > 0);
    setText(row.counted, counted.map(([name, count]) => `${name.replaceAll("_", " ")} ${number(count)}`).join(", "));
  });
}

function createStream(key) {
  const row = make("tr");
  const head = make("th");
  head.scope = "row";
  row.name = make("span");
  row.source = make("span", "sub");
  row.error = make("span", "sub error");
  head.append(row.name, row.source, row.error);
  row.append(head);
  row.tag = make("span", "tag");
  cell(row, "", row.tag);
  row.numbers = ["rate", "read", "delivered", "dropped", "late", "reconnects"].map(() => cell(row, "number"));
  row.button = make("button", "", "Remove");
  row.button.type = "button";
  row.button.addEventListener("click", () => removeStream(key, row));
  cell(row, "number", row.button);
  return row;
}

function showStreams(stats) {
  // Streams that have ended come last, most recent first.
  const streams = [...stats.streams].sort((a, b) => ENDED.has(a.state) - ENDED.has(b.state) || (ENDED.has(a.state) ? b.id - a.id : a.id - b.id));
  const open = streams.filter((stream) => !ENDED.has(stream.state)).length;
  const shown = streams.slice(0, open + MOST_ENDED);
  const hidden = streams.length - shown.length + stats.earlier_streams.streams;
  byId("more-streams").hidden = hidden === 0;
  setText(byId("more-streams"), `${number(hidden)} more streams have ended.`);
  const made = rows(byId("streams").tBodies[0], shown.map((stream) => String(stream.id)), createStream);
  const cards = [];
  shown.forEach((stream, place) => {
    const row = made[place];
    const past = streamRates.get(stream.id);
    const span = past ? stats.wall_secs - past.secs : 0;
    const speed = span > 0.5 ? (stream.frames_delivered - past.frames) / span : past?.speed ?? 0;
    if (!past || span > 0.5) streamRates.set(stream.id, { secs: stats.wall_secs, frames: stream.frames_delivered, speed });
    const name = stream.name || `stream ${stream.id}`;
    setText(row.name, name);
    setText(row.source, stream.source === stream.name ? "" : stream.source);
    setText(row.error, stream.last_error ?? "");
    setText(row.tag, stream.state);
    row.tag.dataset.state = stream.state;
    const isOver = ENDED.has(stream.state);
    const figures = [isOver ? "–" : rate(speed), stream.frames_read, stream.frames_delivered, stream.frames_dropped, stream.frames_late, stream.reconnects];
    figures.forEach((figure, column) => setText(row.numbers[column], typeof figure === "number" ? number(figure) : figure));
    row.numbers[3].title = Object.entries(stream.drops).map(([where, frames]) => `${where}: ${frames}`).join(", ");
    row.button.hidden = isOver;
    row.button.setAttribute("aria-label", `Remove ${name}`);
    if (!isOver) cards.push({ id: stream.id, name, isLive: state !== "ended" && state !== "failed", facts: `${rate(speed)} frames/s` });
  });
  pictures.update(cards);
  byId("no-pictures").hidden = cards.length > 0;
}

function createSetting(key) {
  const row = make("div", "setting");
  const label = make("label");
  row.stage = make("span", "stage");
  row.label = make("span");
  label.append(row.stage, row.label);
  row.output = make("output");
  row.slider = make("input");
  row.slider.type = "range";
  row.slider.id = `setting-${key.replaceAll(/[^a-z0-9]+/gi, "-")}`;
  label.htmlFor = row.output.htmlFor = row.slider.id;
  row.help = make("p", "help");
  row.help.id = `${row.slider.id}-help`;
  row.slider.setAttribute("aria-describedby", row.help.id);
  row.append(label, row.output, row.slider, row.help);
  return row;
}

const fine = (value, step) => (step >= 1 ? value.toFixed(0) : value.toFixed(step >= 0.05 ? 2 : 3));

function showSettings(settings) {
  byId("settings-section").hidden = settings.length === 0;
  const made = rows(byId("settings"), settings.map((setting) => `${setting.stage}.${setting.name}`), createSetting);
  settings.forEach((setting, place) => {
    const { label, stage, slider, output, help } = made[place];
    setText(stage, `${setting.stage} `);
    setText(label, setting.name.replaceAll("_", " "));
    const isSwitch = setting.is_whole && setting.min === 0 && setting.max === 1;
    const step = setting.is_whole ? 1 : (setting.max - setting.min) / 200;
    if (isSwitch) slider.type = "checkbox";
    else if (slider.step !== String(step)) Object.assign(slider, { min: setting.min, max: setting.max, step });
    const words = (value) => (isSwitch ? (value ? "on" : "off") : `${fine(value, step)}${setting.unit ? ` ${setting.unit}` : ""}`);
    const given = () => Number(isSwitch ? slider.checked : slider.value);
    setText(help, [setting.help, setting.unit && `in ${setting.unit}`, `initially ${isSwitch ? words(setting.initial) : Number(setting.initial.toPrecision(4))}`].filter(Boolean).join("; "));
    // Do not reset a slider while the user drags it.
    if (!slider.pending) {
      if (isSwitch) slider.checked = setting.value !== 0;
      else slider.value = setting.value;
      setText(output, words(setting.value));
    }
    slider.oninput = () => { slider.pending = true; setText(output, words(given())); };
    slider.onchange = async () => {
      const reply = await send("PUT", "/settings", { stage: setting.stage, name: setting.name, value: given() });
      slider.pending = false;
      if (reply) announce(`${setting.stage} ${setting.name} is ${words(given())}`);
    };
  });
}

function createModel(key) {
  const row = make("form", "add");
  row.label = make("label");
  row.field = make("input");
  Object.assign(row.field, { type: "text", required: true, autocomplete: "off", spellcheck: false, id: `model-${key.replaceAll(/[^a-z0-9]+/gi, "-")}` });
  row.field.placeholder = "name of a model, or path of its model card";
  row.label.htmlFor = row.field.id;
  row.button = make("button", "", "Replace");
  row.button.type = "submit";
  row.append(row.label, row.field, row.button);
  row.addEventListener("submit", async (event) => {
    event.preventDefault();
    row.button.disabled = true;
    const reply = await send("PUT", "/models", { stage: key, model: row.field.value });
    row.button.disabled = false;
    if (!reply) return;
    announce(`The model of ${key} is ${row.field.value}`);
    row.field.value = "";
  });
  return row;
}

function showModels(models) {
  byId("models-section").hidden = models.length === 0;
  const made = rows(byId("models"), models.map((model) => model.stage), createModel);
  models.forEach((model, place) => setText(made[place].label, `${model.stage}: ${model.model}`));
}

function showMessages(report) {
  const found = report.reasons.map((text) => ({ text, isError: true }));
  for (const stage of report.stats.stages) found.push(...stage.notices.map((text) => ({ text: `${stage.name}: ${text}` })));
  for (const edge of report.stats.edges) {
    if (edge.dropped > 0) found.push({ text: `${edge.from} to ${edge.to}: ${number(edge.dropped)} frames dropped` });
  }
  if (report.view_failure) found.push({ text: `images: ${report.view_failure}` });
  byId("no-messages").hidden = found.length > 0;
  const list = byId("messages");
  const made = rows(list, found.map((message, place) => `${place}`), () => make("li"));
  found.forEach((message, place) => {
    setText(made[place], message.text);
    made[place].classList.toggle("error", Boolean(message.isError));
  });
}

function showOverview(report) {
  const { stats } = report;
  // The time range grows with the run, from one minute to five.
  const room = Math.min(ROOM, Math.max(60, samples.length));
  const rates = perSecond((sample) => sample.done);
  const top = rounded(Math.max(...rates, 0));
  charts.rate(rates, rate(now(rates)), top, number(top), room);
  const cpu = perSecond((sample) => sample.cpu);
  const cpuTop = Math.max(1, Math.ceil(Math.max(...cpu, 0)));
  charts.cpu(cpu, now(cpu).toFixed(1), cpuTop, String(cpuTop), room);
  const memory = samples.map((sample) => sample.memory);
  const memoryTop = rounded(Math.max(...memory, 1));
  charts.memory(memory, `${megabytes(stats.memory_bytes)}, peak ${megabytes(stats.memory_peak_bytes)}`, memoryTop, megabytes(memoryTop), room);
  const dropped = report.sample.dropped;
  setText(byId("figure-rate"), rate(now(rates)));
  setText(byId("figure-frames"), number(report.sample.done));
  setText(byId("figure-streams"), number(stats.streams.filter((stream) => stream.state === "running").length));
  setText(byId("figure-dropped"), number(dropped));
  byId("figure-dropped").classList.toggle("alert", dropped > 0);
  setText(byId("figure-time"), duration(stats.wall_secs));
}

function setState(next, words = next) {
  if (next === state) return;
  state = next;
  const node = byId("state");
  node.dataset.state = next;
  setText(node, words);
  announce(`The run is ${words}`);
  byId("stop").disabled = ["stopping", "ended", "failed"].includes(next);
}

async function showGraph(limiting) {
  if (performance.now() < graphAt) return;
  graphAt = performance.now() + 2500;
  const reply = await fetch("/graph.svg").catch(() => null);
  if (!reply?.ok) return;
  const image = byId("graph");
  const url = URL.createObjectURL(await reply.blob());
  const old = image.src;
  image.src = url;
  image.alt = `Graph of the pipeline${limiting ? `; ${limiting} limits the run` : ""}; the table below has the same data`;
  await image.decode().catch(() => {});
  // The image shrinks to fit but stays legible; below its minimum width it scrolls.
  image.style.minWidth = `${Math.min(GRAPH_WIDTH, image.naturalWidth)}px`;
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
}

function show(report) {
  tell(report.state === "failed" ? report.reasons.join("; ") : "");
  // The last graph is fetched after the run has ended, to show all of it.
  if (["ended", "failed"].includes(report.state)) graphAt = 0;
  setState(report.state);
  remember(report.sample);
  showOverview(report);
  showStages(report.stats);
  showStreams(report.stats);
  showSettings(report.settings);
  showModels(report.models);
  showMessages(report);
  setText(byId("view"), report.view ? `output of ${report.view}` : "");
  setText(byId("version"), report.version);
  document.title = `${rate(now(perSecond((sample) => sample.done)))} frames/s · framerail`;
  showGraph(report.stats.limiting_stage);
}

/** Sends a change; shows and announces errors. */
async function send(method, path, value) {
  try {
    const body = value === undefined ? undefined : JSON.stringify(value);
    const reply = await fetch(path, { method, body, headers: body ? { "content-type": "application/json" } : {} });
    const told = await reply.json().catch(() => ({}));
    if (reply.ok) {
      tell("");
      return told;
    }
    tell(told.error ?? `the server returned ${reply.status}`);
    announce(told.error ?? "The request failed");
  } catch {
    tell("the server is unreachable");
  }
  return null;
}

async function removeStream(id, row) {
  row.button.disabled = true;
  const told = await send("DELETE", `/streams/${id}`);
  row.button.disabled = false;
  if (told) {
    announce(`${row.name.textContent} was removed`);
    byId("source").focus();
  }
}

byId("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("source");
  const told = await send("POST", "/streams", { source: input.value });
  if (told) {
    announce(`stream ${told.id} was added`);
    input.value = "";
  }
});
byId("pause").addEventListener("click", () => {
  const pause = byId("pause");
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
  pictures.setPaused(paused);
});
byId("stop").addEventListener("click", () => byId("confirm").showModal());
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("confirm-yes").addEventListener("click", async () => {
  byId("confirm").close();
  await send("POST", "/stop");
});

function listen() {
  source = new EventSource("/events");
  source.addEventListener("history", (event) => {
    samples.length = 0;
    JSON.parse(event.data).forEach(remember);
  });
  source.addEventListener("report", (event) => show(JSON.parse(event.data)));
  source.addEventListener("end", () => source.close());
  source.addEventListener("error", () => {
    if (!["ended", "failed"].includes(state)) setState("lost", "connection lost");
  });
}
listen();
