"""Key, queue, time-out, log, metrics; loading, workers that die, and the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keraslm.server.settings import Limits, Settings
from tests.support.program import START, assert_refused, environment, start
from tests.support.served_models import LINES, make_model
from tests.support.serving import serving, wait_for

LONG = {"prompt": "the", "max_tokens": 200_000, "ignore_eos": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), "word")


def test_the_key_is_required_except_for_health(model, monkeypatch):
    key = "secret-1"
    monkeypatch.setenv("KERASLM_API_KEY", key)
    with serving(model) as server:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": key},
            {"authorization": f"Basic {key}"},
        ):
            answer = server.post("/v1/completions", headers, prompt="a")
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.error["type"] == "authentication_error" and answer.error["code"] == "invalid_api_key"
            assert answer.error["param"] is None and server.request("GET", "/metrics", None, headers).status == 401
        assert server.post("/v1/completions", {"authorization": f"bearer {key}"}, prompt="a").status == 200
        assert server.get("/v1/models", authorization=f"Bearer {key}").status == 200
        assert server.get("/health").status == server.get("/openapi.json").status == 200
        assert not any(key in line for line in server.lines)


def test_a_full_queue_is_said_with_the_time_to_try_again(model):
    with serving(model, max_queue="1") as server, ThreadPoolExecutor(1) as threads:
        slow = threads.submit(server.complete, **{**LONG, "max_tokens": 30_000})
        wait_for(lambda: server.metric("keraslm_active_requests") == 1)
        answer = server.post("/v1/completions", prompt="a")
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answer.error["type"] == "rate_limit_error" and answer.error["code"] == "queue_full"
        assert slow.result()["usage"]["completion_tokens"] == 30_000
        assert server.post("/v1/completions", prompt="a").status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_takes_too_long_is_given_up(model, stream):
    with serving(model, timeout="0.3") as server:
        answer = server.post("/v1/completions", **LONG, stream=stream)
        if stream:
            assert answer.status == 200 and answer.events[-1]["error"]["code"] == "timeout"
        else:
            assert answer.status == 503 and answer.error["code"] == "timeout"
        assert server.metric("keraslm_active_requests") == 0


def test_the_log_has_one_record_per_request_without_prompts(model):
    with serving(model, max_logprobs="3") as server:
        server.complete(prompt="the secret cat", max_tokens=4, ignore_eos=True)
        server.post("/v1/completions", prompt="the secret cat", logprobs=9)
        server.post("/score", text="the secret cat")
        server.get("/metrics")
        wait_for(lambda: len(server.log) == 3)
        first, second, third = server.log
        assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/completions", 200)
        assert (first["prompt_tokens"], first["completion_tokens"]) == (3, 4)
        assert (second["status"], second["error"]) == (400, "invalid_value") and third["prompt_tokens"] == 4
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["time"]) and first["client"] == "127.0.0.1"
        assert not any("secret" in line for line in server.lines)
    with serving(model, "--log-prompts") as server:
        server.complete(prompt="the secret cat", max_tokens=4)
        wait_for(lambda: server.log)
        assert server.log[0]["prompt"] == "the secret cat"


def test_metrics_count_requests_tokens_and_seconds(model):
    with serving(model) as server:
        server.complete(prompt="the cat", max_tokens=5, ignore_eos=True)
        server.post("/v1/completions", prompt=1)
        text = server.get("/metrics").body.decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["keraslm_requests_total", "/v1/completions", "200"] == 1
    assert found["keraslm_requests_total", "/v1/completions", "400"] == 1
    assert found["keraslm_tokens_total", "prompt"] == 2 and found["keraslm_tokens_total", "completion"] == 5
    assert found["keraslm_request_seconds_count", "/v1/completions"] == 2
    assert found["keraslm_active_requests",] == found["keraslm_waiting_rows",] == found["keraslm_worker_deaths",] == 0


def test_sigterm_lets_requests_end(model):
    with serving(model) as server, ThreadPoolExecutor(2) as threads:
        fields = {**LONG, "max_tokens": 20_000, "stream": True}
        running = threads.submit(server.post, "/v1/completions", **fields)
        wait_for(lambda: server.metric("keraslm_active_requests") == 1)
        server.process.terminate()
        wait_for(lambda: server.get("/health").status == 503)
        refused = server.post("/v1/completions", prompt="a")
        assert refused.status == 503 and refused.error["code"] == "shutting_down"
        answer = running.result()
        assert answer.events[-1] == "[DONE]" and answer.events[-2]["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(30) == 0
        assert any("completing 1 requests" in line for line in server.lines)


def test_a_request_whose_body_comes_after_sigterm_is_answered(model):
    body = json.dumps({"prompt": "the", "max_tokens": 3, "ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    with serving(model) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body[:5])
        wait_for(lambda: server.metric("keraslm_active_requests") == 1)
        server.process.terminate()
        wait_for(lambda: server.get("/health").status == 503)
        client.sendall(body[5:])
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(30) == 0


def test_the_end_does_not_wait_longer_than_the_grace(model):
    with serving(model, grace="0") as server, ThreadPoolExecutor(2) as threads:
        running = [threads.submit(server.post, "/v1/completions", **LONG, stream=stream) for stream in (True, False)]
        wait_for(lambda: server.metric("keraslm_active_requests") == 2)
        wait_for(lambda: server.metric("keraslm_waiting_rows") >= 0)
        server.process.send_signal(signal.SIGINT)
        stream, plain = (each.result() for each in running)
        assert plain.status == 503 and plain.error["code"] == "shutting_down"
        assert stream.status == 503 or stream.events[-1]["error"]["code"] == "shutting_down"
        assert server.process.wait(30) == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_worker_that_is_killed_is_replaced_and_no_answer_is_lost(model):
    fields = {"prompt": LINES[0], "echo": True, "logprobs": 1, "max_tokens": 3000, "seed": 3, "ignore_eos": True}
    with serving(model) as server, ThreadPoolExecutor(4) as threads:
        wanted = server.complete(**fields)["choices"]
        answers = [threads.submit(server.complete, **fields) for _ in range(4)]
        for deaths in (1, 2):
            wait_for(lambda: server.metric("keraslm_active_requests") > 0)
            (worker,) = workers(server.process.pid)
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: server.metric("keraslm_worker_deaths") == deaths)  # noqa: B023
        assert [answer.result()["choices"] for answer in answers] == [wanted] * 4


def workers(pid: int) -> list[int]:
    """The processes that compute for a server: its children that have the model open in memory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def test_several_workers_compute_at_a_time(model):
    with serving(model, workers="2", threads="1") as server:
        assert len(workers(server.process.pid)) == 2
        threading.Thread(target=server.post, args=["/v1/completions"], kwargs={**LONG, "max_tokens": 5000}).start()
        assert server.complete(prompt="the", max_tokens=3, ignore_eos=True)["usage"]["completion_tokens"] == 3
        wait_for(lambda: server.metric("keraslm_active_requests") == 0)


def test_what_cannot_be_served_is_a_sentence(model, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(model.read_bytes()[:-100])
    assert_refused(start("serve", tmp_path / "bad.onnx", "--port", 0), "bad.onnx", "no checksum at its end")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(start("serve", model, "--port", port), f"Cannot listen at 127.0.0.1, --port {port}")
    assert_refused(start("serve", model, "--host", "no.such.host.invalid"), "--host", "is no address of this machine")
    for flags, part in (
        (["--workers", 0], "--workers"),
        (["--max-queue", 0], "--max-queue"),
        (["--timeout", 0], "--timeout"),
    ):
        assert_refused(start("serve", model, *flags), part)


def test_an_open_address_without_a_key_is_said(model):
    process = subprocess.Popen(
        [*START, "serve", model, "--host", "0.0.0.0", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    lines = [process.stderr.readline() for _ in range(2)]
    process.terminate()
    process.communicate(timeout=30)
    assert lines[0].startswith("keraslm: Everyone who reaches 0.0.0.0 can use this server: --host is not")
    assert "serving model at http://0.0.0.0:" in lines[1] and process.returncode == 0


def test_settings_know_loopback_addresses():
    local = {
        host: Settings(host=host).is_local for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::")
    }
    assert local == {host: host not in ("0.0.0.0", "::") for host in local}
    assert not Settings(host="example.org").is_local
    assert "secret" not in repr(Settings(api_key="secret")) and Limits().max_queue == 256
