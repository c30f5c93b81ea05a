"use strict";
// Without this script the page has the same content: tables are in their first order, and the
// browser shows the titles of charts by itself, though later and not on touch screens.

function keyOf(row, column) {
  const cell = row.cells[column];
  return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent.trim();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // numbers come first
  return a.localeCompare(b);
}

function sortBy(table, heading) {
  const ascending = heading.getAttribute("aria-sort") === "descending"
    || (!heading.hasAttribute("aria-sort") && !heading.classList.contains("number"));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((a, b) => {
    const order = compare(keyOf(a, heading.cellIndex), keyOf(b, heading.cellIndex));
    return ascending ? order : -order;
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sorts")) {
  table.classList.add("scripted");
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, heading));
  }
}

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

function showTip(event) {
  const mark = event.target instanceof Element ? event.target.closest("g.hit") : null;
  tip.hidden = mark === null;
  if (mark === null) return;
  const title = mark.querySelector("title");
  if (title !== null) {
    mark.dataset.tip = title.textContent;
    title.remove(); // or the browser would show it as well
  }
  tip.textContent = mark.dataset.tip;
  const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 12, right))}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
}

document.addEventListener("pointermove", showTip);
document.addEventListener("pointerdown", showTip);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
