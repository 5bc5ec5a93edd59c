"""The agent loop. `Agent.respond` is what training rolls out, what evaluation scores and what a service calls.

An agent meets inputs one after another. Before each it sees a prompt made from its state; it answers with tool calls
that change the state, or with text.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnemon.memory.memory import Entry, Hit, Memory, Section, count_words
from mnemon.memory.retrieve import Lexical, Retriever
from mnemon.tools import Tool, call_tool
from mnemon.types import (
    Completion,
    Input,
    Message,
    Policy,
    Step,
    ToolCall,
    ToolError,
    TooLong,
    ToolResult,
    ToolSchema,
    Turn,
)


@dataclass(slots=True)
class State:
    """All that an agent carries: its memory and its short-term context."""

    memory: Memory
    context: list[Message] = field(default_factory=list)

    def fork(self) -> State:
        """An independent copy; the memory is shared until one side writes."""
        return State(self.memory.fork(), list(self.context))


@dataclass(frozen=True, slots=True)
class Limits:
    """window: most prompt tokens (None: unlimited); when exceeded the oldest unpinned message is dropped, counted as
    ``truncated`` (a reply goes with the results of its calls, each counted). rounds: most policy calls per input.
    calls: most tool calls run per reply; the rest are refused (``too_many_calls``).
    """

    window: int | None = None
    rounds: int = 1
    calls: int | None = None


@dataclass(slots=True)
class Ctx:
    """What prompts and tools see of one turn.

    `ids` maps what the agent was shown (list positions) to entry ids within this one prompt; when it is None, ids are
    written as shown by `Entry.label`.
    """

    agent: Agent
    state: State
    input: Input
    policy: Policy
    helpers: Mapping[str, Policy] = field(default_factory=dict)
    stage: int = 0
    turn: int = 0
    probe: str = ""
    ids: dict[str, int] | None = None
    view: Any = None
    steps: list[Step] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        return self.state.memory

    def count(self, event: str, n: int = 1) -> None:
        self.events[event] = self.events.get(event, 0) + n

    def size(self, messages: Sequence[Message]) -> int:
        """Tokens of these messages as a prompt with the agent's tools: by the policy's own tokenizer where it has one,
        else by the agent's counter."""
        count = getattr(self.policy, "count_tokens", None)
        if count is not None:
            return int(count(messages, self.agent.schemas))
        return sum(self.agent.counter(message.content) for message in messages)

    def retrieve(self, query: str, k: int, **where: Any) -> list[Hit]:
        """The agent's own retriever over its memory."""
        return self.state.memory.search(query, k, self.agent.retriever, **where)

    def show(self, entries: Sequence[Entry], first: int = 0) -> list[tuple[str, Entry]]:
        """Give entries local ids "first", "first+1" … for this prompt; calls are mapped back by `resolve`."""
        self.ids = {str(first + i): entry.id for i, entry in enumerate(entries)}
        self.view = list(entries)
        return [(str(first + i), entry) for i, entry in enumerate(entries)]

    def resolve(self, shown: str) -> int:
        """The entry id behind an id that the agent wrote. Raises ToolError("unknown_id")."""
        shown = shown.strip()
        if self.ids is not None:
            if shown in self.ids:
                return self.ids[shown]
            known = ", ".join(self.ids) or "none were shown"
            raise ToolError("unknown_id", f"There is no memory {shown!r} in this prompt (ids: {known}).")
        digits = shown.removeprefix("m")
        if not digits.isdecimal() or len(digits) > 18:
            raise ToolError("unknown_id", f"{shown!r} is not an id; ids look like m12.")
        return int(digits)

    async def ask(
        self, role: str, messages: Sequence[Message], tools: Sequence[ToolSchema] = (), policy: Policy | None = None
    ) -> Completion:
        """One policy call, recorded as a step of `role`: by `policy`, else that name's helper, else the agent's."""
        policy = self.helpers.get(role, self.policy) if policy is None else policy
        asked, schemas = tuple(messages), tuple(tools)  # what a live context holds later was not asked
        completion = await policy(asked, schemas)
        where = (self.stage, self.turn, self.probe, self.input.source)
        self.steps.append(Step(role, asked, schemas, completion, (), *where))
        return completion


Prompt = Callable[[Ctx, Input], "Sequence[Message] | Awaitable[Sequence[Message] | None] | None"]


@dataclass(frozen=True)
class Agent:
    """An agent is its prompt, its tools and its limits; the policy is passed in.

    role: the name its steps carry (``"writer"``, ``"reader"``).
    prompt(ctx, input): the messages to put before the policy for this input: appended to the context, which is empty
        at every input (context="input") or at every fresh stage (context="stage"). None skips the policy (no facts).
    show_tools: whether the policy is given the tools' schemas; off where prompt or training have taught the calls.
    parse: reads calls from a reply's text where the form is not the chat template's own (JSON lists …).
    final(text, ctx): what of the last reply's text is the answer.
    """

    role: str
    prompt: Prompt
    tools: tuple[Tool, ...] = ()
    sections: tuple[Section, ...] = (Section("facts"),)
    limits: Limits = Limits()
    context: Literal["input", "stage"] = "input"
    retriever: Retriever = field(default_factory=Lexical)
    show_tools: bool = True
    parse: Callable[[str], Sequence[ToolCall]] | None = None
    final: Callable[[str, Ctx], str] | None = None
    counter: Callable[[str], int] = count_words

    def start(self) -> State:
        """An empty state."""
        return State(Memory(self.sections, self.counter))

    @property
    def schemas(self) -> tuple[ToolSchema, ...]:
        """What the policy is shown of the tools."""
        return tuple(tool.schema for tool in self.tools) if self.show_tools else ()

    async def respond(
        self,
        state: State,
        text: Input | str,
        policy: Policy,
        *,
        helpers: Mapping[str, Policy] | None = None,
        stage: int = 0,
        turn: int = 0,
        probe: str = "",
    ) -> Turn:
        """Read one input, act on the state, return what was said and done. Mutates `state`."""
        given = text if isinstance(text, Input) else Input(text)
        ctx = Ctx(self, state, given, policy, helpers or {}, stage, turn, probe)
        if self.context == "input":
            state.context.clear()
        done = len(state.memory.log)
        prompt = self.prompt(ctx, given)
        messages = await prompt if inspect.isawaitable(prompt) else prompt
        reply = ""
        if messages is None:
            ctx.count("skipped")
        else:
            state.context.extend(messages)
            reply = await self._rounds(ctx)
        if self.final is not None:
            reply = self.final(reply, ctx)
        return Turn(reply, tuple(ctx.steps), tuple(state.memory.log[done:]), ctx.events, ctx.view, given)

    async def _rounds(self, ctx: Ctx) -> str:
        """Policy calls until a reply without tool calls, or until the rounds are used up.

        A turn without any call is counted as ``no_call``, a reply cut at the policy's token limit as ``cut_reply``.
        """
        tools = {tool.name: tool for tool in self.tools}
        reply = ""
        for number in range(self.limits.rounds):
            self._fit_window(ctx)
            completion = await ctx.ask(self.role, ctx.state.context, self.schemas, ctx.policy)
            at = len(ctx.steps) - 1
            message = completion.message
            calls = message.tool_calls or (tuple(self.parse(message.content)) if self.parse else ())
            reply = message.content
            ctx.state.context.append(replace(message, turn=ctx.turn, kind="reply"))
            if completion.finish == "length":
                ctx.count("cut_reply")
            if not calls:
                if self.tools and not number:
                    ctx.count("no_call")
                break
            results = []
            for i, call in enumerate(calls):
                if self.limits.calls is not None and i >= self.limits.calls:
                    hint = f"At most {self.limits.calls} calls are run per reply; this one was not."
                    result = ToolResult(call, False, hint, "too_many_calls")
                else:
                    before = len(ctx.memory.log)
                    result = await call_tool(tools, call, ctx)
                    result = replace(result, operations=tuple(ctx.memory.log[before:]))
                ctx.count("calls" if result.ok else f"refused:{result.code}")
                results.append(result)
                ctx.state.context.append(
                    Message("tool", result.content, turn=ctx.turn, kind="result", call_id=call.id, name=call.name)
                )
            ctx.steps[at] = replace(ctx.steps[at], results=tuple(results))
        return reply

    def _fit_window(self, ctx: Ctx) -> None:
        """Drop the oldest unpinned message until the prompt fits the window; each drop is counted.

        A reply's calls and their results leave together (no endpoint takes a result without its call). System messages
        and the input that was just read never leave: TooLong when the rest alone exceeds the window.
        """
        if self.limits.window is None:
            return
        context = ctx.state.context
        while (size := ctx.size(context)) > self.limits.window:
            newest = max((i for i, message in enumerate(context) if message.role == "user"), default=-1)
            for i, message in enumerate(context):
                if not message.pinned and message.role != "system" and i != newest:
                    break
            else:
                raise TooLong(
                    f"{self.role}: the pinned messages and the newest input alone need {size} tokens, the window is "
                    f"{self.limits.window}: raise limits.window or shorten the prompt"
                )
            end = i + 1
            while end < len(context) and context[end].role == "tool" and not context[end].pinned:
                end += 1
            ctx.count("truncated", end - i)
            del context[i:end]
