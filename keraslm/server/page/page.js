// What is typed is scored, and its next words are predicted; the newest text is answered last.

const PAUSE = 150; // milliseconds without a change until the text is sent
const QUIET = 1200; // milliseconds without a change until the totals are spoken
const ALTERNATIVES = 5, WORDS = 10; // most of them that are shown
const NAMES = { word: "words", char: "characters" };
const text = byId("text");
let model = null; // of /v1/models
let waiting = 0, speaking = 0, current = new AbortController();

const busy = (is) => ["scored", "predicted"].forEach((id) => (byId(id).ariaBusy = String(is)));

function pair(name, value) {
  const made = document.createElement("div");
  made.appendChild(document.createElement("dt")).textContent = name;
  made.appendChild(document.createElement("dd")).append(document.createElement("bdi"));
  made.querySelector("bdi").textContent = value;
  return made;
}

const pairs = (facts) => Object.entries(facts).map(([name, value]) => pair(name, value));

async function describe(signal) {
  if (model) return;
  const { data } = await askJson("v1/models", undefined, signal);
  model = data[0];
  byId("facts").append(...pairs(factsOf(model)));
}

function factsOf({ id, meta }) {
  const sizes = [meta.units].flat(), same = sizes.length > 1 && new Set(sizes).size === 1;
  const units = same ? `${sizes.length} \u00d7 ${sizes[0]}` : sizes.join(", ");
  const facts = { model: id, network: `${meta.cell.toUpperCase()} of ${units} units` };
  facts.vocabulary = `${meta.vocab_size.toLocaleString("en")} ${NAMES[meta.tokenizer] ?? "tokens"}`;
  facts.context = meta.context;
  if (meta.precision === "int8") facts.weights = "8-bit";
  if (meta.models > 1) facts.models = `${meta.models}, whose probabilities are averaged`;
  if (meta.valid_perplexity !== null) facts["validation perplexity"] = meta.valid_perplexity.toFixed(1);
  return facts;
}

async function score(typed, ready, signal) {
  try {
    await ready;
    const body = { text: typed, alternatives: Math.min(ALTERNATIVES, model.meta.max_logprobs ?? ALTERNATIVES) };
    const found = typed === "" ? null : await askJson("score", body, signal);
    showText(typed, found ? found.tokens : []);
    showTotals(found);
  } catch (error) {
    if (signal.aborted) throw error;
    showText("", []);
    showTotals(null);
    throw error;
  }
}

function showTotals(found) {
  const facts = {};
  if (found) {
    facts.total = `${found.bits.toFixed(2)} bits`;
    facts.tokens = found.tokens.length.toLocaleString("en");
    facts["perplexity per token"] = found.perplexity?.toPrecision(4) ?? "not finite";
    if (found.oovs) facts["out of vocabulary"] = found.oovs.toLocaleString("en");
    Object.assign(byId("totals").dataset, { bits: found.bits, perplexity: found.perplexity });
  }
  byId("totals").replaceChildren(...pairs(facts));
}

async function predict(typed, ready, signal) {
  try {
    await ready;
    const found = await askJson("predict", { text: typed, count: WORDS }, signal);
    showWords(typed, found);
    byId("none").hidden = found.words.length > 0;
  } catch (error) {
    if (!signal.aborted) showWords(typed, { begun: "", start: 0, words: [] });
    throw error;
  }
}

function showWords(typed, { begun, start, words }) {
  const begin = Array.from(typed).slice(0, start).join("").length;
  const items = words.map(({ word, probability }) => {
    const item = document.createElement("li"), button = item.appendChild(document.createElement("button"));
    button.type = "button";
    write(button.appendChild(document.createElement("bdi")), word);
    button.appendChild(document.createElement("small")).textContent = percent(probability);
    button.style.setProperty("--part", `${(100 * probability) / words[0].probability}%`);
    button.addEventListener("click", () => text.value === typed && replaceText(begin, `${word} `));
    Object.assign(item.dataset, { word, probability });
    return item;
  });
  byId("words").replaceChildren(...items);
  byId("next").textContent = begun ? `Words that begin with \u201c${begun}\u201d` : "Next word";
  byId("none").hidden = true;
}

function replaceText(begin, content) {
  text.setRangeText(content, begin, text.value.length, "end");
  text.focus();
  text.dispatchEvent(new Event("input"));
}

async function answer(signal) {
  const typed = text.value, ready = describe(signal);
  const parts = [score(typed, ready, signal), predict(typed, ready, signal)];
  const failed = (await Promise.allSettled(parts)).find(({ status }) => status === "rejected");
  if (signal.aborted) return;
  say(failed ? failed.reason.message : "");
  busy(false);
  speaking = setTimeout(speak, QUIET);
}

/** Tell a screen reader the totals, once the text has rested. */
function speak() {
  const found = [...byId("totals").children].map(({ children }) => Array.from(children, (each) => each.textContent));
  byId("spoken").textContent = found.map((words) => words.join(" ")).join(", ");
}

function changed() {
  current.abort();
  current = new AbortController();
  clearTimeout(waiting);
  clearTimeout(speaking);
  busy(true);
  waiting = setTimeout(answer, PAUSE, current.signal);
}

text.addEventListener("input", changed);
changed();
