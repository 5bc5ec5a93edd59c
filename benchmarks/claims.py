"""The paper's claims in miniature: train, measure, and write docs/claims.md.

    python benchmarks/claims.py train PART --seed S     # one training run (resumable); PART is one of the names below
    python benchmarks/claims.py measure                 # every figure from the finished runs -> benchmarks/claims.json
    python benchmarks/claims.py write                   # docs/claims.md and the plots from claims.json

The managers (GRPO) are those of benchmarks/tiny_world.py, which is run first. Parts: manager_ppo, manager_trajectory
(credit to the whole episode), few_N (N training questions), answerer and answerer_direct (with and without
distillation, GRPO, on the trained manager's banks), answerer_ppo.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import claims_report
import torch

from mnemon.policy.base import run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.memory_r1 import tiny, tiny_reader
from mnemon.rewards import answer_score
from mnemon.runs import RunFolder, atomic_write_text
from mnemon.tasks.tiny import make_task, make_tasks
from mnemon.types import Task

HERE = Path(__file__).parent
RUNS = Path("runs/claims")
MANAGERS = Path("runs/tiny_world")
"""The managers and their cold starts are those of benchmarks/tiny_world.py, which runs first."""
SEEDS = (0, 1, 2)
FEW = (30, 152, 600)
ANSWERERS = ("answerer", "answerer_direct", "answerer_ppo")
PARTS = ("manager_ppo", "manager_trajectory", "manager_linked", *(f"few_{n}" for n in FEW), *ANSWERERS)


def tasks_with(questions: int, settings: tiny.TinySettings) -> int:
    """How many training episodes hold about this many questions."""
    held = count = 0
    while held < questions:
        held += len(make_task(tiny.TRAIN_SEEDS + count, settings.length, "train").probes)
        count += 1
    return count


def settings_of(part: str, seed: int) -> tiny.TinySettings:
    """The preset with what a part changes."""
    base = tiny.TinySettings(seed=seed)
    if part.endswith("_ppo"):
        return replace(
            base,
            loop=replace(base.loop, algo="ppo"),
            reader_loop=replace(base.reader_loop, algo="ppo"),
        )
    if part in ("manager_trajectory", "manager_linked"):
        return replace(base, credit=part.removeprefix("manager_"))
    if part.startswith("few_"):
        return replace(base, train_tasks=tasks_with(int(part.removeprefix("few_")), base))
    return base


def cold(kind: str, seed: int) -> Path:
    """The cold start shared by the parts of one kind and seed."""
    if kind == "manager":
        return MANAGERS / f"seed{seed}_cold"
    folder = RUNS / f"cold_{kind}_{seed}"
    tiny.cold_start(folder, tiny.TinySettings(seed=seed), "reader", distill=kind != "answerer_direct")
    return folder


def train_part(part: str, seed: int) -> None:
    """One run; a finished one returns at once."""
    folder = RUNS / f"{part}_{seed}"
    settings = settings_of(part, seed)
    there = (folder / "config.json").exists()
    started = time.process_time()
    reading = part.startswith("answerer")
    direct = part == "answerer_direct"
    source = cold("answerer_direct" if direct else "answerer" if reading else "manager", seed)
    with RunFolder(folder).start({"claims": part, "seed": seed}, seed=seed, resume=there) as run:
        if reading:
            found = tiny_reader.train_reader(run, settings, str(source), str(MANAGERS / f"seed{seed}"), not direct)
        else:
            found = tiny.train_writer(run, settings, str(source))
    print(part, seed, found, f"{time.process_time() - started:.0f} CPU-s")


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def manager_accuracy(source: Path, tasks: Sequence[Task]) -> float:
    """A manager's greedy accuracy with the rule reader."""
    model, tokenizer = tiny.open_model(str(source))
    policy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny.REPLY_TOKENS)
    return sum(scores := tiny.accuracy(run_sync(tiny.play(policy, tasks)))) / len(scores)


def answerer_scores(source: Path, tasks: Sequence[Task], distill: bool, k: int) -> list[float]:
    """An answerer's greedy exact matches on bank tasks."""
    model, tokenizer = tiny.open_model(str(source))
    policy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny_reader.READER_TOKENS)
    return [
        answer_score(a) for a in run_sync(tiny_reader.ask_all(tiny_reader.tiny_answerer(distill, k), policy, tasks))
    ]


def measure() -> dict[str, Any]:  # noqa: C901
    """Every figure; per seed, so that intervals can be made."""
    found: dict[str, Any] = {"grid": {}, "distillation": {}, "algorithms": {}, "few": {}, "curves": {}}
    test = make_tasks(200, 6, "test")
    for seed in SEEDS:
        managers = {"untrained": cold("manager", seed), "trained": MANAGERS / f"seed{seed}", "oracle": "oracle"}
        answerers = {"untrained": RUNS / f"cold_answerer_{seed}", "trained": RUNS / f"answerer_{seed}"}
        direct = {"untrained": RUNS / f"cold_answerer_direct_{seed}", "trained": RUNS / f"answerer_direct_{seed}"}
        for name, manager in managers.items() if finished(answerers["trained"]) else ():
            banks = tiny_reader.banks_of(str(manager), 120, "test", 4)
            for who, source in answerers.items():
                scores = answerer_scores(source, banks, True, tiny_reader.SHOWN)
                found["grid"].setdefault(f"{name} manager, {who} answerer", []).append(_mean(scores))
            if name != "trained" or not finished(direct["trained"]):
                continue
            for k in (6, 12, 16):
                for label, sources, distill in (("selects", answerers, True), ("direct", direct, False)):
                    for who, source in sources.items():
                        scores = answerer_scores(source, banks, distill, k)
                        found["distillation"].setdefault(f"{label}, {who}, k={k}", []).append(_mean(scores))
        for part in ("manager", "manager_ppo", "manager_trajectory", "manager_linked", *(f"few_{n}" for n in FEW)):
            folder = RUNS / f"{part}_{seed}" if part != "manager" else MANAGERS / f"seed{seed}"
            if not finished(folder):
                continue
            kind = "few" if part.startswith("few") else "algorithms"
            found[kind].setdefault(part, []).append(manager_accuracy(folder, test))
            found["curves"].setdefault(part, []).append(points(folder))
        found["algorithms"].setdefault("cold start", []).append(manager_accuracy(managers["untrained"], test))
        for part in ANSWERERS:
            if finished(RUNS / f"{part}_{seed}"):
                found["curves"].setdefault(part, []).append(points(RUNS / f"{part}_{seed}"))
        if finished(RUNS / f"answerer_ppo_{seed}"):
            banks = tiny_reader.banks_of(str(managers["trained"]), 120, "test", 4)
            scores = answerer_scores(RUNS / f"answerer_ppo_{seed}", banks, True, tiny_reader.SHOWN)
            found["algorithms"].setdefault("answerer_ppo", []).append(_mean(scores))
    found["cases"] = cases()
    found["preset"] = claims_report.PRESET
    return found


def finished(folder: Path) -> bool:
    """Whether a run went to its last update."""
    records = RunFolder(folder).metrics() if (folder / "metrics.jsonl").exists() else []
    planned = tiny.TinySettings()
    last = planned.reader_loop.updates if "answerer" in folder.name else planned.loop.updates
    return bool(records) and records[-1]["update"] >= last


def points(folder: Path) -> list[list[float]]:
    """[update, validation accuracy] at each evaluation."""
    return [[r["update"], round(r["validation"], 4)] for r in RunFolder(folder).metrics() if r["phase"] == "eval"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


CASES = {
    "a list that grows and shrinks, with noise between (the README's example)": (
        ["Anna has a pet called Rex", "a pet of Anna is Luna", "Anna asked about Milo", "Anna gave Rex away"],
        "pets of Anna ?",
        "Luna",
    ),
    "two dogs: an update keeps both": (["Anna adopted Rex", "a pet of Anna is Luna"], "pets of Anna ?", "Rex Luna"),
    "a liking is kept when a related fact arrives": (
        ["Ben enjoys chess", "Ben plays the piano", "Ben asked about golf"],
        "hobbies of Ben ?",
        "chess",
    ),
}


def cases() -> dict[str, Any]:
    """Hand-written episodes before and after training: what was done, what is held, the answer."""
    from mnemon.agent import State, ask_probe
    from mnemon.memory.memory import Memory
    from mnemon.types import Probe

    async def tell(policy: LocalPolicy, texts: Sequence[str], question: str, gold: str) -> dict[str, Any]:
        agent, state = tiny.tiny_manager(), State(Memory())
        did = []
        for text in texts:
            turn = await agent.respond(state, text, policy)
            did.append([f"{o.kind} {o.entry.text}" for o in turn.operations])
        answer = await ask_probe(tiny.rule_reader(), state, Probe("q", question, (gold,), scorers=("list_exact",)))
        return {"operations": did, "memory": [e.text for e in state.memory.entries()], "answer": answer.text}

    found: dict[str, Any] = {}
    for title, (texts, question, gold) in CASES.items():
        found[title] = {"inputs": texts, "question": question, "gold": gold}
        for who, source in (("untrained", cold("manager", 0)), ("trained", MANAGERS / "seed0")):
            model, tokenizer = tiny.open_model(str(source))
            policy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny.REPLY_TOKENS)
            found[title][who] = run_sync(tell(policy, texts, question, gold))
    found["a noisy memory is dropped by distillation"] = noisy_case()
    return found


def noisy_case() -> dict[str, Any]:
    """A bank with stale and foreign memories: what the answerer names as useful, and its answer, before and after."""
    from mnemon.agent import State
    from mnemon.memory.memory import Memory

    bank = ["Anna city Rome", "Ben city Oslo", "Anna pets Rex", "how are you", "Anna city Paris", "Ben pets Luna"]
    found: dict[str, Any] = {"memory": bank, "question": "city of Anna ?", "gold": "Paris"}
    for who, source in (("untrained", RUNS / "cold_answerer_0"), ("trained", RUNS / "answerer_0")):
        model, tokenizer = tiny.open_model(str(source))
        policy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny_reader.READER_TOKENS)
        memory = Memory()
        for text in bank:
            memory.add(text)
        turn = run_sync(tiny_reader.tiny_answerer().respond(State(memory), "city of Anna ?", policy))
        found[who] = {"selected": turn.steps[0].completion.message.content, "answer": turn.reply}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "measure", "write"))
    parser.add_argument("part", nargs="?", choices=PARTS, help="what to train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = HERE / "claims.json"
    if options.what == "train":
        if options.part is None:
            parser.error(f"train needs a part: {', '.join(PARTS)}")
        train_part(options.part, options.seed)
    elif options.what == "measure":
        atomic_write_text(figures, json.dumps(measure(), indent=1) + "\n")
    else:
        claims_report.write(json.loads(figures.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
