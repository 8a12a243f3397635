// Live images: each is requested again after it has arrived, so slow connections get fewer. Only visible ones are requested.

// Browsers open up to six connections to a server; leave some for events and actions.
const AT_ONCE = 4;
const CALM_MS = 2000;

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let running = 0;
const queue = [];

function place() {
  if (running < AT_ONCE) {
    running += 1;
    return Promise.resolve();
  }
  return new Promise((resolve) => queue.push(resolve));
}

function leave() {
  const next = queue.shift();
  if (next) next(); else running -= 1;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The images of all streams, in a container. */
export class Pictures {
  constructor(container) {
    this.container = container;
    this.cards = new Map();
    this.paused = false;
    this.sight = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const card = [...this.cards.values()].find((card) => card.figure === entry.target);
        if (card) { card.inSight = entry.isIntersecting; this.follow(card); }
      }
    });
    document.addEventListener("visibilitychange", () => this.followAll());
  }

  /** Shows an image and details for each of these streams. */
  update(streams) {
    for (const [id, card] of this.cards) {
      if (!streams.some((stream) => stream.id === id)) this.remove(card);
    }
    for (const stream of streams) {
      const card = this.cards.get(stream.id) ?? this.add(stream);
      card.isLive = stream.isLive;
      if (card.name.textContent !== stream.name) card.name.textContent = stream.name;
      card.image.alt = `Live image of ${stream.name}`;
      card.facts.textContent = [stream.facts, card.found].filter(Boolean).join(" · ");
      this.follow(card);
    }
    this.container.dataset.count = streams.length;
  }

  setPaused(paused) {
    this.paused = paused;
    this.followAll();
  }

  add(stream) {
    const figure = document.createElement("figure");
    figure.className = "picture";
    const frame = document.createElement("div");
    frame.className = "frame";
    const words = document.createElement("span");
    words.textContent = "waiting for an image";
    const image = document.createElement("img");
    image.hidden = true;
    frame.append(words, image);
    const caption = document.createElement("figcaption");
    const [name, facts] = [document.createElement("a"), document.createElement("span")];
    [name.className, facts.className] = ["name", "facts"];
    name.href = `/frames/${stream.id}.mjpg`;
    caption.append(name, facts);
    figure.append(frame, caption);
    this.container.append(figure);
    const card = { id: stream.id, figure, image, words, name, facts, found: "", after: 0, inSight: false, busy: false, url: null };
    this.cards.set(stream.id, card);
    this.sight.observe(figure);
    return card;
  }

  remove(card) {
    this.sight.unobserve(card.figure);
    card.figure.remove();
    this.cards.delete(card.id);
    if (card.url) URL.revokeObjectURL(card.url);
  }

  followAll() {
    for (const card of this.cards.values()) this.follow(card);
  }

  wanted(card) {
    return card.isLive && card.inSight && !this.paused && !document.hidden && this.cards.get(card.id) === card;
  }

  async follow(card) {
    if (card.busy || !this.wanted(card)) return;
    card.busy = true;
    while (this.wanted(card)) {
      await place();
      let came = false;
      try {
        came = await this.load(card);
      } catch {
        came = false;
      }
      leave();
      if (!came) await wait(1000);
      if (calm.matches) await wait(CALM_MS);
    }
    card.busy = false;
  }

  async load(card) {
    const reply = await fetch(`/frames/${card.id}.jpg?after=${card.after}`);
    // No new image within the time limit.
    if (reply.status === 204) return false;
    if (!reply.ok) {
      const told = await reply.json().catch(() => ({}));
      if (!card.url) card.words.textContent = told.error ?? "no image";
      return false;
    }
    const url = URL.createObjectURL(await reply.blob());
    card.after = Number(reply.headers.get("x-framerail-sequence"));
    const found = Number(reply.headers.get("x-framerail-detections"));
    card.found = found > 0 ? `${found} detections` : "";
    card.image.src = url;
    await card.image.decode().catch(() => {});
    card.image.hidden = false;
    if (card.url) URL.revokeObjectURL(card.url);
    card.url = url;
    return true;
  }
}
