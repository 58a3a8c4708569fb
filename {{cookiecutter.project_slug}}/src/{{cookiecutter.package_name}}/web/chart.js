// A chart of events per second: one bar for each of the last 60 seconds.

import { $ } from "./page.js";

const SECONDS = 60;
const [WIDTH, HEIGHT] = [600, 64]; // of the viewBox in index.html
const counts = new Map(); // by second
const now = () => Math.floor(Date.now() / 1000);
const bars = [];
let timer = 0;

export function count() {
  counts.set(now(), (counts.get(now()) ?? 0) + 1);
  if (!timer) start();
}

function start() {
  const step = WIDTH / SECONDS;
  while (bars.length < SECONDS) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    bar.setAttribute("x", bars.length * step + 1);
    bar.setAttribute("width", step - 2);
    bars.push(bar);
  }
  $("chart").append(...bars);
  timer = setInterval(draw, 250);
  draw();
}

/** Draw the current second as the last bar; stop as soon as all bars are zero. */
function draw() {
  const last = now();
  for (const second of counts.keys()) if (second <= last - SECONDS) counts.delete(second);
  const values = bars.map((_, index) => counts.get(last - SECONDS + 1 + index) ?? 0);
  const peak = Math.max(...values);
  const scale = Math.max(peak, 5); // so that a single event is a low bar
  bars.forEach((bar, index) => {
    const height = (values[index] / scale) * (HEIGHT - 4);
    bar.setAttribute("height", height);
    bar.setAttribute("y", HEIGHT - height);
  });
  const sum = values.reduce((one, other) => one + other, 0);
  const text = `now ${values.at(-1)}, peak ${peak}, ${sum} in all`;
  if ($("chart-text").textContent !== text) $("chart-text").textContent = text;
  if (peak) return;
  clearInterval(timer);
  timer = 0;
}
