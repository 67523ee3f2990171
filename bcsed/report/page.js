"use strict";
// Tables: a button in each heading sorts, a field above the table filters. Without this script the tables are plain.
for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...box.querySelectorAll("thead th")];
  const order = (column, sign) => (left, right) => {
    const [a, b] = [left.cells[column], right.cells[column]];
    const [x, y] = [a.dataset.v, b.dataset.v];
    if (x !== undefined && y !== undefined) return sign * (Number(x) - Number(y));
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1; // unknown values come last
    const [s, t] = [a.textContent, b.textContent];
    if (!s !== !t) return s ? -1 : 1;
    return sign * s.localeCompare(t, "en", { numeric: true });
  };
  heads.forEach((head, column) => {
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
      body.append(...rows.sort(order(column, up ? 1 : -1)));
    });
  });
  if (rows.length < 8) continue;
  const tools = box.querySelector(".tools");
  const field = tools.querySelector("input");
  const count = tools.querySelector("[role=status]");
  const filter = () => {
    const text = field.value.trim().toLowerCase();
    let matches = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(text);
      matches += !row.hidden;
    }
    count.textContent = `${matches} of ${rows.length} rows`;
  };
  field.addEventListener("input", filter);
  tools.hidden = false;
  filter();
}
// Recordings: a line over the figure marks the playback position; one sound plays at a time; a click on the figure seeks.
const sounds = [...document.querySelectorAll("audio")];
for (const sound of sounds) {
  const box = sound.closest("section").querySelector(".box[data-left]");
  sound.addEventListener("play", () => sounds.forEach((other) => other !== sound && other.pause()));
  if (!box) continue;
  const { left, right, start, end } = Object.fromEntries(Object.entries(box.dataset).map(([k, v]) => [k, Number(v)]));
  const offset = Number(sound.dataset.start);
  const line = document.createElement("div");
  line.className = "playhead";
  line.hidden = true;
  box.append(line);
  sound.addEventListener("timeupdate", () => {
    const share = (offset + sound.currentTime - start) / (end - start);
    line.hidden = share < 0 || share > 1;
    line.style.left = `${100 * (left + share * (right - left))}%`;
  });
  box.style.cursor = "pointer";
  box.addEventListener("click", (event) => {
    const frame = box.getBoundingClientRect();
    const share = ((event.clientX - frame.left) / frame.width - left) / (right - left);
    if (share >= 0 && share <= 1) sound.currentTime = Math.max(0, start + share * (end - start) - offset);
  });
}
