"""The page of `keraslm serve` in headless Chromium: continuations, order, keys, errors, hosts and sizes."""

from __future__ import annotations

import pytest

from tests.clients.served_page import TOLERANCE, Served, evaluated
from tests.pictures.test_page import pictured
from tests.support.serving import serving

KEY = "a key"
WIDTHS = (400, 1200)  # pixels
SETTINGS = {"temperature": 1.5, "top-p": 0.9, "max-tokens": 12, "seed": 5}
DRAW = "".join(f"document.getElementById('{name}').value = {value};" for name, value in SETTINGS.items())
DRAW += "document.getElementById('continue').click();"
USE = {"evaluate": "document.getElementById('use').click()"}
# Answers arrive in parts of one byte.
SPLIT = """
  const real = window.fetch;
  window.fetch = async (...request) => {
    const answer = await real(...request);
    const cut = { transform: (bytes, out) => bytes.forEach((byte) => out.enqueue(Uint8Array.of(byte))) };
    return new Response(answer.body.pipeThrough(new TransformStream(cut)), answer);
  };
"""
# A continuation without an end, of which a part arrives every 20 milliseconds, byte by byte; `seen` is what is shown.
ENDLESS = """
  const real = window.fetch, output = document.getElementById("continuation");
  window.seen = [];
  new MutationObserver(() => seen.push(output.textContent)).observe(output, { childList: true });
  const event = 'data: {"choices": [{"index": 0, "text": " 🙂", "finish_reason": null}]}\\n\\n';
  const part = (out) => new Promise((resume) => setTimeout(resume, 20)).then(() => out.enqueue(event));
  const cut = { transform: (bytes, out) => bytes.forEach((byte) => out.enqueue(Uint8Array.of(byte))) };
  const encoded = () => new ReadableStream({ pull: part }).pipeThrough(new TextEncoderStream());
  const stream = () => encoded().pipeThrough(new TransformStream(cut));
  window.fetch = async (path, options) => (path === "v1/completions" ? new Response(stream()) : real(path, options));
"""
# Requests with the word "slow" are answered after a second, even if they were aborted.
SLOW = """
  const real = window.fetch;
  window.seen = [];
  window.fetch = async (path, { signal, ...options }) => {
    if (!options.body?.includes("slow")) return real(path, { signal, ...options });
    signal.addEventListener("abort", () => seen.push(path));
    await new Promise((resume) => setTimeout(resume, 1000));
    return real(path, options);
  };
  const text = document.getElementById("text"), rest = (time) => new Promise((resume) => setTimeout(resume, time));
  const write = (value) => { text.value = value; text.dispatchEvent(new Event("input")); };
"""


def drawn(served: Served, text: str) -> str:
    """The continuation of a text, in one answer."""
    settings = {name.replace("-", "_"): value for name, value in SETTINGS.items()}
    return served.server.complete(prompt=text, **settings)["choices"][0]["text"]


def test_a_streamed_continuation_is_that_of_one_answer(served, visit_server):
    expected = drawn(served, "the 🙂")
    steps = [evaluated(SPLIT), evaluated(DRAW), {"text": "the 🙂 "}, {"text": "the 🙂"}, USE]
    *_, shown, changed, again, used = visit_server(served.address, {"text": "the 🙂"}, *steps)
    assert shown["continuation"] == pictured(expected) and expected
    assert shown["finish"] in ("The model ended here.", "The maximum of tokens is reached.")
    assert (shown["useful"], changed["useful"], again["useful"], used["useful"]) == (True, False, True, False)
    assert served.difference(f"the 🙂{expected}", used) < TOLERANCE


def test_a_blank_at_the_end_is_not_written_twice(served_words, visit_server):
    *_, used = visit_server(served_words.address, {"text": "the cat "}, evaluated(DRAW), USE)
    assert used["text"] == f"the cat {drawn(served_words, 'the cat ')}" and used["text"][8:9].strip()


def test_a_continuation_without_a_seed_is_different_each_time(served_words, visit_server):
    draw = evaluated(DRAW.replace("= 5", "= ''"))
    *_, first, second = visit_server(served_words.address, {"text": "the"}, draw, draw)
    assert first["continuation"] != second["continuation"]


def test_a_continuation_is_shown_as_it_comes_until_it_is_stopped(served_words, visit_server):
    stop = "seen.push(document.getElementById('use').disabled); document.getElementById('stop').click();"
    stop = f"new Promise((resume) => setTimeout(resume, 700)).then(() => {{ {stop} }})"
    steps = [{"text": "the"}, evaluated(ENDLESS), evaluated(f"{DRAW} {stop}"), USE]
    *_, state, used = visit_server(served_words.address, *steps)
    count = len(state["continuation"]) // 2
    assert state["seen"] == [*(" 🙂" * number for number in range(1, count + 1)), True] and count > 3
    assert (state["finish"], state["status"], state["useful"]) == ("Stopped.", "", True)
    assert used["text"] == f"the{' 🙂' * count}"


def test_the_newest_text_is_answered_last(served_words, visit_server):
    steps = "write('slow cat'); rest(400).then(() => write('the dog')).then(() => rest(1500))"
    *_, state = visit_server(served_words.address, evaluated(f"{SLOW} {steps}"))
    assert served_words.difference("the dog", state) < TOLERANCE
    assert sorted(state["seen"]) == ["predict", "score"]


def test_a_server_that_needs_a_key(served_words, visit_server):
    enter = "document.getElementById('secret').value = '{}'; document.querySelector('#key button').click()"
    steps = [evaluated(enter.format("wrong")), evaluated(enter.format(KEY)), {"text": "the cat"}]
    with serving(served_words.path, api_key=KEY) as server:
        # Chromium reports each answer 401.
        asked, wrong, right, scored = visit_server(server.address, *steps, expected="401")
    assert asked["key"] and asked["focus"] == "secret" and asked["status"].endswith(".") and asked["facts"] == []
    assert wrong["key"] and wrong["status"] == asked["status"]
    assert not right["key"] and right["status"] == "" and right["focus"] == "text" and len(right["words"]) == 10
    assert served_words.difference("the cat", scored) < TOLERANCE


def test_errors_are_sentences(served_words, visit_server):
    answers = {
        "throw new TypeError('Failed to fetch')": "The server cannot be reached. Change the text to try again.",
        "return Response.json({ error: { message: 'Too long.' } }, { status: 413 })": "Too long.",
        "return new Response('Bad Gateway', { status: 502 })": "The server answered with status 502.",
    }
    steps = [{"text": "the"}, evaluated("window.real = window.fetch")]
    for number, answer in enumerate(answers):
        steps += [evaluated(f"window.fetch = async () => {{ {answer}; }}"), {"text": f"cat {number}"}]
    states = visit_server(served_words.address, *steps, evaluated("window.fetch = real"), {"text": "the cat"})
    for sentence, state in zip(answers.values(), states[4:-1:2], strict=True):
        assert (state["status"], state["pieces"], state["words"], state["totals"]) == (sentence, [], [], {})
    assert served_words.difference("the cat", states[-1]) < TOLERANCE


def test_the_page_waits_until_the_model_is_loaded(served_words, visit_server):
    error = "{ error: { message: 'The model is being loaded.', code: 'loading' } }"
    answer = f"seen.push(document.getElementById('status').textContent), Response.json({error}, {{ status: 503 }})"
    once = f"seen.length < 4 ? ({answer}) : real(...request)"
    steps = [evaluated(f"window.seen = []; const real = fetch; window.fetch = async (...request) => {once};")]
    *_, state = visit_server(served_words.address, *steps, {"text": "the cat"})
    assert state["seen"] == ["", "", *["The model is being loaded."] * 2]
    assert served_words.difference("the cat", state) < TOLERANCE


def test_a_refused_continuation_is_a_sentence_of_the_server(served_words, visit_server):
    draw = "document.getElementById('max-tokens').value = 2 ** 40; document.getElementById('continue').click()"
    *_, state = visit_server(served_words.address, {"text": "the"}, evaluated(draw), expected="400")
    assert state["status"].endswith(".") and not state["useful"] and state["finish"] == ""


def test_the_policy_blocks_other_hosts_and_foreign_scripts(served_words, visit_server):
    tried = """
      window.seen = [];
      addEventListener("securitypolicyviolation", ({ effectiveDirective: name }) => seen.push(name));
      const added = "<style>p {}</style><p onclick='seen.push(1)' style='color: red'></p>";
      document.body.insertAdjacentHTML("beforeend", added);
      document.body.lastElementChild.click();
      const script = document.createElement("script");
      script.textContent = "seen.push(2)";
      document.body.append(script, Object.assign(new Image(), { src: "/health" }));
      fetch("HOST").catch(() => null).then(() => new Promise((resume) => setTimeout(resume, 100)));
    """
    host = "http://127.0.0.1:9/"
    *_, state = visit_server(served_words.address, evaluated(tried.replace("HOST", host)), expected="Policy")
    blocked = ["connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr", "style-src-elem"]
    assert sorted(state["seen"]) == blocked


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_and_a_screen(served_words, visit_server, tmp_path, dark):
    text = {"text": "the cat sat, and an unheard-of-hippopotamus-with-a-very-long-name ran there\n" * 3 + "c"}
    size = {"height": 900, "dark": dark}
    sizes = [{"picture": str(tmp_path / f"{width}.png"), "width": width, **size} for width in WIDTHS]
    focus = {"evaluate": "document.getElementById('t').focus()"}
    steps = [text, evaluated(DRAW), focus, {"key": "ArrowRight"}, *sizes]
    *_, narrow, wide = visit_server(served_words.address, *steps)
    assert (narrow["width"], wide["width"]) == WIDTHS
    assert narrow["field"] > 350 and wide["field"] > 700
