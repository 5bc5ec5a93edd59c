"""Starting a Memory-R1 run from its options: the plan, the models, the folder, the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemon.agent import Agent, State, rollouts
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.memory.memory import Memory
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.memory_r1 import locomo as real
from mnemon.recipes.memory_r1 import tiny, tiny_reader
from mnemon.recipes.memory_r1.options import TrainOptions
from mnemon.recipes.memory_r1.presets import Preset, preset
from mnemon.recipes.memory_r1.tiny_eval import reader_of
from mnemon.tasks import locomo
from mnemon.tasks.tiny.scripted import oracle, writer_reply
from mnemon.train.launch import Frozen, checkpoints_of, loop_of, lora, opened, prepare, trained_model
from mnemon.train.loop import LoopConfig, Problem, train
from mnemon.train.progress import Progress
from mnemon.train.ranks import world
from mnemon.train.tensorboard import mirror
from mnemon.types import Message, MnemonError, Policy, ToolSchema

ROLES = ("policy", "writer", "reader", "extractor")
"""The options that name a model."""


def start(options: TrainOptions) -> dict[str, Any]:
    """Train as asked; returns the last evaluation. Under torchrun every process calls it."""
    prepare(options.policy, options.seed, "--reader, --writer, --extractor")
    return _tiny(options) if options.data is None else _locomo(options)


def _loop(base: LoopConfig, options: TrainOptions) -> LoopConfig:
    """The profile's loop with what the command line changes."""
    names = ("algo", "updates", "groups", "members", "constant")
    return loop_of(base, options.seed, **{name: getattr(options, name) for name in names})


# ── the tiny world ───────────────────────────────────────────────────────────────────────────────────────────────────


def tiny_settings(options: TrainOptions) -> tiny.TinySettings:
    """The tiny preset with what the command line changes."""
    base = tiny.TinySettings(seed=options.seed, train_tasks=options.train_questions)
    changes: dict[str, Any] = {n: v for n, v in (("lr", options.lr), ("kl_coef", options.kl)) if v is not None}
    if options.lora is not None:
        changes["lora"] = lora(options.lora)
    return replace(
        base,
        cold_updates=options.cold_updates or base.cold_updates,
        reader_cold_updates=options.cold_updates or base.reader_cold_updates,
        rl=replace(base.rl, **changes),
        loop=_loop(base.loop, options),
        reader_rl=replace(base.reader_rl, **changes),
        reader_loop=_loop(base.reader_loop, options),
    )


def _tiny(options: TrainOptions) -> dict[str, Any]:
    settings = tiny_settings(options)
    scratch = options.policy == "tiny"
    if options.dry_run:
        _print_tiny_plan(options, settings)
        return {}
    described = {"recipe": "memory-r1", "world": "tiny", "role": options.role, **_settings(options, settings)}
    described |= checkpoints_of(options, ROLES)
    with opened(options.run, described, seed=options.seed, resume=options.resume) as run:
        cold = options.policy
        writer, reader = options.writer or "oracle", reader_of(options.reader)
        tiny_reader.check_writer(writer)  # mistakes are said before the cold start
        if scratch:
            cold = str(tiny.cold_start(options.run / "cold", settings, options.role, distill=options.distill))
        with mirror(run, options.tensorboard and world()[0] == 0):
            if options.role == "writer":
                return tiny.train_writer(run, settings, cold, reader)
            return tiny_reader.train_reader(run, settings, cold, writer, options.distill)


def _settings(options: TrainOptions, settings: tiny.TinySettings) -> dict[str, Any]:
    """What a run is started with and resumed with: the settings of the role that is trained."""
    reading = options.role == "reader"
    names = ("policy", "writer", "reader", "distill")
    return {name: getattr(options, name) for name in names} | {
        "loop": dataclasses.asdict(settings.reader_loop if reading else settings.loop),
        "train": dataclasses.asdict(settings.reader_rl if reading else settings.rl),
        "cold_updates": settings.reader_cold_updates if reading else settings.cold_updates,
        "train_tasks": settings.train_tasks,
    }


def _print_tiny_plan(options: TrainOptions, settings: tiny.TinySettings) -> None:
    right = writer_reply(oracle)
    task = tiny.training_tasks(settings, 0, 0)[0]
    seen: list[str] = []

    def look(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        seen.append("\n".join(m.content for m in messages))
        return right(messages, tools)

    run_sync(tiny.play(Scripted(look), [task]))
    reading = options.role == "reader"
    loop, rl = (settings.reader_loop, settings.reader_rl) if reading else (settings.loop, settings.rl)
    cold = settings.reader_cold_updates if reading else settings.cold_updates
    each = "one question each" if reading else f"{settings.length} events each"
    lines = [
        f"Memory-R1, role {options.role}, {options.algo}, tiny world",
        f"  cold start   {cold} updates of {settings.cold_batch} rows",
        f"  training     {loop.updates} updates of {loop.groups} tasks x {loop.members} rollouts, {each}",
        f"  learning     lr {rl.lr:g}, entropy {rl.entropy:g}, KL {rl.kl_coef:g}, clip {rl.clip_low:g}",
        f"  run folder   {options.run}",
        f"\none prompt of a manager's task ({task.id}):\n{seen[-1]}",
    ]
    print("\n".join(lines))


# ── LoCoMo with a real model ─────────────────────────────────────────────────────────────────────────────────────────


def configured(options: TrainOptions) -> Preset:
    """The profile with what the command line changes."""
    base = preset(options.profile)
    changes: dict[str, Any] = {}
    if options.lr is not None:
        changes["lr"] = options.lr
    if options.kl is not None:
        changes["kl_coef"] = options.kl
    if options.lora is not None:
        changes["lora"] = lora(options.lora)
    writer = dict(base.manager)
    if options.facts is not None:
        writer["extract"] = options.facts
    reader = {**base.answerer, "distill": options.distill}
    if options.k is not None:
        reader["k"] = options.k
    return replace(
        base,
        manager=writer,
        answerer=reader,
        train=replace(base.train, seed=options.seed, **changes),
        loop=_loop(base.loop, options),
        prompt_tokens=options.max_prompt or base.prompt_tokens,
        reply_tokens=options.max_reply or base.reply_tokens,
    )


def _locomo(options: TrainOptions) -> dict[str, Any]:
    assert options.data is not None
    if options.policy == "tiny":
        raise MnemonError("the tiny model knows only the tiny world's words: give --policy PATH_OR_HUB_ID with --data")
    setting = configured(options)
    data = locomo.load(options.data, options.skip_bad)
    conversations = list(locomo.split(data, "train"))
    held = [c for c in data.conversations if c.id in locomo.VALIDATION]  # a file without them trains without evaluation
    if options.dry_run:
        _print_plan(options, setting, conversations)
        return {}
    described = {
        "recipe": "memory-r1",
        "world": "locomo",
        "data": {"file": str(options.data), "sha256": data.sha256},
        **{
            n: getattr(options, n)
            for n in ("role", "policy", "writer", "reader", "extractor", "profile", "construction", "train_questions")
        },
        "agent": setting.manager if options.role == "writer" else setting.answerer,
        "partner": setting.answerer if options.role == "writer" else setting.manager,
        **checkpoints_of(options, ROLES),
        "lengths": {"prompt": setting.prompt_tokens, "reply": setting.reply_tokens},
        "loop": dataclasses.asdict(setting.loop),
        "train": dataclasses.asdict(setting.train),
    }
    with (
        opened(options.run, described, seed=options.seed, resume=options.resume) as run,
        mirror(run, options.tensorboard and world()[0] == 0),
    ):
        trainer, policy, tokenizer = trained_model(
            options.policy,
            setting.train,
            reply_tokens=setting.reply_tokens,
            critic=options.algo == "ppo",
            seed=options.seed,
        )
        problem = _problem(options, setting, policy, conversations, held)
        return train(problem, trainer, setting.loop, run, tokenizer)


def _problem(
    options: TrainOptions,
    setting: Preset,
    policy: LocalPolicy,
    conversations: Sequence[locomo.Conversation],
    held: Sequence[locomo.Conversation],
) -> Problem:
    helpers: dict[str, Policy] = {}
    frozen = Frozen(options.run, options.policy, setting.reply_tokens)
    if setting.manager["extract"] == "policy":
        helpers["extractor"] = frozen.open(options.extractor, "extractor")
    if options.role == "writer":
        reader = answerer(**setting.answerer, window=setting.prompt_tokens)
        partner = frozen.open(options.reader, "reader")
        return real.writer_problem(
            conversations, held, setting, policy, (reader, partner),
            construction=options.construction, helpers=helpers, train_tasks=options.train_questions,
        )  # fmt: skip
    banks = build_banks(options, setting, frozen, [*conversations, *held], helpers)
    return real.reader_problem(conversations, held, setting, policy, banks, train_questions=options.train_questions)


def build_banks(
    options: TrainOptions,
    setting: Preset,
    frozen: Frozen,
    conversations: Sequence[locomo.Conversation],
    helpers: Mapping[str, Policy],
) -> dict[str, Memory]:
    """The bank of each conversation, by the frozen manager, or every turn as it stands (--writer turns)."""
    spec = options.writer or "turns"
    agent: Agent = manager(**setting.manager, window=setting.prompt_tokens)
    banks: dict[str, Memory] = {}
    if spec == "turns":
        for conversation in conversations:
            banks[conversation.id] = real.raw_bank(agent, real.all_inputs(conversation, 1)).memory
        return banks
    policy = frozen.open(spec, "manager")
    with Progress("building banks", len(conversations), quiet=world()[0] != 0) as progress:
        for conversation in conversations:
            task = real.conversation_task(conversation, setting.turns_per_input)
            played = run_sync(rollouts(agent, [task], policy, helpers=helpers))
            state: State = played[0][0].state
            banks[conversation.id] = state.memory
            progress.advance({})
    return banks


def _print_plan(options: TrainOptions, setting: Preset, conversations: Sequence[locomo.Conversation]) -> None:
    """`--dry-run`: what would be done, and one rendered prompt (no model is loaded)."""
    loop = setting.loop
    if options.role == "writer":
        tasks, before = real.manager_tasks(conversations, setting, options.construction)
        tasks = tasks[: options.train_questions]
        agent = manager(**{**setting.manager, "extract": "raw"})
        state = real.raw_bank(agent, before[tasks[0].id])
        what = f"{len(tasks)} tasks ({options.construction}), {sum(len(t.probes) for t in tasks)} linked questions"
    else:
        tasks = real.answer_tasks(conversations, setting)[: options.train_questions]
        agent = answerer(**setting.answerer)
        state = real.raw_bank(agent, real.all_inputs(conversations[0], 1))
        what = f"{len(tasks)} questions"
    shown: list[str] = []

    def look(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        shown.append("\n".join(f"[{m.role}]\n{m.content}" for m in messages))
        return ""

    text = tasks[0].probes[0].question
    if options.role == "writer":
        given = run_sync(tasks[0].stages[0].environment().reset())
        run_sync(agent.respond(state, given or text, Scripted(look)))
    else:
        run_sync(agent.respond(state, text, Scripted(look)))
    writing = options.role == "writer"
    reward = "exact match" if setting.reward == "em" else "exact match, else category F1"
    lines = [
        f"Memory-R1, role {options.role}, {options.algo}, profile {options.profile}",
        f"  policy       {options.policy}",
        f"  data         {options.data}: {what}",
        f"  training     {loop.updates} updates of {loop.groups} tasks x {loop.members} rollouts",
        f"  learning     lr {setting.train.lr:g}, KL {setting.train.kl_coef:g}, LoRA {options.lora or 'none'}",
        f"  lengths      prompt {setting.prompt_tokens}, reply {setting.reply_tokens} tokens",
        f"  agent        {setting.manager if writing else setting.answerer}",
        f"  reward       {reward}{', after minus before' if writing and setting.gain else ''}",
        f"  run folder   {options.run}",
        f"\none prompt:\n{shown[-1]}",
    ]
    print("\n".join(lines))
