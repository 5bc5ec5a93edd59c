"""The tiny recipe: tokens equal the chat template's, data, counters, and a model that really learns."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.chat import Chat
from mnemon.policy.tiny import END, OPERATIONS, build_model, build_tokenizer, induction_init
from mnemon.recipes.memory_r1 import tiny
from mnemon.recipes.tiny_data import call_tokens, demonstrations, prompt_tokens, reply_tokens, skills, token_ids
from mnemon.runs import RunFolder
from mnemon.tasks.tiny import make_tasks, words
from mnemon.tasks.tiny import scripted as rules
from mnemon.train.loop import LoopConfig
from mnemon.types import Message, ToolCall

TOKENIZER = build_tokenizer(words.vocabulary())
IDS = token_ids(TOKENIZER)


def test_prompt_tokens_are_those_of_the_agent_and_the_template() -> None:
    chat = Chat(TOKENIZER)
    seen: list[tuple[Message, ...]] = []
    oracle = rules.writer_reply(rules.oracle)

    def look(messages: list[Message], tools: object) -> Message:
        seen.append(tuple(messages))
        return oracle(messages, ())

    run_sync(tiny.play(Scripted(look), make_tasks(20, 12, "test")))  # type: ignore[arg-type]
    assert len(seen) == 240
    for messages in seen:
        pairs, given = rules.split_prompt(messages)
        expected = [IDS[token] for token in prompt_tokens([text for _, text in pairs], "event:", given)]
        assert chat.render(messages, ()) == expected


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("add", {"text": "Anna pets Rex"}),
        ToolCall("update", {"id": "2", "text": "Anna pets Rex Luna"}),
        ToolCall("delete", {"id": "3"}),
        ToolCall("noop", {}),
    ],
)
def test_a_reply_is_a_real_tool_call(call: ToolCall) -> None:
    tokens, operation = reply_tokens("Anna pets none", call)
    assert tokens[operation] == OPERATIONS[call.name]
    assert tokens[-1] == END
    message = Chat(TOKENIZER).message([IDS[t] for t in tokens])
    (read,) = message.tool_calls
    assert (read.name, dict(read.arguments), read.error) == (call.name, dict(call.arguments), None)
    assert call_tokens(call)[0] == tokens[5:-1]


def test_tokenizer_and_model_survive_saving(tmp_path: Path) -> None:
    model = build_model(TOKENIZER)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    again, tokenizer = tiny.open_model(str(tmp_path))
    text = "memories: 1 Anna pets Rex event: Anna adopted Luna"
    assert tokenizer.encode(text) == TOKENIZER.encode(text)
    assert Chat(tokenizer).render([Message("user", text)]) == Chat(TOKENIZER).render([Message("user", text)])
    assert sum(p.numel() for p in again.parameters()) < 600_000
    ids = torch.tensor([TOKENIZER.encode(text)])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)


def test_the_initialisation_copies_before_any_training() -> None:
    model = build_model(TOKENIZER)
    plain = build_model(TOKENIZER)
    torch.manual_seed(0)
    plain.apply(plain._init_weights)
    assert induction_accuracy(model) > 0.4 > 0.05 > induction_accuracy(plain)
    before = [p.clone() for p in model.parameters()]
    induction_init(model, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def induction_accuracy(model: torch.nn.Module) -> float:
    rng = random.Random(0)
    pool = [IDS[w] for w in words.vocabulary()[40:]]
    right = total = 0
    for _ in range(30):
        first = rng.sample(pool, 20)
        with torch.no_grad():
            best = model(torch.tensor([first + first[:10]])).logits[0].argmax(-1)
        right += sum(int(best[i]) == first[i - 19] for i in range(20, 29))
        total += 9
    return right / total


def test_cold_rows_train_replies_only_and_never_the_choice_of_a_skill() -> None:
    demos = demonstrations(tiny.tiny_manager(), IDS, 20, seed=0)
    assert len(demos) == 120
    shown = [IDS[OPERATIONS[name]] for name in OPERATIONS]
    for row in [*demos, *skills(IDS, 200, 0)]:
        first = int(row.sampled[0])
        assert row.input_ids[first] == IDS["<think>"]
        assert row.input_ids[-1] == IDS[END]
        choices = [i for i in range(first, len(row)) if row.input_ids[i] in shown]
        assert len(choices) == 1
        assert row.weight is not None
        assert row.weight[choices[0]] == (0.0 if row.task_id.startswith("skill") else 1.0)
        assert not row.weight[:first].any()
    again = skills(IDS, 200, 0)
    assert all((a.input_ids == b.input_ids).all() for a, b in zip(again, skills(IDS, 200, 0), strict=True))


def test_no_training_row_holds_a_held_out_fact() -> None:
    from mnemon.tasks.tiny.world import held_out

    names = {i: t for t, i in IDS.items()}
    for row in [*demonstrations(tiny.tiny_manager(), IDS, 50, seed=1), *skills(IDS, 500, 1)]:
        tokens = [names[int(i)] for i in row.input_ids]
        texts = " ".join(tokens).split("memories:")[1].split("event:")[0].split()
        for person, attribute, value in zip(texts, texts[1:], texts[2:], strict=False):
            if person in words.PEOPLE and words.ATTRIBUTE_OF.get(value) == attribute:
                assert not held_out(person, attribute, value)


def test_operations_are_counted_by_event_kind() -> None:
    tasks = make_tasks(40, 12, "test")
    played = run_sync(tiny.play(Scripted(rules.writer_reply(rules.oracle)), tasks))
    table = tiny.operation_counts(played)
    assert set(table["new"]) == {"add"}
    assert set(table["more"]) == {"update"}
    assert set(table["end"]) == {"delete"}
    assert set(table["drop"]) == {"update"}
    assert set(table["restate"]) == {"noop"}
    assert tiny.rightly(played, "more")[0] == tiny.rightly(played, "more")[1] > 0
    figures = tiny.summary(played)
    assert figures == {"validation": 1.0, "merges": 1.0, "removals": 1.0, "invalid": 0.0}
    broken = run_sync(tiny.play(Scripted(lambda m, t: "no call at all"), tasks))
    assert tiny.summary(broken)["invalid"] == 1.0
    forgetful = run_sync(tiny.play(Scripted(rules.writer_reply(rules.update_never_merge)), tasks))
    assert tiny.rightly(forgetful, "more")[0] == 0


def test_few_tasks_are_walked_through_in_turn() -> None:
    settings = replace(tiny.TinySettings(train_tasks=10), loop=LoopConfig(groups=8))
    first, second = tiny.training_tasks(settings, 0, 0), tiny.training_tasks(settings, 1, 0)
    assert len({t.id for t in (*first, *second)}) <= 10
    new = tiny.training_tasks(tiny.TinySettings(), 0, 0)
    assert not {t.id for t in new} & {t.id for t in tiny.training_tasks(tiny.TinySettings(), 1, 0)}


@pytest.mark.timeout(900)
def test_a_tiny_model_learns_to_manage_a_memory(tmp_path: Path) -> None:
    """At least 40 points over the best of cold start, demonstrator and always-add, within 240 CPU-seconds."""
    loop = LoopConfig(updates=12, groups=24, members=8, eval_every=12)
    settings = replace(tiny.TinySettings(seed=0), cold_updates=1000, loop=loop)
    started = time.process_time()
    cold = tiny.cold_start(tmp_path / "cold", settings)
    with RunFolder(tmp_path / "run").start({"test": "learning"}, seed=0) as run:
        tiny.train_writer(run, settings, str(cold))
    spent = time.process_time() - started
    tasks = make_tasks(200, 6, "test")

    def mean(policy: object) -> float:
        scores = tiny.accuracy(run_sync(tiny.play(policy, tasks)))  # type: ignore[arg-type]
        return sum(scores) / len(scores)

    def model(source: Path, temperature: float) -> tiny.LocalPolicy:
        weights, tokenizer = tiny.open_model(str(source))
        return tiny.LocalPolicy(weights, tokenizer, temperature=temperature, max_tokens=tiny.REPLY_TOKENS)

    baselines = {
        name: mean(Scripted(rules.writer_reply(rules.POLICIES[name]))) for name in ("demonstrator", "always add")
    }
    baselines |= {"cold start": mean(model(cold, 0.0)), "cold start, sampled": mean(model(cold, 1.0))}
    trained = mean(model(tmp_path / "run", 0.0))
    print(f"trained {trained:.3f}, baselines {baselines}, {spent:.0f} CPU-s")
    assert trained - max(baselines.values()) >= 0.40
    assert spent < 240
