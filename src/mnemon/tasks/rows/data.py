"""One row for every memory dataset: a stream of segments, cut into chunks, and the questions asked about it.

A row is a JSON object, one per line of a file. A *segment* is what the source dated or titled as one piece (a session
of a dialogue, a paragraph, a block of examples); a *chunk* is what a writer is given at once; a *question* is asked
after all of it, or after the first `after` segments. `mnemon.tasks.rows.to_task` makes a `Task` of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "memtask/1"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DIMENSIONS = ("accurate_retrieval", "test_time_learning", "long_range_understanding", "conflict_resolution")
"""What a row asks of a memory, in the terms of MemoryAgentBench (arXiv 2507.05257)."""

KINDS = ("dialogue", "document", "examples", "facts", "event", "text")
ROLES = ("user", "assistant", "system", "other")
LEVELS = ("turn", "segment", "none")

_STRINGS = frozenset(
    "em em_squad em_mem0 em_locomo em_date f1_squad f1_mem0 f1_hotpot f1_locomo bleu1_mem0 rouge_l rouge_l_recall "
    "sub_squad sub_raw graded judge_correct judge_lme judge_rubric".split()
)
SCORERS: dict[str, frozenset[str]] = {
    "short": _STRINGS,
    "list": _STRINGS | {"list_hit", "list_hit_compat", "list_exact", "event_recall"},
    "label": frozenset({"label", "boxed", "em_squad", "sub_squad"}),
    "keywords": frozenset({"keyword_hit", "keyword_hit_compat", "rouge_l", "rouge_l_recall", "rouge_lsum"}),
    "options": frozenset({"event_recall", "em_squad", "sub_squad", "label", "boxed", "f1_hotpot"}),
    "ranking": frozenset({"rank_recall@1", "rank_recall@5", "rank_recall@10"}),
    "summary": frozenset({"rouge_l", "rouge_l_recall", "rouge_lsum", "keyword_hit"}),
    "rubric": frozenset({"judge_lme", "judge_rubric"}),
    "abstain": frozenset({"judge_lme", "judge_rubric", "f1_locomo"}),
}
"""Answer type -> the scorers that can score it. Names that begin with ``judge_`` need a judge's policy."""

UNANSWERED = ("rubric", "abstain")
"""The answer types that have no accepted answer."""


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a segment: a message, a sentence of an example block. `text` is verbatim."""

    id: str
    speaker: str
    role: str
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the source, in time order. Exactly one of `text` and `turns` is set.

    time: ISO 8601 to the minute, "" where the source gives none; `time_text` as printed there.
    stage: the part of an episode it belongs to; all of a plain stream is ``"stream"``.
    """

    id: str
    kind: str
    text: str = ""
    turns: tuple[Said, ...] = ()
    time: str = ""
    time_text: str = ""
    speakers: tuple[str, ...] = ()
    stage: str = "stream"
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a writer is given at once. `tokens` counts all of `text`, by the counter that the row's chunker names."""

    id: str
    text: str
    segments: tuple[str, ...]
    turns: tuple[str, ...] = ()
    time: str = ""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `question` is bare: how to answer is said by the agent, not by the data.

    answers: accepted texts; none for a rubric or an abstention. scorers: the first is the headline.
    evidence: ids of turns or segments, by `evidence_level`. after: segments read before it is asked; None: all.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    answer_type: str = "short"
    category: str = ""
    evidence: tuple[str, ...] = ()
    evidence_level: str = "none"
    after: int | None = None
    asked_at: str = ""
    rubric: str = ""
    options: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ("em_squad",)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunker:
    """How a row's chunks were made: rule, counter, most and (where a target is drawn) fewest tokens, header, seed."""

    name: str
    counter: str
    max: int = 0
    min: int = 0
    wrap: str = "none"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One stream and its questions. ``metadata["documents"]`` names what it was made of: splits never share one."""

    id: str
    source: str
    dimension: str
    split: str
    license: str
    segments: tuple[Segment, ...]
    probes: tuple[Question, ...]
    chunks: tuple[Chunk, ...] = ()
    chunker: Chunker | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def documents(self) -> tuple[str, ...]:
        """The source's documents in the row; the row itself where it names none."""
        return tuple(str(name) for name in self.metadata.get("documents", ())) or (self.id,)

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(chunk.tokens for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something malformed: where, which field, what is wrong, and what was done. Only a `bad` one loses anything.

    code: of a row file, one of E_JSON E_FIELD E_ID E_BODY E_TIME E_EVID E_ANS E_NORM E_AFTER E_SCORER E_OPT E_CHUNK;
    "" for an original file.
    """

    file: str
    row: str
    field: str
    what: str
    done: str = ""
    code: str = ""
    bad: bool = True

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        place = ", ".join(part for part in (self.file, self.row, self.field) if part)
        return f"{place}: {self.what}{code}" + (f": {self.done}" if self.done else "")
