"""`mnemon.endpoint`: addresses, keys, retries and what errors say, against a scripted transport and a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.endpoint import LONGEST_WAIT, Endpoint, EndpointError, base_of, find_key, retry_after, split_url
from mnemon.types import MnemonError

KEY = "sk-secret-123"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MNEMON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def scripted(*outcomes: Any) -> tuple[httpx2.MockTransport, list[httpx2.Request]]:
    """A transport that answers with these, in order: a response, an error class, or a JSON body with status 200."""
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        outcome = outcomes[len(seen)]
        seen.append(request)
        if isinstance(outcome, httpx2.Response):
            return outcome
        if isinstance(outcome, type):
            raise outcome("no luck")
        return httpx2.Response(200, json=outcome)

    return httpx2.MockTransport(handle), seen


def endpoint(*outcomes: Any, **options: Any) -> tuple[Endpoint, list[httpx2.Request]]:
    transport, seen = scripted(*outcomes)
    return Endpoint("http://h", backoff=0.001, transport=transport, **options), seen


def post(e: Endpoint, way: str) -> Any:
    return asyncio.run(e.post("/x", {})) if way == "async" else e.post_now("/x", {})


# ── addresses and keys ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h:8000/v1", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        ("https://h/api", "https://h/api/v1"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/deployments/x/chat/completions?api-version=3", "https://h/deployments/x?api-version=3"),
        ("https://h/v1/embeddings", "https://h/v1"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_base_of(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize(
    "url", ["localhost:8000", "", "ftp://h", "http://", "http://h:x/v1", "http://[::1/v1", "http://h#m"]
)
def test_base_of_refuses(url: str) -> None:
    with pytest.raises(MnemonError, match="http://localhost:8000/v1"):
        base_of(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(MnemonError, match="api_key") as caught:
        base_of("http://me:hunter2@h/v1")
    assert "hunter2" not in str(caught.value)


def test_address_keeps_the_query_last() -> None:
    assert Endpoint("https://h/v1?v=3").address("/embeddings") == "https://h/v1/embeddings?v=3"


def test_split_url() -> None:
    assert split_url("http://h/v1#Qwen/Qwen3-8B") == ("http://h/v1", "Qwen/Qwen3-8B")
    assert split_url("http://h/v1#a%20b") == ("http://h/v1", "a b")
    assert split_url("http://h/v1") == ("http://h/v1", None)
    assert split_url("http://h/v1#") == ("http://h/v1", None)


def test_key_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_key(None) == ""
    monkeypatch.setenv("OPENAI_API_KEY", "open")
    assert find_key(None) == "open"
    monkeypatch.setenv("MNEMON_API_KEY", "ours\n")
    assert find_key(None) == "ours"
    assert find_key("given") == "given"
    assert find_key("") == ""


def test_a_broken_key_is_refused_without_showing_it() -> None:
    with pytest.raises(MnemonError, match="API key") as caught:
        find_key("sk-a\nsk-b")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"retries": -1}, {"concurrency": 0}])
def test_bad_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(MnemonError, match="timeout must be"):
        Endpoint("http://h", **bad)


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.parametrize(
    "failure", [408, 409, 429, 500, 503, httpx2.ConnectError, httpx2.ReadTimeout, httpx2.RemoteProtocolError]
)
def test_failures_that_pass_are_repeated(failure: Any, way: str) -> None:
    def first() -> Any:
        return httpx2.Response(failure) if isinstance(failure, int) else failure

    e, seen = endpoint(first(), first(), {"usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert post(e, way) == {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    assert len(seen) == 3
    assert (e.usage.calls, e.usage.retries, e.usage.prompt_tokens, e.usage.completion_tokens) == (1, 2, 3, 2)
    assert e.usage.seconds > 0


@pytest.mark.parametrize("way", ["async", "sync"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 307])
def test_other_statuses_are_final(status: int, way: str) -> None:
    e, seen = endpoint(
        httpx2.Response(status, json={"error": {"message": "because"}}, headers={"location": "http://z"})
    )
    with pytest.raises(EndpointError) as caught:
        post(e, way)
    assert caught.value.status == status
    assert len(seen) == 1
    assert e.usage.calls == 0


def test_the_last_error_is_raised_after_the_retries() -> None:
    e, seen = endpoint(*[httpx2.Response(429, json={"error": "slow down"})] * 3, retries=2)
    with pytest.raises(EndpointError, match=r"429: too many requests after 2 retries.*\(slow down\)"):
        post(e, "async")
    assert len(seen) == 3


def test_waits_double_with_jitter_and_obey_retry_after() -> None:
    e = Endpoint("http://h", backoff=1.0, retries=5)
    exchange = e.exchange("/x")
    assert next(exchange) == 0.0
    for low, high in [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]:
        assert low <= exchange.send(httpx2.Response(500)) <= high
    assert exchange.send(httpx2.Response(429, headers={"retry-after": "7"})) == 7.0
    assert exchange.send(httpx2.Response(503, headers={"retry-after": "9999"})) == LONGEST_WAIT
    with pytest.raises(StopIteration) as done:
        exchange.send(httpx2.Response(200, json={"a": 1}))
    assert done.value.value == {"a": 1}


def test_retry_after_forms() -> None:
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    assert retry_after("3", now) == 3.0
    assert retry_after("1.5", now) == 1.5
    assert retry_after(format_datetime(now + timedelta(seconds=30), usegmt=True), now) == 30.0
    assert retry_after(format_datetime(now - timedelta(seconds=30), usegmt=True), now) == 0.0
    assert retry_after("Thu, 01 Jan 2026 12:00:05", now) == 5.0
    assert retry_after(None, now) is retry_after("", now) is retry_after("soon", now) is None


@given(st.text(max_size=40))
def test_any_retry_after_is_survived(value: str) -> None:
    wait = retry_after(value)
    assert wait is None or wait >= 0


# ── what errors say ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (
            httpx2.Response(401, json={"error": {"message": "bad key"}}),
            r"401: the server wants a key.*MNEMON_API_KEY.*bad key",
        ),
        (httpx2.Response(404, json={"detail": "no such model"}), r"404: no such model or path.*no such model"),
        (httpx2.Response(400, json={"message": "too long"}), r"http://h/v1/x: 400: the server refused.*too long"),
        (httpx2.Response(422, json={"detail": [{"loc": ["body"], "msg": "extra"}]}), r"422: .*extra"),
        (httpx2.Response(400), "400: .*no reason given"),
        (httpx2.Response(500, text="boom"), r"500: the server failed, also after 0 retries \(boom\)"),
        (httpx2.Response(308, headers={"location": "http://z/"}), r"308: the server points to http://z/; use that"),
        (httpx2.Response(200, text="<html>hello"), r"not JSON but '<html>hello'; is this the address"),
        (httpx2.Response(200, content=b"\xff\xfe\x00{"), "not JSON"),
        (httpx2.Response(200, json=[1]), "a JSON list, not an object"),
    ],
)
def test_error_texts(response: httpx2.Response, says: str) -> None:
    e, _ = endpoint(response, retries=0)
    with pytest.raises(EndpointError, match=says) as caught:
        post(e, "async")
    assert caught.value.status == response.status_code


def test_the_key_is_sent_and_never_shown() -> None:
    echo = httpx2.Response(401, json={"error": f"key {KEY} is wrong " + "x" * 900})
    e, seen = endpoint(echo, key=KEY)
    with pytest.raises(EndpointError, match="refused the key") as caught:
        post(e, "async")
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value) + repr(e)
    assert "[key]" in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("usage", [None, 3, {}, {"prompt_tokens": None}, {"prompt_tokens": "many"}])
def test_odd_usage_counts_nothing(usage: Any) -> None:
    e, _ = endpoint({"usage": usage})
    post(e, "sync")
    assert (e.usage.calls, e.usage.prompt_tokens) == (1, 0)


def test_no_key_sends_no_header() -> None:
    e, seen = endpoint({})
    post(e, "sync")
    assert "authorization" not in seen[0].headers


def test_lone_surrogates_get_through() -> None:
    e, seen = endpoint({})
    asyncio.run(e.post("/x", {"text": "a\ud800b"}))
    assert json.loads(seen[0].content) == {"text": "a\ud800b"}


# ── a real socket ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`serve(handle)` starts a server that answers each POST with `handle(body) -> JSON`; returns its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []

    def start(handle: Callable[[Any], Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = json.dumps(handle(json.loads(body))).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: Any) -> None:
                pass  # a client that gave up has closed its end

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_one_endpoint_serves_several_event_loops_and_synchronous_code(serve: Callable[..., str]) -> None:
    e = Endpoint(serve(lambda body: {"echo": body}))
    assert asyncio.run(e.post("/x", {"n": 1})) == {"echo": {"n": 1}}
    assert asyncio.run(e.post("/x", {"n": 2})) == {"echo": {"n": 2}}
    assert e.post_now("/x", {"n": 3}) == {"echo": {"n": 3}}
    assert e.post_now("/x", {"n": 4}) == {"echo": {"n": 4}}
    assert e.usage.calls == 4


def test_concurrency_is_limited_and_used(serve: Callable[..., str]) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def handle(body: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.03)
        with lock:
            now -= 1
        return body

    e = Endpoint(serve(handle), concurrency=3)

    async def many() -> list[Any]:
        return await asyncio.gather(*(e.post("/x", {"n": n}) for n in range(9)))

    assert asyncio.run(many()) == [{"n": n} for n in range(9)]
    assert most == 3


def test_a_silent_server_times_out(serve: Callable[..., str]) -> None:
    release = threading.Event()
    e = Endpoint(serve(lambda body: {"done": release.wait(5)}), timeout=0.1, retries=0)
    with pytest.raises(EndpointError, match=r"no answer within 0\.1 s at the first attempt; raise timeout") as caught:
        asyncio.run(e.post("/x", {}))
    release.set()
    assert caught.value.status is None


def test_nobody_listens(serve: Callable[..., str]) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    e = Endpoint(url, retries=1, backoff=0.001)
    with pytest.raises(EndpointError, match=r"cannot reach the server after 2 attempts .*is it running") as caught:
        asyncio.run(e.post("/x", {}))
    assert caught.value.status is None
    assert e.usage.retries == 1
