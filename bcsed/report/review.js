// Answers of a review: kept in the browser after each key, downloaded and loaded as JSON.
const { review, schema } = document.body.dataset;
const key = `bcsed-review-${review}`;
const items = [...document.querySelectorAll("main section")];
const byId = (id) => document.getElementById(id);
const say = (text) => (byId("status").textContent = text);
const kinds = ["yes", "no", "other", "unsure"];
let answers = {};
let current = 0;
const fileText = () => JSON.stringify({ schema: Number(schema), review, answers }, null, 1);
const check = (values) => {
  const known = new Set(items.map((item) => item.dataset.item));
  const valid = ([number, value]) => known.has(number) && value && kinds.includes(value.answer);
  return values?.review === review && Object.entries(values.answers ?? {}).every(valid);
};
const keep = () => {
  try {
    localStorage.setItem(key, JSON.stringify({ review, answers, current }));
  } catch {
    say("This browser keeps nothing for this page: download the answers before you close it.");
  }
};
const draw = () => {
  items.forEach((item, index) => {
    item.hidden = index !== current;
    const answer = answers[item.dataset.item];
    for (const button of item.querySelectorAll("[data-answer]"))
      button.setAttribute("aria-pressed", String(button.dataset.answer === answer?.answer));
  });
  const n = Object.keys(answers).length;
  byId("count").textContent = `${n} of ${items.length} answered`;
  byId("progress").value = n;
  byId("previous").disabled = current === 0;
  byId("next").disabled = current === items.length - 1;
};
const play = () => {
  const sound = items[current].querySelector("audio");
  sound.currentTime = 0;
  sound.play().catch(() => {}); // browsers refuse sound before the first key
};
const show = (index) => {
  items[current].querySelector("audio").pause();
  current = Math.max(0, Math.min(items.length - 1, index));
  const item = items[current];
  item.querySelector("input").value = answers[item.dataset.item]?.other ?? "";
  draw();
  keep();
  item.focus();
  play();
};
const answer = (kind, other = "") => {
  const item = items[current];
  answers[item.dataset.item] = other ? { answer: kind, other } : { answer: kind };
  keep();
  const after = items.findIndex((each, index) => index > current && !answers[each.dataset.item]);
  const next = after >= 0 ? after : items.findIndex((each) => !answers[each.dataset.item]);
  say(`${item.querySelector("h2").textContent} ${kind}${other ? `, ${other}` : ""}.` + (next < 0 ? " All items are answered: download the answers." : ""));
  if (next < 0) draw();
  else show(next);
};
const choose = (kind) => (kind === "other" ? items[current].querySelector("input").focus() : answer(kind));
for (const item of items) {
  for (const button of item.querySelectorAll("[data-answer]"))
    button.addEventListener("click", () => choose(button.dataset.answer));
  item.querySelector("input").addEventListener("keydown", (event) => {
    if (event.key === "Enter") answer("other", event.target.value.trim());
    if (event.key === "Escape") item.focus();
  });
}
byId("previous").addEventListener("click", () => show(current - 1));
byId("next").addEventListener("click", () => show(current + 1));
byId("replay").addEventListener("click", play);
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input") || event.target.matches("audio");
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const kind = kinds.find((each) => each[0] === event.key.toLowerCase());
  if (kind) choose(kind);
  else if (event.key.toLowerCase() === "r") play();
  else if (event.key === "ArrowRight") show(current + 1);
  else if (event.key === "ArrowLeft") show(current - 1);
  else return;
  event.preventDefault();
});
byId("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([fileText()], { type: "application/json" }));
  link.download = "answers.json";
  link.click();
  URL.revokeObjectURL(link.href);
  say(`${Object.keys(answers).length} answers are downloaded as ${link.download}.`);
});
byId("load").addEventListener("change", async (event) => {
  let values;
  try {
    values = JSON.parse(await event.target.files[0].text());
  } catch {
    values = null;
  }
  if (!check(values)) return say("This file does not contain answers of this review; nothing was loaded.");
  answers = { ...answers, ...values.answers };
  keep();
  draw();
  say(`${Object.keys(values.answers).length} answers are loaded.`);
});
try {
  const kept = JSON.parse(localStorage.getItem(key));
  if (check(kept)) ({ answers, current } = { current: 0, ...kept });
} catch {
  say("The answers of the last visit cannot be read; load them from a file.");
}
current = Number.isInteger(current) && items[current] ? current : 0;
items[current].querySelector("input").value = answers[items[current].dataset.item]?.other ?? "";
draw();
