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
GUIDES = ("concepts.md", "training.md", "evaluation.md", "tiny_world.md", "paper_index.md", "data.md", "mem_alpha.md")


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
    commands = [(verb, recipe) for verb in ("train", "eval") for recipe in ("memory-r1", "mem-alpha")]
    commands += [("data", "show"), ("data", "build")]
    known = {"--nproc_per_node"}.union(*(options(*command) for command in commands))
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


def cells(title: str, system: str = "Memory-R1") -> list[str]:
    """The row of the paper index whose first cell is `title`; in a title of two tables, all cells of both."""
    page = next(part for part in TEXT["paper_index.md"].split("\n## ") if part.startswith(system))
    rows = [line for line in page.splitlines() if line.strip("| *").startswith(title)]
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


def test_paper_index_mem_alpha() -> None:
    pytest.importorskip("torch")
    from mnemon.agents.mem_alpha import NEWEST
    from mnemon.recipes.mem_alpha.presets import PRESETS

    def cell(title: str) -> tuple[str, str]:
        """Profile paper, default."""
        row = cells(title, "Mem-α")
        return row[2], row[2] if row[3].startswith("=") else row[3]

    paper, default = PRESETS["paper"], PRESETS["default"]
    assert (paper.writer["shown"], default.writer["shown"], NEWEST) == ("newest", "related", 5)
    related, recent = default.writer["related"], default.writer["recent"]
    shown = f"the {related} entries of each list related to the chunk, the {recent} newest"
    assert shown in cell("the writer sees")[1]
    assert (paper.writer["rounds"], default.writer["rounds"], paper.layout.get("cut"), default.layout.get("cut")) == (
        (1, 1, True, None)
    )
    assert (paper.pays, default.pays, paper.validity) == ("paper", "default", 1)
    assert f"weight {default.validity:g} (" in cell("r2, valid calls")[1]
    assert cells("r2, valid calls", "Mem-α")[1].startswith(f"weight {paper.validity:g};")
    for preset, column in ((paper, 0), (default, 1)):
        config, loop = preset.train, preset.loop
        assert f"at most {preset.layout['core']} tokens" in cell("core")[column]
        assert cell("prompt, reply of the writer")[column] == f"{preset.prompt_tokens:,} and {preset.reply_tokens:,}"
        answer = f"{preset.answer_prompt:,} and {preset.answer_tokens:,}"
        assert cells("prompt, answer of the reader", "Mem-α")[1 + 2 * column].startswith(answer)
        assert f"{preset.reader['k']} of each list" in cell("entries for an answer")[column]
        assert cell("β")[column].startswith(f"{preset.beta:g}")
        assert cell("γ")[column].startswith(f"{preset.gamma:g}")
        kind, eps = cell("GRPO comparison")[column].split("; ")
        assert kind == ("pooled" if loop.step_credit == "pooled" else "trajectory terms and step terms apart")
        assert float(eps) == loop.eps
        assert cell("batch")[column].startswith(f"{loop.groups} streams × {loop.members} rollouts")
        assert cell("questions per stream")[column].startswith(str(preset.questions or "all"))
        assert cell("minibatch")[column].startswith(f"{config.minibatch} trajectories")
        assert cell("updates")[column].startswith(str(loop.updates))
        assert cell("rate and warm-up")[column].startswith(f"1e-6, {config.warmup} updates")
        assert cell("KL coefficient")[column].startswith(f"{config.kl_coef:g}")
        assert cell("weight decay")[column] == f"{config.weight_decay:g}"
        assert cell("weight of a trajectory")[column] == f"`{config.loss_weights}`"
        assert cell("validation every")[column].startswith(f"{loop.eval_every} updates")
        assert (config.lr, config.schedule, config.clip_low, config.clip_high, config.epochs) == (
            (1e-6, "constant", 0.2, 0.2, 1)
        )
        assert (preset.credit, loop.constant, loop.algo, config.temperature) == ("episode", "skip", "grpo", 1.0)
    assert (paper.train.dual_clip, default.train.dual_clip) == (3.0, None)
    assert cells("clip and dual clip", "Mem-α")[1:4] == ["0.2, dual clip 3", "=", "0.2, none"]


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
