"use strict"; // Drives the players in two frames, and looks at a third one without scripts; see test_player.py.
const wait = time => new Promise(done => setTimeout(done, time));

function cells(canvas, [rows, columns]) { // of a matrix: 0 for the colour of exact zeros, 1 for blue, 2 for lit
  const context = canvas.getContext("2d"), left = 78, top = 44, scale = canvas.width / canvas.clientWidth;
  const high = (canvas.clientHeight - top) / rows, wide = (canvas.clientWidth - left) / columns;
  const image = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const kind = (row, column) => {
    const [y, x] = [top + (row + 0.5) * high, left + (column + 0.5) * wide].map(place => Math.floor(scale * place));
    const [red, green] = image.subarray(4 * (y * canvas.width + x));
    return red > 220 && green > 180 ? 0 : red > 150 ? 2 : 1;
  };
  return Array.from({length: rows}, (_, row) => Array.from({length: columns}, (_, column) => kind(row, column)).join(""));
}

async function drive(frame) {
  const page = frame.contentDocument, look = frame.contentWindow, root = page.getElementById("player");
  const slider = root.querySelector("input"), button = root.querySelector("button");
  const canvases = [...root.querySelectorAll("canvas")];
  const sizes = JSON.parse(page.getElementById("history").textContent).matrices.map(
    matrix => matrix.axes.map(axis => axis.parts.reduce((sum, part) => sum + part.bins, 0)));
  const drawn = () => canvases.map((canvas, number) => cells(canvas, sizes[number]));
  const state = () => ({
    step: Number(root.dataset.step), said: root.querySelector(".said").textContent, drawn: drawn(),
    text: slider.getAttribute("aria-valuetext"),
    cursors: [...root.querySelectorAll(".cursor span")].map(line => line.style.left),
  });
  const send = (target, kind, type, more) =>
    target.dispatchEvent(new look[kind](type, {bubbles: true, cancelable: true, ...more}));
  const press = (target, key) => send(target, "KeyboardEvent", "keydown", {key});
  const steps = [state()];
  for (const step of [0, 7, 23, 41]) {
    slider.value = step;
    send(slider, "Event", "input");
    steps.push(state());
  }
  press(canvases[1], "ArrowRight");
  press(canvases[1], "ArrowRight");
  const lit = {name: root.dataset.lit, words: root.querySelector(".spot").textContent, drawn: drawn()};
  press(canvases[1], "Escape");
  const box = canvases[2].getBoundingClientRect(), place = 44 + 4.5 * (box.height - 44) / sizes[2][0];
  send(canvases[2], "PointerEvent", "pointermove", {clientX: box.left + 70, clientY: box.top + place});
  const pointed = root.dataset.lit;
  send(canvases[2], "PointerEvent", "pointerleave");
  press(slider, " ");
  const playing = button.textContent;
  await wait(500);
  const moved = Number(root.dataset.step);
  press(slider, " ");
  await wait(300);
  return {wide: page.documentElement.scrollWidth, steps, lit, pointed, after: root.dataset.lit, playing, moved,
    held: Number(root.dataset.step), paused: button.textContent};
}

onload = async () => {
  const [phone, desktop, bare] = document.querySelectorAll("iframe"), page = bare.contentDocument;
  const found = {phone: await drive(phone), desktop: await drive(desktop), bare: {
    images: [...page.querySelectorAll(".matrix img")].map(image => [image.naturalWidth, image.naturalHeight]),
    controls: page.querySelector(".controls").offsetHeight,
    canvases: page.querySelectorAll("canvas").length,
  }};
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(found)}));
};
