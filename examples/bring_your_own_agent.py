"""An agent of your own: a prompt, a tool, limits. Rollouts, evaluation and training take it as it is."""

from mnemon import Agent, Ctx, Input, Limits, Message, Scripted, ToolCall, run_sync, tool


def note(ctx: Ctx, topic: str, text: str) -> str:
    """Write down what holds about a topic; it replaces what was noted before.

    topic: one word
    """
    line = f"{topic}: {text}"
    held = [entry for entry in ctx.memory.entries() if entry.text.startswith(f"{topic}: ")]
    entry = ctx.memory.update(held[0].id, line) if held else ctx.memory.add(line)
    return f"noted as {entry.label}"  # raise ToolError(code, hint) where nothing should happen


def prompt(ctx: Ctx, given: Input) -> list[Message]:
    """What the policy sees before its first reply to an input."""
    notes = "\n".join(entry.text for entry in ctx.memory.entries()) or "(none)"
    return [Message("system", f"Keep notes. So far:\n{notes}"), Message("user", given.text)]


def rule(messages, tools):
    """Stands in for a model: one call, and after its result a reply in words."""
    call = ToolCall("note", {"topic": "home", "text": messages[-1].content.strip(".").split()[-1]})
    return "Done." if messages[-1].role == "tool" else Message("assistant", "", (call,))


agent = Agent("writer", prompt, tools=(tool(note),), limits=Limits(rounds=2))
state = agent.start()
for text in ("Anna lives in Paris.", "Anna moved to Rome."):
    turn = run_sync(agent.respond(state, text, Scripted(rule)))
    print(f"{text} -> {turn.steps[0].results[0].content} -> {turn.reply}")
print([entry.text for entry in state.memory.entries()])
