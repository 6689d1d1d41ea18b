"""Filters: each a pure function from a row to the reason for removing it, or "" to keep it.

The order is the order of the registry; a row is counted at the first filter that drops it. A user's filter is given by
the dotted path of a function from a `Row` to such a reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from openrlhf_math.data.schema import Row
from openrlhf_math.registry import Registry
from openrlhf_math.rewards import UnparsableGold, parse_gold
from openrlhf_math.rewards.choices import choice, options, several

# A problem may need a figure that is not in its text. What a text calls a figure is often none: a picture frame,
# figure skating, six-figure salaries, a diagram that a person in the story drew, the graph of a function that is given.
# So phrases that only contain such a word are removed first, and a noun that the text itself introduces ("Tom draws a
# diagram") is not looked for.

# Markup of an image, or a link to one.
_IMAGE = re.compile(
    r"!\[[^\]]{0,64}\]\(|\\includegraphics|<ima?ge?\d{0,3}\b|\[/?(?:img|image)\b|\bcdn\.mathpix\.com"
    r"|[/(\[\"'][^\s()\"'.]{0,64}\.(?:png|jpe?g|gif|svg|webp)\b",
    re.I,
)
_DRAWN_IN_TEXT = re.compile(
    r"\[asy\]|\\begin\{(?:tikzpicture|asy|tabular|array)\}|\\(?:draw|psline)\b|<table\b|^[ \t]{0,8}\|[^|\n]*\|", re.M
)

_NOUN = "figure|diagram|picture|graph|drawing|image|illustration|sketch|chart|plot"
_VERB = "shown|pictured|drawn|depicted|illustrated|displayed|sketched|given|seen|marked|indicated"
_SHAPE = (
    "shape|square|rectangle|triangle|circle|polygon|quadrilateral|trapezoid|parallelogram|pentagon|hexagon|octagon|region"
    "|net|grid|spinner|map|pattern|cube|prism|pyramid|solid|line|curve|parabola|table|angle|clock|dial|board|tile"
)
# Of what is in the text itself it may be said that it is "shown below".
_WRITTEN = (
    "equation|expression|formula|system|inequality|number|digit|sequence|series|list|set|sum|product|matrix|polynomial"
    "|function|identity|statement|term|code|fact|rule|problem|question|definition|integral|fraction|value|point"
)
_NEAR = r"(?:below|above)(?! (?:the|a|an|his|her|its|their|my|our|your|it|him|them)\b)"
_SIDE = r"(?:at|to|on|by)(?: the)? (?:right|left|side)\b(?! (?:side )?(?:of|and)\b)"
_PLACE = rf"(?:{_NEAR}|here\b|{_SIDE}|alongside\b|opposite\b(?! to\b))"

# Phrases in which a word for a figure means none.
_NO_FIGURE = re.compile(
    "|".join(
        (
            rf"\b(?:{_WRITTEN})s? (?:(?:that|which) )?(?:(?:is|are|as|was|were) )?(?:(?:{_VERB}) )?{_PLACE}",
            r"\bfigur(?:e|ed|es|ing) out\b",
            r"\b(?:a|the) figures? (?:eight|of (?:eight|speech)|8)(?:'s|s)?\b|\bfigure[- ]eights?\b",
            r"\bfigure[- ]?skat\w{0,6}",
            r"\b\w{2,12}[- ]figures? (?:salar|income|sum|number|price|bonus)\w{0,6}",
            r"\b(?:significant|decimal|action|stick|public|sales) figures?\b",
            r"\b(?:picture|image|photo) (?:frame|book|galler|postcard|card|hook|puzzle|show|shoot|file|album)\w{0,4}",
            r"\bdrawing (?:class|lesson|board|book|pad|paper|pin|room|contest|competition|course)\w{0,4}",
            r"\bgraph (?:paper|theory)\b",
            r"\bfollowing figures ?:",
        )
    ),
    re.I,
)
# "a picture of her family", "28 pictures", "Tom's diagram", "draws his picture": the text itself introduces it.
_COUNT = (
    "one|two|three|four|five|six|seven|eight|nine|ten|twelve|many|several|some|few|more|other|another|each|every|both"
)
_OWNER = rf"a|an|no|any|his|her|their|its|my|your|our|\d{{1,9}}|{_COUNT}|\w{{1,30}}'s?"
_INTRODUCED = re.compile(
    "|".join((rf"\b(?:{_OWNER}) (?:[a-z-]{{1,20}} ){{0,2}}?({_NOUN})s?\b(?! (?:is |are )?(?:{_VERB}|below|above)\b)",)),
    re.I,
)
# A graph that is defined by what it is the graph of, or that has a name.
_DEFINED_GRAPH = re.compile(r"\bgraphs? of\b|\bgraphs? (?:g|h|\$)", re.I)

# A figure that is pointed at, whatever the text has said before.
_POINTED_AT = re.compile(
    "|".join(
        (
            rf"\b(?:{_NOUN}|{_SHAPE})s? (?:\(?\d{{1,3}}\)? )?(?:(?:is|are|that is|as) )?(?:(?:{_VERB}) )?{_PLACE}",
            rf"\b(?:{_NOUN}) of [^.?!]{{1,30}}? (?:below|above)\b ?[.,;?!]",
            rf"\b(?:{_VERB})(?: (?:in|on|by|as))? {_PLACE}",
            rf"\b(?:{_VERB}) (?:in|by|on) (?:the |this |each )?(?:\w{{1,20}} )?(?:{_NOUN}|fig\.?)s?\b",
            rf"\b(?:{_VERB}|below|here|above) (?:is|are) (?:a|an|the|two|three|four) "
            rf"(?:[a-z-]{{1,20}} ){{0,2}}?(?:{_NOUN}|{_SHAPE})s?\b",
            rf"\b(?:following|accompanying|adjoining|adjacent|attached) (?:[a-z-]{{1,20}} )?(?:{_NOUN}|map)s?\b",
            rf"\b(?:below|above) (?:{_NOUN})s?\b",
            rf"\bthe (?:[a-z-]{{1,20}} )?(?:{_NOUN}|{_SHAPE})s? shown(?! (?:that|by|at the (?!right|left))\b)",
            rf"\bas (?:{_VERB})(?: ?[.,;?!)]| ?$|\b below| here\b| in fig)",
            r"(?:^|[.?!:(] ?|\b(?:in|see|from|of|and|to|by) )(?:figure|fig\.?) ?\(?(?:\d{1,3}|[A-C])\b",
            rf"\bsee (?:the )?(?:{_NOUN})\b",
            r"\bnot (?:drawn )?to scale\b",
            "如[右左上下]?图|[右左上下]图|图[中示]|图所示|下の図|図のよう|그림과 같|на рис",
            "ci-dessous|ci-contre|en la figura|na figura|in der (?:abbildung|zeichnung|skizze)",
        )
    ),
    re.I,
)
# Something that can be drawn "is shown": the sentence ends there.
_SHOWN = re.compile(
    "|".join(
        (
            rf"\b(?:{_NOUN}|{_SHAPE})s?\b[^.?!]{{0,64}}? (?:is|are) (?:shown|pictured|depicted|illustrated|displayed)"
            r"(?: ?[.,;?!]| ?$| for\b| with\b)",
        )
    ),
    re.I,
)
# A figure that is spoken of as known. It is one unless the text has introduced it.
_OTHERWISE = (
    "of|bounded|enclosed|formed|obtained|made|defined|described|consisting|determined|by|whose|that|with|resulting"
    r"|painted|taken|he|she|they|cost|is \d|was|in the (?:coordinate )?plane"
)
_KNOWN = re.compile(
    "|".join(
        (
            r"\b(?:in|from|on|using|use|to|at|of|study|consider|observe|examine) (?:the|this|that|each|these) "
            rf"(?:[a-z-]{{1,20}} )?(figure|diagram|graph|illustration|sketch|chart|plot)s?\b"
            rf"(?! (?:{_OTHERWISE})\b)",
            r"\b(?:in|from|at|study|using|use) (?:the|this|these) (?:[a-z-]{1,20} )?"
            rf"(picture|image|photo|drawing)s?\b(?! (?:{_OTHERWISE})\b)",
            rf"\b(?:the|this|circle|bar|line|pie|scatter) ({_NOUN}|table)s? (?:\([^)]{{0,40}}\) )?"
            r"(?:shows?|depicts?|represents?|illustrates?)\b",
        )
    ),
    re.I,
)


# One of these is in every text in which a pattern above finds something, in lower case. Most problems have none.
_HINTS = (
    *_NOUN.split("|"),
    *"shown pictured drawn depict illustrated displayed sketched shows represents map fig. fig( scale".split(),
    *(" below", " above", " here", "(below", "(above", "(here", "alongside", "opposite"),
    *(f"{before} {side}" for before in ("at", "to", "on", "by", "the") for side in ("right", "left", "side")),
    *"图 図 그림 рис ci- figura abbildung zeichnung skizze".split(),
)


def missing_figure(problem: str) -> str:
    """Why the answer cannot be had from the text alone, or ""."""
    if _IMAGE.search(problem):
        return "it has an image"
    lower = f" {problem.lower()}".replace("\n", " ")
    if not any(hint in lower for hint in _HINTS) or _DRAWN_IN_TEXT.search(problem):
        return ""
    text = _NO_FIGURE.sub(" ~ ", " ".join(problem.split()))
    if _POINTED_AT.search(text) or _SHOWN.search(text) or _speaks_of_one(text):
        return "it refers to a figure that is not there"
    return ""


def _speaks_of_one(text: str) -> bool:
    introduced = {found[1].lower() for found in _INTRODUCED.finditer(text)}
    if _DEFINED_GRAPH.search(text):
        introduced.add("graph")
    return any(noun.lower() not in introduced for found in _KNOWN.finditer(text) for noun in found.groups() if noun)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the filters measure by: characters of a problem, and the language ("en", or "any")."""

    min_chars: int = 10
    max_chars: int = 8_000
    language: str = "en"

    def __post_init__(self) -> None:
        if not 0 <= self.min_chars < self.max_chars:
            raise ValueError(f"--min-chars {self.min_chars} and --max-chars {self.max_chars} leave no length between")
        if self.language not in ("en", "any"):
            raise ValueError(f"--language is '{self.language}', it must be en or any")


Filter = Callable[[Row, Limits], str]
FILTERS: Registry[Filter] = Registry()
register_filter = FILTERS.register


def find_filter(name: str) -> Filter:
    """A known filter, or the user's by dotted path, which takes a row alone. Raises UserError if there is none."""
    if name in FILTERS:
        return FILTERS[name]
    custom = cast(Callable[[Row], str], FILTERS.find("--filters", name))
    return lambda row, limits: custom(row)


@register_filter("length")
def wrong_length(row: Row, limits: Limits) -> str:
    length = len(row.problem)
    return "" if limits.min_chars <= length <= limits.max_chars else f"the problem has {length} characters"


@register_filter("flawed")
def flawed(row: Row, limits: Limits) -> str:
    return row.flaw


_PROVE = re.compile(
    r"\bprove\b|\b(?:show|demonstrate|verify|justify)\b(?:\s{1,8}\w{1,40}){0,3}\s{1,8}(?:that|if|the\b|:)", re.I
)
_ASK = re.compile(r"\?|\b(?:find|determine|compute|calculate|evaluate|solve|simplify|what|how|which|express)\b", re.I)


@register_filter("proof")
def proof(row: Row, limits: Limits) -> str:
    """A proof has no answer to check; "show that ..., and find x" has one."""
    if row.kind == "proof":
        return "the source calls it a proof"
    if row.answer.strip().strip(".").lower() in ("proof", "prove", "q.e.d", "qed"):
        return "the gold answer is 'proof'"
    return "it asks for a proof alone" if _PROVE.search(row.problem) and not _ASK.search(row.problem) else ""


@register_filter("choice")
def unchecked_choice(row: Row, limits: Limits) -> str:
    """Multiple choice whose letter says nothing: without the options, a letter may be a value."""
    letter, value = choice(row.answer)
    letters = several(row.answer) or ({letter} if letter and not value else set())
    if not letters or row.kind != "choice" and not _offers(row.problem):
        return ""
    missing = sorted(letters - set(options(row.problem)))
    return f"option {missing[0]} of a multiple choice is not in the problem" if missing else ""


def _offers(problem: str) -> bool:
    return bool(options(problem)) or "which of the following" in problem.lower()


@register_filter("figure")
def figure(row: Row, limits: Limits) -> str:
    """A figure that is not in the text: the answer cannot be had without it."""
    return missing_figure(row.problem)


_NO_ANSWER = {"notfound", "not found", "none", "null", "nan", "n/a", "unknown"}


@register_filter("gold")
def unparsable_gold(row: Row, limits: Limits) -> str:
    if row.answer.strip().lower() in _NO_ANSWER:
        return f"the gold answer is {row.answer.strip()!r}"
    try:
        parse_gold(row.answer)
    except UnparsableGold as error:
        return str(error)
    return ""


# Letters beyond Latin. Greek is mathematics.
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f\u0370-\u03ff]")
_LETTER = re.compile(r"[^\W\d_]")
_FORMULA = re.compile(
    r"\$\$[^$]*\$\$|\$[^$]*\$|\\\([^\\]{0,400}(?:\\[^()][^\\]{0,400}){0,60}\\\)"
    r"|\\\[[^\\]{0,400}(?:\\[^\[\]][^\\]{0,400}){0,60}\\\]|\\[a-zA-Z]+"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
# Function words of English. A text in another language in Latin script has few of these.
_ENGLISH_WORDS = (
    "the of is are and to in that if for what how find which with by be on it at each one two many was has have from"
    " can than then there let given as or not all when number value such where determine compute he she his her they"
    " does did will after more some"
)
_OTHER_WORDS = (
    "el la los las del que es una un por para con se en cual cuantos le les des et est une dans pour sur du au quel"
    " der die das und ist ein eine mit von den dem wie viele zu il di che per della quanti sono o os da em uma com qual"
    " het een van voor met hoeveel att och som av ile jest jaki nie ve bir bu kac"
)
_ENGLISH, _OTHER = frozenset(_ENGLISH_WORDS.split()), frozenset(_OTHER_WORDS.split())


@register_filter("language")
def other_language(row: Row, limits: Limits) -> str:
    """Not English: another script, or another language's small words. Formulas do not count."""
    if limits.language == "any":
        return ""
    text = _FORMULA.sub(" ", row.problem)
    if not text.isascii() and _foreign_share(text) > 0.2:
        return "it is in another script"
    words = [word.lower() for word in _WORD.findall(text)]
    english, other = (sum(word in known for word in words) for known in (_ENGLISH, _OTHER))
    return "it is in another language" if len(words) >= 5 and other > english and other >= 2 else ""


def _foreign_share(text: str) -> float:
    return len(_FOREIGN.findall(text)) / max(len(_LETTER.findall(text)), 1)
