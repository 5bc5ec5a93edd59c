"""Memory against a plain-dict model, operation by operation and fork by fork; capacities, cuts, times, restoring."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnemon.memory.memory import Entry, Memory, Operation, Section, count_words
from mnemon.memory.retrieve import Lexical, LexicalIndex
from mnemon.types import MnemonError, ToolError

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


def refused(code: str, call: Callable[[], object]) -> str:
    with pytest.raises(ToolError) as caught:
        call()
    assert caught.value.code == code
    return caught.value.hint


def test_ids_are_never_used_again() -> None:
    memory = Memory()
    first = memory.add("a")
    memory.delete(first.id)
    assert (first.label, memory.add("b").label) == ("m1", "m2")
    refused("unknown_id", lambda: memory.read(1))
    restored = Memory.restore(memory.sections.values(), memory.entries(), memory.next_id)
    assert restored.add("c").label == "m3"


def test_every_refusal_says_why_and_changes_nothing() -> None:
    memory = Memory(SECTIONS)
    for text in ("one", "two", "three"):
        memory.add(text)
    memory.add("Ana is kind", section="core")
    memory.add("a b c d", section="notes")
    before = (memory.entries(), list(memory.log), memory.next_id)
    assert "full (3 entries)" in refused("full", lambda: memory.add("four"))
    assert "(m4)" in refused("exists", lambda: memory.add("more", section="core"))
    assert "this needs 3, room is 2" in refused("too_long", lambda: memory.add("x y z", section="notes"))
    assert "this needs 7, room is 6" in refused("too_long", lambda: memory.update(5, "a b c d e f g"))
    refused("empty_text", lambda: memory.add(" \n "))
    refused("empty_text", lambda: memory.update(1, ""))
    refused("unchanged", lambda: memory.update(1, " one ", time="day 2", source=("s2",)))
    refused("unchanged", lambda: memory.update(4, "Ana is kind indeed"))  # cut back to what was there
    assert "m9" in refused("unknown_id", lambda: memory.update(9, "x"))
    refused("unknown_id", lambda: memory.delete(9))
    for call in (memory.entries, lambda s: memory.add("x", section=s), memory.tokens):
        assert "facts, notes, short, core, free" in refused("unknown_section", lambda c=call: c("nowhere"))
    refused("unknown_section", lambda: memory.search("x", 1, Lexical(), section="nowhere"))
    assert (memory.entries(), list(memory.log), memory.next_id) == before


def test_a_full_section_takes_updates_and_room_is_freed() -> None:
    memory = Memory([Section("facts", max_entries=1), Section("notes", max_tokens=3)])
    memory.add("a")
    assert memory.update(1, "b").text == "b"
    memory.delete(1)
    assert memory.add("c").id == 2
    note = memory.add("x y z", section="notes")
    assert memory.update(note.id, "p q r").version == 2  # its own tokens are free
    memory.update(note.id, "p")
    assert memory.add("s t", section="notes").text == "s t"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("one two three four", "one two three"),
        ("one  two\n\nthree\nfour", "one  two\n\nthree"),  # the space between is kept as it was
        ("one two", "one two"),
    ],
)
def test_cut_keeps_whole_words(given: str, kept: str) -> None:
    memory = Memory([Section("core", "text", max_tokens=3, overflow="cut")])
    assert memory.add(given).text == kept


def test_cut_counts_characters_where_words_have_no_spaces() -> None:
    memory = Memory([Section("core", "text", max_tokens=4, overflow="cut")], counter=len)
    assert memory.add("我喜欢红色的猫").text == "我喜欢红"
    assert memory.update(1, "好 dogs").text == "好"  # half a word is no word
    refused("too_long", lambda: memory.update(1, "Donaudampfschiff"))
    assert memory.read(1).text == "好"


@given(st.text("ab \n猫", max_size=12).filter(str.strip), st.integers(1, 8))
def test_what_is_cut_fits_and_is_a_prefix(text: str, room: int) -> None:
    memory = Memory([Section("core", "text", max_tokens=room, overflow="cut")], counter=len)
    done = outcome(lambda: memory.add(text))
    if not isinstance(done, Entry):
        assert done == "too_long"
        assert len(text.split()[0]) > room
        return
    kept = done.text
    assert 0 < len(kept) <= room
    assert text.strip().startswith(kept)
    assert kept == kept.strip()


def test_an_update_keeps_the_first_date_and_adds_the_newest() -> None:
    memory = Memory()
    memory.add("Ana adopted a dog, Buddy", owner="Ana", time="8 May 2023", source=("D1:3",), meta={"n": 1})
    memory.update(1, "Ana has two dogs, Buddy and Scout", time="2 June 2023", source=("D4:1", "D1:3"))
    entry = memory.update(1, "Ana has two dogs, Buddy and old Scout", time="2 June 2023", source=("D4:2",))
    assert entry.times == ("8 May 2023", "2 June 2023")
    assert entry.time == "8 May 2023; 2 June 2023"
    assert entry.source == ("D1:3", "D4:1", "D4:2")
    assert (entry.id, entry.owner, entry.version, entry.meta) == (1, "Ana", 3, {"n": 1})
    assert [op.kind for op in memory.log] == ["add", "update", "update"]
    assert memory.log[1].before is not None
    assert memory.log[1].before.text == "Ana adopted a dog, Buddy"  # the old version stays in the log
    assert memory.log[1].entry.text == "Ana has two dogs, Buddy and Scout"
    memory.delete(1)
    assert memory.log[3].after is None
    assert memory.log[3].entry.version == 3


def test_the_owner_alone_can_change() -> None:
    memory = Memory()
    memory.add("likes tea", owner="Ana")
    assert memory.update(1, "likes tea", owner="Ben").owner == "Ben"
    assert memory.update(1, "likes green tea").owner == "Ben"


def test_document() -> None:
    entry = Entry(1, "facts", "likes tea", "Ana", ("day 1", "day 2"))
    assert entry.document(("text",)) == "likes tea"
    assert entry.document(("time", "owner", "text")) == "day 1; day 2 Ana likes tea"
    assert replace(entry, owner="", times=()).document(("time", "owner", "text")) == "likes tea"


class CountingLexical(Lexical):
    """Counts the indexes made and the documents put into them."""

    made: list[LexicalIndex]
    added: list[int]

    def index(self) -> LexicalIndex:
        outer = self

        class Index(LexicalIndex):
            def add(self, entry_id: int, text: str) -> None:
                outer.added.append(entry_id)
                super().add(entry_id, text)

        index = Index(self)
        self.made.append(index)
        return index


def counting() -> CountingLexical:
    retriever = CountingLexical()
    object.__setattr__(retriever, "made", [])
    object.__setattr__(retriever, "added", [])
    return retriever


def found(memory: Memory, query: str, retriever: Lexical) -> list[str]:
    return [hit.entry.text for hit in memory.search(query, 9, retriever)]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_forks_share_the_index_until_one_writes(order: tuple[int, ...]) -> None:
    retriever = counting()
    memory = Memory()
    memory.add("red dog")
    memory.add("old dog")
    memory.prepare(retriever)
    left, right, quiet = memory.fork(), memory.fork(), memory.fork()
    left.add("new dog")
    right.update(1, "red cat")
    right.delete(2)
    memory.delete(1)
    held = [["new dog", "old dog", "red dog"], ["red cat"], ["old dog", "red dog"], ["old dog"]]
    forks = (left, right, quiet, memory)
    for i in order * 2:
        assert sorted(found(forks[i], "dog cat", retriever)) == held[i]
        assert sorted(found(forks[i].fork(), "dog cat", retriever)) == held[i]
    assert len(retriever.made) == 1
    assert retriever.added == [1, 2]  # nobody wrote into the index that all began with


def test_a_failed_index_goes_on_where_it_stopped() -> None:
    class Failing(LexicalIndex):
        fail = ""

        def add(self, entry_id: int, text: str) -> None:
            if self.fail and self.fail in text:
                raise ConnectionError("the embedder is down")
            super().add(entry_id, text)

    class Retriever(Lexical):
        def index(self) -> LexicalIndex:
            return Failing(self)

    memory, retriever = Memory(), Retriever()
    memory.add("red dog")
    memory.prepare(retriever)
    memory.add("old dog")
    memory.delete(1)
    memory.add("new dog")
    Failing.fail = "new"
    for _ in range(2):
        with pytest.raises(ConnectionError):
            memory.search("dog", 3, retriever)
    Failing.fail = ""
    assert sorted(found(memory, "dog", retriever)) == ["new dog", "old dog"]


def test_fork_keeps_sections_and_counter() -> None:
    memory = Memory([Section("core", "text", max_tokens=3, overflow="cut")], counter=len)
    assert memory.fork().add("ab cd").text == "ab"
    assert len(memory) == 0
    assert memory.next_id == 1


def test_restore_checks_what_it_is_given() -> None:
    good = Entry(2, "facts", "a b c")
    restored = Memory.restore([Section("facts", max_entries=1, max_tokens=2)], [good], 3)
    assert restored.entries() == [good]
    assert list(restored.log) == []
    refused("full", lambda: restored.add("x"))  # over its capacity, opened all the same
    assert restored.update(2, "b").version == 2
    for entries, next_id in (
        ([good, good], 3),
        ([good], 2),
        ([replace(good, section="x")], 3),
        ([Entry(0, "facts", "a")], 3),
    ):
        with pytest.raises(MnemonError, match="cannot be restored"):
            Memory.restore([Section("facts")], entries, next_id)


def test_sections_need_names_of_their_own() -> None:
    with pytest.raises(MnemonError, match="at least one section"):
        Memory([])
    with pytest.raises(MnemonError, match="names of their own"):
        Memory([Section("a"), Section("a", "text")])


def test_tokens_are_only_counted_where_they_are_limited() -> None:
    counted: list[str] = []

    def counter(text: str) -> int:
        counted.append(text)
        return count_words(text)

    memory = Memory([Section("free"), Section("capped", max_tokens=9)], counter)
    for i in range(20):
        memory.add(f"fact {i}")
    assert counted == []
    for i in range(4):
        memory.add(f"note {i}", section="capped")
    assert len(counted) == 4  # once per write, however much is held
    assert memory.tokens("capped") == 8
    assert memory.tokens() == 48


def test_forks_fill_up_alone() -> None:
    memory = Memory([Section("facts", max_entries=2, max_tokens=4)])
    memory.add("a b")
    fork = memory.fork()
    fork.add("c d")
    assert memory.add("e f").id == 2
    fork.delete(1)
    fork.delete(2)
    refused("full", lambda: memory.add("g"))
    assert fork.add("four words fit here").id == 3
