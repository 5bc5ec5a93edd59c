"""One OpenAI-compatible server: its address, its key, its retries and what its errors mean. No torch.

`policy.http` (chat and text completions) and `memory.embed` (embeddings) both speak through `Endpoint`. The retry logic
is written once, as a generator that does no input or output (`exchange`); an asynchronous and a synchronous driver of
a few lines each send what it asks for.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from mnemon.types import JSON, MnemonError

RETRIED = frozenset({408, 409, 429})
"""Statuses worth another try, beside every 5xx."""
LONGEST_WAIT = 60.0
"""Seconds: the longest wait before a retry, whatever `Retry-After` says."""

Outcome = httpx2.Response | httpx2.RequestError


class EndpointError(MnemonError):
    """A server did not do its part, after the retries. `status` is the HTTP status, None where there was none."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidReply(EndpointError):
    """The server answered, but not in the form that was asked for (a reply that does not fit its JSON schema)."""


# ── addresses and keys ───────────────────────────────────────────────────────────────────────────────────────────────


def split_url(url: str) -> tuple[str, str | None]:
    """Split ``http://host:port/v1#model-name`` into the address and the model (None without a ``#``)."""
    base, _, model = url.partition("#")
    return base, unquote(model) or None


def base_of(url: str) -> str:
    """The address that paths like ``/chat/completions`` are appended to.

    ``http://host:8000`` and ``http://host:8000/v1`` are the same server; a path that names a version is kept
    (``/v1beta/openai``), and so is the part before a full ``…/chat/completions``.
    """
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:  # a port that is no number, a bracket that is not closed
        valid = False
    if not valid:
        raise MnemonError("an endpoint's address must look like http://localhost:8000/v1 (a model is named apart)")
    if parts.username is not None or parts.password is not None:
        raise MnemonError(f"endpoint on {parts.hostname}: no user or password in the address; give the key as api_key")
    path = parts.path.rstrip("/")
    whole = re.fullmatch(r"(.*?)/(chat/completions|completions|embeddings)", path)
    if whole:
        path = whole[1]
    elif not re.search(r"/v\d+[a-z\d]*(/|$)", path):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def find_key(api_key: str | None) -> str:
    """The key to send: the argument, else ``MNEMON_API_KEY``, else ``OPENAI_API_KEY``, else none (``""``)."""
    key = api_key
    if key is None:
        key = os.environ.get("MNEMON_API_KEY") or os.environ.get("OPENAI_API_KEY") or ""
    key = key.strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise MnemonError("the API key holds characters that no key has (spaces, line breaks, non-ASCII): copy it anew")
    return key


# ── one server ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Usage:
    """What an endpoint has cost: answered calls, retries, tokens as the server counts them, seconds of waiting."""

    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Session:
    """The open client of one event loop, how many calls use it, and the limit on how many may."""

    client: httpx2.AsyncClient
    limit: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True, weakref_slot=True)
class Endpoint:
    """One OpenAI-compatible server. `url` as `base_of` takes it; `timeout` in seconds without an answer.

    Failed attempts (connection refused or broken, timeout, 408, 409, 429, 5xx) are repeated up to `retries` times after
    ``backoff · 2^attempt`` seconds, shortened by up to half at random, or after what ``Retry-After`` asks (capped at
    60 s). At most `concurrency` calls are in flight. `transport` replaces the network, for tests.
    Raises `EndpointError`; the key never appears in a message or a repr.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 4
    concurrency: int = 8
    backoff: float = 0.5
    transport: httpx2.MockTransport | None = None
    usage: Usage = field(default_factory=Usage, repr=False)
    _sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )
    _client: httpx2.Client | None = field(default=None, repr=False)
    _random: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self.url = base_of(self.url)
        self.key = find_key(self.key)
        if self.timeout <= 0 or self.retries < 0 or self.concurrency < 1:
            raise MnemonError(f"endpoint {self.url}: timeout must be > 0, retries >= 0 and concurrency >= 1")

    def address(self, path: str) -> str:
        """The full URL of ``/chat/completions`` and the like; a query in the base address stays at the end."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path + path, parts.query, ""))

    # ── the conversation, without input or output ────────────────────────────────────────────────────────────────────

    def exchange(self, path: str) -> Generator[float, Outcome, JSON]:
        """Yields the seconds to wait before each attempt, is sent what came of it, returns the decoded JSON object."""
        attempt, wait = 0, 0.0
        while True:
            outcome = yield wait
            if attempt == self.retries or not _worth_another_try(outcome):
                break
            wait = self._wait(attempt, outcome)
            attempt += 1
            self.usage.retries += 1
        if isinstance(outcome, httpx2.RequestError):
            raise self._unreachable(path, outcome, attempt) from outcome
        if outcome.status_code != 200:
            raise self._refused(path, outcome, attempt)
        try:
            reply = outcome.json()
        except ValueError as error:  # also text that is not UTF-8
            raise EndpointError(
                f"{self.address(path)}: the reply is not JSON but {self._shorten(outcome.text)!r}; is this the address "
                "of an OpenAI-compatible server?",
                200,
            ) from error
        if not isinstance(reply, dict):
            raise EndpointError(f"{self.address(path)}: the reply is a JSON {type(reply).__name__}, not an object", 200)
        self.usage.calls += 1
        self.usage.prompt_tokens += reported(reply, "prompt_tokens")
        self.usage.completion_tokens += reported(reply, "completion_tokens")
        return reply

    def _wait(self, attempt: int, outcome: Outcome) -> float:
        asked = None if isinstance(outcome, httpx2.RequestError) else retry_after(outcome.headers.get("retry-after"))
        if asked is not None:
            return min(asked, LONGEST_WAIT)
        return min(self.backoff * 2.0**attempt, LONGEST_WAIT) * self._random.uniform(0.5, 1.0)

    def _unreachable(self, path: str, error: httpx2.RequestError, retries: int) -> EndpointError:
        tries = f"after {retries + 1} attempts" if retries else "at the first attempt"
        if isinstance(error, httpx2.TimeoutException):
            why = f"no answer within {self.timeout:g} s {tries}; raise timeout, or lower concurrency"
        else:
            reason = self._shorten(str(error)) or type(error).__name__
            why = f"cannot reach the server {tries} ({reason}); is it running?"
        return EndpointError(f"{self.address(path)}: {why}")

    def _refused(self, path: str, response: httpx2.Response, retries: int) -> EndpointError:
        status, said = response.status_code, self._shorten(_server_message(response))
        tail = f" ({said})" if said else ""
        where = f"{self.address(path)}: {status}"
        if status in (401, 403):
            sent = "refused the key" if self.key else "wants a key, and none was sent"
            return EndpointError(f"{where}: the server {sent}; set MNEMON_API_KEY or api_key{tail}", status)
        if status == 404:
            return EndpointError(f"{where}: no such model or path; check both names{tail}", status)
        if status == 429:
            return EndpointError(f"{where}: too many requests after {retries} retries; lower concurrency{tail}", status)
        if status >= 500:
            return EndpointError(f"{where}: the server failed, also after {retries} retries{tail}", status)
        if 300 <= status < 400:
            target = response.headers.get("location", "another address")
            return EndpointError(f"{where}: the server points to {target}; use that address", status)
        return EndpointError(f"{where}: the server refused the request: {said or 'no reason given'}", status)

    def _shorten(self, text: str) -> str:
        """At most 500 characters of a server's text, the key blotted out (some servers repeat it)."""
        if self.key:
            text = text.replace(self.key, "[key]")
        text = " ".join(text.split())
        return text if len(text) <= 500 else text[:500] + "…"

    # ── its two drivers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _request(self, path: str, body: JSON) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        # ASCII JSON: also lone surrogates get through, which UTF-8 would refuse.
        return {"url": self.address(path), "content": json.dumps(body).encode("ascii"), "headers": headers}

    async def post(self, path: str, body: JSON) -> JSON:
        """Send `body` to `path`, return the JSON object that came back."""
        request, exchange = self._request(path, body), self.exchange(path)
        async with self._session() as session, session.limit:
            start = time.perf_counter()
            try:
                wait = next(exchange)
                while True:
                    await asyncio.sleep(wait)
                    outcome: Outcome
                    try:
                        outcome = await session.client.post(**request)
                    except httpx2.RequestError as error:
                        outcome = error
                    wait = exchange.send(outcome)
            except StopIteration as done:
                return dict(done.value)
            finally:
                self.usage.seconds += time.perf_counter() - start

    def post_now(self, path: str, body: JSON) -> JSON:
        """`post` for synchronous code; the connection stays open between calls."""
        request, exchange = self._request(path, body), self.exchange(path)
        if self._client is None:
            self._client = httpx2.Client(timeout=self.timeout, verify=_tls(), transport=self.transport)
            weakref.finalize(self, self._client.close)
        start = time.perf_counter()
        try:
            wait = next(exchange)
            while True:
                time.sleep(wait)
                outcome: Outcome
                try:
                    outcome = self._client.post(**request)
                except httpx2.RequestError as error:
                    outcome = error
                wait = exchange.send(outcome)
        except StopIteration as done:
            return dict(done.value)
        finally:
            self.usage.seconds += time.perf_counter() - start

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        """The client of the running loop, opened by the first of concurrent calls and closed by the last.

        So nothing has to be closed by hand, and one policy serves one `asyncio.run` after another.
        """
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=self.concurrency)
            client = httpx2.AsyncClient(timeout=self.timeout, verify=_tls(), limits=limits, transport=self.transport)
            session = self._sessions[loop] = _Session(client, asyncio.Semaphore(self.concurrency))
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            if not session.users:
                del self._sessions[loop]
                await session.client.aclose()


# ── what answers mean ────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _tls() -> ssl.SSLContext:
    """The certificates of this machine, read once (some 30 ms)."""
    return httpx2.create_ssl_context()


def reported(reply: JSON, name: str) -> int:
    """A number of a reply's ``usage``, 0 where the server gives none."""
    usage = reply.get("usage")
    number = usage.get(name) if isinstance(usage, dict) else None
    return number if isinstance(number, int) else 0


def _worth_another_try(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx2.RequestError):
        return not isinstance(outcome, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol)
    return outcome.status_code in RETRIED or outcome.status_code >= 500


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (a number, or an HTTP date); None where it says nothing usable."""
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _server_message(response: httpx2.Response) -> str:
    """What a server says about an error, in the forms that servers use: OpenAI's, FastAPI's, plain text."""
    try:
        said = response.json()
    except ValueError:
        return response.text
    while isinstance(said, dict):
        inner = next((said[key] for key in ("error", "message", "detail") if said.get(key)), None)
        if inner is None:
            break
        said = inner
    return said if isinstance(said, str) else json.dumps(said)
