"""`mnemon data build`, and the pages that `show` and `check` print of rows."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Table

from mnemon.memory.count import token_counter
from mnemon.policy.base import run_sync
from mnemon.policy.open import open_policy
from mnemon.tasks.rows import SPLITS, Fault, Row, assist, leaks, read_rows, to_task, write_rows
from mnemon.tasks.rows.build import DATASETS, Built, Options, found_in
from mnemon.tasks.rows.build import build as build_rows
from mnemon.tasks.rows.fields import listed
from mnemon.types import MnemonError, Policy

SKIP = "Leave malformed parts out and use the rest; they are counted."
NAMES = ", ".join(sorted(DATASETS))


def build(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=f"{NAMES}; or all, with a folder of datasets.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Its original files (all: the folder).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file of rows to write (all: a folder).")],
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Only the rows of this split.")
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=16, metavar="N", help="Most tokens of a chunk.")] = 2048,
    counter: Annotated[
        str, typer.Option(metavar="NAME", help="Who counts: words, bytes, or a tokenizer (folder or hub id).")
    ] = "words",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of everything that is drawn.")] = 42,
    max_rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most this many rows.")] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most this many questions a row, drawn.")
    ] = None,
    row_chunks: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Chunks of a row made of paragraphs or labelled sentences."),
    ] = 10,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Labelled sentences: how often each label is used, numbered anew.")
    ] = 1,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Labelled sentences: one test row of all labels and examples.")
    ] = False,
    deal: Annotated[
        bool,
        typer.Option("--deal", help="xquad, squad: deal the articles of one file to train, validation and test."),
    ] = False,
    closed_book: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="Drop long answers, and questions that this model answers without the text."
        ),
    ] = None,
    keywords: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Let this model draw the keywords of summaries.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the model's replies here, for the next time.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help=SKIP)] = False,
    problems: Annotated[int, typer.Option(min=0, metavar="N", help="Most malformed fields to list.")] = 20,
) -> None:
    """Turn a dataset's original files into task rows: chunks to read and questions about them, one row per line.

    mnemon data build all FOLDER --out ROWS builds everything known that lies in FOLDER, one file per dataset.
    POLICY is a model directory, a hub id or the URL of an endpoint, as everywhere.
    """
    options = Options(
        chunk_tokens,
        token_counter(counter),
        seed,
        questions,
        row_chunks,
        label_rounds=rounds,
        all_labels=all_labels,
        deal=deal,
    )
    if cache is not None and closed_book is None and keywords is None:
        raise MnemonError("--cache keeps the replies of --closed-book and --keywords: give one of them")
    steps = [(step, open_policy(name)) for step, name in ((_closed_book, closed_book), (_keywords, keywords)) if name]
    work = [(dataset, tuple(files), out)]
    if dataset == "all":
        if len(files) != 1:
            raise MnemonError(f"mnemon data build all takes one folder, not {len(files)} files")
        found_files = titled(found_in(files[0]))
        out.mkdir(parents=True, exist_ok=True)
        work = [(name, found, out / f"{title}.jsonl") for name, found, title in found_files]
    elif not out.parent.is_dir():
        raise MnemonError(f"--out {out}: there is no folder {out.parent}; make it first")
    lines = []
    faults: list[Fault] = []
    for name, found, target in work:
        began = time.monotonic()
        with _Progress(name) as progress:
            built = build_rows(
                name,
                found,
                options,
                split=split,
                skip_bad=skip_bad,
                max_rows=max_rows,
                progress=progress,
                may_be_empty=dataset == "all",
            )
            for step, opened in steps:
                progress(f"asking {opened.spec}")
                built = step(built, opened.policy, cache)
            if built.rows:
                write_rows(target, built.rows)
        faults += built.faults
        lines.append(count(target.stem if dataset == "all" else name, built, time.monotonic() - began))
    typer.echo(table_of(lines, options))
    if faults:
        typer.echo(f"Malformed or mended fields: {len(faults)}")
        typer.echo(listed(faults, problems))
    typer.echo(f"wrote {out}")


def _closed_book(built: Built, policy: Policy, cache: Path | None) -> Built:
    done = run_sync(assist.closed_book(built.rows, policy, cache=cache))
    if not done.rows and built.rows:
        raise MnemonError("--closed-book left no row: every answer is known without the text, or long")
    what = f"{done.changed} of {done.asked} question(s) are answered without the text, or with more than 4 words"
    return replace(built, rows=done.rows, faults=(*built.faults, _remark(what, "dropped")))


def _keywords(built: Built, policy: Policy, cache: Path | None) -> Built:
    done = run_sync(assist.with_keywords(built.rows, policy, cache=cache))
    what = f"{done.changed} of {done.asked} summaries"
    return replace(built, rows=done.rows, faults=(*built.faults, _remark(what, "keywords drawn by the model")))


def _remark(what: str, done: str) -> Fault:
    return Fault("", "", "model", what, done, bad=False)


def titled(found: Sequence[tuple[str, tuple[Path, ...]]]) -> list[tuple[str, tuple[Path, ...], str]]:
    """(dataset, files, name of its rows): the dataset's, with the first file's where it is built more than once."""
    times = Counter(name for name, _ in found)
    return [(name, files, name if times[name] == 1 else f"{name}-{files[0].stem}") for name, files in found]


class _Progress(AbstractContextManager["_Progress"]):
    """After two seconds: what is being read, on a terminal as a moving line, elsewhere now and then."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console(stderr=True)
        self.status: Status | None = None
        self.shown = time.monotonic()
        self.n = 0

    def __call__(self, what: str) -> None:
        self.n += 1
        now = time.monotonic()
        text = f"{self.title}: {self.n} read, {what}"
        if self.status is not None:
            self.status.update(text)
        elif self.console.is_terminal and now - self.shown > 2:
            self.status = self.console.status(text)
            self.status.start()
        elif not self.console.is_terminal and now - self.shown > 15:
            self.shown = now
            self.console.print(text, markup=False, highlight=False)

    def __exit__(self, *error: object) -> None:
        if self.status is not None:
            self.status.stop()


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Line:
    """The counts of one build. `mended`: faults that cost nothing; `left_out`: malformed parts that were not used."""

    name: str
    rows: int
    train: int
    validation: int
    test: int
    segments: int
    chunks: int
    probes: int
    tokens: int
    largest: int
    mended: int
    left_out: int
    seconds: float


def count(name: str, built: Built, seconds: float = 0.0) -> Line:
    """Count the rows of a build."""
    rows = built.rows
    splits = Counter(row.split for row in rows)
    return Line(
        name=name,
        rows=len(rows),
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        segments=sum(len(row.segments) for row in rows),
        chunks=sum(len(row.chunks) for row in rows),
        probes=sum(len(row.probes) for row in rows),
        tokens=sum(row.tokens for row in rows),
        largest=max((chunk.tokens for row in rows for chunk in row.chunks), default=0),
        mended=len(built.faults) - built.left_out,
        left_out=built.left_out,
        seconds=seconds,
    )


def table_of(lines: Sequence[Line], options: Options) -> str:
    """The counts as a table, with a sum where there are several builds."""
    title = f"Rows, chunks of at most {options.chunk_tokens:,} tokens counted as {options.counter.name}"
    names = ("rows", *SPLITS, "segments", "chunks", "probes", "tokens", "largest", "mended", "left out", "s")
    table = _table(title, ("dataset",), names)
    for line in lines:
        sizes = [getattr(line, name.replace(" ", "_")) for name in names[:-1]]
        table.add_row(line.name, *(f"{size:,}" for size in sizes), f"{line.seconds:.1f}")
    if len(lines) > 1:
        table.add_section()
        sums = [sum(getattr(line, name.replace(" ", "_")) for line in lines) for name in names[:-1]]
        sums[names.index("largest")] = max(line.largest for line in lines)
        table.add_row("all", *(f"{size:,}" for size in sums), f"{sum(line.seconds for line in lines):.1f}")
    return _page(table)


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _page(*parts: Any) -> str:
    page = io.StringIO()
    Console(file=page, width=160, no_color=True, highlight=False, markup=False).print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


# ── show and check ───────────────────────────────────────────────────────────────────────────────────────────────────


def looks_like_rows(path: Path) -> bool:
    """True for a file whose first line is a row's, or any .jsonl file."""
    if path.suffix == ".jsonl":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"memtask/' in file.read(200)


def row_summary(path: Path, skip_bad: bool, problems: int) -> str:
    """Counts per source, dimension and category, and one sample."""
    file = read_rows(path, skip_bad)
    rows = file.rows
    tables = [
        _counts(f"{path.name}: {len(rows):,} row{'s' * (len(rows) > 1)}", "source", rows, lambda row: row.source),
        _counts("", "dimension", rows, lambda row: row.dimension),
        _counts("", "split", rows, lambda row: row.split),
    ]
    kinds = _table("", ("source", "category", "answers", "first scorer"), ("questions",))
    asked = Counter((row.source, q.category, q.answer_type, q.scorers[0]) for row in rows for q in row.probes)
    for key, n in sorted(asked.items()):
        kinds.add_row(*key, f"{n:,}")
    counters = sorted({row.chunker.counter for row in rows if row.chunker})
    licenses = sorted({f"{row.source}: {row.license}" for row in rows})
    texts = [
        f"Tokens counted as {', '.join(counters) or 'nothing: no chunks'}. Licences: {', '.join(licenses)}.",
        *_sample(rows[0]),
        *_faults(file.faults, problems),
    ]
    return _page(*tables, kinds) + "\n" + "\n".join(texts)


def _counts(title: str, name: str, rows: Sequence[Row], key: Callable[[Row], str]) -> Table:
    table = _table(title, (name,), ("rows", "segments", "chunks", "questions", "tokens", "tokens/chunk"))
    for value in sorted({key(row) for row in rows}):
        held = [row for row in rows if key(row) == value]
        chunks = sum(len(row.chunks) for row in held)
        tokens = sum(row.tokens for row in held)
        sizes = (len(held), sum(len(r.segments) for r in held), chunks, sum(len(r.probes) for r in held), tokens)
        table.add_row(value, *(f"{size:,}" for size in sizes), f"{tokens / max(1, chunks):,.0f}")
    return table


def _sample(row: Row, width: int = 110) -> list[str]:
    """The beginning of a row's first chunk, and its first question as a probe."""
    task = to_task(row, judged=True)
    text = row.chunks[0].text if row.chunks else row.segments[0].text
    probe = task.probes[0]
    lines = [f"Row {row.id} begins:", *(f"  {line[:width]}" for line in text.splitlines()[:3])]
    wanted = ", ".join(probe.evidence) or "no evidence named"
    lines.append(f"  ? {probe.question[:width]}")
    lines.append(f"  = {' | '.join(probe.answers)[:width] or '(' + probe.meta['answer_type'] + ')'}   ({wanted})")
    return lines


def _faults(faults: Sequence[Fault], most: int) -> list[str]:
    return [f"Malformed fields: {len(faults)}", listed(faults, most)] if faults else ["Malformed fields: 0"]


def check_files(paths: Sequence[Path], skip_bad: bool, problems: int, near: float) -> tuple[str, bool]:
    """What is wrong with files of rows, alone and together; and whether nothing is."""
    files = [read_rows(path, skip_bad) for path in paths]
    rows = [row for file in files for row in file]
    table = _table("Checked", ("file",), ("rows", *SPLITS, "chunks", "questions", "kept with remark", "left out"))
    for file in files:
        splits = Counter(row.split for row in file)
        sizes = (len(file), *(splits[s] for s in SPLITS), sum(len(r.chunks) for r in file))
        bad = len(file.left_out)
        sizes += (sum(len(r.probes) for r in file), len(file.faults) - bad, bad)
        table.add_row(file.path.name, *(f"{size:,}" for size in sizes))
    repeated = [name for name, n in Counter(row.id for row in rows).items() if n > 1]
    found = leaks(rows, near)
    kinds = Counter(leak.what for leak in found)
    lines = [_page(table), *(str(fault) for file in files for fault in file.faults[:problems])]
    if repeated:
        lines.append(f"{len(repeated)} row id(s) are in more than one file, the first is {repeated[0]}")
    if found:
        sums = ", ".join(f"{n} {what}{'s' * (n > 1 and what != 'labels')}" for what, n in kinds.items())
        lines.append(f"Leaks between splits: {sums}")
        lines += [f"  {leak}" for leak in found[:problems]]
        lines += [f"  … and {len(found) - problems} more"] if len(found) > problems else []
    else:
        lines.append("Leaks between splits: none")
    return "\n".join(lines), not found and not repeated
