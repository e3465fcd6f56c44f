"use strict";
const element = (id) => document.getElementById(id);
const percent = (value) => (100 * value).toFixed(1) + " %";
// Of labels and numbers there is no single confidence.
const summary = (answer) =>
  answer.confidence === null ? answer.class_name : answer.class_name + ", " + percent(answer.confidence);

// Of a hundred labels all would fill several screens; those that are predicted stand above.
const MOST_SHOWN = 10;

function say(text) { element("status").textContent = text; }

function draw(bars, answer) {
  for (const guess of answer.top.slice(0, MOST_SHOWN)) {
    const row = document.createElement("li");
    const name = document.createElement("span"), number = document.createElement("span");
    const track = document.createElement("div"), fill = document.createElement("div");
    name.textContent = guess.class_name;
    number.textContent = percent(guess.probability);
    number.className = "number";
    track.className = "track";
    track.setAttribute("aria-hidden", "true");
    fill.className = "fill";
    fill.style.width = 100 * guess.probability + "%";
    track.append(fill);
    row.append(name, number, track);
    bars.append(row);
  }
}
