// Parts of every page that shows a scored text: the numbers of a token as a table, and the tip that shows them.

const ROWS = ["token", "id", "note", "surprisal", "log-probability", "probability", "rank", "entropy"];
const finite = (value, digits, unit) => (value === null ? "not finite" : `${value.toFixed(digits)} ${unit}`);

/** The text of each row for a token.
 *
 * `token` has `token`, `id`, `unknown` and `logprob`, which is null if it is not finite; `rank` and `entropy` if they
 * are known. `scale` has the units of log-probabilities and of surprisals: their names in `units`, their sizes in
 * `nats`; and `excluded`, which is true if unknown tokens are left out.
 */
function numbers({ token, id, unknown, logprob, rank, entropy }, { units: [unit, bit], nats, excluded }) {
  const found = { token, id: String(id) }, p = Math.exp(logprob * nats[0]);
  if (unknown) found.note = "out of vocabulary";
  found.surprisal = finite(logprob === null ? null : -logprob * (nats[0] / nats[1]) + 0, 3, bit);
  found["log-probability"] = finite(logprob, 4, unit);
  found.probability = logprob === null ? "" : p === 0 || p >= 1e-4 ? String(Number(p.toPrecision(3))) : p.toExponential(2);
  if (unknown && excluded) found.surprisal = found["log-probability"] = "left out";
  if (rank !== undefined) found.rank = rank.toLocaleString("en");
  if (rank !== undefined) found.entropy = finite(entropy, 2, bit);
  return found;
}

function cell(row, kind, content) {
  const inner = document.createElement("bdi");
  inner.textContent = content;
  row.appendChild(document.createElement(kind)).append(inner);
}

/** A table with one column per token; `more` says that there are more tokens than columns. */
function numbersTable(caption, columns, more) {
  const table = document.createElement("table");
  table.createCaption().textContent = caption;
  for (const name of ROWS) {
    if (!columns.some((column) => column[name] !== undefined)) continue;
    const row = table.insertRow();
    cell(row, "th", name);
    for (const column of columns) cell(row, "td", column[name] ?? "");
    if (more) cell(row, "td", "\u2026");
  }
  return table;
}

/** Show a tip beside the piece of a text, an `<i>`, that is pointed at, tapped or reached with the arrow keys.
 *
 * `fill(element, place)` fills the tip; `place` counts the pieces. Returns a function that finds the pieces again.
 */
function showTips(text, tip, fill) {
  let elements = [], places = new Map(), current = -1;

  function show(element) {
    hide();
    current = places.get(element);
    element.classList.add("now");
    fill(element, current);
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

  function renew() {
    hide();
    elements = [...text.getElementsByTagName("i")];
    places = new Map(elements.map((element, place) => [element, place]));
    current = Math.min(current, elements.length - 1);
  }

  const piece = (event) => (event.target instanceof Element ? event.target.closest("#t i") : null);
  text.addEventListener("mouseover", (event) => (piece(event) ? show(piece(event)) : hide()));
  text.addEventListener("mouseleave", hide);
  text.addEventListener("click", (event) => piece(event) && show(piece(event)));
  text.addEventListener("blur", hide);
  text.addEventListener("focus", () => {
    if (text.matches(":focus-visible") && elements.length) show(elements[Math.max(current, 0)]);
  });
  addEventListener("resize", hide);
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
  renew();
  return renew;
}
