"""Starting a Mem-α run from its options: the plan, the models, the folder, the loop."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnemon.agents import mem_alpha
from mnemon.memory.count import TokenCounter, token_counter
from mnemon.metrics import check_judges
from mnemon.policy.base import Scripted, run_sync
from mnemon.recipes.mem_alpha import rows as real
from mnemon.recipes.mem_alpha import tiny
from mnemon.recipes.mem_alpha.options import TrainOptions
from mnemon.recipes.mem_alpha.presets import Preset, preset
from mnemon.tasks.rows import read_splits, scorable_tasks, unjudged
from mnemon.train.launch import Frozen, checkpoints_of, loop_of, lora, opened, prepare, trained_model
from mnemon.train.loop import train
from mnemon.train.ranks import world
from mnemon.train.tensorboard import mirror
from mnemon.types import Message, MnemonError, Task, ToolSchema

ROLES = ("policy", "reader", "judge")
"""The options that name a model."""


def start(options: TrainOptions) -> dict[str, Any]:
    """Train as asked; returns the last evaluation. Under torchrun every process calls it."""
    prepare(options.policy, options.seed, "--reader, --judge")
    return _rows(options) if options.data else _tiny(options)


# ── the tiny stream ──────────────────────────────────────────────────────────────────────────────────────────────────


def tiny_settings(options: TrainOptions) -> tiny.TinySettings:
    """The tiny preset with what the command line changes."""
    base = tiny.TinySettings(seed=options.seed)
    changes: dict[str, Any] = {n: v for n, v in (("lr", options.lr), ("kl_coef", options.kl)) if v is not None}
    if options.lora is not None:
        changes["lora"] = lora(options.lora)
    weights = {n: getattr(options, n) for n in ("beta", "gamma", "validity") if getattr(options, n) is not None}
    if options.credit is not None:
        weights["credit"] = {"episode": "trajectory", "evidence": "linked"}[options.credit]
    return replace(
        base,
        cold_updates=options.cold_updates or base.cold_updates,
        rl=replace(base.rl, **changes),
        loop=_loop(base.loop, options),
        **weights,
    )


def _loop(base: Any, options: TrainOptions) -> Any:
    return loop_of(base, options.seed, updates=options.updates, groups=options.groups, members=options.members)


def _tiny(options: TrainOptions) -> dict[str, Any]:
    settings = tiny_settings(options)
    if options.dry_run:
        print(_tiny_plan(options, settings))
        return {}
    plain = dataclasses.asdict(settings)
    described = {"recipe": "mem-alpha", "world": "tiny", "role": "writer", "policy": options.policy, **plain}
    with opened(options.run, described, seed=options.seed, resume=options.resume) as run:
        cold = options.policy
        if cold == "tiny":
            cold = str(tiny.cold_start(options.run / "cold", settings))
        with mirror(run, options.tensorboard and world()[0] == 0):
            return tiny.train_writer(run, settings, cold)


def _tiny_plan(options: TrainOptions, settings: tiny.TinySettings) -> str:
    task = tiny.training_tasks(settings, 0, 0)[0]
    seen: list[str] = []

    def look(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        seen.append("\n".join(m.content for m in messages))
        return ""

    run_sync(tiny.play(Scripted(look), [task]))
    loop, rl = settings.loop, settings.rl
    weights = f"validity {settings.validity:g}, beta {settings.beta:g}, gamma {settings.gamma:g}"
    lines = [
        f"Mem-α, {loop.algo}, tiny stream",
        f"  cold start   {settings.cold_updates} updates of {settings.cold_batch} rows",
        f"  training     {loop.updates} updates of {loop.groups} streams x {loop.members} rollouts, "
        f"{settings.length} chunks each",
        f"  reward       answers ({settings.credit}), {weights}",
        f"  learning     lr {rl.lr:g}, entropy {rl.entropy:g}, KL {rl.kl_coef:g}, credit {loop.step_credit}",
        f"  run folder   {options.run}",
        f"\none prompt ({task.id}):\n{seen[0]}",
    ]
    return "\n".join(lines)


# ── rows of real data ────────────────────────────────────────────────────────────────────────────────────────────────


def configured(options: TrainOptions) -> Preset:
    """The profile with what the command line changes."""
    base = preset(options.profile)
    changes: dict[str, Any] = {n: v for n, v in (("lr", options.lr), ("kl_coef", options.kl)) if v is not None}
    if options.lora is not None:
        changes["lora"] = lora(options.lora)
    given = {n: getattr(options, n) for n in ("validity", "beta", "gamma", "credit", "questions")}
    writer = {**base.writer, "searching": options.search}
    writer |= {n: getattr(options, n) for n in ("shown", "rounds") if getattr(options, n) is not None}
    layout = dict(base.layout)
    if options.core_tokens is not None:
        layout["core"] = options.core_tokens
    if options.flat is not None:
        layout["flat"] = options.flat
    return replace(
        base,
        writer=writer,
        layout=layout,
        reader=base.reader if options.k is None else {**base.reader, "k": options.k},
        train=replace(base.train, seed=options.seed, **changes),
        loop=_loop(base.loop, options),
        prompt_tokens=options.max_prompt or base.prompt_tokens,
        reply_tokens=options.max_reply or base.reply_tokens,
        answer_prompt=min(base.answer_prompt, options.max_prompt or base.answer_prompt),
        answer_tokens=min(base.answer_tokens, options.max_reply or base.answer_tokens),
        **{n: v for n, v in given.items() if v is not None},
    )


def _rows(options: TrainOptions) -> dict[str, Any]:
    if options.policy == "tiny":
        raise MnemonError("the tiny model knows only the tiny world's words: give --policy PATH_OR_HUB_ID with --data")
    setting = configured(options)
    counter = token_counter(options.counter)
    chosen, held, left = _streams(options, setting)
    if options.dry_run:
        print(_plan(options, setting, counter, chosen, held, left))
        return {}
    if left and world()[0] == 0:
        print(f"left out: {left}", file=sys.stderr)
    described = {
        "recipe": "mem-alpha",
        "world": "rows",
        "role": "writer",
        "data": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in options.data},
        **{n: getattr(options, n) for n in (*ROLES, "profile", "counter")},
        **checkpoints_of(options, ROLES),
        "preset": {name: value for name, value in dataclasses.asdict(setting).items() if name != "loop"},
        "loop": dataclasses.asdict(setting.loop),
    }
    with (
        opened(options.run, described, seed=options.seed, resume=options.resume) as run,
        mirror(run, options.tensorboard and world()[0] == 0),
    ):
        trainer, policy, tokenizer = trained_model(
            options.policy, setting.train, reply_tokens=setting.reply_tokens, critic=False, seed=options.seed
        )
        frozen = Frozen(options.run, options.policy, setting.answer_tokens)
        answering = mem_alpha.reader(**setting.reader, window=setting.answer_prompt, counter=counter)
        reader = (answering, frozen.open(options.reader, "reader"))
        judge = None
        if setting.gamma:
            judge = mem_alpha.judge(frozen.open(options.judge, "judge"), blind=setting.pays == "paper")
        problem = real.writer_problem(
            chosen,
            held,
            setting,
            policy,
            reader,
            counter=options.counter,
            judge=judge,
            grader=frozen.open(options.judge, "grader") if options.judge else None,
        )
        return train(problem, trainer, setting.loop, run, tokenizer)


def _streams(options: TrainOptions, setting: Preset) -> tuple[list[Task], list[Task], str]:
    """Training and validation streams, and what is left out of them because only a judge can score it ("": nothing).

    Without --judge the model that judges what is written (the starting policy) grades no answer. MnemonError where
    nothing can be trained on, and for a judge that nobody asks.
    """
    rows = read_splits(options.data, options.skip_bad)
    judged = options.judge is not None
    chosen, held = (scorable_tasks(rows[split], judged) for split in ("train", "validation"))
    if not chosen:
        sizes = ", ".join(f"{len(found)} {split}" for split, found in rows.items())
        why = (
            "only a judge can score their questions: give --judge MODEL"
            if rows["train"]
            else "build rows of a training file, or deal the rows of one file to the splits: mnemon data build --deal"
        )
        raise MnemonError(f"nothing to train on in the split 'train' ({sizes} rows): {why}")
    if judged and not check_judges([*chosen, *held]) and not setting.gamma:
        raise MnemonError("--judge has nothing to do: --gamma is 0, and every question has a metric")
    left = unjudged([*rows["train"], *rows["validation"]], [*chosen, *held])
    if not left:
        return chosen, held, ""
    whole = f" ({left['rows']:,} whole streams)" if left["rows"] else ""
    return chosen, held, f"{left['questions']:,} questions{whole} that only a judge can score: give --judge MODEL"


def _plan(
    options: TrainOptions,
    setting: Preset,
    counter: TokenCounter,
    tasks: Sequence[Task],
    held: Sequence[Task],
    left: str,
) -> str:
    """`--dry-run`: what would be done, and one rendered prompt (no model is loaded)."""
    agent = mem_alpha.writer_of(**real.writer_settings(setting, options.counter))
    shown: list[str] = []

    def look(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        shown.append("\n".join(f"[{m.role}]\n{m.content}" for m in messages))
        return ""

    given = run_sync(tasks[0].stages[0].environment().reset())
    assert given is not None
    run_sync(agent.respond(agent.start(), given, Scripted(look)))

    def streams(tasks: Sequence[Task]) -> str:
        return f"{len(tasks):,} stream{'s' * (len(tasks) != 1)}"

    chunks = sum(len(getattr(stage.environment(), "inputs", ())) for task in tasks for stage in task.stages)
    questions = sum(len(task.probes) for task in tasks)
    sources = ", ".join(sorted({str(task.meta["source"]) for task in tasks}))
    weights = f"validity {setting.validity:g}, beta {setting.beta:g}, gamma {setting.gamma:g}"
    loop = setting.loop
    lines = [
        f"Mem-α, {loop.algo}, profile {options.profile}",
        f"  policy       {options.policy}",
        f"  data         {streams(tasks)} ({sources}), {chunks} chunks, {questions} "
        f"question{'s' * (questions != 1)}; {streams(held)} for validation",
        *([f"  left out     {left}"] if left else []),
        f"  training     {loop.updates} updates of {loop.groups} streams x {loop.members} rollouts, at most "
        f"{setting.questions or 'all'} questions each",
        f"  reward       answers ({setting.credit}), {weights}; credit {loop.step_credit}",
        f"  learning     lr {setting.train.lr:g}, KL {setting.train.kl_coef:g}, LoRA {options.lora or 'none'}",
        f"  lengths      prompt {setting.prompt_tokens}, reply {setting.reply_tokens} tokens",
        f"  memory       {setting.layout}, counted in {counter.name}",
        f"  run folder   {options.run}",
        f"\none prompt:\n{shown[0]}",
    ]
    return "\n".join(lines)
