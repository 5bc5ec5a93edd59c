"""A script of inputs as an `Environment`: the agent's replies change nothing that comes next, so it can be forked."""

from __future__ import annotations

from collections.abc import Sequence

from mnemon.types import Input


class Script:
    """Inputs in a fixed order; done after the last; no score."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = inputs
        self.at = 0

    async def reset(self) -> Input | None:
        self.at = 0
        return self.inputs[0] if self.inputs else None

    async def step(self, reply: str) -> tuple[Input | None, bool, float | None]:
        self.at += 1
        if self.at >= len(self.inputs):
            return None, True, None
        return self.inputs[self.at], False, None
