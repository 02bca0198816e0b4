"use strict";
(() => {
  const text = document.getElementById("t"), tip = document.getElementById("tip");
  const data = JSON.parse(document.getElementById("d").textContent);
  const elements = [...text.getElementsByTagName("i")], places = new Map(), firsts = [];
  const countOf = (element) => Number(element.dataset.n ?? 1);
  let current = -1, next = 0;
  for (const element of elements) {
    places.set(element, firsts.length);
    firsts.push(next);
    next += countOf(element);
  }

  function cell(row, kind, content) {
    const inner = document.createElement("bdi");
    inner.textContent = content;
    row.appendChild(document.createElement(kind)).append(inner);
  }

  const [unit, bit] = data.units, scale = data.nats[0] / data.nats[1];
  const finite = (value, digits, name) => (value === null ? "not finite" : `${value.toFixed(digits)} ${name}`);

  function numbers(token) {
    const [id, logprob, rank, entropy] = data.tokens.slice(token * data.width, (token + 1) * data.width);
    const found = { token: data.names[id], id: String(id) }, p = Math.exp(logprob * data.nats[0]);
    if (id === data.unk) found.note = "out of vocabulary";
    found.surprisal = finite(logprob === null ? null : -logprob * scale + 0, 3, bit);
    found["log-probability"] = finite(logprob, 4, unit);
    found.probability = logprob === null ? "" : p === 0 || p >= 1e-4 ? String(Number(p.toPrecision(3))) : p.toExponential(2);
    if (id === data.unk && data.excluded) found.surprisal = found["log-probability"] = "left out";
    if (rank !== undefined) found.rank = rank.toLocaleString("en");
    if (rank !== undefined) found.entropy = finite(entropy, 2, bit);
    return found;
  }

  function fill(element, first) {
    const count = countOf(element), tokens = Array.from({ length: count }, (_, at) => first + at), most = 4;
    const columns = tokens.slice(0, most).map(numbers), parts = tokens.map((at) => data.tokens[at * data.width + 1]);
    const table = document.createElement("table"), line = `line ${element.parentNode.id}`, word = element.dataset.s;
    const missing = element.classList.contains("U") && data.excluded ? "left out" : "not finite";
    const sum = parts.includes(null) ? null : -parts.reduce((a, b) => a + b, 0) * scale;
    const value = word === undefined ? sum : word === "null" ? null : Number(word);
    const text = value === null ? missing : finite(value, word === undefined ? 2 : 3, bit);
    const what = word === undefined ? `${count} tokens together` : `word of ${count} token${count === 1 ? "" : "s"}`;
    table.createCaption().textContent = count === 1 && word === undefined ? line : `${line}: ${what}, ${text}`;
    for (const name of ["token", "id", "note", "surprisal", "log-probability", "probability", "rank", "entropy"]) {
      if (!columns.some((column) => column[name] !== undefined)) continue;
      const row = table.insertRow();
      cell(row, "th", name);
      for (const column of columns) cell(row, "td", column[name] ?? "");
      if (count > most) cell(row, "td", "\u2026");
    }
    tip.replaceChildren(table);
  }

  function show(element) {
    hide();
    current = places.get(element);
    element.classList.add("now");
    fill(element, firsts[current]);
    tip.hidden = false;
    const boxes = element.getClientRects(), box = boxes[0] || element.getBoundingClientRect();
    const below = Math.max(box.bottom, (boxes[boxes.length - 1] || box).bottom) + 6;
    const above = Math.max(4, box.top - tip.offsetHeight - 6), room = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, Math.min(box.left, room - tip.offsetWidth - 8))}px`;
    tip.style.top = `${below + tip.offsetHeight < innerHeight ? below : above}px`;
  }

  function hide() {
    if (current >= 0) elements[current].classList.remove("now");
    tip.hidden = true;
  }

  const piece = (event) => (event.target instanceof Element ? event.target.closest("#t i") : null);
  text.addEventListener("mouseover", (event) => (piece(event) ? show(piece(event)) : hide()));
  text.addEventListener("mouseleave", hide);
  text.addEventListener("click", (event) => piece(event) && show(piece(event)));
  text.addEventListener("blur", hide);
  text.addEventListener("focus", () => {
    if (text.matches(":focus-visible") && elements.length) show(elements[Math.max(current, 0)]);
  });
  addEventListener("scroll", () => text !== document.activeElement && hide(), { passive: true });
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !elements.length) return;
    event.preventDefault();
    const element = elements[Math.max(0, Math.min(elements.length - 1, current + step))];
    element.scrollIntoView({ block: "nearest" });
    show(element);
  });
})();
