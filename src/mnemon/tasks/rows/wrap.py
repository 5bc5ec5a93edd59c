"""Frames of chunks: a dated dialogue around a document, a book being read, the header of a session.

The header forms are those of the published Mem-α data (arXiv 2509.25911), so that a model trained on it sees what it
knows; the sentences inside are ours. Dates are made up, from 2024-01-01 on, unless the source has its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from mnemon.tasks.rows.chunk import Count, Wrap
from mnemon.tasks.rows.data import Segment

START = datetime(2024, 1, 1)
_ISO = "%Y-%m-%dT%H:%M"

READ = (
    "Here is something I came across today:",
    "Please keep the following in mind:",
    "I am going through some articles. This is the next part:",
    "Could you note what this says?",
    "This may matter later:",
    "Here are a few more paragraphs:",
    "I would like you to know this:",
    "Next page:",
)
NOTED = (
    "Thank you, I have read it.",
    "Noted. I will remember what it says.",
    "All right, I have it.",
    "Understood, please go on.",
    "Good to know. I keep the facts for later.",
    "I have taken it in.",
)
LABELLED = (
    "Here are some sentences, each with the number of its class:",
    "These are labelled examples. Learn what the numbers stand for:",
    "More examples with their labels:",
    "Please learn how these are sorted:",
    "This is how such sentences are numbered:",
)
LEARNT = (
    "Thank you, I have learnt these examples.",
    "Noted. I will use these labels for new sentences.",
    "Understood, I see how they are sorted.",
    "All right, I will remember what each number stands for.",
)
REMINDER = "Keep what matters of this part, and a running summary of all that was read so far."


def day(k: int, seed: int = 0, most: int = 1) -> datetime:
    """The date of chunk `k`: 2024-01-01 and 1 to `most` days more for each chunk before it."""
    draw = random.Random(f"{seed}/days")
    return START + timedelta(days=sum(draw.randint(1, most) for _ in range(k)))


def dialogue(seed: int = 0, labels: bool = False, key: str = "") -> Wrap:
    """A user gives the text, an assistant thanks; one day per chunk. `labels`: the words fit labelled examples.

    The sentences are drawn by seed, key (the row's name) and chunk.
    """
    leads, thanks = (LABELLED, LEARNT) if labels else (READ, NOTED)

    def frame(lead: str, body: str, thank: str, date: str) -> str:
        return f"[Dialogue between User and Assistant on {date}]\n<User> {lead}\n{body}\n<Assistant> {thank}"

    def render(k: int, body: str, segments: Sequence[Segment]) -> tuple[str, str]:
        draw = random.Random(f"{seed}/{key}/{k}")
        date = day(k)
        text = frame(draw.choice(leads), body, draw.choice(thanks), date.strftime("%Y-%m-%d %H:%M"))
        return text, date.strftime(_ISO)

    def slack(count: Count) -> int:
        return count(frame(max(leads, key=count), "", max(thanks, key=count), "2024-01-01 00:00")) + 2

    return Wrap("labels" if labels else "dialogue", render, slack)


def book(seed: int = 0) -> Wrap:
    """A part of a book, one to three days after the part before."""

    def frame(body: str, date: str) -> str:
        return f"[Event happened on {date} The user is reading a book]\n<User> {body}\n<System> {REMINDER}"

    def render(k: int, body: str, segments: Sequence[Segment]) -> tuple[str, str]:
        date = day(k, seed, 3)
        return frame(body, date.strftime("%Y-%m-%d")), date.strftime(_ISO)

    return Wrap("book", render, lambda count: count(frame("", "2024-01-01")) + 2)


def session_header(segment: Segment) -> str:
    """``[Dialogue at timestamp 2023/05/30 (Tue) 23:40]``: the time as the source prints it."""
    return f"[Dialogue at timestamp {segment.time_text or segment.time or 'unknown'}]"


def chat_line(segment: Segment, turn: int) -> str:
    """``<User> text``, ``<Assistant> text``."""
    said = segment.turns[turn]
    return f"<{said.role.capitalize()}> {said.text}"


def named_line(segment: Segment, turn: int) -> str:
    """``Ana: text``, with the caption of a shared picture where there is one."""
    said = segment.turns[turn]
    caption = said.meta.get("caption", "")
    return f"{said.speaker}: {said.text}" + (f" [shares a photo: {caption}]" if caption else "")
