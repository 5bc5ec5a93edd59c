"""Cold-start rows of the tiny reader: exactly what the agent shows and what the parser of selections reads."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

from mnemon.agent import rollouts
from mnemon.agents.memory_r1 import MARKER, answerer, manager
from mnemon.memory.retrieve import InOrder
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.chat import Chat
from mnemon.policy.tiny import build_tokenizer
from mnemon.recipes.tiny_data import token_ids
from mnemon.recipes.tiny_reader_data import demonstrated, reader_cold_rows, reader_reply, reader_tasks, scan
from mnemon.tasks.tiny import words
from mnemon.tasks.tiny.questions import Question, bank_state, read_question
from mnemon.tasks.tiny.reading import MARKER as READ_MARKER
from mnemon.tasks.tiny.reading import select_right, selected
from mnemon.tasks.tiny.scripted import read_line, split_prompt
from mnemon.types import Message

TEXTS = ["Olga car Opel", "Anna job nurse", "how are you", "Anna pets Rex Luna"]
PETS = Question("list", "pets", "Anna")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(words.vocabulary())


def test_one_marker() -> None:
    assert MARKER == READ_MARKER


def test_scan_by_hand() -> None:
    assert " ".join(scan(TEXTS, PETS)) == "Anna pets 1 Olga Anna 2 Anna Anna job 3 how Anna 4 Anna Anna pets match 4"
    whose = Question("whose", "pets", value="Rex")
    assert (
        " ".join(scan(TEXTS, whose)) == "Rex pets 1 Olga Rex car 2 Anna Rex job 3 how Rex are 4 Anna Rex pets match 4"
    )
    other = Question("whose", "pets", value="Milo")
    assert " ".join(scan(TEXTS, other)) == "Milo pets 1 Olga Milo car 2 Anna Milo job 3 how Milo are 4 Anna Milo pets"


def test_reply_by_hand() -> None:
    reply = " ".join(reader_reply(TEXTS, PETS, [3]))
    assert reply.endswith("</think> 4 Anna pets Rex Luna **Answer:** Rex Luna <|im_end|>")
    wrong = " ".join(reader_reply(TEXTS, PETS, [0, 1]))
    assert wrong.endswith("</think> 1 Olga car Opel 2 Anna job nurse **Answer:** Opel nurse <|im_end|>")
    asked = " ".join(reader_reply(TEXTS, Question("yesno", "pets", "Anna", "Rex"), [3]))
    assert asked.endswith("</think> 4 Anna pets Rex match Luna **Answer:** yes <|im_end|>")
    direct = reader_reply(TEXTS, PETS, [], distill=False)
    assert direct[direct.index("</think>") + 1 :] == ["**Answer:**", "none", "<|im_end|>"]


def test_the_teacher_is_right_in_a_minority_and_mostly_takes_the_first_line() -> None:
    rng, lines = random.Random(0), [read_line(str(i), text) for i, text in enumerate(TEXTS, 1)]
    chosen = Counter(tuple(demonstrated(rng, lines, PETS)) for _ in range(2000))
    # one of four lines alone is drawn at random with probability .15 · ½ · ¼ beside the two rules; four standard errors
    assert abs(chosen[(0,)] / 2000 - (0.45 + 0.15 / 8)) < 0.045
    assert abs(chosen[(3,)] / 2000 - (0.40 + 0.15 / 8)) < 0.045
    assert len(chosen) > 4


@pytest.mark.parametrize("distill", [True, False])
def test_rows_are_prompts_and_replies_of_the_agent(tokenizer, distill: bool) -> None:
    """The prompt part is what the chat template makes of the agent's message, the reply decodes to the agent's form."""
    rows = reader_cold_rows(token_ids(tokenizer), 40, 3, distill)
    chat = Chat(tokenizer)
    agent = answerer(k=16, style="tiny", retriever=InOrder(), distill=distill)
    for row in rows:
        sampled = int(row.sampled[0])
        text = tokenizer.decode(row.input_ids[:sampled], skip_special_tokens=True)
        body = text.split("memories:")[1].rpartition("assistant")[0]
        listed, _, question = body.partition("question:")
        texts, number = [], 1
        for word in listed.split():
            if word == str(number):
                texts.append([])
                number += 1
            else:
                texts[-1].append(word)
        stored = [" ".join(t) for t in texts]
        lines = "\n".join(f"{i} {t}" for i, t in enumerate(stored, 1))
        prompt = Message("user", f"memories:\n{lines}\nquestion: {question.strip()}")
        assert chat.render([prompt], ()) == row.input_ids[:sampled].tolist()
        assert split_prompt([prompt])[0] == [(str(i), t) for i, t in enumerate(stored, 1)]
        reply = chat.message(row.input_ids[sampled:].tolist()).content
        assert MARKER in reply
        assert set(selected(reply)) <= {str(i) for i in range(1, len(stored) + 1)}
        assert agent.final is not None
        assert row.loss_mask[sampled:].all()


def test_rows_are_reproducible_and_know_every_token(tokenizer) -> None:
    ids = token_ids(tokenizer)
    one, two = reader_cold_rows(ids, 30, 1), reader_cold_rows(ids, 30, 1)
    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(one, two, strict=True))
    other = reader_cold_rows(ids, 30, 2)
    assert not all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(one, other, strict=True))
    assert all(ids["<unk>"] not in row.input_ids for row in one)
    assert max(max(map(int, row.input_ids)) for row in one) < len(tokenizer)


def test_the_best_choice_in_the_reply_form_answers_training_tasks(tokenizer) -> None:
    """What the rows teach is enough: a reader that always chooses right scores far above the first memory."""
    tasks = reader_tasks(80, "train")
    assert len({task.id for task in tasks}) == 80
    assert tasks == reader_tasks(80, "train")

    def reply(choose):
        def say(messages, tools):
            pairs, text = split_prompt(messages)
            question = read_question(text)
            texts = [stored for _, stored in pairs]
            chosen = choose([read_line(shown, stored) for shown, stored in pairs], question)
            return " ".join(reader_reply(texts, question, chosen)[:-1])

        return Scripted(say)

    def accuracy(policy: Scripted) -> float:
        reader = (answerer(k=16, style="tiny", retriever=InOrder()), policy)
        writer = manager(extract="raw", style="tiny")
        groups = run_sync(rollouts(writer, tasks, policy, reader=reader, start=bank_state))
        given = [group[0].answers[0] for group in groups]
        return sum(sorted(a.text.split()) == sorted(a.probe.answers[0].split()) for a in given) / len(given)

    right, first = accuracy(reply(select_right)), accuracy(reply(lambda lines, question: [0]))
    assert right > 0.75
    assert first < 0.4
