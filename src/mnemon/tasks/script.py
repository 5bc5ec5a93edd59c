"""A script of inputs as an `Environment`: the agent's replies change nothing that comes next, so it can be forked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mnemon.types import Input, Stage


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


def script(*inputs: Input | str, name: str = "", fresh: bool = True) -> Stage:
    """A stage of these inputs; a text becomes an `Input` whose source is its number in the stage, from "0".

    >>> stage = script("Anna lives in Paris", "Anna moved to Rome")
    """
    given = [Input(item, source=(str(i),)) if isinstance(item, str) else item for i, item in enumerate(inputs)]
    return Stage(partial(Script, given), fresh, name)
