"""A trajectory as a text that a person reads, and as JSON that a program reads. Standard library only.

Both hold what happened: what each policy call was shown, what it wrote, its calls with their outcomes, the memory at
the end, questions, answers and rewards by name. Token ids and log-probabilities are left out, their number is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import indent
from typing import Any

from mnemon.types import JSON, Answer, Message, Step, ToolCall, ToolResult, Trajectory, Turn

WIDTH = 100


def trajectory_text(trajectory: Trajectory, rewards: Mapping[str, Any] | None = None) -> str:
    """A readable transcript. Messages that a role was already shown in its last call are only counted.

    `rewards` maps a reward term's name to its number, or to one number per step. Control characters are shown as
    escapes, so that no text can steer a terminal.
    """
    lines = [_rule(trajectory.id, "═"), _summary(trajectory)]
    seen: dict[str, Sequence[Message]] = {}
    for step in trajectory.steps:
        lines += _step(step, seen)
    if not trajectory.steps:  # an agent that asks no policy
        for number, turn in enumerate(trajectory.turns):
            lines += _silent_turn(number, turn)
    lines += [_rule("memory at the end"), *_memory(trajectory.state)]
    before = {answer.probe.id: answer for answer in trajectory.before}
    for answer in trajectory.answers:
        lines += _answer(answer, before.get(answer.probe.id), seen)
    if rewards:
        lines += [_rule("rewards"), *(f"{name}: {_numbers(value)}" for name, value in rewards.items())]
    return _visible("\n".join(lines)) + "\n"


def trajectory_json(trajectory: Trajectory, rewards: Mapping[str, Any] | None = None) -> JSON:
    """The same as plain data. Values that a tool call or a probe carries are kept as they are."""
    return {
        "id": trajectory.id,
        "task": trajectory.task_id,
        "member": trajectory.member,
        "error": trajectory.error,
        "events": dict(trajectory.events),
        "scores": list(trajectory.scores),
        "rewards": dict(rewards or {}),
        "steps": [_step_json(step) for step in trajectory.steps],
        "memory": [_entry_json(entry) for entry in _entries(trajectory.state)],
        "answers": [_answer_json(answer) for answer in trajectory.answers],
        "before": [_answer_json(answer) for answer in trajectory.before],
    }


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rule(title: str, line: str = "─") -> str:
    return f"\n{line * 2} {title} ".ljust(WIDTH, line)


def _summary(trajectory: Trajectory) -> str:
    parts = [
        _count(trajectory.turns, "input"),
        _count(trajectory.steps, "policy call"),
        _count(trajectory.answers, "answer"),
    ]
    if trajectory.scores:
        parts.append("scores " + _numbers(trajectory.scores))
    parts += [f"{name} {count}" for name, count in sorted(trajectory.events.items())]
    return " · ".join(parts) + (f"\nERROR: {trajectory.error}" if trajectory.error else "")


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _step(step: Step, seen: dict[str, Sequence[Message]]) -> Iterator[str]:
    """What was shown beyond `seen` (role -> messages of its last call), what was written, what came of it."""
    place = f"question {step.probe}" if step.probe else f"stage {step.stage} · turn {step.turn}"
    yield _rule(f"{place} · {step.role}")
    known = _shared(seen.get(step.role, ()), step.messages)
    if known:
        yield f"({_count(step.messages[:known], 'message')} as before)"
    for message in step.messages[known:]:
        yield from _message(message)
    reply = step.completion.message
    yield from _message(reply)
    if step.completion.finish != "stop":
        yield f"  [ended by: {step.completion.finish}]"
    yield from _results(step.results)
    done = [result.call for result in step.results]
    yield from (f"  {_call(call)}  → not run" for call in reply.tool_calls if call not in done)
    seen[step.role] = (*step.messages, reply)


def _shared(old: Sequence[Message], new: Sequence[Message]) -> int:
    """How many leading messages are the same to a reader."""
    count = 0
    for left, right in zip(old, new, strict=False):
        if (left.role, left.content, left.tool_calls) != (right.role, right.content, right.tool_calls):
            break
        count += 1
    return count


def _message(message: Message) -> Iterator[str]:
    if message.role == "assistant" and not message.content:
        return  # only calls, which are listed with their outcomes
    kind = f" ({message.kind})" if message.kind and message.kind != message.role else ""
    yield f"{message.role}{kind}:\n{indent(message.content, '    ')}"


def _results(results: Sequence[ToolResult]) -> Iterator[str]:
    for result in results:
        outcome = "ok" if result.ok else f"REFUSED {result.code}"
        yield f"  {_call(result.call)}\n    → {outcome}: {result.content}"


def _call(call: ToolCall) -> str:
    if call.error is not None:
        return f"unreadable call ({call.error}): {call.raw}"
    arguments = (f"{k}={json.dumps(v, ensure_ascii=False, default=str)}" for k, v in call.arguments.items())
    return f"{call.name}({', '.join(arguments)})"


def _silent_turn(number: int, turn: Turn) -> Iterator[str]:
    yield _rule(f"turn {number}")
    if turn.reply:
        yield f"reply:\n{indent(turn.reply, '    ')}"
    yield from (f"  {operation}" for operation in turn.operations)


def _memory(state: Any) -> Iterator[str]:
    memory = getattr(state, "memory", None)
    if memory is None:
        yield "(not kept)"
        return
    entries = _entries(state)
    if not entries:
        yield "(empty)"
    section = None
    for entry in entries:
        if entry.section != section:
            section = entry.section
            yield f"{section}:"
        about = ", ".join(part for part in (entry.owner, entry.time) if part)
        yield f"  {entry.label}{f' [{about}]' if about else ''} {entry.text}"


def _entries(state: Any) -> list[Any]:
    """The memory's entries by section; none where the trajectory kept no state."""
    memory = getattr(state, "memory", None)
    if memory is None:
        return []
    return [entry for name in memory.sections for entry in memory.entries(name)]


def _answer(answer: Answer, before: Answer | None, seen: dict[str, Sequence[Message]]) -> Iterator[str]:
    probe = answer.probe
    yield _rule(f"question {probe.id}{f' · {probe.category}' if probe.category else ''}")
    yield f"question: {probe.question}"
    yield f"accepted: {' | '.join(probe.answers)}"
    if before is not None:
        yield f"before:   {before.text}"
    yield f"answer:   {answer.text}"
    for step in answer.turn.steps:
        yield from _step(step, seen)


def _numbers(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_numbers, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _visible(text: str) -> str:
    """`text` with control characters (but line end and tab) as escapes."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else f"\\x{ord(c):02x}" for c in text)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _entry_json(entry: Any) -> JSON:
    return {name: getattr(entry, name) for name in ("label", "section", "text", "owner", "times", "source", "version")}


def _message_json(message: Message) -> JSON:
    calls = [_call_json(call) for call in message.tool_calls]
    return {
        "role": message.role,
        "kind": message.kind,
        "content": message.content,
        **({"calls": calls} if calls else {}),
    }


def _call_json(call: ToolCall) -> JSON:
    if call.error is not None:
        return {"error": call.error, "raw": call.raw}
    return {"name": call.name, "arguments": dict(call.arguments)}


def _step_json(step: Step) -> JSON:
    completion = step.completion
    return {
        "role": step.role,
        "stage": step.stage,
        "turn": step.turn,
        "probe": step.probe,
        "messages": [_message_json(message) for message in step.messages],
        "reply": _message_json(completion.message),
        "finish": completion.finish,
        "prompt_tokens": len(completion.prompt_ids) or completion.prompt_tokens,
        "tokens": len(completion.token_ids),
        "policy_version": completion.policy_version,
        "results": [
            {"call": _call_json(r.call), "ok": r.ok, "code": r.code, "content": r.content} for r in step.results
        ],
    }


def _answer_json(answer: Answer) -> JSON:
    probe = answer.probe
    return {
        "probe": probe.id,
        "category": probe.category,
        "question": probe.question,
        "accepted": list(probe.answers),
        "answer": answer.text,
        "steps": [_step_json(step) for step in answer.turn.steps],
    }
