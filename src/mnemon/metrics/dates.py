"""Dates inside short answers, so that "May 7, 2023" and "7 May 2023" are the same words."""

from __future__ import annotations

import re

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august"]
_MONTHS += ["september", "october", "november", "december"]
_NUMBER = {name: i for i, name in enumerate(_MONTHS, start=1)}
_NUMBER |= {name[:3]: i for i, name in enumerate(_MONTHS, start=1)} | {"sept": 9}

_MONTH = r"(?P<month>" + "|".join(sorted(_NUMBER, key=len, reverse=True)) + r")\b\.?"
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b"
_YEAR = r"(?P<year>(?:1[89]|20)\d\d)\b"
_GAP = r"[ ,]+"
# The first form that fits at a place wins, so a form with more parts stands before the same form with fewer.
_FORMS = [
    re.compile(r"(?<![\w.])" + form, re.IGNORECASE)
    for form in (
        r"(?P<year>(?:1[89]|20)\d\d)[-/](?P<month>0?[1-9]|1[0-2])[-/](?P<day>0?[1-9]|[12]\d|3[01])(?![\w-])",
        r"(?:the )?" + _DAY + r"(?: of)?" + _GAP + _MONTH + _GAP + _YEAR,
        _MONTH + _GAP + r"(?:the )?" + _DAY + _GAP + _YEAR,
        _MONTH + r"(?: of)?" + _GAP + _YEAR,
        r"(?:the )?" + _DAY + r"(?: of)?" + _GAP + _MONTH,
        _MONTH + _GAP + r"(?:the )?" + _DAY,
    )
]


def canonical_dates(text: str) -> str:
    """`text` with every written date replaced by one word: year, month and day, x for a part that is not given.

    >>> canonical_dates("the 7th of May, 2023; June 2022; on March 3")
    '20230507; 202206xx; on xxxx0303'
    """
    for form in _FORMS:
        text = form.sub(_word, text)
    return text


def _word(match: re.Match[str]) -> str:
    parts = match.groupdict()
    month = parts["month"].lower()
    number = int(month) if month.isdigit() else _NUMBER[month]
    day = f"{int(parts['day']):02d}" if parts.get("day") else "xx"
    return f"{parts.get('year') or 'xxxx'}{number:02d}{day}"
