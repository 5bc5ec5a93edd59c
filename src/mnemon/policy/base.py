"""What every policy shares: the key of the episode that asks, and lock-step batching.

A policy is called as ``await policy(messages, tools)`` by agent code written for one episode. Hundreds of episodes run
as coroutines of one event loop. `run_lockstep` counts the live ones; when all of them wait for a batching policy, the
scheduler hands every policy its waiting requests at once, sorted by (task, member, step). So a batch holds the same
requests in the same order whatever the order in which coroutines were woken, and a run with a fixed seed is
reproducible bit for bit.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from mnemon.types import Completion, Message, MnemonError, ToolSchema

T = TypeVar("T")


@dataclass(slots=True)
class EpisodeKey:
    """Names one episode; `step` counts its policy calls. Request generators derive from it (see `request_seed`)."""

    seed: int = 0
    update: int = 0
    task: str = ""
    member: int = 0
    step: int = 0

    def next(self) -> tuple[int, int, str, int, int]:
        """The key of the next request, as (seed, update, task, member, step)."""
        self.step += 1
        return (self.seed, self.update, self.task, self.member, self.step)

    def child(self, label: str) -> EpisodeKey:
        """A key for a part of the episode that runs concurrently with others (one probe): its steps count alone."""
        return EpisodeKey(self.seed, self.update, f"{self.task}/{label}", self.member, 0)


EPISODE: ContextVar[EpisodeKey | None] = ContextVar("mnemon_episode", default=None)
LOCKSTEP: ContextVar[Lockstep | None] = ContextVar("mnemon_lockstep", default=None)


def request_seed(key: tuple[int, int, str, int, int]) -> int:
    """A 63-bit seed for one request, the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Request:
    """One waiting policy call: its sorting key, messages and tools; `prompt_ids` where they were rendered already."""

    key: tuple[int, int, str, int, int]
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    prompt_ids: tuple[int, ...] = ()


class BatchPolicy(Protocol):
    """A policy that answers many requests at once (a local model)."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]: ...


@dataclass(slots=True)
class Lockstep:
    """Counts live episodes and flushes when all of them wait. Single event loop, not thread-safe by design."""

    live: int = 0
    waiting: list[tuple[BatchPolicy, Request, asyncio.Future[Completion]]] = field(default_factory=list)

    async def submit(self, policy: BatchPolicy, request: Request) -> Completion:
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.waiting.append((policy, request, future))
        self.flush_if_all_wait()
        try:
            return await future
        except asyncio.CancelledError:  # the episode was given up: its request must not hold or fill a batch
            self.waiting = [entry for entry in self.waiting if entry[2] is not future]
            raise

    def flush_if_all_wait(self) -> None:
        if not self.waiting or len(self.waiting) < self.live:
            return
        batch, self.waiting = self.waiting, []
        policies: list[BatchPolicy] = []
        for policy, _, _ in batch:
            if not any(policy is p for p in policies):
                policies.append(policy)
        for policy in policies:
            mine = sorted(((r, f) for p, r, f in batch if p is policy), key=lambda rf: rf[0].key)
            try:
                completions = policy.generate([request for request, _ in mine])
            except BaseException as error:
                for _, future in mine:
                    if not future.done():
                        future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), completion in zip(mine, completions, strict=True):
                if not future.done():
                    future.set_result(completion)

    def leave(self) -> None:
        self.live -= 1
        self.flush_if_all_wait()


class Scripted:
    """A policy that is a function: a test double, a heuristic, a rule. It returns text or a whole message.

    Its completions carry no token ids: it can evaluate and serve, never train. It answers at once, so in a lock-step
    it never holds up a batch. `calls` counts requests.
    """

    def __init__(self, function: Callable[[Sequence[Message], Sequence[ToolSchema]], str | Message]) -> None:
        self.function = function
        self.calls = 0

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        self.calls += 1
        reply = self.function(messages, tools)
        return Completion(Message("assistant", reply) if isinstance(reply, str) else reply)


async def run_lockstep(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run episodes concurrently in lock-step; results in the order given. The first error cancels the rest.

    Called inside a running lock-step (an episode that asks several probes at once), the children join the outer
    schedule in place of their parent.
    """
    coros = list(coroutines)
    if not coros:
        return []
    outer = LOCKSTEP.get()
    scheduler = outer or Lockstep()
    scheduler.live += len(coros) - (1 if outer else 0)
    remaining = len(coros)
    token = LOCKSTEP.set(scheduler)

    async def run(coro: Coroutine[Any, Any, T]) -> T:
        nonlocal remaining
        try:
            return await coro
        finally:
            remaining -= 1
            if remaining or not outer:  # the last child hands its place back to the parent
                scheduler.leave()

    tasks = [asyncio.ensure_future(run(c)) for c in coros]
    LOCKSTEP.reset(token)
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def run_sync(awaitable: Awaitable[T]) -> T:
    """The thin synchronous door to the async core. MnemonError inside a running event loop (a notebook has one)."""
    with suppress(RuntimeError):  # there is no loop
        asyncio.get_running_loop()
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise MnemonError("an event loop is running here (a notebook?): write `await …` in place of `run_sync(…)`")

    async def wait() -> T:
        return await awaitable

    return asyncio.run(wait())
