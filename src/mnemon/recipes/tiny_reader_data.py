"""Cold-start rows and training tasks for the reader of the tiny world.

After them the reader can do everything and chooses badly. Its reply is a scan of the memories in the think, the numbers
of the useful ones, `**Answer:**` and the answer that follows from them:

    <think> Anna pets 1 Olga 2 Anna job 3 Anna pets Rex Luna </think> 3 **Answer:** Rex Luna

Without distillation it is `**Answer:**` and the answer. Demonstrations choose as an imperfect teacher does: most often
the first memory that names the person. Skill rows show the same on random choices, with the chosen numbers left out of
the loss. Which memories are useful is for reinforcement learning to find out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mnemon.policy.tiny import END
from mnemon.recipes.tiny_data import make_row, prompt_tokens
from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny.questions import Facts, Question, bank_task, facts_of, keep, sample_question
from mnemon.tasks.tiny.reading import MARKER, about, answer_from, select_first, select_right
from mnemon.tasks.tiny.world import Episode, Split, sample_episode
from mnemon.train.batch import Row
from mnemon.types import Task

QUALITIES = (1.0, 0.85, 0.6, 0.2)
"""How well the simulated managers of training keep their memories (see `questions.keep`)."""
QUESTIONS = 6
"""Questions about one simulated memory."""


def scan(texts: Sequence[str], question: Question) -> list[str]:
    """What is asked, then line after line: its number, its first word; the second if the first is the person (always,
    for "whose"); the rest if the second is the attribute; `match` behind the value that the question names.
    """
    words = [question.person or question.value, question.attribute]
    for number, text in enumerate(texts, 1):
        first, *rest = text.split()
        words += [str(number), first]
        if rest and (question.kind == "whose" or first == question.person):
            words.append(rest[0])
            if rest[0] == question.attribute:
                for value in rest[1:]:
                    words += [value, "match"] if value == question.value else [value]
    return words


def reader_reply(
    texts: Sequence[str], question: Question, chosen: Sequence[int], distill: bool
) -> tuple[list[str], slice]:
    """The tokens of a reply that chooses these lines (indices), and which of them are the choice: the numbers and the
    marker that ends them; without distillation the first word of the answer.
    """
    lines = [rules.read_line(str(i), text) for i, text in enumerate(texts, 1)]
    end = [MARKER, *answer_from([lines[i] for i in chosen], question).split(), END]
    if not distill:
        return end, slice(1, 2)
    head = ["<think>", *scan(texts, question), "</think>"]
    return [*head, *(lines[i].id for i in chosen), *end], slice(len(head), len(head) + len(chosen) + 1)


def any_lines(rng: random.Random, lines: Sequence[rules.Line], question: Question) -> list[int]:
    """Up to three lines at random, mostly about the person or the attribute."""
    near = [i for i, line in enumerate(lines) if question.person == line.person or line.attribute == question.attribute]
    pool = near if near and rng.random() < 0.7 else range(len(lines))
    return sorted(rng.sample(pool, min(rng.choices(range(4), (1, 4, 3, 1))[0], len(pool))))


def demonstrated(rng: random.Random, lines: Sequence[rules.Line], question: Question) -> list[int]:
    """The imperfect teacher: the first line that names the person half of the time, right a quarter of the time."""
    draw = rng.random()
    if draw < 0.5:
        return select_first(lines, question)
    return select_right(lines, question) if draw < 0.75 else any_lines(rng, lines, question)


def _shown(rng: random.Random, kept: Sequence[str], question: Question, k: int) -> list[str]:
    """At most k memories in order, the ones about the question among them, as retrieval brings them."""
    found = [i for i, text in enumerate(kept) if about(rules.read_line("", text), question)][-k:]
    rest = [i for i in range(len(kept)) if i not in found]
    return [kept[i] for i in sorted([*found, *rng.sample(rest, min(len(rest), k - len(found)))])]


def _kept(rng: random.Random, split: Split) -> tuple[list[str], Facts, Facts]:
    """A simulated memory of a random quality, and the facts behind it: (memories, true now, ever true)."""
    episode = Episode()
    while not episode.touched:
        episode = sample_episode(rng, rng.randint(12, 32), split)
    texts = keep(rng, episode.events, rng.choice(QUALITIES), rng.choice((0.0, 0.5)))
    return (texts, *facts_of(episode.events))


def reader_cold_rows(
    ids: dict[str, int], count: int, seed: int, distill: bool = True, skill: float = 0.6, most: int = 16
) -> list[Row]:
    """`count` rows, the same for the same seed; `ids` as of `tiny_data.token_ids`.

    skill: the share of skill rows. most: memories shown at most (from 4 on, at random).
    """
    rng = random.Random(f"reader/{seed}")
    rows: list[Row] = []
    while len(rows) < count:
        kept, facts, ever = _kept(rng, "train")
        for _ in range(QUESTIONS):
            question = sample_question(rng, facts, ever, "train")
            texts = _shown(rng, kept, question, rng.randint(4, most))
            lines = [rules.read_line(str(i), text) for i, text in enumerate(texts, 1)]
            skilled = rng.random() < skill
            if not skilled:
                chosen = demonstrated(rng, lines, question)
            elif not distill or rng.random() < 0.5:
                chosen = select_right(lines, question)
            else:
                chosen = any_lines(rng, lines, question)
            reply, choice = reader_reply(texts, question, chosen, distill)
            prompt = prompt_tokens(texts, "question:", question.text)
            row = make_row(ids, prompt, reply, None, f"reader/{len(rows)}")
            if skilled and row.weight is not None:
                row.weight[len(prompt) + choice.start : len(prompt) + choice.stop] = 0.0
            rows.append(row)
    return rows[:count]


def reader_tasks(count: int, split: Split = "train", first: int = 0) -> list[Task]:
    """`count` tasks for reinforcement learning, each on a simulated memory of its own; for `rollouts(start=bank_state)`."""
    tasks = []
    for seed in range(first, first + count):
        rng = random.Random(f"reader_tasks/{split}/{seed}")
        kept, facts, ever = _kept(rng, split)
        question = sample_question(rng, facts, ever, split)
        tasks.append(bank_task(f"tiny_reader/{split}/{seed}", kept, question, facts))
    return tasks
