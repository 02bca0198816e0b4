"use strict";
(() => {
  const text = document.getElementById("t"), tip = document.getElementById("tip");
  const data = JSON.parse(document.getElementById("d").textContent);
  const elements = text.getElementsByTagName("i");
  let places = null, firsts = null, current = -1;

  // The number of each element, and the number of its first token; found when they are first asked for.
  function number() {
    places = new Map();
    firsts = [];
    let token = 0;
    for (const element of Array.from(elements)) {
      places.set(element, firsts.length);
      firsts.push(token);
      token += Number(element.dataset.n || 1);
    }
  }

  function cell(row, kind, content) {
    const made = document.createElement(kind), inner = document.createElement("bdi");
    inner.textContent = content;
    made.append(inner);
    row.append(made);
  }

  function small(value) {
    return value === 0 || value >= 1e-4 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
  }

  function numbers(token) {
    const [id, nats, rank, entropy] = data.tokens.slice(token * data.width, (token + 1) * data.width);
    const found = { token: data.names[id], id: String(id) };
    if (id === data.unk) found.note = "out of vocabulary";
    found.surprisal = nats === null ? "not finite" : `${(-nats / Math.LN2 + 0).toFixed(3)} bits`;
    found["log-probability"] = nats === null ? "not finite" : `${nats.toFixed(4)} nats`;
    found.probability = nats === null ? "" : small(Math.exp(nats));
    if (rank !== undefined) {
      found.rank = rank.toLocaleString("en");
      found.entropy = entropy === null ? "not finite" : `${entropy.toFixed(2)} bits`;
    }
    return found;
  }

  function fill(element, first) {
    const count = Number(element.dataset.n || 1), most = 4;
    const columns = Array.from({ length: Math.min(count, most) }, (_, at) => numbers(first + at));
    const table = document.createElement("table"), head = document.createElement("caption");
    const sum = Array.from({ length: count }, (_, at) => data.tokens[(first + at) * data.width + 1]);
    const line = `line ${element.parentNode.id}`;
    const bits = sum.includes(null) ? "not finite" : `${(-sum.reduce((a, b) => a + b) / Math.LN2).toFixed(2)} bits`;
    head.textContent = count === 1 ? line : `${line}: ${count} tokens together, ${bits}`;
    table.append(head);
    for (const name of ["token", "id", "note", "surprisal", "log-probability", "probability", "rank", "entropy"]) {
      if (!columns.some((column) => column[name] !== undefined)) continue;
      const row = table.insertRow();
      cell(row, "th", name);
      for (const column of columns) cell(row, "td", column[name] === undefined ? "" : column[name]);
      if (count > most) cell(row, "td", "\u2026");
    }
    tip.replaceChildren(table);
  }

  function show(element) {
    if (places === null) number();
    if (current >= 0) elements[current].classList.remove("now");
    current = places.get(element);
    element.classList.add("now");
    fill(element, firsts[current]);
    tip.hidden = false;
    const boxes = element.getClientRects(), box = boxes[0] || element.getBoundingClientRect();
    const under = box.bottom + 6, last = boxes[boxes.length - 1] || box;
    const fits = last.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(4, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${fits ? Math.max(under, last.bottom + 6) : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
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
    const next = elements[Math.max(0, Math.min(elements.length - 1, current + step))];
    next.scrollIntoView({ block: "nearest" });
    show(next);
  });
})();
