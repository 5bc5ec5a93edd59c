"""Memory: refusals, capacities, cuts, times, shared indexes, restoring. See also test_memory_model.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.memory.memory import Entry, Memory, Section, count_words
from mnemon.memory.retrieve import Lexical, LexicalIndex
from mnemon.types import MnemonError, ToolError

SECTIONS = (
    Section("facts", max_entries=3),
    Section("notes", max_tokens=6),
    Section("short", max_tokens=5, overflow="cut"),
    Section("core", "text", max_tokens=3, overflow="cut"),
    Section("free"),
)


def outcome(call: Callable[[], Entry]) -> Entry | str:
    """What a call gives: an entry, or the code of its refusal."""
    try:
        return call()
    except ToolError as error:
        return error.code


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


def test_a_cut_may_be_marked_and_the_mark_counts() -> None:
    memory = Memory([Section("core", "text", max_tokens=3, overflow="mark")])
    assert memory.add("one two three four").text == "one two [cut]"
    assert memory.update(1, "one two three").text == "one two three"
    refused("too_long", lambda: Memory([Section("core", "text", max_tokens=1, overflow="mark")]).add("one two"))


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
