"""Cold-start rows and training tasks for the reader of the tiny world.

After them the reader can do everything and chooses badly. Its reply is a scan of the memories in the think, the useful
ones with their numbers, `**Answer:**` and the answer that follows from them:

    <think> Anna pets 1 Olga Anna 2 Anna Anna pets match 2 </think> 2 Anna pets Rex Luna **Answer:** Rex Luna

Without distillation the selection is left out: the same scan, then `**Answer:**` and the answer at once. The
demonstrations come from an imperfect teacher, who most often takes the first memory of all for the useful one. Which
memories are useful is for reinforcement learning to find.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mnemon.policy.tiny import END
from mnemon.recipes.tiny_data import make_row, prompt_tokens
from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny.questions import Kind, Question, bank_task, facts_of, keep, sample_question
from mnemon.tasks.tiny.reading import MARKER, about, answer_from, select_right
from mnemon.tasks.tiny.world import Facts, Split, sample_episode
from mnemon.train.batch import Row
from mnemon.types import Task

QUALITIES = (1.0, 0.85, 0.6, 0.2)
"""How well the simulated managers of training keep their memories (see `questions.keep`)."""
SHARES: dict[Kind, float] = {"value": 0.18, "list": 0.2, "count": 0.22, "whose": 0.22, "yesno": 0.18}
"""Kinds of questions in the cold start: the harder to answer, the more often."""
QUESTIONS = 6
"""Questions about one simulated memory."""


def scan(texts: Sequence[str], question: Question) -> list[str]:
    """What is asked, then line after line: its number, its first word and the person asked about (who is compared with
    it); the second word if the two are equal (always, for "whose"); `match` and the number again if the line is about
    the question.
    """
    words = [question.person or question.value, question.attribute]
    for number, text in enumerate(texts, 1):
        first, *rest = text.split()
        words += [str(number), first, words[0]]
        if rest and (question.kind == "whose" or first == question.person):
            words.append(rest[0])
        if about(rules.read_line("", text), question):
            words += ["match", str(number)]
    return words


def reader_reply(texts: Sequence[str], question: Question, chosen: Sequence[int], distill: bool = True) -> list[str]:
    """The tokens of a reply that chooses these lines (indices). In a chosen line `match` follows the value that the
    question names.
    """
    lines = [rules.read_line("", texts[i]) for i in chosen]
    end = [MARKER, *answer_from(lines, question).split(), END]
    reply = ["<think>", *scan(texts, question), "</think>"]
    for i in chosen if distill else ():
        reply.append(str(i + 1))
        for word in texts[i].split():
            reply += [word, "match"] if word == question.value else [word]
    return [*reply, *end]


def demonstrated(rng: random.Random, lines: Sequence[rules.Line], question: Question) -> list[int]:
    """The imperfect teacher's choice (indices): the first line of all; two times in five right; else one or two."""
    draw = rng.random()
    if draw < 0.45:
        return [0]
    if draw < 0.85:
        return select_right(lines, question)
    return sorted(rng.sample(range(len(lines)), min(rng.randint(1, 2), len(lines))))


def _shown(rng: random.Random, kept: Sequence[str], question: Question, k: int) -> list[str]:
    """At most k memories in order, the ones about the question among them, as retrieval brings them."""
    found = [i for i, text in enumerate(kept) if about(rules.read_line("", text), question)][-k:]
    rest = [i for i in range(len(kept)) if i not in found]
    return [kept[i] for i in sorted([*found, *rng.sample(rest, min(len(rest), k - len(found)))])]


def _kept(rng: random.Random, split: Split) -> tuple[list[str], Facts, Facts]:
    """A simulated memory of a random quality, and the facts behind it: (memories, true now, ever true)."""
    texts: list[str] = []
    while not texts:
        episode = sample_episode(rng, rng.randint(2, 32), split)
        texts = keep(rng, episode.events, rng.choice(QUALITIES), rng.choice((0.0, 0.5)))
    return (texts, *facts_of(episode.events))


def reader_cold_rows(ids: dict[str, int], count: int, seed: int, distill: bool = True, most: int = 16) -> list[Row]:
    """`count` demonstrations, the same for the same seed; `ids` as of `tiny_data.token_ids`. Shown are 1 to `most`
    memories, fewer where there are not as many.
    """
    rng = random.Random(f"reader/{seed}")
    rows: list[Row] = []
    while len(rows) < count:
        kept, facts, ever = _kept(rng, "train")
        for _ in range(QUESTIONS):
            question = sample_question(rng, facts, ever, "train", SHARES)
            texts = _shown(rng, kept, question, rng.randint(1, most))
            lines = [rules.read_line(str(i), text) for i, text in enumerate(texts, 1)]
            reply = reader_reply(texts, question, demonstrated(rng, lines, question), distill)
            prompt = prompt_tokens(texts, "question:", question.text)
            rows.append(make_row(ids, prompt, reply, None, f"reader/{len(rows)}"))
    return rows[:count]


def reader_tasks(count: int, split: Split = "train", first: int = 0) -> list[Task]:
    """`count` tasks for reinforcement learning, each on a simulated memory of its own; for
    `rollouts(start=bank_state)`.
    """
    tasks = []
    for seed in range(first, first + count):
        rng = random.Random(f"reader_tasks/{split}/{seed}")
        kept, facts, ever = _kept(rng, split)
        question = sample_question(rng, facts, ever, split)
        tasks.append(bank_task(f"tiny_reader/{split}/{seed}", kept, question, facts))
    return tasks
