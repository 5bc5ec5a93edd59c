"""Reading fields of somebody else's JSON: the value, or what is wrong with it and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mnemon.tasks.rows.data import Fault
from mnemon.types import MnemonError

T = TypeVar("T")
_NAMES = {str: "text", dict: "an object", list: "a list", int: "a number", bool: "true or false"}


class Bad(Exception):
    """A part that cannot be used: field and what is wrong. Caught where the part can be left out."""

    def __init__(self, field: str, what: str, code: str = "E_FIELD") -> None:
        super().__init__(f"{field}: {what}")
        self.field = field
        self.what = what
        self.code = code


def short(value: Any) -> str:
    """A value as an error shows it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def join(place: str, key: str) -> str:
    """``questions[3]`` and ``answer`` as ``questions[3].answer``."""
    return f"{place}.{key}" if place and key else place or key


def cast(value: Any, kind: type[T], place: str) -> T:
    """`value`, which must be of `kind`; else Bad. true is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Bad(place, f"is {short(value)}, not {_NAMES.get(kind, kind.__name__)}")
    return value


def need(row: Any, key: str, kind: type[T], place: str = "") -> T:
    """row[key], of `kind`; text must not be blank. Raises Bad where it is missing or something else."""
    cast(row, dict, place or "row")
    if key not in row:
        raise Bad(join(place, key), "is missing")
    value = cast(row[key], kind, join(place, key))
    if isinstance(value, str) and not value.strip():
        raise Bad(join(place, key), "is blank")
    return value


def have(row: Any, key: str, kind: type[T], default: T, place: str = "") -> T:
    """row[key], of `kind`; `default` where it is missing or null."""
    cast(row, dict, place or "row")
    return default if row.get(key) is None else cast(row[key], kind, join(place, key))


def texts(value: Any, place: str) -> tuple[str, ...]:
    """A list of texts as a tuple; else Bad."""
    items = cast(value, list, place)
    return tuple(cast(item, str, f"{place}[{i}]") for i, item in enumerate(items))


def texts_in(row: Any, key: str, place: str = "") -> tuple[str, ...]:
    """row[key] as a tuple of texts, () where it is missing."""
    return texts(have(row, key, list, [], place), join(place, key))


def complain(title: str, file: str, faults: Iterable[Fault], most: int = 20) -> None:
    """MnemonError listing the bad faults, if there is one."""
    bad = [fault for fault in faults if fault.bad]
    if bad:
        raise MnemonError(
            f"{title}: {file} has {len(bad)} malformed part(s):\n{listed(bad, most)}\n"
            "Mend the file, or use the rest with skip_bad=True (--skip-bad)."
        )


def listed(faults: Sequence[Fault], most: int) -> str:
    """One indented line per fault, at most `most`."""
    lines = [f"  {fault}" for fault in faults[:most]]
    if len(faults) > most:
        lines.append(f"  … and {len(faults) - most} more")
    return "\n".join(lines)
