// The scored text: one element per piece, coloured by surprisal, and the tip with the numbers of its tokens.
// Positions of the server count characters, as Array.from does; JavaScript strings count UTF-16 units.

const COLORS = Array.from(byId("legend").getElementsByTagName("i"), (each) => each.className); // one per bit
const SCALE = { units: ["nats", "bits"], nats: [1, Math.LN2] };
const LOWEST = -9999; // stands for a log-probability that is not finite
const ODD = /(?![\t\n])([\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}\p{Bidi_Control}])/u; // may rearrange the page
let pieces = [];

const bitsOf = (tokens) =>
  tokens.reduce((sum, { logprob }) => sum + (logprob > LOWEST ? -logprob / Math.LN2 : Infinity), 0);
const colorOf = (bits) => COLORS[Math.min(COLORS.length - 1, Math.max(0, Math.floor(bits)))];

function percent(probability) {
  const value = 100 * probability;
  return value < 0.001 ? "< 0.001 %" : `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
}

function picture(character) {
  const number = character.codePointAt(0);
  if (number < 0x20) return String.fromCharCode(0x2400 + number);
  return number === 0x7f ? "\u2421" : `[U+${number.toString(16).toUpperCase().padStart(4, "0")}]`;
}

/** Append a text, with a picture for each character that a page cannot show. */
function write(element, text) {
  text.split(ODD).forEach((part, at) => {
    if (at % 2) element.appendChild(document.createElement("u")).textContent = picture(part);
    else element.append(part);
  });
}

/** The name of a token, with its blank or line end visible. */
function nameOf(token) {
  const parts = token.replace(/^ /, "\u2423").replaceAll("\n", "\u21b5").split(ODD);
  return parts.map((part, at) => (at % 2 ? picture(part) : part)).join("");
}

/** Tokens that share characters, as the bytes of one do, are one piece. A token without any is part of the next piece.
 *
 * The last token is the end symbol of the last line, which has a line end of its own or none.
 */
function piecesOf(tokens, characters) {
  const found = [];
  let own = [], line = 1;
  for (const token of tokens) {
    const { start, end } = token, previous = found.at(-1);
    own.push(token);
    const ends = token === tokens.at(-1) || (start < end && characters[end - 1] === "\n");
    if (start === end && !ends) continue;
    if (!ends && previous && start < previous.end) {
      previous.end = end;
      previous.tokens.push(...own);
    } else found.push({ start, end, tokens: own, line, ends });
    if (ends) line++;
    own = [];
  }
  return found;
}

function elementOf({ tokens, ends }, content) {
  const element = document.createElement("i"), bits = bitsOf(tokens);
  const unknown = tokens.some(({ oov }) => oov);
  element.className = `${colorOf(bits)}${unknown ? " U" : ""}${ends ? " E" : ""}`;
  element.dataset.bits = bits;
  write(element, content);
  return element;
}

/** Show the tokens of a text. */
function showText(text, tokens) {
  const characters = Array.from(text), lines = [];
  const part = (start, end) => characters.slice(start, end).join("");
  pieces = piecesOf(tokens, characters);
  let at = 0;
  for (const piece of pieces) {
    if (piece.line > lines.length) lines.push(document.createElement("div"));
    const line = lines.at(-1), content = part(at, piece.end).replace(/\n$/, ""), inside = content.trimStart();
    const shown = piece.ends ? "" : inside || content; // white space stays uncoloured before a word and a line end
    line.id = lines.length;
    write(line, content.slice(0, content.length - shown.length));
    line.append(elementOf(piece, shown));
    at = piece.end;
  }
  byId("t").className = lines.length === 1 ? "one" : lines.length > 200 ? "long" : "";
  byId("t").replaceChildren(...lines);
  renewTips();
}

function fill(element, place) {
  const { tokens, line } = pieces[place], most = innerWidth < 600 ? 2 : 4, shown = tokens.slice(0, most);
  const together = tokens.length > 1 ? `${tokens.length} tokens together, ${finite(bitsOf(tokens), 2, "bits")}` : "";
  const where = byId("t").className === "one" ? "" : `line ${line}`;
  const columns = shown.map(({ token, oov, logprob, ...others }) =>
    numbers({ ...others, token: nameOf(token), unknown: oov, logprob: logprob > LOWEST ? logprob : null }, SCALE));
  const table = numbersTable([where, together].filter(Boolean).join(": "), columns, tokens.length > most);
  showAlternatives(table, shown);
  byId("tip").replaceChildren(table);
}

function showAlternatives(table, tokens) {
  const count = Math.max(...tokens.map(({ alternatives }) => alternatives.length));
  for (let at = 0; at < count; at++) {
    const row = table.insertRow();
    if (at === 0) {
      cell(row, "th", "most probable");
      row.cells[0].rowSpan = count;
      row.className = "first";
    }
    for (const { id, alternatives } of tokens) {
      const found = alternatives[at];
      cell(row, "td", found ? nameOf(found.token) : "");
      if (!found) continue;
      row.lastChild.className = found.id === id ? "own" : "";
      row.lastChild.appendChild(document.createElement("small")).textContent = percent(found.probability);
    }
  }
}

const renewTips = showTips(byId("t"), byId("tip"), fill);
