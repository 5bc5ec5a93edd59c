"""Memory against a plain-dict model, operation by operation and fork by fork."""

from __future__ import annotations

import copy
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnemon.memory.memory import Entry, Memory, Operation, Section
from mnemon.memory.retrieve import Lexical
from mnemon.types import ToolError

SECTIONS = (
    Section("facts", max_entries=3),
    Section("notes", max_tokens=6),
    Section("short", max_tokens=5, overflow="cut"),
    Section("core", "text", max_tokens=3, overflow="cut"),
    Section("free"),
)
NAMES = [section.name for section in SECTIONS]
RETRIEVERS = (Lexical(), Lexical(fields=("time", "owner", "text")))
texts = st.builds(
    lambda words, gaps: "".join(w + g for w, g in zip(words, gaps, strict=False)),
    st.lists(st.sampled_from(["ana", "dog", "rome", "red", "old"]), max_size=5),
    st.lists(st.sampled_from([" ", "  ", "\n"]), min_size=5, max_size=5),
)
owners = st.sampled_from(["", "Ana", "Ben"])
times = st.sampled_from(["", "day 1", "day 2", "day 3"])
sources = st.lists(st.sampled_from(["s1", "s2", "s3"]), max_size=2).map(tuple)
picks = st.integers(0, 7)


def model_cut(text: str, room: int) -> str:
    """The longest prefix of whole words with at most `room` of them, by trying all."""
    ends = [i for i in range(1, len(text) + 1) if not text[i - 1].isspace() and (i == len(text) or text[i].isspace())]
    return max((text[:i] for i in ends if len(text[:i].split()) <= room), key=len, default="")


class Model:
    """What a memory should hold, every answer computed from scratch."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.log: list[Operation] = []
        self.next_id = 1

    def fit(self, section: str, text: str, but: int = 0) -> str:
        spec = SECTIONS[NAMES.index(section)]
        text = text.strip()
        if not text:
            raise ToolError("empty_text", "")
        others = [e for e in self.entries.values() if e.section == section and e.id != but]
        if not but and spec.kind == "text" and others:
            raise ToolError("exists", "")
        if not but and spec.max_entries is not None and len(others) >= spec.max_entries:
            raise ToolError("full", "")
        if spec.max_tokens is None:
            return text
        room = spec.max_tokens - sum(len(e.text.split()) for e in others)
        if len(text.split()) > room:
            text = model_cut(text, room) if spec.overflow == "cut" else ""
        if not text:
            raise ToolError("too_long", "")
        return text

    def add(self, text: str, section: str, owner: str, time: str, source: tuple[str, ...]) -> Entry:
        entry = Entry(
            self.next_id, section, self.fit(section, text), owner, tuple(t for t in (time,) if t), tuple(source)
        )
        self.next_id += 1
        self.entries[entry.id] = entry
        self.log.append(Operation("add", None, entry))
        return entry

    def find(self, entry_id: int) -> Entry:
        if entry_id not in self.entries:
            raise ToolError("unknown_id", "")
        return self.entries[entry_id]

    def update(self, entry_id: int, text: str, owner: str | None, time: str, source: tuple[str, ...]) -> Entry:
        old = self.find(entry_id)
        text = self.fit(old.section, text, entry_id)
        owner = old.owner if owner is None else owner
        if (text, owner) == (old.text, old.owner):
            raise ToolError("unchanged", "")
        times, source_all = list(old.times), list(old.source)
        times += [t for t in (time,) if t and t not in times]
        source_all += [s for s in source if s not in old.source]
        new = Entry(entry_id, old.section, text, owner, tuple(times), tuple(source_all), old.version + 1)
        self.entries[entry_id] = new
        self.log.append(Operation("update", old, new))
        return new

    def delete(self, entry_id: int) -> Entry:
        old = self.find(entry_id)
        del self.entries[entry_id]
        self.log.append(Operation("delete", old, None))
        return old


def outcome(call: Callable[[], Entry]) -> Entry | str:
    """What a call gives: an entry, or the code of its refusal."""
    try:
        return call()
    except ToolError as error:
        return error.code


class MemoryMachine(RuleBasedStateMachine):
    """Several forks of one memory, each beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = [(Memory(SECTIONS), Model())]

    def pair(self, pick: int) -> tuple[Memory, Model]:
        return self.pairs[pick % len(self.pairs)]

    @rule(pick=picks, text=texts, section=st.sampled_from(NAMES), owner=owners, time=times, source=sources)
    def add(self, pick: int, text: str, section: str, owner: str, time: str, source: tuple[str, ...]) -> None:
        memory, model = self.pair(pick)
        did = outcome(lambda: memory.add(text, section=section, owner=owner, time=time, source=source))
        assert did == outcome(lambda: model.add(text, section, owner, time, source))

    @rule(pick=picks, entry_id=picks, text=texts, owner=st.none() | owners, time=times, source=sources)
    def update(
        self, pick: int, entry_id: int, text: str, owner: str | None, time: str, source: tuple[str, ...]
    ) -> None:
        memory, model = self.pair(pick)
        did = outcome(lambda: memory.update(entry_id, text, time=time, source=source, owner=owner))
        assert did == outcome(lambda: model.update(entry_id, text, owner, time, source))

    @rule(pick=picks, entry_id=picks)
    def delete(self, pick: int, entry_id: int) -> None:
        memory, model = self.pair(pick)
        assert outcome(lambda: memory.delete(entry_id)) == outcome(lambda: model.delete(entry_id))

    @rule(pick=picks)
    def fork(self, pick: int) -> None:
        if len(self.pairs) < 4:
            memory, model = self.pair(pick)
            self.pairs.append((memory.fork(), copy.deepcopy(model)))

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        pick %= len(self.pairs)
        memory, model = self.pairs[pick]
        model = copy.deepcopy(model)
        model.log = []
        self.pairs[pick] = Memory.restore(SECTIONS, reversed(memory.entries()), memory.next_id), model

    @rule(
        pick=picks,
        query=texts,
        k=st.integers(0, 4),
        retriever=st.sampled_from(RETRIEVERS),
        section=st.none() | st.sampled_from(NAMES),
        owner=st.none() | owners,
        everything=st.booleans(),
    )
    def search(
        self,
        pick: int,
        query: str,
        k: int,
        retriever: Lexical,
        section: str | None,
        owner: str | None,
        everything: bool,
    ) -> None:
        """In every fork, beginning with any: what one does to a shared index must not show in another."""
        for turn in range(len(self.pairs)):
            memory, model = self.pair(pick + turn)
            fresh = retriever.index()
            for entry in model.entries.values():
                fresh.add(entry.id, entry.document(retriever.fields))

            def among(i: int, model: Model = model) -> bool:
                entry = model.entries[i]
                return section in (None, entry.section) and owner in (None, entry.owner)

            hits = memory.search(query, k, retriever, section=section, owner=owner, all=everything)
            assert [(hit.entry.id, hit.score) for hit in hits] == fresh.search(query, k, among, everything)
            assert all(hit.entry == model.entries[hit.entry.id] for hit in hits)

    @invariant()
    def equal(self) -> None:
        for memory, model in self.pairs:
            assert memory.entries() == list(model.entries.values())
            assert list(memory.log) == model.log
            assert memory.next_id == model.next_id
            assert len(memory) == len(model.entries)
            for name in NAMES:
                held = [entry for entry in model.entries.values() if entry.section == name]
                assert memory.entries(name) == held
                assert memory.tokens(name) == sum(len(entry.text.split()) for entry in held)


MemoryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestMemory = MemoryMachine.TestCase
