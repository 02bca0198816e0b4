// The page: what is typed is scored, shown and continued. Nothing is sent anywhere.

import { Line, Model } from "./model.js";
import { suggest, underWay } from "./suggest.js";
import { Tokenizer } from "./tokenizer.js";

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
const COLOURS = "abcdefghijklmnop"; // CSS classes, one per bit; the last includes everything above
const UNITS = { word: "words", char: "characters", bytes: "tokens" };
const byId = (id) => document.getElementById(id);
const text = byId("text");

function element(tag, content, className = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  made.className = className;
  return made;
}

const colour = (bits) => COLOURS[Number.isFinite(bits) ? Math.min(15, Math.floor(Math.max(0, bits))) : 15];

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} cannot be read (${answer.status}). Export the run again.`);
  return answer;
}

async function runtime() {
  try {
    const found = await import(RUNTIME);
    found.env.wasm.numThreads = 1; // more need headers that a plain server does not send
    return found;
  } catch (error) {
    const remedy = "Run this in the folder of the page, then reload: npm install --ignore-scripts";
    throw new Error(`onnxruntime-web is not there (${error.message}). ${remedy}`);
  }
}

async function load() {
  const json = async (name) => (await fetched(name)).json();
  const [facts, file] = await Promise.all(["model.json", "tokenizer.json"].map(json));
  describe(facts);
  const found = await runtime();
  const data = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  const session = await found.InferenceSession.create(data, { executionProviders: ["wasm"] });
  const model = new Model(found, session, facts);
  return { model, tokenizer: new Tokenizer(file, facts), line: new Line(model) };
}

function describe(facts) {
  document.title = byId("title").textContent = facts.title;
  const { sizes } = facts, stacked = sizes.length > 1 && new Set(sizes).size === 1;
  const parts = [
    `${facts.cell.toUpperCase()} of ${stacked ? `${sizes.length} × ${sizes[0]}` : sizes.join(", ")} units`,
    `${facts.vocab_size.toLocaleString("en")} ${UNITS[facts.kind]}`,
    facts.precision === "int8" ? "8-bit weights" : "",
    facts.valid_perplexity === null ? "" : `validation perplexity ${facts.valid_perplexity.toFixed(1)}`,
  ];
  byId("about").textContent = parts.filter(Boolean).join(" · ");
  byId("unknown").hidden = facts.unk_id < 0;
  byId("legend").replaceChildren(
    ...[...COLOURS].map((name, bits) => element("i", bits === 15 ? "15+" : String(bits), name)),
  );
}

/** Score the text, show it, and show how it may continue; `stale` says that the text has changed meanwhile. */
async function answer({ model, tokenizer, line }, stale) {
  const typed = text.value, { ids, spans } = tokenizer.encode(typed);
  const bits = (await line.read(ids)).map((value) => -value / Math.LN2 + 0);
  showWords(typed, tokenizer, tokenizer.words(typed, spans), ids, bits);
  showTotals(bits, ids.filter((id) => id === tokenizer.unk).length);
  const { begin, position } = underWay(tokenizer, typed, spans), begun = typed.slice(begin);
  const found = await suggest(model, tokenizer, line, position, begun, stale);
  if (found) showSuggestions(found, begun, begin);
}

function showWords(typed, tokenizer, words, ids, bits) {
  const items = words.map(({ begin, end, first, last }) => {
    const own = bits.slice(first, last), sum = own.reduce((a, b) => a + b, 0), word = typed.slice(begin, end);
    const unknown = ids.slice(first, last).includes(tokenizer.unk);
    const item = element("li", "", `${colour(sum)}${unknown ? " U" : ""}`);
    const shown = element("bdi", word || "\u21b5");
    if (!word) {
      shown.setAttribute("role", "img");
      shown.setAttribute("aria-label", "end of the line");
    }
    item.append(shown, element("small", sum.toFixed(1)));
    item.title = `${sum.toFixed(3)} bits${unknown ? ", not in the vocabulary" : ""}`;
    if (own.length > 1) item.title += ` = ${own.map((value) => value.toFixed(2)).join(" + ")}`;
    Object.assign(item.dataset, { word, bits: sum, tokens: own.join(" ") });
    return item;
  });
  byId("words").replaceChildren(...items);
}

function showTotals(bits, unknown) {
  const sum = bits.reduce((a, b) => a + b, 0), perplexity = 2 ** (sum / bits.length);
  const facts = { Total: `${sum.toFixed(2)} bits`, "Perplexity per token": perplexity.toPrecision(4) };
  facts.Tokens = bits.length;
  if (unknown) facts.Unknown = unknown;
  byId("totals").replaceChildren(
    ...Object.entries(facts).map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    }),
  );
  Object.assign(byId("totals").dataset, { bits: sum, perplexity, tokens: bits.length });
}

function percent(probability) {
  const value = 100 * probability;
  return value < 0.001 ? "< 0.001 %" : `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
}

function showSuggestions(found, begun, begin) {
  const items = found.map(({ word, probability }) => {
    const item = document.createElement("li"), button = element("button", "");
    button.type = "button";
    button.append(element("bdi", word), element("small", percent(probability)));
    button.style.setProperty("--part", `${(100 * probability) / found[0].probability}%`);
    button.addEventListener("click", () => insert(word, begin));
    Object.assign(item.dataset, { word, probability });
    item.append(button);
    return item;
  });
  byId("suggestions").replaceChildren(...items);
  byId("next").textContent = begun ? `Words that begin with \u201c${begun}\u201d` : "Next word";
  byId("none").hidden = found.length > 0;
}

function insert(word, begin) {
  if (begin + word.length >= text.maxLength) return;
  text.setRangeText(`${word} `, begin, text.value.length, "end");
  text.focus();
  text.dispatchEvent(new Event("input"));
}

/** Answer each change of the text; the newest text is answered last, and those between may be left out. */
function watch(parts) {
  let changes = 0, busy = false;
  const update = async () => {
    changes++;
    if (busy) return;
    busy = true;
    byId("main").ariaBusy = "true";
    try {
      for (let done = 0; done !== changes; ) {
        done = changes;
        await answer(parts, async () => {
          await new Promise((resume) => setTimeout(resume)); // let the browser handle what was typed
          return done !== changes;
        });
      }
    } finally {
      busy = false;
      byId("main").ariaBusy = "false";
    }
  };
  text.addEventListener("input", () => {
    if (/[\r\n]/.test(text.value)) text.value = text.value.replace(/\r\n|[\r\n]/g, " "); // the text is one line
    update().catch(fail);
  });
  return update();
}

function fail(error) {
  const status = byId("status");
  status.className = "error";
  status.textContent = error.message;
  status.hidden = false;
}

async function start() {
  const parts = await load();
  byId("status").hidden = true;
  text.disabled = false;
  text.focus();
  await watch(parts);
}

start().catch((error) => {
  fail(error);
  byId("main").ariaBusy = "false";
});
