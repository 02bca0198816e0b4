// Opens a page in headless Chromium through the DevTools protocol and reads what it shows. Node 20 or newer:
//
//     node --experimental-websocket browser.mjs CHROMIUM PROFILE URL [READER] < steps.json      (the flag up to Node 21)
//
// A step is one of { text }: replace the text; { type }: type at the end, character by character; { key }: press a key;
// { point, at }: move the mouse to an element, or with { tap } touch it; { choose }: click a suggestion; { evaluate }:
// run a script; { picture, width, height, dark }: write a PNG. READER is an expression whose value is the state of the
// page as JSON, or "" while the page is busy; without it, the page is the one of target `web`. Prints JSON: the state
// of the page after each step, all requests, and everything that the browser reported.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const [chromium, profile, url, reader] = process.argv.slice(2);
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${profile}`];
FLAGS.push("--no-first-run", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars");
const LIMIT = 60_000; // milliseconds until the page is ready

const READ = `document.getElementById("main")?.ariaBusy !== "false" ? "" : JSON.stringify({
  words: [...document.querySelectorAll("#words li")].map((item) => ({
    ...item.dataset, unknown: item.classList.contains("U"), shown: item.innerText,
    colour: getComputedStyle(item).backgroundColor,
  })),
  totals: { ...document.getElementById("totals").dataset },
  suggestions: [...document.querySelectorAll("#suggestions li")].map((item) => ({ ...item.dataset })),
  heading: document.getElementById("next").textContent,
  status: document.getElementById("status").hidden ? "" : document.getElementById("status").textContent,
  text: document.getElementById("text").value,
  width: document.documentElement.scrollWidth,
})`;

async function browser() {
  const child = spawn(chromium, [...FLAGS, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  let told = "";
  const address = await new Promise((resolve, reject) => {
    child.stderr.on("data", (data) => {
      told += data;
      const found = told.match(/DevTools listening on (ws:\S+)/);
      if (found) resolve(found[1]);
    });
    child.on("exit", () => reject(new Error(`Chromium ended: ${told.slice(-2000)}`)));
  });
  return { child, address };
}

/** A connection: `send` a command, and read `events`. */
async function connection(address) {
  const socket = new WebSocket(address), waiting = new Map(), events = [];
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  let count = 0;
  socket.onmessage = ({ data }) => {
    const { id, result, error, ...event } = JSON.parse(data);
    if (id === undefined) return events.push(event);
    const { resolve, reject } = waiting.get(id);
    return error ? reject(new Error(error.message)) : resolve(result);
  };
  const send = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      waiting.set(++count, { resolve, reject });
      socket.send(JSON.stringify({ id: count, method, params, sessionId }));
    });
  return { send, events };
}

async function main() {
  const steps = JSON.parse(readFileSync(0, "utf8")), { child, address } = await browser();
  try {
    const { send, events } = await connection(address);
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    const page = (method, params) => send(method, params, sessionId);
    for (const name of ["Network", "Page", "Runtime", "Log"]) await page(`${name}.enable`);
    await page("Page.navigate", { url });
    const states = [await settled(page)];
    for (const step of steps) {
      await take(page, step);
      states.push(await settled(page));
    }
    const of = (method) => events.filter((event) => event.method === method).map(({ params }) => params);
    const requests = of("Network.requestWillBeSent").map(({ request }) => request.url);
    const reported = [...of("Log.entryAdded").map(({ entry }) => `${entry.text} ${entry.url ?? ""}`)];
    reported.push(...of("Runtime.exceptionThrown").map(({ exceptionDetails: e }) => e.exception?.description ?? e.text));
    reported.push(...of("Runtime.consoleAPICalled").map(({ args }) => args.map((part) => part.value).join(" ")));
    const { product } = await send("Browser.getVersion");
    console.log(JSON.stringify({ version: product, states, requests, reported }));
  } finally {
    child.kill();
  }
}

async function evaluated(page, expression) {
  const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, awaitPromise: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

async function settled(page) {
  const started = Date.now();
  for (;;) {
    const state = await evaluated(page, reader ?? READ);
    if (state) return JSON.parse(state);
    if (Date.now() - started > LIMIT) throw new Error("The page is still busy.");
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

async function take(page, step) {
  if (step.text !== undefined) {
    const value = JSON.stringify(step.text);
    const event = "field.dispatchEvent(new Event('input'))";
    await evaluated(page, `{ const field = document.getElementById("text"); field.value = ${value}; ${event}; }`);
  } else if (step.type !== undefined) {
    for (const character of step.type) await page("Input.insertText", { text: character });
  } else if (step.key !== undefined) {
    for (const type of ["keyDown", "keyUp"]) await page("Input.dispatchKeyEvent", { type, key: step.key });
  } else if (step.point !== undefined || step.tap !== undefined) {
    await point(page, step);
  } else if (step.choose !== undefined) {
    await evaluated(page, `document.querySelectorAll("#suggestions button")[${step.choose}].click()`);
  } else if (step.evaluate !== undefined) {
    await evaluated(page, step.evaluate);
  } else {
    await picture(page, step);
  }
}

/** Move the mouse to the middle of the element number `at` that a selector finds, or touch it. */
async function point(page, { point, tap, at = 0 }) {
  const box = `document.querySelectorAll(${JSON.stringify(point ?? tap)})[${at}].getClientRects()[0]`;
  const place = `{ const { x, y, width, height } = ${box}; JSON.stringify({ x: x + width / 2, y: y + height / 2 }); }`;
  const { x, y } = JSON.parse(await evaluated(page, place));
  if (point !== undefined) return page("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
  await page("Emulation.setTouchEmulationEnabled", { enabled: true });
  await page("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [{ x, y }] });
  return page("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
}

async function picture(page, { picture: path, width, height, dark }) {
  const size = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
  await page("Emulation.setDeviceMetricsOverride", size);
  const value = dark ? "dark" : "light";
  await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
  const { data } = await page("Page.captureScreenshot", { format: "png" });
  writeFileSync(path, Buffer.from(data, "base64"));
}

await main();
