r"""The form of a problem that is compared: a list of tokens in which spelling is taken away and structure is kept.

    >>> tokens(r"Find $\dfrac{x+1}{2}$ of twenty-five.") == tokens("compute (x+1)/2 of 25")
    True
    >>> tokens(r"$\sqrt{x+1}$"), tokens(r"$\sqrt{x}+1$")
    (['sqrt', '(', 'x', '+', '1', ')'], ['sqrt', 'x', '+', '1'])

Numbers are written in digits; LaTeX, Unicode and plain ASCII in one way; words in lower case. The braces of exponents,
roots, fractions and binomials become parentheses, and parentheses that change nothing go. What carries no meaning
(articles, dollar signs, sentence marks, grouping braces) is left out. Nothing here judges; `alike` does.
"""

from dataclasses import dataclass

from openrlhf_math.curation.lexemes import SYMBOL_WORDS, lexemes, names
from openrlhf_math.curation.number_words import in_digits
from openrlhf_math.curation.structure import LETTER_UNITS, Structure
from openrlhf_math.curation.surroundings import strip

_SAME = {
    other: one
    for one, others in {
        "find": "compute calculate evaluate determine",
        "largest": "greatest maximum maximal biggest highest",
        "smallest": "least minimum minimal lowest",
        "centimeters": "cm centimeter centimetre centimetres",
        "kilometers": "km kilometer kilometre kilometres",
        "kilograms": "kg kilogram",
        "millimeters": "mm millimeter millimetre millimetres",
        "meters": "meter metre metres",
        "degrees": "degree",
        "percent": "percentage",
        "isosceles": "isoceles",
        "infinity": "oo",
        "mod": "modulo",
        "minutes": "minute min mins",
        "hours": "hour hr hrs",
        "seconds": "sec secs",
        "milliliters": "ml milliliter millilitre millilitres",
        "liters": "liter litre litres",
        "grams": "gram",
        "pounds": "pound lb lbs",
        "inches": "inch",
        "feet": "foot ft",
        "yards": "yard yd yds",
        "ounces": "ounce oz",
        "dollars": "dollar usd",
        "miles": "mile mi",
        "cents": "cent",
        "square": "sq",
        "distinct": "different",
        "center": "centre",
        "color": "colour",
        "sqrt": "squareroot",
    }.items()
    for other in others.split()
}
# Phrases that bound a number. Each is one token, so that it is compared as a whole.
_PHRASES = {
    ("at", "least"): "at-least", ("no", "fewer", "than"): "at-least", ("no", "less", "than"): "at-least",
    ("not", "less", "than"): "at-least", ("at", "most"): "at-most", ("no", "more", "than"): "at-most",
    ("no", "greater", "than"): "at-most", ("not", "more", "than"): "at-most", ("not", "exceeding"): "at-most",
    ("greater", "than", "or", "equal", "to"): "at-least", ("less", "than", "or", "equal", "to"): "at-most",
    ("square", "of"): "square-of", ("squares", "of"): "squares-of", ("cube", "of"): "cube-of",
    ("cubes", "of"): "cubes-of", ("which", "one"): "which",
    ("per", "cent"): "percent", ("square", "root", "of"): "sqrt", ("plus", "or", "minus"): "pm",
}  # fmt: skip
_PHRASE_STARTS = frozenset(phrase[0] for phrase in _PHRASES)


def is_number(token: str) -> bool:
    """Whether a token is a number or an ordinal in digits."""
    return token[0].isdigit()


def is_symbol(token: str) -> bool:
    """Whether a token is a variable, a relation, an operator, a bracket or a function; a product does not count.

    `2x` is `2\\cdot x`, so the product says nothing.
    """
    return (not token[0].isalnum() and token not in ("*", "...")) or len(token) == 1 or token in SYMBOL_WORDS


@dataclass(frozen=True, slots=True)
class Form:
    """A problem as it is compared.

    options: of a multiple choice, their tokens joined by spaces. drawing: the tokens of the code of its figures, joined
    by spaces; "" for none. names: lower-case words that are names of persons.
    """

    tokens: list[str]
    options: tuple[str, ...] = ()
    drawing: str = ""
    names: frozenset[str] = frozenset()


def form(problem: str) -> Form:
    """The form of a whole problem, without what is around it: numbering, points, source, options, instructions."""
    stripped = strip(problem)
    words, names = _read(stripped.text)
    options = tuple(" ".join(tokens(option)) for option in stripped.options)
    return Form(words, options, " ".join(stripped.drawing.split()), names)


def tokens(text: str) -> list[str]:
    """The tokens of a text that are compared."""
    return _read(text)[0]


def _read(text: str) -> tuple[list[str], frozenset[str]]:
    read = list(lexemes(text))
    found = _with_units(Structure().read(read))
    found = [_SAME.get(token, token) for token in in_digits(_with_phrases(found))]
    return _with_percent(found), names(read)


def _with_percent(found: list[str]) -> list[str]:
    """`12 percent` as one number: 12% of 50 is not 12 of 50 in percent."""
    read: list[str] = []
    for token in found:
        if token == "percent" and read and is_number(read[-1]) and read[-1][-1].isdigit():
            read[-1] += "%"
        else:
            read.append(token)
    return read


def _with_phrases(found: list[str]) -> list[str]:
    read, index = [], 0
    while index < len(found):
        if found[index] in _PHRASE_STARTS:
            for length in (5, 3, 2):
                if (phrase := _PHRASES.get(tuple(found[index : index + length]))) is not None:
                    read.append(phrase)
                    index += length
                    break
            else:
                read.append(found[index])
                index += 1
        else:
            read.append(found[index])
            index += 1
    return read


_LONG_UNITS = frozenset(
    "cm mm km kg mg ml mi ft lb oz miles mile meters kilometers gallons words pages dollars cents feet".split()
)


_RATES = {
    "mph": ["miles", "per", "hours"],
    "kph": ["kilometers", "per", "hours"],
    "kmh": ["kilometers", "per", "hours"],
}


def _with_units(found: list[str]) -> list[str]:
    """`km/h` as `km per hours`, `mph` as `miles per hours`."""
    found = [token for one in found for token in _RATES.get(one, (one,))]
    for place in range(1, len(found) - 1):
        before, after = found[place - 1], found[place + 1]
        if found[place] == "/" and (before in _LONG_UNITS or before == "m" and after == "s"):
            found[place] = "per"
            found[place - 1] = LETTER_UNITS.get(before, before)
            found[place + 1] = LETTER_UNITS.get(after, after)
    return found
