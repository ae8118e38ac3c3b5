"use strict";
{ // A slider over the recorded steps of a run. What is recorded and drawn are norms of rows and columns, no weights.
const root = document.getElementById("player"), data = JSON.parse(document.getElementById("history").textContent);
const [button, slider, said, spot] = ["button", "input", ".said", ".spot"].map(name => root.querySelector(name));
const calm = matchMedia("(prefers-reduced-motion: reduce)"), last = data.at.length - 1;
const LEFT = 78, TOP = 44, BAR = 22, FAINTEST = 0.12, PAUSE = 110; // CSS pixels; opacity; milliseconds of a step
const bytes = text => Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
const matrices = data.matrices.map(prepared);
let now = last, lit = null, timer = 0;

function prepared({name, axes}, number) { // a matrix: its canvas instead of the picture, its segments and levels
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  const picture = root.querySelectorAll(".matrix > :last-child")[number];
  canvas.style.aspectRatio = picture.style.aspectRatio;
  picture.replaceWith(canvas);
  const matrix = {name, canvas, axes: axes.map(({parts, levels}) => {
    let count = 0;
    parts = parts.map(part => ({...part, start: count, stop: count += part.bins}));
    return {parts, count, levels: bytes(levels)};
  })};
  for (const kind of ["pointermove", "pointerdown"]) canvas.addEventListener(kind, event => light(pointed(matrix, event)));
  for (const kind of ["pointerleave", "blur"]) canvas.addEventListener(kind, () => light(null));
  canvas.addEventListener("keydown", event => choose(matrix, event));
  return matrix;
}

// ---------------------------------------------------------------- a component and its slices

function pointed({canvas, axes}, event) { // the component of the row or, inside, of the column below the pointer
  const box = canvas.getBoundingClientRect(), places = [event.clientY - box.top - TOP, event.clientX - box.left - LEFT];
  const [row, column] = axes.map((axis, number) => {
    const place = Math.floor(places[number] / cell(canvas, axes, number));
    const part = axis.parts.find(one => one.grouped && one.start <= place && place < one.stop);
    return part && {...part, bin: place - part.start};
  });
  return (places[1] < 0 ? row : places[0] < 0 ? column : column || row) || null;
}

function choose({axes}, event) { // on a matrix the arrow keys choose a component, Escape none
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  const start = lit || axes.flatMap(axis => axis.parts).find(part => part.grouped);
  if (event.key === "Escape") light(null);
  if (!step) return;
  event.preventDefault();
  light({...start, bin: lit ? (lit.bin + step + lit.bins) % lit.bins : 0});
}

function slices({axes}) { // the places of the lit component in a matrix, as pairs of axis and row or column
  const mine = part => lit && part.grouped && part.space === lit.space;
  return axes.flatMap((axis, number) => axis.parts.filter(mine).map(part => [number, part.start + lit.bin]));
}

function light(component) {
  if (component?.space === lit?.space && component?.bin === lit?.bin) return;
  lit = component;
  root.dataset.lit = lit ? `${lit.space} ${lit.bin}` : "";
  spot.textContent = lit ? described() : spot.dataset.hint;
  matrices.forEach(draw);
}

function described() {
  const holding = matrices.filter(matrix => slices(matrix).length);
  const places = holding.flatMap(matrix => slices(matrix).map(([number, place]) => [matrix.axes[number], place]));
  let end = last + 1;
  while (end && places.every(([axis, place]) => !levels(axis, end - 1)[place])) end -= 1;
  const [first, next] = [lit.bin, lit.bin + 1].map(bin => Math.floor(bin * lit.size / lit.bins));
  const units = next - first > 1 ? `components ${first} to ${next - 1}` : `component ${first}`;
  const fate = end > last ? "alive at the last step" : `exactly zero from ${data.said[end].split(";")[0].toLowerCase()}`;
  return `${lit.space}, ${units}: ${places.length} slices in ${holding.map(one => one.name).join(", ")}; ${fate}.`;
}

// ---------------------------------------------------------------- drawing

const levels = (axis, frame) => axis.levels.subarray(frame * axis.count, (frame + 1) * axis.count);
const cell = (canvas, axes, number) =>
  (number ? canvas.clientWidth - LEFT : canvas.clientHeight - TOP) / Math.max(axes[number].count, 1);

function draw({name, canvas, axes}) {
  const scale = devicePixelRatio || 1, style = getComputedStyle(root), context = canvas.getContext("2d");
  const [ink, alive, zero, lamp] = ["--ink", "--c1", "--zero", "--c2"].map(key => style.getPropertyValue(key).trim());
  const wide = canvas.clientWidth - LEFT, high = canvas.clientHeight - TOP;
  [canvas.width, canvas.height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  context.scale(scale, scale);
  const paint = (number, from, to, place, thick) => number // a piece of a column or of a row, from its matrix's edge
    ? context.fillRect(LEFT + place, TOP + from, thick, to - from)
    : context.fillRect(LEFT + from, TOP + place, to - from, thick);
  context.imageSmoothingEnabled = false;
  context.drawImage(inside(axes.map(axis => levels(axis, now)), alive, zero), LEFT, TOP, wide, high);
  axes.forEach((axis, number) => { // bars at the edge: the norms
    const size = cell(canvas, axes, number);
    levels(axis, now).forEach((level, place) => {
      context.fillStyle = level ? alive : zero;
      paint(number, level ? -2 - Math.max(1, BAR * level / 255) : -2 - BAR, -2, place * size, size);
    });
    context.fillStyle = ink;
    axis.parts.slice(1).forEach(part => paint(number, -BAR, number ? high : wide, part.start * size - 0.5, 1));
    axis.parts.forEach(part => label(context, number, part, size));
  });
  context.fillStyle = lamp;
  slices({axes}).forEach(([number, place]) => {
    const size = cell(canvas, axes, number);
    paint(number, -2 - BAR, number ? high : wide, place * size, Math.max(2, size));
  });
  const left = axes.map(axis => `${levels(axis, now).filter(level => level).length} of ${axis.count}`);
  canvas.setAttribute("aria-label", `${name}: ${left[0]} rows and ${left[1]} columns are not exactly zero`);
}

function inside([rows, columns], alive, zero) { // a cell's opacity: the root of its row's times its column's norm
  const image = new OffscreenCanvas(Math.max(columns.length, 1), Math.max(rows.length, 1));
  const context = image.getContext("2d"), cells = context.createImageData(image.width, image.height);
  const [full, none] = [alive, zero].map(text => [1, 3, 5].map(start => parseInt(text.slice(start, start + 2), 16)));
  const colours = Array.from({length: 256}, (_, level) =>
    level ? [...full, Math.round(255 * (FAINTEST + (1 - FAINTEST) * level / 255))] : [...none, 255]);
  const pixels = new Uint32Array(cells.data.buffer), table = new Uint32Array(Uint8Array.from(colours.flat()).buffer);
  rows.forEach((row, y) => columns.forEach((column, x) => {
    pixels[y * columns.length + x] = table[Math.round(Math.sqrt(row * column))];
  }));
  context.putImageData(cells, 0, 0);
  return image;
}

function label(context, number, part, size) { // the name of a segment, where there is room
  const middle = (part.start + part.bins / 2) * size, room = part.bins * size;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = number ? "center" : "right";
  context.textBaseline = "middle";
  if (room < (number ? context.measureText(part.label).width : 11)) return;
  context.fillText(part.label, number ? LEFT + middle : LEFT - BAR - 8, number ? 8 : TOP + middle, number ? room : LEFT - BAR - 8);
}

// ---------------------------------------------------------------- the slider

function show(step) {
  now = Math.min(Math.max(step, 0), last);
  slider.value = root.dataset.step = now;
  said.textContent = data.said[now];
  slider.setAttribute("aria-valuetext", data.said[now]);
  root.querySelectorAll(".cursor span").forEach(line => { line.style.left = `${100 * data.at[now]}%`; });
  matrices.forEach(draw);
}

function play(start) {
  clearInterval(timer);
  timer = start ? setInterval(() => now < last ? show(now + 1) : play(false), calm.matches ? 10 * PAUSE : PAUSE) : 0;
  button.textContent = start ? "Pause" : "Play";
  if (start && now === last) show(0);
}

button.addEventListener("click", () => play(!timer));
slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
root.addEventListener("keydown", event => {
  if (event.key !== " " || event.target === button) return;
  event.preventDefault();
  play(!timer);
});
for (const kind of ["resize", "beforeprint", "afterprint"]) addEventListener(kind, () => matrices.forEach(draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => matrices.forEach(draw));
root.classList.add("live");
spot.textContent = spot.dataset.hint;
show(last);
if ("autoplay" in root.dataset && !calm.matches) play(true);
}
