"""What the guides say, held against the code: links, commands and options, names, the table of hyper-parameters."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer.main

from mnemon import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
GUIDES = ("concepts.md", "training.md", "evaluation.md", "tiny_world.md", "paper_index.md", "data.md")


def options(*path: str) -> set[str]:
    """Every option of a command."""
    command = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    return {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}


def test_the_guides_are_there() -> None:
    assert set(GUIDES) <= set(TEXT)


@pytest.mark.parametrize("name", sorted(TEXT))
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXT[name]):
        if not target.startswith(("http://", "https://")):
            assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("name", GUIDES)
def test_files_exist(name: str) -> None:
    for path in re.findall(r"`((?:examples|benchmarks|docs)/[\w./]+)`", TEXT[name]):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:recipes|agents|algos|train|eval)/[\w/]+\.py)`", TEXT[name]):
        assert (ROOT / "src" / "mnemon" / path).exists(), path


@pytest.mark.parametrize("name", GUIDES)
def test_options_exist(name: str) -> None:
    every = (
        options("train", "memory-r1")
        | options("eval", "memory-r1")
        | options("data", "show")
        | options("data", "build")
    )
    known = every | {"--nproc_per_node"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", TEXT[name])) <= known


@pytest.mark.parametrize("name", GUIDES)
def test_commands_take_their_options(name: str) -> None:
    for line in re.findall(r"^mnemon .*|(?<=-m mnemon\.cli )train .*", TEXT[name], re.MULTILINE):
        words = line.partition("#")[0].removeprefix("mnemon ").split()
        path = words[:2] if words[0] in ("train", "eval", "data") else words[:1]
        given = {word for word in words if word.startswith("--")}
        assert given <= options(*path), line


@pytest.mark.parametrize("name", GUIDES)
def test_dotted_names_exist(name: str) -> None:
    for dotted in re.findall(r"`(mnemon(?:\.\w+)+)", TEXT[name]):
        parts = dotted.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[cut:]:
                found = getattr(found, attribute)
            break


def cells(title: str) -> list[str]:
    """The row of the paper index whose first cell is `title`; in a title of two tables, all cells of both."""
    rows = [line for line in TEXT["paper_index.md"].splitlines() if line.strip("| *").startswith(title)]
    assert rows, title
    return [cell.strip() for row in rows for cell in row.strip("|").split("|")]


def test_paper_index_profiles() -> None:
    pytest.importorskip("torch")
    from mnemon.recipes.memory_r1.options import TrainOptions
    from mnemon.recipes.memory_r1.presets import PRESETS

    paper, default = PRESETS["paper"], PRESETS["default"]
    assert (paper.manager["banks"], default.manager["banks"]) == ("two", "one")
    assert (paper.manager["reply"], default.manager["reply"]) == ("json", "tools")
    assert (paper.turns_per_input, default.turns_per_input) == (1, 2)
    assert (paper.reward, default.reward, paper.gain, default.gain) == ("em", "graded", False, True)
    assert (paper.loop.constant, default.loop.constant) == ("skip", "resample")
    assert cells("prompt, response")[2:4] == ["=", f"{default.prompt_tokens:,} and {default.reply_tokens:,}"]
    assert (paper.prompt_tokens, paper.reply_tokens) == (4096, 2048)
    assert TrainOptions().construction == "bandit"
    for preset in (paper, default):
        config, loop = preset.train, preset.loop
        assert f"{loop.groups} tasks × {loop.members} rollouts" in cells("batch, per step")[2]
        assert f"{config.token_budget:,} tokens" in cells("batch, per step")[2]
        assert cells("updates")[2] == f"*{loop.updates}*"
        assert cells("GRPO group size")[2:4] == [f"*{loop.members}*", str(loop.members)]
        assert cells("clip ε")[2:4] == [f"*{config.clip_low}*", str(config.clip_high)]
        assert f"{config.kl_coef}, estimator {config.kl_kind}" in cells("KL coefficient")[2]
        assert (loop.gamma, loop.lam, loop.ddof, loop.eps) == (1, 1, 1, 1e-4)
        assert (config.lr, config.critic_lr, config.warmup, config.schedule) == (1e-6, 1e-5, 10, "constant")
        assert (config.epochs, config.minibatch, config.max_row_tokens) == (1, None, None)
        assert (config.betas, config.weight_decay, config.max_grad_norm) == ((0.9, 0.999), 0.0, 1.0)
        assert preset.manager["related"] == int(cells("memories shown to the manager")[2].split()[0].strip("*"))
        assert preset.context_turns == 50


def test_paper_index_tiny_world() -> None:
    pytest.importorskip("torch")
    from mnemon.recipes.memory_r1.tiny import TinySettings, manager_rewards

    tiny = TinySettings()
    row = cells("batch")[-3:]
    assert f"{tiny.loop.groups} tasks × {tiny.loop.members}, minibatches of {tiny.rl.minibatch} trajectories" in row[1]
    rate, answerer = f"{tiny.rl.lr:.0e}".replace("e-0", "e-"), f"{tiny.reader_rl.lr:.0e}".replace("e-0", "e-")
    assert f"{rate} (answerer {answerer}), warm-up {tiny.rl.warmup}," in cells("learning rate")[-2]
    assert cells("updates")[-2] == f"{tiny.loop.updates} (answerer {tiny.reader_loop.updates})"
    assert cells("KL, entropy")[2] == f"no KL, entropy bonus {tiny.rl.entropy}"
    assert tiny.rl.kl_coef == 0
    assert tiny.credit == "mixed"
    terms = [(r.name, r.weight) for r in manager_rewards("mixed", "grpo")]
    assert terms == [("linked_answers", 0.5), ("answers", 0.5), ("invalid", -0.2)]
    assert f"critic {tiny.rl.critic_lr:.0e},".replace("e-0", "e-") in cells("learning rate")[-2]
    assert f"{tiny.loop.groups} tasks of six events × {tiny.loop.members} members" in TEXT["tiny_world.md"]


def test_tiny_world_numbers() -> None:
    from mnemon.tasks.tiny import scripted, words

    text = TEXT["tiny_world.md"]
    assert f"People ({len(words.PEOPLE)})" in text
    assert f"the {len(words.PEOPLE) - words.UNSEEN_PEOPLE} known" in text
    assert f"{words.UNSEEN_PEOPLE} names that training never shows" in text
    assert all(attribute in text for attribute in words.ATTRIBUTES)
    assert all(f"| {name} |" in text for name in scripted.POLICIES)
    lines = [scripted.read_line("1", "Anna city Paris"), scripted.read_line("2", "Anna pets Rex Luna")]
    reading = scripted.read_sentence("Rex ran away from Anna")
    assert f"<think> {scripted.think(lines, reading)} </think>" in text
    assert scripted.right_call(lines, reading).arguments == {"id": "2", "text": "Anna pets Luna"}
    senses = {"new": "state", "change": "state", "more": "state", "drop": "remove", "distract": "distract"}
    for kind, example in re.findall(r"^\| (\w+)(?: \(.*?\))? \| (\w[^|]*?) \|", text, re.MULTILINE):
        if kind in senses:
            assert scripted.read_sentence(example).sense == senses.pop(kind), example
    assert not senses
