"""Plain English: phrases that docstrings, comments, messages, help texts, tutorials and pages avoid.

CONTRIBUTING.md describes the style. To add a phrase, write a line in BANNED: a regular expression, in which a
space matches white space and line breaks, and the reason or a better wording.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANNED = {
    # docstrings begin with a verb or with a noun of the field
    '"""(what|who|those|that|where|how|which|whoever|whatever)': "Return the ..., or a noun",
    # verdicts about sentences instead of the condition
    "in a sentence|in one sentence|says? so in": "Raises ValueError if ...",
    "is told|are told|told (apart|before|by|to)": "is set, is given, is reported",
    "seen nowhere": "never affects the output",
    # relative clauses and pronouns as nouns
    "those of": "name the things: the layer's weights",
    "who lives|who dies|who reads|who is alive": "components that are alive",
    "what it needs of|what is left of|what came before": "name the thing",
    "what (stands|lies|goes|comes) (there|before|beside|behind|on)": "name the thing",
    "of before|from before|the ones before": "the previous ...",
    # places for things without a place
    "stands? (there|beside|behind|between|in|on|at|where)|what stands": "is, means, represents",
    "standing (beside|behind|in|on)": "next to, in",
    "beside (it|them|this|that)|behind (it|them)": "next to; after",
    "(held|hold|holds) (up )?(beside|against)": "compare with",
    # idioms of another language
    "goes? on (with|where|from)|go(es)? on as|went on": "continues",
    "way back": "resume hint",
    "out of (its|the) way|by the way": "delete it",
    "as it (stands|comes)|as they (stand|come)": "unchanged",
    '(?<!")all else(?! ")|whatever else|nothing else of': "everything other, other",
    "has got on|gets? on|got as far": "progress",
    "for good": "permanently",
    "by heart|by hand of": "from memory",
    "no such thing|is none of": "is not a",
    "wanted (is|was|were)|were wanted": "Target: ...",
    "speak(s)? of|speaks? in": "mention",
    # agency of data and files
    "(files?|numbers?|arrays?|folders?|names?) (say|says|tell|tells|know|knows)": "contain, show",
    "(layout|group|groups|units?|reader|kernel) (say|says|tell|tells|knows?|lives?)": "contains, determines",
    # old names of the house
    "tours?": "quick run",
    "the reader's (tour|scores|settings|presets)": "BiDAF's ...",
}
ROOMS = {
    **{
        path.name: sorted(path.rglob("*.py"))
        for path in sorted((ROOT / "issref").iterdir())
        if path.is_dir() and path.name != "__pycache__"
    },
    "issref": sorted((ROOT / "issref").glob("*.py")),
    "benchmarks": [*sorted((ROOT / "benchmarks").glob("*.py")), ROOT / "benchmarks" / "RESULTS.md"],
    "tutorials": sorted((ROOT / "tutorials").rglob("*.py")),
    "docs": [*sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "conf.py"],
    "docs/api": sorted((ROOT / "docs" / "api").glob("*.md")),
    "top": [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")],
}
SPACE = r"""[\s#"]+(?:f")?"""  # a phrase may continue on the next line of a comment or a string
PATTERNS = {
    phrase: re.compile(rf"(?<!\w)(?:{phrase})(?!\w)".replace(" ", SPACE), re.IGNORECASE) for phrase in BANNED
}


def found_in(text):
    """Return the line number, the text and the better wording of every banned phrase."""
    hits = [(hit, better) for phrase, better in BANNED.items() for hit in PATTERNS[phrase].finditer(text)]
    return sorted((text.count("\n", 0, hit.start()) + 1, " ".join(hit[0].split()), better) for hit, better in hits)


@pytest.mark.parametrize("room", ROOMS)
def test_no_banned_phrase(room):
    hits = [
        f'{path.relative_to(ROOT)}:{line}: "{phrase}"; better: {better}'
        for path in ROOMS[room]
        for line, phrase, better in found_in(path.read_text(encoding="utf-8"))
    ]
    assert not hits, f"{len(hits)} phrases\n" + "\n".join(hits)


def test_a_phrase_is_found_across_lines_and_comment_signs_but_not_inside_words():
    assert found_in("x = 1  # raised in a\n    # sentence") == [(1, "in a # sentence", "Raises ValueError if ...")]
    assert found_in("a contour, detours") == []
