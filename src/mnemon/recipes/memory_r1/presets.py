"""Memory-R1's hyper-parameters: ours and the paper's (arXiv 2508.19828 §4.1), for LLaMA-3.1-8B and Qwen-2.5-7B.

docs/paper_index.md lists every value beside the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mnemon.train.config import TrainConfig
from mnemon.train.loop import LoopConfig
from mnemon.types import MnemonError

PROMPT_TOKENS, REPLY_TOKENS = 4096, 2048
"""The paper's most prompt and response tokens."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a profile fixes: agent settings, reward, credit, optimisation, lengths."""

    manager: dict[str, Any]
    answerer: dict[str, Any]
    reward: Literal["em", "graded"]
    gain: bool
    train: TrainConfig
    loop: LoopConfig
    prompt_tokens: int = PROMPT_TOKENS
    reply_tokens: int = REPLY_TOKENS
    context_turns: int = 50
    turns_per_input: int = 2
    notes: dict[str, str] = field(default_factory=dict)


PRESETS = {
    "default": Preset(
        manager={"extract": "policy", "related": 5, "banks": "one", "reply": "tools"},
        answerer={"k": 60, "distill": True, "per_owner": False},
        reward="graded",
        gain=True,
        train=TrainConfig(lr=1e-6, critic_lr=1e-5, warmup=10, kl_coef=0.001, token_budget=16384),
        loop=LoopConfig(updates=100, groups=16, members=8, eval_every=20, constant="resample"),
        prompt_tokens=8192,
    ),
    "paper": Preset(
        manager={"extract": "policy", "related": 5, "banks": "two", "reply": "json"},
        answerer={"k": 60, "distill": True, "per_owner": True},
        reward="em",
        gain=False,
        train=TrainConfig(lr=1e-6, critic_lr=1e-5, warmup=10, kl_coef=0.001, token_budget=16384),
        loop=LoopConfig(updates=100, groups=16, members=8, eval_every=20, constant="skip"),
        turns_per_input=1,  # one speaker per input: the owner, whose bank it goes to
    ),
}
"""`--profile`: ours, and the published system as far as it is described."""


def preset(profile: str) -> Preset:
    """The preset of a profile name."""
    if profile not in PRESETS:
        raise MnemonError(f"unknown profile {profile!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[profile]
