"""Agents and how they are played: one loop, rollouts of tasks, fingerprints."""

from mnemon.agent.fingerprint import agent_fingerprint
from mnemon.agent.loop import Agent, Ctx, Limits, Prompt, State
from mnemon.agent.rollout import Reader, ask_probe, ask_probes, due_probes, rollout, rollouts

__all__ = [
    "Agent",
    "Ctx",
    "Limits",
    "Prompt",
    "Reader",
    "State",
    "agent_fingerprint",
    "ask_probe",
    "ask_probes",
    "due_probes",
    "rollout",
    "rollouts",
]
