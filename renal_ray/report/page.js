// What a report does beyond being read: sorts and searches tables, says what a mark is, shows where the reader is, opens what is folded before printing.
// It reads the page it stands in and nothing else; without it the page is complete.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

  // Numbers as the report writes them: a true minus sign, thousands with commas, "< 0.001", "0.90 ± 0.03", "12 (30.0 %)". Dates are not numbers.
  const NUMBER = /^([<>≤≥])?\s*(-?(?:\d[\d,]*)?\.?\d+)(?![\d\-:/])/;
  function value(cell) {
    const text = cell ? cell.textContent.trim() : "";
    if (text === "" || text === "–") return null;
    const found = NUMBER.exec(text.replaceAll("−", "-"));
    if (!found) return text;
    const number = Number(found[2].replaceAll(",", ""));
    return number + (found[1] === "<" ? -1e-9 : found[1] === ">" ? 1e-9 : 0);
  }
  function order(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  // Rows that belong together move together: the paper's value and the interval under ours, the levels under their characteristic, rows that leave their name
  // to the one above. Headings stay where they are.
  const belongs = (row) => row.classList.contains("level") || row.classList.contains("interval") || row.cells[0].textContent.trim() === "";
  function blocksOf(body) {
    const blocks = [{ heading: null, units: [] }];
    for (const row of [...body.rows]) {
      const block = blocks[blocks.length - 1];
      if (row.classList.contains("group")) blocks.push({ heading: row, units: [] });
      else if (block.units.length && belongs(row)) block.units[block.units.length - 1].push(row);
      else block.units.push([row]);
    }
    return blocks;
  }
  function rank(units, column, direction) {
    const keyed = units.map((rows, place) => ({ rows, place, key: value(rows[0].cells[column]) }));
    keyed.sort((a, b) => {
      if ((a.key === null) !== (b.key === null)) return a.key === null ? 1 : -1; // what is undefined comes last, whichever way
      return (a.key === null ? 0 : direction * order(a.key, b.key)) || a.place - b.place;
    });
    return keyed.map((one) => one.rows);
  }
  function sortable(table) {
    const body = table.tBodies[0];
    const blocks = blocksOf(body);
    if (!blocks.some((block) => block.units.length > 1)) return;
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = make("button", { type: "button", className: "sort" });
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort ?? "none"];
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (next !== "none") header.setAttribute("aria-sort", next);
        for (const { heading, units } of blocks) {
          const ranked = next === "none" ? units : rank(units, column, next === "ascending" ? 1 : -1);
          body.append(...(heading ? [heading] : []), ...ranked.flat());
        }
      });
    });
  }

  // Every word has to be in the row, or in the heading it stands under.
  function searchable(table) {
    const bar = make("p", { className: "filter" });
    const label = make("label", { textContent: "Filter " });
    const input = make("input", { type: "search", placeholder: "words that a row has" });
    const count = make("span", { ariaLive: "polite" });
    label.append(input);
    bar.append(label, count);
    (table.closest(".scroll") ?? table).before(bar);
    const blocks = blocksOf(table.tBodies[0]);
    const total = blocks.reduce((sum, block) => sum + block.units.length, 0);
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { heading, units } of blocks) {
        const above = heading ? heading.textContent.toLowerCase() : "";
        let some = false;
        for (const rows of units) {
          const text = `${above} ${rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ")).join(" ")}`.toLowerCase();
          const fits = words.every((word) => text.includes(word));
          rows.forEach((row) => (row.hidden = !fits));
          shown += fits ? 1 : 0;
          some ||= fits;
        }
        if (heading) heading.hidden = !some;
      }
      count.textContent = words.length ? `${shown} of ${total}` : "";
    };
    input.addEventListener("input", show);
  }

  // The titles of the marks become a label that follows the finger or the pointer: the browser's own waits, and knows no touch.
  const NEAR = { mouse: 9, touch: 24, pen: 14 };
  function hover(svg, label) {
    for (const title of all("g title, use title, path title", svg)) {
      title.parentElement.dataset.tip = title.textContent;
      title.remove();
    }
    const marks = all("[data-tip]", svg);
    if (!marks.length) return;
    let centres = null;
    const measure = () => {
      const frame = svg.getBoundingClientRect();
      centres = marks.map((mark) => {
        const box = mark.getBoundingClientRect();
        return { mark, x: box.x + box.width / 2 - frame.x, y: box.y + box.height / 2 - frame.y, small: box.width < 30 && box.height < 30 };
      });
    };
    window.addEventListener("resize", () => (centres = null));
    const point = (event) => {
      if (!centres) measure();
      const frame = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.x, event.clientY - frame.y];
      let best = null;
      let least = NEAR[event.pointerType] ?? NEAR.mouse;
      for (const one of centres) {
        const distance = Math.hypot(one.x - x, one.y - y);
        if (one.small && distance < least) [best, least] = [one.mark, distance];
      }
      const mark = best ?? event.target.closest("[data-tip]");
      if (!mark) return hide();
      label.textContent = mark.dataset.tip;
      label.hidden = false;
      const room = document.documentElement.clientWidth - label.offsetWidth - 8;
      label.style.left = `${Math.max(8, Math.min(event.clientX + 12, room))}px`;
      label.style.top = `${event.clientY > label.offsetHeight + 28 ? event.clientY - label.offsetHeight - 14 : event.clientY + 18}px`;
    };
    const hide = () => (label.hidden = true);
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    window.addEventListener("scroll", hide, { passive: true });
  }

  function contents(nav) {
    const links = all('a[href^="#"]', nav);
    const targets = links.map((link) => document.getElementById(link.hash.slice(1)));
    let waiting = false;
    const mark = () => {
      waiting = false;
      const line = window.innerHeight * 0.3;
      let here = 0;
      targets.forEach((target, place) => target && target.getBoundingClientRect().top <= line && (here = place));
      if (window.scrollY + window.innerHeight >= document.documentElement.scrollHeight - 2) here = links.length - 1;
      links.forEach((link, place) => {
        if (place !== here) return link.removeAttribute("aria-current");
        if (link.getAttribute("aria-current")) return;
        link.setAttribute("aria-current", "location");
        const row = link.closest("ol");
        row.scrollTo({ left: link.offsetLeft - row.clientWidth / 2 + link.offsetWidth / 2 });
      });
    };
    window.addEventListener("scroll", () => !waiting && (waiting = !!requestAnimationFrame(mark)), { passive: true });
    window.addEventListener("resize", mark);
    mark();
  }

  // A link into something folded unfolds it, and paper folds nothing.
  function unfold() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let one = target.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
    const inside = target.matches("figure") ? target.querySelector("details.long") : null;
    if (inside) inside.open = true;
    target.scrollIntoView();
  }
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => (one.open = true));
  });
  window.addEventListener("afterprint", () => folded.forEach((one) => (one.open = false)));

  all("table.sortable").forEach((table) => {
    sortable(table);
    if ("filter" in table.dataset) searchable(table);
  });
  const label = make("div", { className: "tip", role: "tooltip", hidden: true });
  document.body.append(label);
  all("figure.drawing svg").forEach((svg) => hover(svg, label));
  all("nav").forEach(contents);
  window.addEventListener("hashchange", unfold);
  unfold();
})();
