"""MSC-Self-Instruct (Packer et al., arXiv 2310.08560): four earlier chats, a last one, and one question about them.

The file: JSON Lines with previous_dialogs [{dialog: [{text}], time_back}], dialog [{id, text}], self_instruct {B: the
question, A: the answer}. Apache-2.0. The dates are relative: the last chat is put at 2024-01-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, read_records
from mnemon.tasks.rows.data import Question, Row, Said, Segment
from mnemon.tasks.rows.fields import Bad, have, need
from mnemon.tasks.rows.wrap import START, named_line, session_header

SPEAKERS = ("Speaker 1", "Speaker 2")
SCORERS = ("f1_mem0", "bleu1_mem0", "em_squad", "judge_correct")
_BACK = re.compile(r"\s*(?:(\d+) days?)?\s*(?:(\d+) hours?)?\s*ago\s*")


def build(source: Source) -> Iterator[Row]:
    """A row per record."""
    options = source.options
    for path in source.each():
        for i, record in read_records(source, path, "MSC records"):
            with source.part("record", f"row {i}"):
                dialogs = need(record, "previous_dialogs", list)
                segments = [
                    _chat(source, f"S{k + 1}", have(d, "dialog", list, [], f"previous_dialogs[{k}]"), _back(d, k))
                    for k, d in enumerate(dialogs)
                ]
                segments.append(
                    _chat(source, f"S{len(dialogs) + 1}", need(record, "dialog", list), (timedelta(), "now"))
                )
                asked = need(record, "self_instruct", dict)
                chunks, rule = chunk.sessions(
                    segments, options.counter, options.chunk_tokens, session_header, named_line
                )
                name = have(have(record, "metadata", dict, {}), "initial_data_id", str, str(i), "metadata")
                yield Row(
                    id=f"msc/{i}",
                    source="msc",
                    dimension="accurate_retrieval",
                    split="test",
                    license="Apache-2.0",
                    segments=tuple(segments),
                    probes=(
                        Question(
                            id="q0",
                            question=need(asked, "B", str, "self_instruct").strip(),
                            answers=(need(asked, "A", str, "self_instruct").strip(),),
                            category="recall",
                            scorers=SCORERS,
                        ),
                    ),
                    chunks=chunks,
                    chunker=rule,
                    metadata={"documents": [f"{path.stem}/{i}/{name}"]},
                )


def _back(dialog: Any, k: int) -> tuple[timedelta, str]:
    """``7 days 8 hours ago``: how long before the last chat, and as printed."""
    place = f"previous_dialogs[{k}]"
    said = need(dialog, "time_back", str, place)
    match = _BACK.fullmatch(said)
    if match is None or not any(match.groups()):
        raise Bad(f"{place}.time_back", f"{said!r} is not like '7 days 8 hours ago'")
    days, hours = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours), said.strip()


def _chat(source: Source, name: str, dialog: list[Any], when: tuple[timedelta, str]) -> Segment:
    """Turns alternate, Speaker 1 first; a strange speaker's name is mended so."""
    turns = []
    for i, turn in enumerate(dialog):
        place = f"{name}.dialog[{i}]"
        text, speaker = need(turn, "text", str, place), have(turn, "id", str, SPEAKERS[i % 2], place)
        if speaker not in SPEAKERS:
            source.note(f"{place}.id", f"{speaker!r} is no speaker", f"read as {SPEAKERS[i % 2]}")
            speaker = SPEAKERS[i % 2]
        role = "user" if speaker == SPEAKERS[0] else "other"
        turns.append(Said(f"{name}:{i}", speaker, role, text))
    time = (START - when[0]).strftime("%Y-%m-%dT%H:%M")
    return Segment(name, "dialogue", turns=tuple(turns), time=time, time_text=when[1], speakers=SPEAKERS)
