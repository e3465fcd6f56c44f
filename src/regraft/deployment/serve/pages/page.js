{% include "answers.js" %}
let waiting = Promise.resolve();
let numAsked = 0, numDone = 0;

function show(file, answer) {
  const card = element("answer").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img"), bars = card.querySelector(".bars");
  if (answer.error) {
    card.classList.add("wrong");
    card.querySelector("h3").textContent = answer.error;
    image.remove();
    bars.remove();
    card.style.gridTemplateColumns = "1fr";
  } else {
    card.querySelector("h3").textContent = summary(answer);
    image.src = URL.createObjectURL(file);
    // Such as HEIC, which few browsers show.
    image.onerror = () => { URL.revokeObjectURL(image.src); image.remove(); card.style.gridTemplateColumns = "1fr"; };
    draw(bars, answer);
  }
  card.querySelector(".name").textContent = file.name;
  element("answers").prepend(card);
  element("results").hidden = false;
}

async function ask(file) {
  const form = new FormData();
  form.append("photos", file);
  try {
    const response = await fetch("/predict", { method: "POST", body: form });
    const content = await response.json();
    return response.ok ? content.predictions[0] : { error: content.detail };
  } catch {
    return { error: "The server doesn't respond, or the file is too large for it." };
  }
}

function take(files) {
  const photos = [...files];
  numAsked += photos.length;
  for (const file of photos) {
    waiting = waiting.then(async () => {
      say("Looking at " + file.name + " (" + (numDone + 1) + " of " + numAsked + ") ...");
      const answer = await ask(file);
      show(file, answer);
      numDone += 1;
      if (numDone === numAsked) {
        const last = answer.error ? answer.error : summary(answer);
        say(numAsked === 1 ? file.name + ": " + last : numAsked + " photos done. The last: " + last);
        numAsked = numDone = 0;
      }
    });
  }
}

const drop = element("drop");
element("form").addEventListener("submit", (event) => event.preventDefault());
element("photos").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
element("clear").addEventListener("click", () => {
  for (const image of document.querySelectorAll(".answer img")) URL.revokeObjectURL(image.src);
  element("answers").replaceChildren();
  element("results").hidden = true;
  say("");
  element("photos").focus();
});
// Anywhere on the page: a photo that misses the box would otherwise replace the page.
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => { if (event.clipboardData) take(event.clipboardData.files); });
