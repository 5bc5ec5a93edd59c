"""One row for every memory dataset: reading, checking, chunking, splitting, building, and the task of a row."""

from mnemon.tasks.rows.check import check_row
from mnemon.tasks.rows.data import (
    DIMENSIONS,
    SCHEMA,
    SCORERS,
    SPLITS,
    Chunk,
    Chunker,
    Fault,
    Question,
    Row,
    Said,
    Segment,
    Split,
)
from mnemon.tasks.rows.files import RowFile, parse_row, read_rows, row_json, write_rows
from mnemon.tasks.rows.load import read_splits, scorable_tasks, unjudged
from mnemon.tasks.rows.split import Leak, leaks, split_documents, split_labels
from mnemon.tasks.rows.task import PREFIXES, to_task

__all__ = [
    "DIMENSIONS",
    "PREFIXES",
    "SCHEMA",
    "SCORERS",
    "SPLITS",
    "Chunk",
    "Chunker",
    "Fault",
    "Leak",
    "Question",
    "Row",
    "RowFile",
    "Said",
    "Segment",
    "Split",
    "check_row",
    "leaks",
    "parse_row",
    "read_rows",
    "read_splits",
    "row_json",
    "scorable_tasks",
    "split_documents",
    "split_labels",
    "to_task",
    "unjudged",
    "write_rows",
]
