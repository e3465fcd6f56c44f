{% include "answers.js" %}
const MAX_SHOWN = 300;

function show(text, answer) {
  const card = element("answer").content.cloneNode(true).firstElementChild;
  const bars = card.querySelector(".bars");
  if (answer.error) {
    card.classList.add("wrong");
    card.querySelector("h3").textContent = answer.error;
    bars.remove();
  } else {
    card.querySelector("h3").textContent = summary(answer);
    draw(bars, answer);
  }
  card.querySelector(".name").textContent = text.length > MAX_SHOWN ? text.slice(0, MAX_SHOWN) + "..." : text;
  element("answers").prepend(card);
  element("results").hidden = false;
}

async function ask(text) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ texts: [text] }) };
  try {
    const response = await fetch("/predict", options);
    const content = await response.json();
    return response.ok ? content.predictions[0] : { error: content.detail };
  } catch {
    return { error: "The server doesn't respond." };
  }
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = element("text").value;
  if (!text.trim()) { say("Write a text first."); return; }
  say("Reading ...");
  const answer = await ask(text);
  show(text, answer);
  say(answer.error ? answer.error : summary(answer));
});
element("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
element("clear").addEventListener("click", () => {
  element("answers").replaceChildren();
  element("results").hidden = true;
  say("");
  element("text").focus();
});
