// Requests to the server that sent the page, with a key if it needs one.

const byId = (id) => document.getElementById(id);
const say = (sentence) => (byId("status").textContent = sentence);
const UNREACHABLE = "The server cannot be reached. Change the text to try again.";
let key = ""; // in memory only

/** The answer to a request, of which a body makes a POST; throws the server's sentence if it refuses.
 *
 * The request is repeated with a new key, and while the server is busy or loads the model.
 */
async function ask(path, body, signal) {
  for (;;) {
    const used = key, answer = await reached(path, body, signal);
    if (answer.ok) {
      acceptKey();
      return answer;
    }
    const { message, code } = await refusal(answer);
    signal.throwIfAborted();
    if (answer.status === 401) {
      if (used === key) await newKey(message, signal);
    } else if (code === "loading" || answer.status === 429) {
      say(message);
      await pause(signal);
    } else throw new Error(message);
  }
}

async function reached(path, body, signal) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body ? "POST" : "GET";
  return orUnreachable(fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: "no-store" }), signal);
}

/** What a promise of the network resolves to. Its errors become a sentence, and an abort counts even if it was late. */
async function orUnreachable(promise, signal) {
  const found = await promise.catch(() => {
    throw signal.aborted ? signal.reason : new Error(UNREACHABLE);
  });
  signal.throwIfAborted();
  return found;
}

/** As `ask`, the JSON of the answer. */
async function askJson(path, body, signal) {
  const answer = await ask(path, body, signal);
  return orUnreachable(answer.json(), signal);
}

async function refusal(answer) {
  const found = await answer.json().catch(() => null);
  return found?.error ?? { message: `The server answered with status ${answer.status}.` };
}

/** Wait a second, or until the signal aborts. */
function pause(signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Wait until a key has been entered, or the signal aborts. */
function newKey(sentence, signal) {
  say(sentence);
  byId("key").hidden = false;
  if (!byId("text").value && document.activeElement === byId("text")) byId("secret").focus();
  busy(false);
  return new Promise((resolve, reject) => {
    byId("key").addEventListener("submit", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function acceptKey() {
  if (byId("key").contains(document.activeElement)) byId("text").focus();
  byId("key").hidden = true;
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("secret").value;
  byId("secret").value = "";
  changed();
});

/** Splits a stream of server-sent events. The function takes parts of it, which may end anywhere, and returns the data
 * of each event that is complete. */
function eventReader() {
  let rest = "", data = [];
  return (part) => {
    const events = [], lines = (rest + part).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "" && data.length) events.push(data.splice(0).join("\n"));
      if (/^data(:|$)/.test(line)) data.push(line.slice(5).replace(/^ /, ""));
    }
    return events;
  };
}

/** Each event of an answer, as JSON, up to `[DONE]`. */
async function* eventsOf(answer, signal) {
  const body = answer.body.getReader(), decoder = new TextDecoder(), read = eventReader();
  for (;;) {
    const { done, value } = await orUnreachable(body.read(), signal);
    for (const data of read(decoder.decode(value, { stream: !done }))) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
    if (done) throw new Error("The server ended its answer before it was complete.");
  }
}
