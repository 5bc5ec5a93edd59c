"""Chunkers: pinned sizes, nothing lost, nothing too large."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.memory.count import BYTES, WORDS, token_counter
from mnemon.tasks.rows import Said, Segment
from mnemon.tasks.rows.chunk import each, even, greedy, merge, pack, pack_sentences, sentences, sessions
from mnemon.tasks.rows.wrap import book, chat_line, dialogue, named_line, session_header
from mnemon.types import MnemonError

ABC = ["a b c d e f", "g h", "i j k"]


def paragraph(i: int, words: int) -> Segment:
    return Segment(f"p{i}", "document", " ".join(f"w{i}.{j}" for j in range(words)) + ".")


def session(i: int, *sizes: int) -> Segment:
    """Turns of so many words, the user first."""
    turns = tuple(
        Said(f"D{i}:{j}", "Ana", "assistant" if j % 2 else "user", " ".join(f"w{i}.{j}.{k}" for k in range(size)))
        for j, size in enumerate(sizes)
    )
    return Segment(f"S{i}", "dialogue", turns=turns, time=f"2023-05-{i + 1:02d}T10:00", time_text=f"day {i}")


def words(chunks: Sequence[object]) -> list[str]:
    """The words of the made-up texts, frames left out."""
    return [word.rstrip(".") for chunk in chunks for word in chunk.text.split() if word[0] == "w" and word[1].isdigit()]  # type: ignore[attr-defined]


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sentences_packed_with_the_long_one_left_whole() -> None:
    assert pack_sentences(ABC, 5, WORDS, hard=False) == ["a b c d e f", "g h i j k"]
    assert pack_sentences(ABC, 8, WORDS, hard=False) == ["a b c d e f g h", "i j k"]


def test_a_long_sentence_is_cut_and_then_a_long_word() -> None:
    assert pack_sentences(ABC, 5, WORDS) == ["a b c d e", "f g h", "i j k"]
    assert pack_sentences("abcdefgh ij", 4, BYTES) == ["abcd", "efgh", "ij"]
    with pytest.raises(MnemonError, match="cannot hold the character 'é'"):
        pack_sentences("é", 1, BYTES)


def test_merge_closes_at_its_mark_but_not_what_an_overflow_held() -> None:
    sizes = [5, 6, 7, 3, 19, 2, 20, 1]
    assert [[sizes[i] for i in group] for group in merge(sizes, 18, 20)] == [[5, 6, 7], [3], [19], [2], [20], [1]]
    assert merge([], 18, 20) == []
    assert merge([18, 1], 18, 20) == [[0], [1]]


def test_even() -> None:
    assert [len(group) for group in even(23, 10)] == [3, 3, 3] + [2] * 7
    assert even(2, 10) == [[0], [1]]


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 40), st.integers(0, 3))
def test_groups_hold_everything_in_order_and_are_full(sizes: list[int], most: int, glue: int) -> None:
    groups = greedy(sizes, lambda: most, glue)
    assert [i for group in groups for i in group] == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in group) + glue * (len(group) - 1) for group in groups]
    assert all(total <= most or len(group) == 1 for total, group in zip(totals, groups, strict=True))
    following = [sizes[group[0]] for group in groups[1:]]
    assert all(total + glue + after > most for total, after in zip(totals[:-1], following, strict=True))
    merged = merge(sizes, most * 9 // 10, most, glue)
    assert [i for group in merged for i in group] == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in group) + glue * (len(group) - 1) for group in merged]
    assert all(total <= most or len(group) == 1 for total, group in zip(totals, merged, strict=True))


def test_sentence_ends() -> None:
    text = 'He said "no." Then\nhe left! 你好。再见！ Pi is 3.14 today… Yes?'
    assert sentences(text) == ['He said "no."', "Then", "he left!", "你好。", "再见！", "Pi is 3.14 today…", "Yes?"]


@given(st.text(alphabet="ab .!?。\n", max_size=200), st.integers(4, 30), st.sampled_from([WORDS, BYTES]))
def test_packed_sentences_lose_nothing(text: str, most: int, counter: object) -> None:
    packed = pack_sentences(text, most, counter)  # type: ignore[arg-type]
    assert "".join("".join(packed).split()) == "".join(text.split())
    assert all(counter(part) <= most for part in packed)  # type: ignore[operator]


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(60, 200), st.integers(0, 5))
def test_packed_paragraphs_stay_whole_in_order_and_below_the_limit(sizes: list[int], most: int, seed: int) -> None:
    segments = [paragraph(i, size) for i, size in enumerate(sizes)]
    chunks, rule = pack(segments, WORDS, most, most // 4, dialogue(seed), seed)
    assert words(chunks) == [word.rstrip(".") for s in segments for word in s.text.split()]
    assert all(chunk.tokens == WORDS(chunk.text) <= most for chunk in chunks)
    assert (rule.name, rule.counter, rule.max, rule.min, rule.wrap) == ("pack", "words", most, most // 4, "dialogue")
    room = most - 40  # no frame is longer
    for segment, size in zip(segments, sizes, strict=True):
        if size <= room:
            assert sum(segment.id in chunk.segments for chunk in chunks) == 1
    assert [chunk.id for chunk in chunks] == [f"c{i}" for i in range(len(chunks))]


def test_targets_are_drawn_anew_for_each_chunk() -> None:
    segments = [paragraph(i, 10) for i in range(400)]
    chunks, _ = pack(segments, WORDS, 200, 50, seed=1)
    assert len({chunk.tokens for chunk in chunks}) > 5
    assert pack(segments, WORDS, 200, 50, seed=1)[0] == chunks != pack(segments, WORDS, 200, 50, seed=2)[0]


@given(st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(40, 120))
def test_sessions(sizes: list[list[int]], most: int) -> None:
    segments = [session(i, *turns) for i, turns in enumerate(sizes)]
    chunks, rule = sessions(segments, WORDS, most, session_header, chat_line)
    assert words(chunks) == [word for s in segments for turn in s.turns for word in turn.text.split()]
    assert all(chunk.tokens <= most for chunk in chunks)
    for chunk in chunks:
        heads = [line for line in chunk.text.splitlines() if line.startswith("[Dialogue at")]
        assert chunk.text.startswith(heads[0])
        assert list(dict.fromkeys(heads)) == [f"[Dialogue at timestamp day {name[1:]}]" for name in chunk.segments]
        assert chunk.time == next(s.time for s in segments if s.id == chunk.segments[0])
    for before, after in pairwise(chunks):
        assert before.tokens >= rule.min or before.tokens + after.tokens > min(rule.min, most) - 5


def test_a_session_does_not_end_on_the_user_where_it_can_help_it() -> None:
    chunks, _ = sessions([session(0, 10, 10, 10, 10)], WORDS, 40, session_header, chat_line)
    assert [chunk.turns for chunk in chunks] == [("D0:0", "D0:1"), ("D0:2", "D0:3")]
    assert chunks[1].text.startswith("[Dialogue at timestamp day 0]\n<User> w0.2.0")


def test_a_long_turn_leaves_room_for_its_header() -> None:
    chunks, _ = sessions([session(0, 5000)], WORDS, 2048, session_header, chat_line)
    assert [chunk.tokens for chunk in chunks] == [1898 + 5, 1898 + 5, 5001 - 2 * 1898 + 5]


def test_sessions_close_at_1800_of_2048() -> None:
    chunks, rule = sessions([session(i, 400, 195) for i in range(7)], WORDS, 2048, session_header, chat_line)
    assert rule.min == 1800
    assert [chunk.tokens for chunk in chunks] == [3 * 602, 3 * 602, 602]


def test_groups_share_a_chunk() -> None:
    segments = [Segment(f"e{i}", "event", f"event {i}", meta={"group": i // 2}) for i in range(5)]
    chunks, _ = each(segments, WORDS, 10)
    assert [chunk.segments for chunk in chunks] == [("e0", "e1"), ("e2", "e3"), ("e4",)]
    assert chunks[0].text == "event 0\n\nevent 1"


def test_a_segment_that_does_not_fit_is_cut_into_full_chunks() -> None:
    told = " ".join(f"w{i} is here." for i in range(40))
    chunks, _ = each([Segment("e", "event", told)], WORDS, 25)
    assert [chunk.tokens for chunk in chunks] == [24] * 5
    assert " ".join(chunk.text for chunk in chunks) == told
    assert all(chunk.segments == ("e",) for chunk in chunks)
    framed, _ = each([Segment("e", "event", told)], WORDS, 60, dialogue())
    assert max(chunk.tokens for chunk in framed) <= 60
    assert len(framed) in (4, 5)
    with pytest.raises(MnemonError, match="cannot hold the frame"):
        each([Segment("e", "event", told)], WORDS, 10, dialogue())


def test_a_limit_too_small_is_an_error() -> None:
    with pytest.raises(MnemonError, match="leave 0 beside the frame 'dialogue'"):
        pack([paragraph(0, 5)], WORDS, 20, 5, dialogue())
    with pytest.raises(MnemonError, match="cannot hold the header"):
        sessions([session(0, 5)], BYTES, 24, session_header, chat_line)


def test_frames_are_dated_and_drawn_by_seed() -> None:
    text, time = dialogue(3).render(2, "body", ())
    assert text.startswith("[Dialogue between User and Assistant on 2024-01-03 00:00]\n<User> ")
    assert "\nbody\n<Assistant> " in text
    assert time == "2024-01-03T00:00"
    assert dialogue(3).render(2, "body", ()) == (text, time)
    assert len({dialogue(seed).render(0, "", ())[0] for seed in range(9)}) > 3
    text, time = book().render(0, "Once.", ())
    assert text.startswith("[Event happened on 2024-01-01 The user is reading a book]\n<User> Once.\n<System> ")
    dates = [book(1).render(k, "", ())[1] for k in range(20)]
    assert dates == sorted(set(dates))


def test_a_shared_picture_is_told() -> None:
    turn = Said("t", "Ana", "user", "Look!", {"caption": "a dog"})
    assert named_line(Segment("S", "dialogue", turns=(turn,)), 0) == "Ana: Look! [shares a photo: a dog]"


# ── counters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_counters() -> None:
    assert (token_counter("words")("a b  c"), token_counter("bytes")("é!")) == (3, 3)
    with pytest.raises(MnemonError, match="is no tokenizer"):
        token_counter(__file__)
    with pytest.raises(MnemonError, match=r"no tokenizer\.json"):
        token_counter(str(Path(__file__).parent))


def test_a_tokenizer_counts(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import ByteLevel

    model = tokenizers.Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    model.enable_truncation(2)
    (tmp_path / "tok").mkdir()
    model.save(str(tmp_path / "tok" / "tokenizer.json"))
    counter = token_counter(str(tmp_path / "tok"))
    assert counter("one two, three") == 4
    assert counter.name.startswith("tok@")
    assert counter.name == token_counter(str(tmp_path / "tok" / "tokenizer.json")).name.replace("tokenizer@", "tok@")
    draws = random.Random(0)
    segments = [paragraph(i, draws.randint(5, 60)) for i in range(20)]
    chunks, rule = pack(segments, counter, 120, 30, dialogue())
    assert rule.counter == counter.name
    assert max(chunk.tokens for chunk in chunks) <= 120
