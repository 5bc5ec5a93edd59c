"""mnemon: agents that learn what to remember.

The names that programs use most, in one place: ``from mnemon import Agent, Task, rollout``. They are imported when they
are first used, so importing mnemon itself costs nothing and never needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemon.agent import Agent, Ctx, Limits, State, rollout, rollouts
    from mnemon.eval.evaluate import evaluate
    from mnemon.eval.report import Report, compare
    from mnemon.memory.memory import Entry, Memory, Operation, Section
    from mnemon.memory.retrieve import Lexical
    from mnemon.policy.base import Scripted, run_sync
    from mnemon.policy.http import HttpPolicy
    from mnemon.policy.local import LocalPolicy
    from mnemon.policy.open import open_policy
    from mnemon.rewards import Reward
    from mnemon.runs import RunFolder
    from mnemon.tasks.script import Script, script
    from mnemon.tools import Tool, tool
    from mnemon.train.config import TrainConfig
    from mnemon.train.loop import LoopConfig, Problem
    from mnemon.train.trainer import Trainer
    from mnemon.transcript import trajectory_text
    from mnemon.types import (
        Answer,
        Completion,
        Environment,
        Input,
        Message,
        MnemonError,
        Policy,
        Probe,
        Stage,
        Step,
        Task,
        ToolCall,
        ToolError,
        ToolResult,
        ToolSchema,
        Trajectory,
        Turn,
        Unscorable,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "Agent",
    "Answer",
    "Completion",
    "Ctx",
    "Entry",
    "Environment",
    "HttpPolicy",
    "Input",
    "Lexical",
    "Limits",
    "LocalPolicy",
    "LoopConfig",
    "Memory",
    "Message",
    "MnemonError",
    "Operation",
    "Policy",
    "Probe",
    "Problem",
    "Report",
    "Reward",
    "RunFolder",
    "Script",
    "Scripted",
    "Section",
    "Stage",
    "State",
    "Step",
    "Task",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolSchema",
    "TrainConfig",
    "Trainer",
    "Trajectory",
    "Turn",
    "Unscorable",
    "compare",
    "evaluate",
    "open_policy",
    "rollout",
    "rollouts",
    "run_sync",
    "script",
    "tool",
    "trajectory_text",
]

_HOMES = {
    "mnemon.agent": "Agent Ctx Limits State rollout rollouts",
    "mnemon.eval.evaluate": "evaluate",
    "mnemon.eval.report": "Report compare",
    "mnemon.memory.memory": "Entry Memory Operation Section",
    "mnemon.memory.retrieve": "Lexical",
    "mnemon.policy.base": "Scripted run_sync",
    "mnemon.policy.http": "HttpPolicy",
    "mnemon.policy.local": "LocalPolicy",
    "mnemon.policy.open": "open_policy",
    "mnemon.rewards": "Reward",
    "mnemon.runs": "RunFolder",
    "mnemon.tasks.script": "Script script",
    "mnemon.tools": "Tool tool",
    "mnemon.train.config": "TrainConfig",
    "mnemon.train.loop": "LoopConfig Problem",
    "mnemon.train.trainer": "Trainer",
    "mnemon.transcript": "trajectory_text",
    "mnemon.types": "Answer Completion Environment Input Message MnemonError Policy Probe Stage Step Task ToolCall "
    "ToolError ToolResult ToolSchema Trajectory Turn Unscorable",
}
"""Module -> the names that come from it."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
