"""Formatting of measurements: numbers, tables, sections of the page."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

Figures = dict[str, float]
Measured = Mapping[str, Mapping[str, float]]  # the figures of each benchmark that has been run, by its name


def number(value: float | None) -> str:
    """Three digits, thousands apart; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def part(title: str, *blocks: str) -> str:
    """A part of the page: its title, then paragraphs, tables and pictures."""
    return "\n\n".join([f"### {title}", *map(wrapped, blocks)])


def wrapped(block: str) -> str:
    """A paragraph in lines; a table, a list or a picture as it is."""
    if "\n" in block or block.startswith("!"):
        return block
    return textwrap.fill(block, 115, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table in Markdown: the first columns, of words, to the left, and numbers to the right."""
    rule = ["---" if column < words else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
