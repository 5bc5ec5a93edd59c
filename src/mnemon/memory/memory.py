"""Memory: named sections of entries, an operation log, a cheap fork.

A `Memory` is what an agent remembers. It lives in RAM; a store makes it durable by committing its operations. All
changes go through `add`, `update` and `delete`; each appends one `Operation` to the log or raises `ToolError` and
changes nothing. `fork` is O(1): parent and child share everything until one of them writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnemon.memory.retrieve import Index, Retriever
from mnemon.text import UNSPACED
from mnemon.types import MnemonError, ToolError

Counter = Callable[[str], int]
_PIECE = re.compile(rf"\s*(?:[{UNSPACED}]|[^\s{UNSPACED}]+)")
"""A word with the space before it, or one character of a script that is written without spaces."""
CUT = " [cut]"
"""Ends a text that was cut in a section whose overflow is "mark"."""


def count_words(text: str) -> int:
    """The default token counter: whitespace-separated words."""
    return len(text.split())


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a memory.

    kind: ``"list"`` holds many entries; ``"text"`` holds at most one (a profile, a core memory).
    max_entries, max_tokens: capacity (None: unbounded); tokens are summed over the section by the memory's counter.
    overflow: ``"refuse"`` makes a change that would exceed `max_tokens` fail; ``"cut"`` keeps the first whole words
        that fit (single characters of Chinese, Japanese …); ``"mark"`` does so and ends the text with `CUT`, which
        counts too.
    A full list always refuses an add: silently dropping the oldest entry would hide bad management.
    """

    name: str
    kind: Literal["list", "text"] = "list"
    max_entries: int | None = None
    max_tokens: int | None = None
    overflow: Literal["refuse", "cut", "mark"] = "refuse"


@dataclass(frozen=True, slots=True)
class Entry:
    """One memory. `times` are the distinct times of the facts merged into it, first to newest; `source` their inputs.

    `id` is an integer per namespace, never reused, shown as ``m12``; `version` counts from 1.
    """

    id: int
    section: str
    text: str
    owner: str = ""
    times: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    version: int = 1
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"m{self.id}"

    @property
    def time(self) -> str:
        """All times of the entry as text, first to newest: an update never loses the older fact's date."""
        return "; ".join(self.times)

    def document(self, fields: Sequence[str]) -> str:
        """The text that a retriever indexes, e.g. fields = ("time", "owner", "text")."""
        if len(fields) == 1 and fields[0] == "text":
            return self.text
        return " ".join(str(getattr(self, name)) for name in fields if getattr(self, name))


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: `before` is None for an add, `after` is None for a delete."""

    kind: Literal["add", "update", "delete"]
    before: Entry | None
    after: Entry | None

    @property
    def entry(self) -> Entry:
        entry = self.after if self.after is not None else self.before
        assert entry is not None
        return entry


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved entry with its score (higher is better; comparable within one search only)."""

    entry: Entry
    score: float


@dataclass(slots=True)
class _CachedIndex:
    index: Index
    applied: int
    """How many operations of the log the index has seen."""
    shared: bool = False


class Memory:
    """Sections of entries. Not thread-safe: one memory belongs to one episode or one service worker.

    counter: text -> tokens; the sizes that `max_tokens` limits.

    >>> memory = Memory([Section("facts")])
    >>> memory.add("Ana adopted a dog, Buddy").label
    'm1'
    """

    def __init__(self, sections: Iterable[Section] = (Section("facts"),), counter: Counter = count_words) -> None:
        given = tuple(sections)
        self.sections: dict[str, Section] = {section.name: section for section in given}
        if not given:
            raise MnemonError("a memory needs at least one section: pass e.g. Memory([Section('facts')])")
        if len(self.sections) < len(given):
            raise MnemonError(f"a memory's sections need names of their own, got {[s.name for s in given]}")
        self.counter = counter
        self._entries: dict[int, Entry] = {}
        self._log: list[Operation] = []
        self._next_id = 1
        self._used: dict[str, tuple[int, int]] = dict.fromkeys(self.sections, (0, 0))  # entries, tokens where capped
        self._shared = False
        self._indexes: dict[str, _CachedIndex] = {}

    @classmethod
    def restore(
        cls, sections: Iterable[Section], entries: Iterable[Entry], next_id: int, counter: Counter = count_words
    ) -> Memory:
        """A memory that holds these entries under their ids, as it was saved; its log begins empty.

        Capacities are not checked, so a bank opens even where they were lowered since. MnemonError where an entry's
        section is unknown, or its id is given twice or not below `next_id`.
        """
        memory = cls(sections, counter)
        for entry in sorted(entries, key=lambda entry: entry.id):
            spec = memory.sections.get(entry.section)
            if spec is None or entry.id in memory._entries or not 0 < entry.id < next_id:
                raise MnemonError(
                    f"entry {entry.label} of section {entry.section!r} cannot be restored: its section must be one of "
                    f"{list(memory.sections)}, its id must be its own and below next_id={next_id}"
                )
            memory._entries[entry.id] = entry
            count, tokens = memory._used[spec.name]
            memory._used[spec.name] = (count + 1, tokens + memory._size(spec, entry.text))
        memory._next_id = next_id
        return memory

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_id(self) -> int:
        """The id that the next entry gets; ids of deleted entries are never used again."""
        return self._next_id

    @property
    def log(self) -> Sequence[Operation]:
        """Every operation since the memory was made or restored, oldest first."""
        return self._log

    def entries(self, section: str | None = None) -> list[Entry]:
        """Entries in order of creation, of one section or of all."""
        if section is None:
            return list(self._entries.values())
        self._section(section)
        return [entry for entry in self._entries.values() if entry.section == section]

    def read(self, entry_id: int) -> Entry:
        """The entry with this id. Raises ToolError("unknown_id")."""
        entry = self._entries.get(entry_id)
        if entry is None:
            raise ToolError("unknown_id", f"There is no memory m{entry_id}; use an id that you were shown.")
        return entry

    def tokens(self, section: str | None = None) -> int:
        """Size by the memory's counter; ids and times are not counted."""
        return sum(self.counter(entry.text) for entry in self.entries(section))

    def search(
        self,
        query: str,
        k: int,
        retriever: Retriever,
        *,
        section: str | None = None,
        owner: str | None = None,
        all: bool = False,
    ) -> list[Hit]:
        """The k best entries for the query, best first; ties by age. `all` pads with entries that do not match.

        ToolError codes: unknown_section.
        """
        index = self._index(retriever)
        among = None
        if section is not None:
            self._section(section)
        if section is not None or owner is not None:
            entries = self._entries

            def among(entry_id: int) -> bool:
                entry = entries[entry_id]
                return (section is None or entry.section == section) and (owner is None or entry.owner == owner)

        return [Hit(self._entries[i], score) for i, score in index.search(query, k, among, all)]

    def prepare(self, retriever: Retriever) -> None:
        """Bring a retriever's index up to date now: forks made after this share it instead of building their own."""
        self._index(retriever)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        text: str,
        *,
        section: str | None = None,
        owner: str = "",
        time: str = "",
        source: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Add an entry. ToolError codes: empty_text, unknown_section, exists (text section), full, too_long."""
        spec = self._section(section)
        text = self._clean(text)
        count, tokens = self._used[spec.name]
        if spec.kind == "text" and count:
            label = self.entries(spec.name)[0].label
            raise ToolError("exists", f"{spec.name} already holds a text ({label}): update it instead.")
        if spec.max_entries is not None and count >= spec.max_entries:
            raise ToolError("full", f"{spec.name} is full ({spec.max_entries} entries): update or delete one first.")
        text, size = self._fit(spec, text, tokens)
        entry = Entry(
            self._next_id, spec.name, text, owner, (time,) if time else (), tuple(source), meta=dict(meta or {})
        )
        self._apply(Operation("add", None, entry), count + 1, tokens + size)
        self._next_id += 1
        return entry

    def update(
        self, entry_id: int, text: str, *, time: str = "", source: Sequence[str] = (), owner: str | None = None
    ) -> Entry:
        """Replace the text; id, first time and provenance stay, the new time and sources are added. `owner` (None: as
        it was) replaces the owner.

        ToolError codes: unknown_id, empty_text, too_long, unchanged (neither text nor owner is new).
        """
        before = self.read(entry_id)
        spec = self.sections[before.section]
        count, tokens = self._used[spec.name]
        tokens -= self._size(spec, before.text)
        text, size = self._fit(spec, self._clean(text), tokens)
        if text == before.text and owner in (None, before.owner):
            raise ToolError("unchanged", f"{before.label} already says exactly this: nothing to update.")
        after = replace(
            before,
            text=text,
            owner=before.owner if owner is None else owner,
            times=before.times + ((time,) if time and time not in before.times else ()),
            source=before.source + tuple(s for s in source if s not in before.source),
            version=before.version + 1,
        )
        self._apply(Operation("update", before, after), count, tokens + size)
        return after

    def delete(self, entry_id: int) -> Entry:
        """Remove an entry and return it. ToolError codes: unknown_id."""
        before = self.read(entry_id)
        count, tokens = self._used[before.section]
        freed = self._size(self.sections[before.section], before.text)
        self._apply(Operation("delete", before, None), count - 1, tokens - freed)
        return before

    def fork(self) -> Memory:
        """An independent copy in O(1): entries, log and indexes are shared until one side writes."""
        child = object.__new__(Memory)
        child.sections = self.sections
        child.counter = self.counter
        child._entries = self._entries
        child._log = self._log
        child._next_id = self._next_id
        child._used = self._used
        child._shared = self._shared = True
        for cached in self._indexes.values():
            cached.shared = True
        child._indexes = {
            key: _CachedIndex(cached.index, cached.applied, True) for key, cached in self._indexes.items()
        }
        return child

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, operation: Operation, count: int, tokens: int) -> None:
        """Write one change; its section then holds `count` entries of `tokens`. What a fork shares is copied first."""
        if self._shared:
            self._entries = dict(self._entries)
            self._log = list(self._log)
            self._used = dict(self._used)
            self._shared = False
        entry = operation.entry
        if operation.after is None:
            del self._entries[entry.id]
        else:
            self._entries[entry.id] = entry
        self._used[entry.section] = (count, tokens)
        self._log.append(operation)

    def _size(self, spec: Section, text: str) -> int:
        """Tokens of a text where its section limits them, else 0 (a counter may be a slow tokenizer)."""
        return 0 if spec.max_tokens is None else self.counter(text)

    def _section(self, name: str | None) -> Section:
        if name is None:
            return next(iter(self.sections.values()))
        try:
            return self.sections[name]
        except KeyError:
            raise ToolError(
                "unknown_section", f"There is no section {name!r}; use one of: {', '.join(self.sections)}."
            ) from None

    @staticmethod
    def _clean(text: str) -> str:
        text = text.strip()
        if not text:
            raise ToolError("empty_text", "The text is empty: write what is to be remembered.")
        return text

    def _fit(self, spec: Section, text: str, used: int) -> tuple[str, int]:
        """The text as the section can hold it beside `used` tokens, and its size. Raises ToolError("too_long")."""
        if spec.max_tokens is None:
            return text, 0
        room = max(spec.max_tokens - used, 0)
        size = self.counter(text)
        if size <= room:
            return text, size
        if spec.overflow == "refuse":
            raise ToolError(
                "too_long", f"{spec.name} holds {spec.max_tokens} tokens; this needs {size}, room is {room}."
            )
        mark = CUT if spec.overflow == "mark" else ""
        ends = [piece.end() for piece in _PIECE.finditer(text)]
        low, high = 0, len(ends)
        while low < high:  # the longest prefix of whole words that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.counter(text[: ends[middle - 1]] + mark) <= room else (low, middle - 1)
        if not low:
            raise ToolError("too_long", f"{spec.name} is full ({spec.max_tokens} tokens): shorten or delete first.")
        text = text[: ends[low - 1]] + mark
        return text, self.counter(text)

    def _index(self, retriever: Retriever) -> Index:
        cached = self._indexes.get(retriever.id)
        if cached is None:
            index = retriever.index()
            for entry in self._entries.values():
                index.add(entry.id, entry.document(retriever.fields))
            cached = self._indexes[retriever.id] = _CachedIndex(index, len(self._log))
        elif cached.applied < len(self._log):
            if cached.shared:
                cached.index, cached.shared = cached.index.copy(), False
            for operation in self._log[cached.applied :]:
                if operation.after is None:
                    cached.index.remove(operation.entry.id)
                else:
                    cached.index.add(operation.after.id, operation.after.document(retriever.fields))
                cached.applied += 1
        return cached.index
