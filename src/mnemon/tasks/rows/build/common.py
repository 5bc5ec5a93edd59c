"""What builders share: options, reading original files, faults, times, drawing."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from mnemon.memory.count import WORDS, TokenCounter
from mnemon.tasks.rows.data import Fault, Row, Split
from mnemon.tasks.rows.fields import Bad
from mnemon.tasks.rows.split import split_documents
from mnemon.types import JSON, MnemonError


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set. `questions`: most per row, drawn with `seed` (None: all, or the builder's own number).

    deal: a file of articles serves for all three splits (`DEALT` datasets).
    """

    chunk_tokens: int = 2048
    counter: TokenCounter = WORDS
    seed: int = 42
    questions: int | None = None
    row_chunks: int = 10
    label_rounds: int = 1
    all_labels: bool = False
    deal: bool = False


@dataclass(slots=True)
class Source:
    """The files of one build: reads them, collects what is wrong with them, and says how far it is."""

    files: tuple[Path, ...]
    options: Options = field(default_factory=Options)
    faults: list[Fault] = field(default_factory=list)
    progress: Callable[[str], None] = lambda what: None
    file: str = ""
    row: str = ""

    def note(self, field: str, what: str, done: str) -> None:
        """Something mended or left aside on purpose: listed, nothing is lost by it."""
        self.faults.append(Fault(self.file, self.row, field, what, done, bad=False))

    def left_out(self, error: Bad, part: str) -> None:
        """A malformed part."""
        self.faults.append(Fault(self.file, self.row, error.field, error.what, f"{part} left out"))

    @contextmanager
    def part(self, name: str, row: str | None = None) -> Iterator[None]:
        """Around the reading of a part: if it is malformed, it is left out and listed."""
        if row is not None:
            self.row = row
            self.progress(row)
        try:
            yield
        except Bad as error:
            self.left_out(error, name)

    def each(self) -> Iterator[Path]:
        """The files, one after another."""
        for path in self.files:
            self.file, self.row = path.name, ""
            self.progress(path.name)
            yield path


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A file's text; MnemonError where it cannot be read. A byte order mark is dropped."""
    try:
        return path.read_text(encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    except OSError as error:
        raise MnemonError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MnemonError(f"{path} is not {encoding} text ({error})") from error


def read_json(path: Path) -> Any:
    """A JSON file; MnemonError where it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise MnemonError(f"{path} is not a JSON file ({error}). Is the download complete?") from error


def read_records(source: Source, path: Path, what: str) -> Iterator[tuple[int, Any]]:
    """(number, object) of a JSON list, a JSON Lines file or a parquet file, as the name ends.

    A line that is not JSON is left out and listed. Parquet needs pyarrow. Raises MnemonError for another file.
    """
    if path.suffix == ".parquet":
        yield from enumerate(_read_parquet(path))
        return
    if path.suffix in (".jsonl", ".ndjson"):
        for i, line in enumerate(read_text(path).splitlines()):
            if line.strip():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    source.faults.append(Fault(path.name, f"line {i + 1}", "", f"is not JSON ({error})", "left out"))
                    continue
                yield i, record
        return
    text = read_text(path).lstrip()
    if not text.startswith("["):
        rows = read_json(path)
        keys = f" with keys {', '.join(list(rows)[:6])}" if isinstance(rows, dict) else ""
        raise MnemonError(f"{path} is a JSON {type(rows).__name__}{keys}, not a list of {what}")
    yield from enumerate(_elements(text, path))


def _elements(text: str, path: Path) -> Iterator[Any]:
    """The elements of a JSON list, one after another: a large file is never held as a whole after it is parsed."""
    decoder = json.JSONDecoder()
    at = _past_blanks(text, 1)
    more = text[at : at + 1] != "]"
    try:
        while more:
            element, at = decoder.raw_decode(text, at)
            yield element
            at = _past_blanks(text, at)
            more = text[at : at + 1] == ","
            if more:
                at = _past_blanks(text, at + 1)
            elif text[at : at + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if _past_blanks(text, at + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, at + 1)
    except json.JSONDecodeError as error:
        raise MnemonError(f"{path} is not a JSON file ({error}). Is the download complete?") from error


def _past_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _read_parquet(path: Path) -> Iterator[JSON]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise MnemonError(f"{path}: reading parquet needs pyarrow: pip install 'mnemon[data]'") from error
    try:
        file = parquet.ParquetFile(path)
        for batch in file.iter_batches(batch_size=16):
            yield from batch.to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise MnemonError(f"{path} is not a parquet file ({str(error).splitlines()[0]})") from error


def read_csv(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields) of a CSV file with this header (more columns may follow); quoted line breaks are kept."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            names = reader.fieldnames or []
            if missing := [name for name in columns if name not in names]:
                raise MnemonError(f"{path}: the header is {', '.join(names)}; there is no {', '.join(missing)}")
            for row in reader:
                yield reader.line_num, {name: row.get(name) or "" for name in columns}
    except OSError as error:
        raise MnemonError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MnemonError(f"{path} is not UTF-8 text ({error})") from error


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(value: Any, place: str) -> str:
    """An answer as text: numbers are written out; Bad for anything else or a blank one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise Bad(place, f"is {value!r}, not an answer")
    return value.strip()


def date(text: str, form: str, place: str) -> str:
    """`text`, printed as `form`, as ISO 8601 to the minute; Bad where it is printed otherwise."""
    try:
        return datetime.strptime(text.strip(), form).strftime("%Y-%m-%dT%H:%M")
    except ValueError as error:
        raise Bad(place, f"{text!r} is not like {datetime(2023, 5, 30, 23, 40).strftime(form)!r}") from error


def draw(items: Sequence[Any], most: int | None, *key: object) -> list[Any]:
    """At most `most` of the items, drawn with a seed of its own for `key`, in their order."""
    if most is None or len(items) <= most:
        return list(items)
    chosen = random.Random("/".join(map(str, key))).sample(range(len(items)), most)
    return [items[i] for i in sorted(chosen)]


def shuffled(items: Iterable[Any], *key: object) -> list[Any]:
    """The items in an order drawn with a seed of its own for `key`."""
    order = list(items)
    random.Random("/".join(map(str, key))).shuffle(order)
    return order


def distinct(items: Iterable[str]) -> tuple[str, ...]:
    """Each item once, in order."""
    return tuple(dict.fromkeys(items))


def divide(evidence: Mapping[str, Iterable[str]], others: Iterable[str]) -> tuple[dict[str, Split], dict[str, Split]]:
    """Questions and documents dealt to train and validation so that no document is in both.

    evidence: question -> the documents that answer it; others: documents that answer nothing. A tenth of the questions
    is validation and takes its documents along; a train question that needs one of them is in neither (it is missing
    in the first result). The other documents are split like `split_documents`.
    """
    asked = split_documents(evidence)
    taken = {name for question, names in evidence.items() if asked[question] == "validation" for name in names}
    kept = {q: split for q, split in asked.items() if split == "validation" or not taken & set(evidence[q])}
    owners: dict[str, Split] = dict(split_documents(others))
    owners.update({name: "train" for question in kept for name in evidence[question]})
    owners.update(dict.fromkeys(taken, "validation"))
    return kept, owners


Builder = Callable[[Source], Iterator[Row]]
