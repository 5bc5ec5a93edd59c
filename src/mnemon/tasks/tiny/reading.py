"""Scripted readers of the tiny world, and how good a reader's selection of memories is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny import words
from mnemon.tasks.tiny.questions import Question, answer, read_memory, read_question
from mnemon.types import Answer, Message, ToolSchema

MARKER = "**Answer:**"
Select = Callable[[Sequence[rules.Line], Question], list[int]]
"""Lines and a question → indices of the lines chosen."""


def about(line: rules.Line, question: Question) -> bool:
    """Whether a line has something to say to a question."""
    if question.kind == "whose":
        return line.attribute == question.attribute and question.value in line.values
    return line.person == question.person and line.attribute == question.attribute


def answer_from(lines: Sequence[rules.Line], question: Question) -> str:
    """The answer that follows from chosen lines: all their values (the owners, for "whose"), the last for a value."""
    found = [line.person for line in lines] if question.kind == "whose" else [v for line in lines for v in line.values]
    found = list(dict.fromkeys(v for v in found if v))
    single = question.kind == "value" or question.attribute in words.SINGLE
    return answer(question, found[-1:] if single and question.kind != "whose" else found)


def select_right(lines: Sequence[rules.Line], question: Question) -> list[int]:
    """The last line about the fact. A list takes all lines about it when the last has one value, as of a manager that
    never merges. "Whose" takes each person whose last line about the attribute has the value.
    """
    if question.kind == "whose":
        last = {line.person: i for i, line in enumerate(lines) if line.attribute == question.attribute}
        return [i for i in sorted(last.values()) if question.value in lines[i].values]
    mine = [i for i, line in enumerate(lines) if about(line, question)]
    if question.attribute in words.LISTS and mine and len(lines[mine[-1]].values) == 1:
        return mine
    return mine[-1:]


def select_first(lines: Sequence[rules.Line], question: Question) -> list[int]:
    """The first line that names the person (the attribute, for "whose"), whatever it says about them."""
    key = question.attribute if question.kind == "whose" else question.person
    return [i for i, line in enumerate(lines) if key in (line.person, line.attribute)][:1]


def scripted_reader(select: Select) -> Callable[[Sequence[Message], Sequence[ToolSchema]], str]:
    """A reader for `Scripted` that chooses lines and answers from them, in the reply form of the Answer Agent."""

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        pairs, text = rules.split_prompt(messages)
        lines = [read_memory(shown, stored) for shown, stored in pairs]
        question = read_question(text)
        chosen = [lines[i] for i in select(lines, question)]
        return " ".join((*(line.id for line in chosen), MARKER, answer_from(chosen, question)))

    return reply


# ── selection ────────────────────────────────────────────────────────────────────────────────────────────────────────


def useful(lines: Sequence[rules.Line], question: Question, truth: Sequence[str]) -> list[int]:
    """Indices of the fewest lines that support the true answer, newest preferred; none where nothing supports it.

    truth: the values (or owners) that hold. A line helps when all that it says is true.
    """
    wanted = set(truth)
    chosen: list[int] = []
    mine = [i for i, line in enumerate(lines) if about(line, question)]
    says = {i: {lines[i].person} if question.kind == "whose" else set(lines[i].values) for i in mine}
    for i in sorted(mine, key=lambda i: (says[i] != set(truth), -i)):
        if says[i] <= set(truth) and says[i] & wanted:
            chosen.append(i)
            wanted -= says[i]
    return sorted(chosen)


def selected(text: str) -> list[str]:
    """The memory numbers in a reply, before its marker, each once."""
    return list(dict.fromkeys(word for word in text.partition(MARKER)[0].split() if word.isdecimal()))


def selection_scores(answers: Iterable[Answer]) -> dict[str, float]:
    """Precision and recall (pooled over questions) of the memories named in replies against `useful`, and questions.

    Precision counts every number named, shown or not; 0 where nothing was named (recall: nothing was useful).
    """
    named = right = needed = questions = 0
    for given in answers:
        view = given.turn.view or []
        lines = [read_memory(str(i), entry.text) for i, entry in enumerate(view, 1)]
        ids = {lines[i].id for i in useful(lines, read_question(given.probe.question), given.probe.meta["truth"])}
        chosen = set(selected(given.turn.steps[-1].completion.message.content))
        named, right, needed = named + len(chosen), right + len(chosen & ids), needed + len(ids)
        questions += 1
    return {"precision": right / max(named, 1), "recall": right / max(needed, 1), "questions": float(questions)}
