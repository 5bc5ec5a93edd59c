"""A person at a terminal as an `Environment`: to the agent the same as a script or a game."""

from __future__ import annotations

from collections.abc import Callable

from mnemon.types import Input


class Person:
    """Inputs come from `read(prompt)` (None or end of file ends the episode), replies go to `show`."""

    def __init__(self, read: Callable[[str], str], show: Callable[[str], None], prompt: str = "you> ") -> None:
        self.read, self.show, self.prompt = read, show, prompt

    def _next(self) -> Input | None:
        while True:
            try:
                text = self.read(self.prompt).strip()
            except (EOFError, KeyboardInterrupt):
                return None
            if text:
                return Input(text)

    async def reset(self) -> Input | None:
        return self._next()

    async def step(self, reply: str) -> tuple[Input | None, bool, float | None]:
        if reply:
            self.show(reply)
        given = self._next()
        return given, given is None, None
