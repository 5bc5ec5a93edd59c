"""Cutting a stream into chunks of bounded size: sentences, sessions with repeated headers, items packed to a target.

Sizes are tokens of a named counter. A size is summed over parts with the join between them, and the finished text is
counted again: a chunk is above its limit only where the limit cannot even hold a header and one character.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mnemon.memory.count import TokenCounter
from mnemon.tasks.rows.data import Chunk, Chunker, Segment
from mnemon.types import MnemonError

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")

Count = Callable[[str], int]


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def greedy(sizes: Sequence[int], target: Callable[[], int], glue: int = 0) -> list[list[int]]:
    """Indices in order, in groups of at most `target()` (asked anew for each group); an item above it stands alone."""
    groups: list[list[int]] = []
    room = -1
    for i, size in enumerate(sizes):
        if groups and size + glue <= room:
            groups[-1].append(i)
            room -= size + glue
        else:
            groups.append([i])
            room = target() - size
    return groups


def merge(sizes: Sequence[int], close: int, most: int, glue: int = 0) -> list[list[int]]:
    """Neighbours joined until they hold `close` tokens, never more than `most` (Mem-α, arXiv 2509.25911, sessions).

    If adding the next exceeds `most`, what is held is given out and the next one is held, whatever its size; else if
    the join reaches `close` it is given out; else it is held.
    """
    groups: list[list[int]] = []
    held: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        joined = total + glue + size if held else size
        if held and joined > most:
            groups.append(held)
            held, total = [i], size
        elif joined >= close:
            groups.append([*held, i])
            held, total = [], 0
        else:
            held, total = [*held, i], joined
    return [*groups, held] if held else groups


def even(n: int, groups: int) -> list[list[int]]:
    """0 … n-1 in `groups` runs of equal length, the first ones one longer; fewer groups where n is less."""
    groups = min(groups, n)
    ends = [0]
    for k in range(groups):
        ends.append(ends[-1] + n // groups + (k < n % groups))
    return [list(range(a, b)) for a, b in pairwise(ends)]


# ── sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────


def sentences(text: str) -> list[str]:
    """Split after . ! ? … and closing quotes before a space, after 。！？, and at line ends; no empty ones."""
    cuts = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[a:b].strip() for a, b in pairwise(cuts))
    return [part for part in parts if part]


def pack_sentences(text: str | Sequence[str], most: int, count: Count, hard: bool = True) -> list[str]:
    """Sentences packed in order, joined by a space, at most `most` tokens a piece.

    A longer sentence is cut between words, a longer word between characters; with ``hard=False`` it stands alone
    uncut, as in MemoryAgentBench.
    """
    parts = sentences(text) if isinstance(text, str) else list(text)
    if hard:
        parts = [piece for part in parts for piece in _cut(part, most, count)]
    groups = greedy([count(part) for part in parts], lambda: most, count(" "))
    packed = [" ".join(parts[i] for i in group) for group in groups]
    return [piece for text in packed for piece in (_cut(text, most, count) if hard else [text])]


def _cut(text: str, most: int, count: Count) -> list[str]:
    """`text` in pieces of at most `most` tokens: itself, or runs of words, or runs of characters."""
    if count(text) <= most:
        return [text]
    words = text.split()
    if len(words) > 1:
        groups = greedy([count(word) for word in words], lambda: most, count(" "))
        runs = [" ".join(words[i] for i in group) for group in groups]
        if len(runs) > 1:
            return [piece for run in runs for piece in _cut(run, most, count)]
        words = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
        return [piece for half in words for piece in _cut(half, most, count)]
    if len(text) < 2:
        raise MnemonError(f"chunks of {most} tokens cannot hold the character {text!r}: allow more tokens per chunk")
    half = len(text) // 2
    return [*_cut(text[:half], most, count), *_cut(text[half:], most, count)]


# ── wraps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Wrap:
    """How a chunk's text is framed: ``render(k, body, segments)`` is the text of chunk `k`, and its time.

    slack: tokens to keep free for the frame, by a counter.
    """

    name: str
    render: Callable[[int, str, Sequence[Segment]], tuple[str, str]]
    slack: Callable[[Count], int]


def bare(k: int, body: str, segments: Sequence[Segment]) -> tuple[str, str]:
    """The body alone; the time of the first segment that has one."""
    return body, next((segment.time for segment in segments if segment.time), "")


NO_WRAP = Wrap("none", bare, lambda count: 0)


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a segment that stays whole: text, where it is from, the turns in it."""

    text: str
    segment: Segment
    turns: tuple[str, ...] = ()


def number(
    groups: Sequence[Sequence[Piece]], rule: Chunker, counter: TokenCounter, wrap: Wrap, join: str = "\n\n"
) -> tuple[Chunk, ...]:
    """Groups of pieces as chunks c0, c1, …: joined, framed, counted; a group that came out too large is halved."""
    chunks: list[Chunk] = []
    waiting = [list(group) for group in reversed(groups)]
    while waiting:
        group = waiting.pop()
        segments = list({piece.segment.id: piece.segment for piece in group}.values())
        text, time = wrap.render(len(chunks), join.join(piece.text for piece in group), segments)
        tokens = counter(text)
        if tokens > rule.max and len(group) > 1:
            half = len(group) // 2
            waiting += [group[half:], group[:half]]
            continue
        if tokens > rule.max:
            own = counter(group[0].text)
            fits = min(own - 1, rule.max - (tokens - own))  # what the frame leaves
            if fits < 1:
                raise MnemonError(f"chunks of {rule.max} {counter.name} tokens cannot hold the frame {wrap.name!r}")
            parts = pack_sentences(group[0].text, fits, counter)
            waiting += [[replace(group[0], text=part)] for part in reversed(parts)]
            continue
        turns = tuple(dict.fromkeys(turn for piece in group for turn in piece.turns))
        ids = tuple(segment.id for segment in segments)
        chunks.append(Chunk(f"c{len(chunks)}", text, ids, turns, time, tokens))
    return tuple(chunks)


def room(most: int, counter: TokenCounter, wrap: Wrap) -> int:
    """Tokens left for the text of a chunk; MnemonError where the frame takes nearly all."""
    left = most - wrap.slack(counter)
    if left < max(8, most // 8):
        raise MnemonError(
            f"chunks of {most} {counter.name} tokens leave {max(left, 0)} beside the frame {wrap.name!r}: allow more "
            "tokens per chunk (--chunk-tokens)"
        )
    return left


def pack(
    segments: Sequence[Segment], counter: TokenCounter, most: int, least: int, wrap: Wrap = NO_WRAP, seed: int = 0
) -> tuple[tuple[Chunk, ...], Chunker]:
    """Whole text segments packed in order, joined by a blank line, to a target drawn from [least, most] per chunk.

    A segment alone above what a chunk can hold is cut at sentence ends. Targets leave room for the frame.
    """
    left = room(most, counter, wrap)
    least = min(least, left)
    draw = random.Random(seed)
    pieces = [Piece(text, segment) for segment in segments for text in pack_whole(segment.text, left, counter)]
    sizes = [counter(piece.text) for piece in pieces]
    groups = greedy(sizes, lambda: draw.randint(least, left), counter("\n\n"))
    rule = Chunker("pack", counter.name, most, least, wrap.name, seed)
    return number([[pieces[i] for i in group] for group in groups], rule, counter, wrap), rule


def pack_whole(text: str, most: int, count: Count) -> list[str]:
    """`text` itself where it fits, else its sentences packed."""
    return [text] if count(text) <= most else pack_sentences(text, most, count)


def turn_text(segment: Segment, turn: int) -> str:
    """A turn as its bare text."""
    return segment.turns[turn].text


def each(
    segments: Sequence[Segment],
    counter: TokenCounter,
    most: int,
    wrap: Wrap = NO_WRAP,
    line: Callable[[Segment, int], str] = turn_text,
    header: Callable[[Segment], str] | None = None,
) -> tuple[tuple[Chunk, ...], Chunker]:
    """One chunk per segment; neighbours with the same ``meta["group"]`` share one where they fit.

    `line` writes a turn, `header` the line above a segment of turns. A segment that alone does not fit is cut at
    sentence ends.
    """
    groups: list[list[Piece]] = []
    for segment in segments:
        lines = [line(segment, i) for i in range(len(segment.turns))]
        text = segment.text or "\n".join([header(segment), *lines] if header is not None else lines)
        piece = Piece(text, segment, tuple(turn.id for turn in segment.turns))
        group = segment.meta.get("group")
        if groups and group is not None and groups[-1][0].segment.meta.get("group") == group:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    rule = Chunker("segment", counter.name, most, 0, wrap.name)
    return number(groups, rule, counter, wrap), rule


def sessions(
    segments: Sequence[Segment],
    counter: TokenCounter,
    most: int,
    header: Callable[[Segment], str],
    line: Callable[[Segment, int], str],
    close: int | None = None,
) -> tuple[tuple[Chunk, ...], Chunker]:
    """Dated sessions as chunks of at most `most` tokens, joined until they hold `close` (default 1800/2048 of `most`).

    A session is cut between turns, each part under its own `header`; a turn of more than ``most - 150`` (three quarters
    of a small `most`) is first cut at sentence ends. A part does not end on a user's turn unless that is all it has:
    the turn opens the next part, with its answer.
    """
    slack = min(150, most // 4)
    pieces = [p for segment in segments for p in _session_parts(segment, counter, most, most - slack, header, line)]
    if close is None:
        close = most * 1800 // 2048
    groups = merge([counter(piece.text) for piece in pieces], close, most, counter("\n\n"))
    rule = Chunker("sessions", counter.name, most, close, "header")
    return number([[pieces[i] for i in group] for group in groups], rule, counter, NO_WRAP), rule


def _session_parts(
    segment: Segment,
    counter: TokenCounter,
    most: int,
    longest: int,
    header: Callable[[Segment], str],
    line: Callable[[Segment, int], str],
) -> Iterator[Piece]:
    """A session's lines in parts that fit, the header on each."""
    head = header(segment)
    limit = most - counter(head + "\n")
    if limit < 8:
        raise MnemonError(f"chunks of {most} {counter.name} tokens cannot hold the header {head!r}: allow more tokens")
    lines = [
        (text, turn.id, turn.role == "user")
        for i, turn in enumerate(segment.turns)
        for text in pack_whole(line(segment, i), min(longest, limit), counter)
    ]
    glue = counter("\n")
    part: list[tuple[str, str, bool]] = []
    size = 0
    for item in lines:
        cost = counter(item[0]) + glue
        if part and size + cost > limit:
            moved = [part.pop()] if len(part) > 1 and part[-1][2] else []
            yield _part(head, part, segment)
            part = moved
            size = sum(counter(text) + glue for text, _, _ in part)
            if part and size + cost > limit:
                yield _part(head, part, segment)
                part, size = [], 0
        part.append(item)
        size += cost
    if part:
        yield _part(head, part, segment)


def _part(head: str, lines: Sequence[tuple[str, str, bool]], segment: Segment) -> Piece:
    text = "\n".join([head, *(text for text, _, _ in lines)])
    return Piece(text, segment, tuple(dict.fromkeys(turn for _, turn, _ in lines)))
