"""What an evaluation was made with, as plain data: agents by fingerprint, policies by model, tasks by content."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mnemon.agent import Agent, Reader, agent_fingerprint
from mnemon.policy.cache import CachedPolicy
from mnemon.runs import plain, settings_hash
from mnemon.tasks.script import Script
from mnemon.types import JSON, Policy, Probe, Task

MAY_CHANGE = ("reader.policy.url", "writer.policy.url", "judge.policy.url")
"""Settings that a resumed evaluation may change: a server that moved to another port is still the same model."""


def describe(pair: Reader) -> JSON:
    """An agent with its policy as a report names them. Runs the agent on an example: not inside an event loop."""
    return {"agent": describe_agent(pair[0]), "policy": describe_policy(pair[1])}


def describe_agent(agent: Agent) -> JSON:
    """Fingerprint (as a checkpoint keeps it), retriever, limits, and the options that the prompt was built with."""
    return {
        "role": agent.role,
        "fingerprint": agent_fingerprint(agent),
        "options": options_of(agent.prompt),
        "final": name_of(agent.final) if agent.final else None,
        "retriever": agent.retriever.id,
        "tools": [tool.name for tool in agent.tools],
        "limits": plain(agent.limits),
        "counter": counter_name(agent.counter),
    }


def describe_policy(policy: Policy) -> JSON:
    """Model, sampling and template. A cache is no setting; the address of a server may change (`MAY_CHANGE`).

    A model in this process is named by its path and by a sample of its weights: after training it is another.
    """
    if isinstance(policy, CachedPolicy):
        return describe_policy(policy.policy)
    found: JSON = {"kind": type(policy).__name__}
    model = getattr(policy, "model", None)
    endpoint = getattr(policy, "endpoint", None)
    if endpoint is not None:
        found |= {"model": model or endpoint.url, "url": endpoint.url}
    elif hasattr(model, "named_parameters"):
        config = getattr(model, "config", None)
        found |= {"model": getattr(config, "name_or_path", ""), "weights": _weights(model)}
    for name in ("temperature", "max_tokens", "window", "tokens", "extra_body", "schema", "policy_version"):
        if hasattr(policy, name):
            found[name] = plain(getattr(policy, name))
    chat = getattr(policy, "chat", None)
    if chat is not None:
        found["chat"] = chat.fingerprint
    function = policy if inspect.isfunction(policy) else getattr(policy, "function", None)
    if function is not None:
        found |= {"function": name_of(function), "options": options_of(function)}
    return found


def describe_tasks(tasks: Sequence[Task]) -> JSON:
    """How much there is, and a hash of all inputs of scripts and of all probes."""
    content = []
    for task in tasks:
        environments = [stage.environment() for stage in task.stages]
        inputs = [plain(e.inputs) if isinstance(e, Script) else name_of(type(e)) for e in environments]
        content.append([task.id, inputs, [[question_hash(p), p.scorers] for p in task.probes]])
    probes = sum(len(task.probes) for task in tasks)
    return {"tasks": len(tasks), "probes": probes, "hash": settings_hash({"tasks": content})}


def question_hash(probe: Probe) -> str:
    """16 hex digits of all that a probe asks and what answers it; its scorers may differ."""
    names = ("id", "question", "answers", "category", "evidence", "after", "time")
    return settings_hash({name: getattr(probe, name) for name in names})


def counter_name(counter: Callable[[str], int]) -> str:
    """The name of who counts tokens: its own where it has one, else the function's."""
    return str(getattr(counter, "name", "")) or name_of(counter)


def name_of(function: Callable[..., Any]) -> str:
    """``module.name`` of a function or class, of its class where it is an object."""
    function = function.func if isinstance(function, functools.partial) else function
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def options_of(function: Callable[..., Any]) -> JSON:
    """The values that a function was built with: what it closes over, the arguments of a partial."""
    if isinstance(function, functools.partial):
        given = {**{str(i): value for i, value in enumerate(function.args)}, **function.keywords}
        return {name: _option(value) for name, value in given.items()} | options_of(function.func)
    if not inspect.isfunction(function):
        return {}
    return {name: _option(value) for name, value in sorted(inspect.getclosurevars(function).nonlocals.items())}


def _option(value: Any) -> Any:
    """A value as plain data; a function with its own options; of other objects the kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _option(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_option(item) for item in value]
    if isinstance(value, functools.partial) or inspect.isfunction(value):
        own = options_of(value)
        return {name_of(value): own} if own else name_of(value)
    if isinstance(getattr(value, "id", None), str):
        return value.id  # a retriever or an embedder
    return str(value) if hasattr(value, "__fspath__") else name_of(value)


def _weights(model: Any) -> str:
    """16 hex digits of up to 64 values of every parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        values = flat[:: max(1, flat.shape[0] // 64)][:64].float().cpu().tolist()
        digest.update(f"{name} {tuple(parameter.shape)} {values}".encode())
    return digest.hexdigest()[:16]
