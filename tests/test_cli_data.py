"""`mnemon data build`, `check` and `show` of rows, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mnemon import cli
from mnemon.tasks.rows import read_rows, row_json

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mnemon(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def squad(path: Path, articles: int = 12, extra: object = None) -> Path:
    """A file in SQuAD's layout: two paragraphs an article, one question each."""
    data = [
        {
            "title": f"Town {i}",
            "paragraphs": [
                {
                    "context": f"Town {i} has a {thing} number {i}{j}. " + f"It is told of often {i} {j}. " * 20,
                    "qas": [
                        {
                            "id": f"{i}-{j}",
                            "question": f"Which {thing} has Town {i}?",
                            "answers": [{"text": f"number {i}{j}", "answer_start": 13}],
                        }
                    ],
                }
                for j, thing in enumerate(("mayor", "bridge"))
            ],
        }
        for i in range(articles)
    ]
    if extra is not None:
        data[0]["paragraphs"][0]["qas"].append(extra)  # type: ignore[index]
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


def test_build_show_check(mnemon: Run, tmp_path: Path) -> None:
    file, out = squad(tmp_path / "train-v1.1.json"), tmp_path / "rows.jsonl"
    code, said, _ = mnemon("data", "build", "squad", file, "--out", out, "--chunk-tokens", 400, "--seed", 3)
    assert code == 0
    assert "counted as words" in said
    rows = read_rows(out)
    sizes = {split: sum(len(row.probes) for row in rows if row.split == split) for split in ("train", "validation")}
    assert sizes == {"train": 20, "validation": 4}
    assert all(chunk.tokens <= 400 for row in rows for chunk in row.chunks)
    code, said, _ = mnemon("data", "show", out)
    assert code == 0
    for expected in (
        "rows.jsonl: 3 rows",
        "accurate_retrieval",
        "extractive",
        "em_squad",
        "CC-BY-SA-4.0",
        "= number",
        "(c0)",
    ):
        assert expected in said
    code, said, _ = mnemon("data", "check", out)
    assert (code, "Leaks between splits: none" in said) == (0, True)
    code, said, _ = mnemon("data", "build", "squad", file, "--out", out, "--split", "validation", "--questions", 1)
    assert [(row.split, len(row.probes)) for row in read_rows(out)] == [("validation", 1)]


def test_leaks_make_a_check_fail(mnemon: Run, tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    assert mnemon("data", "build", "squad", squad(tmp_path / "train-v1.1.json"), "--out", train)[0] == 0
    assert mnemon("data", "build", "squad", squad(tmp_path / "dev-v1.1.json", 2), "--out", test)[0] == 0
    code, said, _ = mnemon("data", "check", train, test, "--problems", 2)
    assert code == 1
    assert "Leaks between splits: 2 documents, 4 questions" in said
    assert "more" in said
    code, said, _ = mnemon("data", "check", train, train)
    assert (code, "in more than one file" in said) == (1, True)


def test_malformed_parts_stop_a_build_or_are_counted(mnemon: Run, tmp_path: Path) -> None:
    file, out = squad(tmp_path / "dev-v1.1.json", 2, {"id": "x", "question": "Who?", "answers": [{}]}), tmp_path / "o"
    code, _, error = mnemon("data", "build", "squad", file, "--out", out)
    assert code == 2
    assert "dev-v1.1.json, data[0], paragraphs[0].qas[1].answers[0].text: is missing: question left out" in error
    assert not out.exists()
    code, said, _ = mnemon("data", "build", "squad", file, "--out", out, "--skip-bad")
    assert code == 0
    assert "Malformed or mended fields: 1" in said
    assert len(read_rows(out)[0].probes) == 4


def test_build_all(mnemon: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "squad").mkdir(parents=True)
    (tmp_path / "data" / "squad_xquad").mkdir()
    squad(tmp_path / "data" / "squad" / "train-v1.1.json")
    squad(tmp_path / "data" / "squad" / "dev-v1.1.json", 2)
    squad(tmp_path / "data" / "squad_xquad" / "xquad.de.json", 3)
    code, said, _ = mnemon("data", "build", "all", tmp_path / "data", "--out", tmp_path / "rows")
    assert code == 0, said
    assert len(read_rows(tmp_path / "rows" / "xquad.jsonl")) == 1
    assert {path.name for path in (tmp_path / "rows").iterdir()} == {"squad.jsonl", "xquad.jsonl"}
    assert " all " in said


def test_deal_one_file_to_the_splits(mnemon: Run, tmp_path: Path) -> None:
    """12 articles: int(0.9 · 12) = 10 train, one validation, one test; every question once, nothing shared."""
    file, out = squad(tmp_path / "xquad.en.json"), tmp_path / "rows.jsonl"
    assert mnemon("data", "build", "xquad", file, "--out", out, "--deal")[0] == 0
    rows = read_rows(out)
    documents = {split: {d for r in rows if r.split == split for d in r.documents} for split in ("train", "test")}
    assert {split: len(names) for split, names in documents.items()} == {"train": 10, "test": 1}
    assert {row.split for row in rows} == {"train", "validation", "test"}
    assert len({probe.id for row in rows for probe in row.probes}) == 24
    assert "Leaks between splits: none" in mnemon("data", "check", out)[1]
    assert mnemon("data", "build", "xquad", file, "--out", out, "--deal", "--seed", 1)[0] == 0
    assert {d for row in read_rows(out) if row.split == "test" for d in row.documents} != documents["test"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data build squid FILE --out OUT", "unknown dataset 'squid'; use one of"),
        ("data build squad none.json --out OUT", "there is no file none.json; expected train-v1.1.json"),
        ("data build squad FILE --out no/rows.jsonl", "there is no folder no; make it first"),
        ("data build squad FILE --out OUT --split train", "gives no row of split train; there are rows of test"),
        ("data build squad FILE --out OUT --counter nowhere.json", "is no tokenizer"),
        ("data build squad FILE --out OUT --chunk-tokens 16", "allow more tokens per chunk"),
        ("data build squad FILE --out OUT --deal", "2 documents cannot be dealt"),
        ("data build msc FILE --out OUT --deal", "msc: --deal is for squad and xquad"),
        ("data build locomo FILE --out OUT", "is a JSON object with keys version, data"),
        ("data build all FILE --out OUT", "is not a folder"),
        ("data build all . . --out OUT", "takes one folder, not 2 files"),
        ("data check FILE", "malformed part"),
        ("data show none.jsonl", "make it with mnemon data build"),
    ],
)
def test_mistakes(mnemon: Run, tmp_path: Path, words: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    places = {"FILE": str(squad(tmp_path / "dev-v1.1.json", 2)), "OUT": str(tmp_path / "rows.jsonl")}
    code, _, error = mnemon(*(places.get(word, word) for word in words.split()))
    assert code == 2
    assert said in error


def test_a_row_file_is_known_by_its_content(mnemon: Run, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    mnemon("data", "build", "squad", squad(tmp_path / "dev-v1.1.json", 2), "--out", out)
    raw = row_json(read_rows(out)[0])
    raw["probes"] = raw["probes"][:1]
    (tmp_path / "renamed.txt").write_text(json.dumps(raw), encoding="utf-8")
    assert "1 row\n" in mnemon("data", "show", tmp_path / "renamed.txt")[1]


def test_steps_with_a_model(mnemon: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemon.cli import data_build
    from mnemon.policy.base import Scripted
    from mnemon.policy.open import Opened

    policy = Scripted(lambda messages, tools: "number 00" if "mayor has Town 0" in messages[-1].content else "?")
    monkeypatch.setattr(data_build, "open_policy", lambda name: Opened(policy, name, None, {}))
    file, out = squad(tmp_path / "dev-v1.1.json", 2), tmp_path / "rows.jsonl"
    code, said, error = mnemon("data", "build", "squad", file, "--out", out, "--closed-book", "some/model")
    assert code == 0, error
    assert "1 of 4 question(s) are answered without the text" in said
    assert [probe.id for probe in read_rows(out)[0].probes] == ["0-1", "1-0", "1-1"]
    code, said, error = mnemon("data", "build", "squad", file, "--out", out, "--keywords", "some/model")
    assert (code, "0 of 0 summaries" in said) == (0, True)
    code, said, error = mnemon("data", "build", "squad", file, "--out", out, "--cache", tmp_path / "c")
    assert (code, "give one of them" in error) == (2, True)


def test_build_all_with_a_split(mnemon: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "squad").mkdir(parents=True)
    (tmp_path / "data" / "squad_xquad").mkdir()
    squad(tmp_path / "data" / "squad" / "train-v1.1.json")
    squad(tmp_path / "data" / "squad_xquad" / "xquad.de.json", 3)
    assert mnemon("data", "build", "all", tmp_path / "data", "--out", tmp_path / "rows", "--split", "train")[0] == 0
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["squad.jsonl"]
