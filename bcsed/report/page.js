"use strict";
// Tables: a button in each heading sorts, a field above filters. Without this script they are plain tables.
for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...box.querySelectorAll("thead th")];
  const order = (place, sign) => (left, right) => {
    const [a, b] = [left.cells[place], right.cells[place]];
    const [x, y] = [a.dataset.v, b.dataset.v];
    if (x !== undefined && y !== undefined) return sign * (Number(x) - Number(y));
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1; // what is not known comes last
    const [s, t] = [a.textContent, b.textContent];
    if (!s !== !t) return s ? -1 : 1;
    return sign * s.localeCompare(t, "en", { numeric: true });
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows.sort(order(place, up ? 1 : -1)));
    });
  });
  if (rows.length < 8) continue;
  const tools = box.querySelector(".tools");
  const field = tools.querySelector("input");
  const count = tools.querySelector("[role=status]");
  const filter = () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  field.addEventListener("input", filter);
  tools.hidden = false;
  filter();
}
// Recordings: a line over the figure says what is being heard; one sound at a time; a click on the figure goes there.
const sounds = [...document.querySelectorAll("audio")];
for (const sound of sounds) {
  const box = sound.closest("section").querySelector(".box[data-left]");
  sound.addEventListener("play", () => sounds.forEach((other) => other !== sound && other.pause()));
  if (!box) continue;
  const { left, right, start, end } = Object.fromEntries(Object.entries(box.dataset).map(([k, v]) => [k, Number(v)]));
  const began = Number(sound.dataset.start);
  const line = document.createElement("div");
  line.className = "playhead";
  line.hidden = true;
  box.append(line);
  sound.addEventListener("timeupdate", () => {
    const share = (began + sound.currentTime - start) / (end - start);
    line.hidden = share < 0 || share > 1;
    line.style.left = `${100 * (left + share * (right - left))}%`;
  });
  box.style.cursor = "pointer";
  box.addEventListener("click", (event) => {
    const frame = box.getBoundingClientRect();
    const share = ((event.clientX - frame.left) / frame.width - left) / (right - left);
    if (share >= 0 && share <= 1) sound.currentTime = Math.max(0, start + share * (end - start) - began);
  });
}
