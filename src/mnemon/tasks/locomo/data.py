"""What a LoCoMo file holds, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mnemon.types import MnemonError

OFFICIAL_SHA256 = "79fa87e90f04081343b8c8debecb80a9a6842b76a7aa537dc9fdf651ea698ff4"
LICENSE = "CC BY-NC 4.0"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `caption` describes a shared image, `query` is the search that found it; `image`: a URL is given."""

    id: str
    speaker: str
    text: str
    caption: str = ""
    query: str = ""
    image: bool = False

    def render(self, captions: bool = True) -> str:
        """The turn as an agent reads it: ``Ana: Look! [shares a photo: a dog on a beach]``."""
        shared = f" [shares a photo: {self.caption}]" if captions and self.caption else ""
        return f"{self.speaker}: {self.text}{shared}"


@dataclass(frozen=True, slots=True)
class Fact:
    """An observation that the release gives for a session: about `speaker`, from the turns `source`."""

    speaker: str
    text: str
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A dated part of a conversation. `time_text` as printed, `time` ISO 8601 to the minute."""

    number: int
    time_text: str
    time: str
    turns: tuple[Turn, ...]
    facts: tuple[Fact, ...] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question. `category` is the file's integer (names differ between papers: see `CATEGORIES`).

    `answer` is "" where the file gives none (adversarial questions), `wrong_answer` is their trap. `evidence` holds
    existing turn ids, each once; `evidence_raw` what the file says.
    """

    index: int
    question: str
    answer: str
    category: int
    evidence: tuple[str, ...]
    evidence_raw: tuple[str, ...]
    wrong_answer: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Two speakers, dated sessions in order, questions about them."""

    id: str
    speakers: tuple[str, str]
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(turn for session in self.sessions for turn in session.turns)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something malformed: where (row and field of the file), what, and what was done about it."""

    row: str
    field: str
    what: str
    done: str
    repaired: bool = True

    def __str__(self) -> str:
        return f"{self.row}, {self.field}: {self.what}: {self.done}"


@dataclass(frozen=True, slots=True)
class Locomo:
    """The conversations of one file, and what was wrong with it."""

    file: Path
    sha256: str
    conversations: tuple[Conversation, ...]
    problems: tuple[Problem, ...]

    @property
    def official(self) -> bool:
        """True for the released file, byte for byte."""
        return self.sha256 == OFFICIAL_SHA256

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """What was left out (only with ``skip_bad=True``)."""
        return tuple(problem for problem in self.problems if not problem.repaired)

    def __getitem__(self, conversation_id: str) -> Conversation:
        for conversation in self.conversations:
            if conversation.id == conversation_id:
                return conversation
        known = ", ".join(conversation.id for conversation in self.conversations)
        raise MnemonError(f"{self.file.name} has no conversation {conversation_id!r}; it has {known}.")
