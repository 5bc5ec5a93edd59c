"""A cache around any greedy policy: the same request is answered once, also across runs.

It makes frozen readers and judges cheap and an evaluation resumable. On disk it is an append-only JSONL file: a header,
then one line per reply. A line that cannot be read (the last one, after a crash) is skipped and asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemon.policy.base import EPISODE, LOCKSTEP, Lockstep
from mnemon.types import JSON, Completion, Message, MnemonError, Policy, ToolCall, ToolSchema

HEADER = '{"mnemon": "policy-cache", "version": 1}'


class CachedPolicy:
    """``CachedPolicy(policy, path=None)`` is a policy that asks `policy` only what it was not asked before.

    path: the JSONL file of replies; None keeps them in memory. Several processes may append to one file; each reads
        what was there when it started.
    key: names whose replies these are; needed for a policy without a `fingerprint` when `path` is given. A policy's
        `policy_version`, where it has one, counts too: new weights answer anew.

    Only greedy replies can be cached: a policy with ``temperature > 0`` is refused, because every member of a group
    would get the same sample. `hits` and `misses` count. Errors are not cached. A request that is already under way is
    waited for, also in lock-step. The policy runs under an episode key of its own, so an episode draws the same seeds
    whether the cache is warm or cold.
    """

    def __init__(self, policy: Policy, path: str | Path | None = None, *, key: str | None = None) -> None:
        temperature = getattr(policy, "temperature", 0.0)
        if temperature > 0:
            raise MnemonError(
                f"CachedPolicy: {type(policy).__name__} samples (temperature {temperature}), and a cache would repeat "
                "one sample for all. Set temperature=0 for readers and judges, or leave out the cache"
            )
        if path is not None and key is None and not hasattr(policy, "fingerprint"):
            raise MnemonError(
                f"CachedPolicy: {type(policy).__name__} has no fingerprint, so that replies of another model could be "
                "taken for its own; give key='a name for this model and its settings'"
            )
        self.policy = policy
        self.path = Path(path) if path is not None else None
        self.key = key
        self.hits = 0
        self.misses = 0
        self._replies: dict[str, Completion] = {}
        self._waiting: dict[str, list[_Place]] = {}
        if self.path is not None:
            self._replies = _load(self.path)

    @property
    def count_tokens(self) -> Any:
        """The wrapped policy's, or None."""
        return getattr(self.policy, "count_tokens", None)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        """The cached reply, or the policy's."""
        digest = self._digest(messages, tools)
        while True:
            if digest in self._replies:
                self.hits += 1
                return self._replies[digest]
            if digest not in self._waiting:
                return await self._ask(digest, messages, tools)
            error = await self._wait(digest)
            if error is not None:
                raise error

    async def _ask(self, digest: str, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Completion:
        """Ask the policy on behalf of all who want this reply."""
        self._waiting[digest] = []
        episode = EPISODE.get()
        token = EPISODE.set(episode.child(f"cached/{digest[:16]}") if episode else None)
        failure: Exception | None = None
        try:
            completion = await self.policy(messages, tools)
            self.misses += 1
            self._replies[digest] = completion
            self._append(digest, completion)
            return completion
        except Exception as error:
            failure = error
            raise
        finally:
            EPISODE.reset(token)
            for place in self._waiting.pop(digest):
                place.free(failure)

    async def _wait(self, digest: str) -> Exception | None:
        """Wait for the one who asks; its error, or None when there is a reply or the asking was cancelled."""
        place = _Place(LOCKSTEP.get())
        self._waiting[digest].append(place)
        try:
            return await place.future
        finally:
            place.free(None)

    def _digest(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        name = self.key if self.key is not None else getattr(self.policy, "fingerprint", "")
        version = getattr(self.policy, "policy_version", 0)
        said = [
            [m.role, m.content, [asdict(c) for c in m.tool_calls], m.token_ids, m.call_id, m.name] for m in messages
        ]
        content = [name, version, said, [tool.as_openai() for tool in tools]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _append(self, digest: str, completion: Completion) -> None:
        """One line, in one write, so that lines of several processes do not mix."""
        if self.path is None:
            return
        line = json.dumps({"key": digest, "completion": asdict(completion)}) + "\n"
        with self.path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                line = f"{HEADER}\n{line}"
            else:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a line cut by a crash
                    line = f"\n{line}"
            file.write(line.encode("ascii"))


class _Place:
    """One caller who waits for another's reply. Meanwhile it does not count as live in its lock-step.

    Otherwise a batching policy would wait for it for ever. Whoever frees it counts it in again *before* it wakes, so
    that no batch leaves without it.
    """

    def __init__(self, scheduler: Lockstep | None) -> None:
        self.future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.scheduler = scheduler
        if scheduler is not None:
            scheduler.leave()

    def free(self, error: Exception | None) -> None:
        if self.scheduler is not None:
            self.scheduler.live += 1
            self.scheduler = None
        if not self.future.done():
            self.future.set_result(error)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(path: Path) -> dict[str, Completion]:
    """Replies in a cache file; later lines win, unreadable ones are skipped. Raises `MnemonError` for another file."""
    if not path.parent.is_dir():
        raise MnemonError(f"cache {path}: there is no folder {path.parent}; make it first")
    if not path.exists():
        return {}
    replies: dict[str, Completion] = {}
    with path.open("rb") as file:
        first = file.readline()
        if not HEADER.encode().startswith(first.strip()):
            raise MnemonError(f"cache {path}: not a policy cache (its first line is not {HEADER}); choose another path")
        for line in file:
            try:
                record = json.loads(line)
                replies[record["key"]] = _completion(record["completion"])
            except (ValueError, KeyError, TypeError):
                continue
    return replies


def _completion(data: JSON) -> Completion:
    """The inverse of ``asdict(completion)`` after JSON."""
    message = dict(data["message"])
    message["tool_calls"] = tuple(ToolCall(**call) for call in message["tool_calls"])
    if message["token_ids"] is not None:
        message["token_ids"] = tuple(message["token_ids"])
    sequences = {name: tuple(data[name]) for name in ("prompt_ids", "token_ids", "logprobs")}
    return Completion(**{**data, **sequences, "message": Message(**message)})
