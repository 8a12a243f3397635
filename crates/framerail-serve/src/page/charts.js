// Small SVG charts: a line with the area below it. Values are shown as text beside them.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 100;

function element(name, className) {
  const node = document.createElementNS(SVG, name);
  if (className) node.setAttribute("class", className);
  return node;
}

/** Creates an empty plot; hidden from screen readers, which read the value beside it. */
export function plot() {
  const svg = element("svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(element("path", "plot-area"), element("path", "plot-line"));
  return svg;
}

/** Draws values between 0 and `top`, the latest at the right; `room` is the number of values that fill the width. */
export function draw(svg, values, top, room) {
  const [area, line] = svg.children;
  const step = WIDTH / Math.max(1, room - 1);
  const shown = values.slice(-room);
  const left = WIDTH - step * (shown.length - 1);
  const points = shown.map((value, place) => {
    const height = top > 0 ? Math.min(1, Math.max(0, value / top)) : 0;
    return `${(left + place * step).toFixed(1)} ${(HEIGHT - 2 - height * (HEIGHT - 6)).toFixed(1)}`;
  });
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  line.setAttribute("d", path);
  area.setAttribute("d", path ? `${path}L${WIDTH} ${HEIGHT}L${left.toFixed(1)} ${HEIGHT}Z` : "");
}

/** Adds a plot with a scale below it to a figure with a caption. */
export function chart(figure) {
  const svg = plot();
  const scale = document.createElement("div");
  scale.className = "scale";
  const [from, top] = [document.createElement("span"), document.createElement("span")];
  scale.append(from, top);
  figure.append(svg, scale);
  const output = figure.querySelector("output");
  return (values, now, highest, label, room) => {
    draw(svg, values, highest, room);
    output.textContent = now;
    from.textContent = `${Math.round(room / 60)} min ago`;
    top.textContent = `top ${label}`;
  };
}

/** The smallest round number not below a value, so that the scale changes rarely. */
export function rounded(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((step) => step >= value);
}
