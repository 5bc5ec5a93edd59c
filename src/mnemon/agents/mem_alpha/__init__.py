"""Mem-alpha (arXiv 2509.25911): a memory of core, episodic and semantic parts, built chunk by chunk with tool calls.

The writer reads every chunk in a fresh context that shows the memory it has built; the reader answers questions from
the memory alone. Departures from the paper, each with its switch: related older entries are shown (paper: the five
newest), ids are never used again (paper: random), a core text over its cap is refused (paper: cut), every mistake has
an error of its own and changes nothing (paper: most are accepted in silence), the question alone is the query (paper:
with its instructions), events are shown in the order of their time (paper: in the order of their score).
"""

from mnemon.agents.mem_alpha import qwen
from mnemon.agents.mem_alpha.agents import NEWEST, reader, reply_limit, writer, writer_of
from mnemon.agents.mem_alpha.judge import Edit, judge, judge_prompt
from mnemon.agents.mem_alpha.sections import CORE, EPISODIC, FLAT, NAMES, SEMANTIC, chronological, layout, moment
from mnemon.agents.mem_alpha.tools import tools

__all__ = [
    "CORE",
    "EPISODIC",
    "FLAT",
    "NAMES",
    "NEWEST",
    "SEMANTIC",
    "Edit",
    "chronological",
    "judge",
    "judge_prompt",
    "layout",
    "moment",
    "qwen",
    "reader",
    "reply_limit",
    "tools",
    "writer",
    "writer_of",
]
