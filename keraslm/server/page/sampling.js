// Continuations that the model draws, shown as they come.

const REASONS = { stop: "The model ended here.", length: "The maximum of tokens is reached." };
let drawing = null; // the AbortController of a continuation that is being drawn
let prompt = "", drawn = ""; // the text that was sent, and its continuation

function settings() {
  const number = (id) => (byId(id).value === "" ? undefined : byId(id).valueAsNumber);
  const limits = { max_tokens: number("max-tokens"), temperature: number("temperature"), top_p: number("top-p") };
  return { model: model?.id, prompt, ...limits, seed: number("seed"), stream: true };
}

async function drawContinuation() {
  drawing?.abort();
  const own = (drawing = new AbortController());
  prompt = byId("text").value;
  prepare();
  let reason = "";
  try {
    const answer = await ask("v1/completions", settings(), own.signal);
    for await (const { choices } of eventsOf(answer, own.signal)) {
      for (const { text, finish_reason: finished } of choices ?? []) {
        drawn += text;
        write(byId("continuation"), text);
        reason = REASONS[finished] ?? reason;
      }
    }
  } catch (error) {
    if (own.signal.aborted) reason = "Stopped.";
    else say(error.message);
  }
  if (drawing === own) finish(reason);
}

function prepare() {
  const before = Array.from(prompt.split("\n").at(-1)).slice(-40).join("");
  say("");
  drawn = "";
  byId("before").textContent = before;
  byId("continuation").textContent = byId("finish").textContent = "";
  byId("drawn").hidden = byId("stop").disabled = false;
  byId("drawn").ariaBusy = "true";
  allowUse();
}

function finish(reason) {
  drawing = null;
  if (document.activeElement === byId("stop")) byId("continue").focus();
  byId("stop").disabled = true;
  byId("drawn").ariaBusy = "false";
  byId("finish").textContent = reason;
  allowUse();
}

/** A continuation can be used if it is complete and belongs to the text as it is now. */
function allowUse() {
  const fits = byId("text").value === prompt && drawn !== "";
  byId("use").disabled = drawing !== null || !fits;
}

function useContinuation() {
  byId("drawn").hidden = true;
  replaceText(prompt.length, drawn);
}

byId("sampling").addEventListener("submit", (event) => {
  event.preventDefault();
  drawContinuation();
});
byId("stop").addEventListener("click", () => drawing?.abort());
byId("use").addEventListener("click", useContinuation);
byId("text").addEventListener("input", allowUse);
