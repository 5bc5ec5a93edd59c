"""Mem-α's hyper-parameters: ours and the paper's (arXiv 2509.25911 §4.1 and its released scripts), for Qwen3-4B.

docs/paper_index.md lists every value beside the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mnemon.rewards.memory import Profile
from mnemon.train.config import LoopConfig, TrainConfig
from mnemon.types import MnemonError


@dataclass(frozen=True, slots=True)
class Preset:
    """What a profile fixes.

    writer, layout, reader: options of the agents (`mnemon.agents.mem_alpha`). validity, beta, gamma: weights of valid
    calls, compression and content; `pays` is how the first and the last treat refused calls. credit: to whom answers
    are paid: "episode" (every chunk) or "evidence" (half of it to the chunks that hold the evidence).
    prompt_tokens, reply_tokens: the writer's; answer_prompt, answer_tokens: the reader's. questions: most questions per
    stream and update (None: all).
    """

    writer: dict[str, Any]
    layout: dict[str, Any]
    reader: dict[str, Any]
    train: TrainConfig
    loop: LoopConfig
    pays: Profile = "default"
    validity: float = 1.0
    beta: float = 0.05
    gamma: float = 0.1
    credit: Literal["episode", "evidence"] = "episode"
    prompt_tokens: int = 6144
    reply_tokens: int = 2048
    answer_prompt: int = 30000
    answer_tokens: int = 512
    questions: int | None = None


PRESETS = {
    "default": Preset(
        writer={"shown": "related", "related": 5, "recent": 2, "rounds": 1},
        layout={"core": 512},
        reader={"k": 20},
        train=TrainConfig(lr=1e-6, warmup=5, minibatch=256, token_budget=16384),
        loop=LoopConfig(updates=100, groups=16, members=8, eval_every=20, step_credit="separate"),
        validity=0.2,
        questions=20,
    ),
    "paper": Preset(
        writer={"shown": "newest", "rounds": 1},
        layout={"core": 512, "cut": True},
        reader={"k": 20},
        train=TrainConfig(
            lr=1e-6,
            warmup=10,
            minibatch=32,
            kl_coef=0.001,
            weight_decay=0.01,
            dual_clip=3.0,
            loss_weights="token_mean",
            token_budget=16384,
        ),
        loop=LoopConfig(updates=205, groups=32, members=8, eval_every=50, step_credit="pooled", eps=1e-6),
        pays="paper",
        answer_tokens=2048,
    ),
}
"""`--profile`: ours, and the published system."""


def preset(profile: str) -> Preset:
    """The preset of a profile name."""
    if profile not in PRESETS:
        raise MnemonError(f"unknown profile {profile!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[profile]
