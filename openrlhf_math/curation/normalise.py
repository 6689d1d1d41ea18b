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
from fractions import Fraction

from openrlhf_math.curation.lexemes import SYMBOL_WORDS, lexemes, names
from openrlhf_math.curation.structure import LETTER_UNITS, Structure
from openrlhf_math.curation.surroundings import strip

# Number words in digits: `two hundred and five` is `205`, `two thirds` `2 / 3`, `third` `3th`, `a dozen` `12`.
_UNITS = {
    name: value
    for value, name in enumerate((
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        " seventeen eighteen nineteen"
    ).split())
}  # fmt: skip
_TENS = {
    name: 10 * value for value, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ORDINALS = {
    name: str(value)
    for value, name in enumerate((
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
        " fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
    ).split(), 1)
}  # fmt: skip
_PARTS = {
    **{f"{name}s": value for name, value in _ORDINALS.items() if name not in ("first", "second")},
    **{name: value for name, value in _ORDINALS.items() if name not in ("first", "second")},
    "half": "2", "halves": "2", "quarter": "4", "quarters": "4",
}  # fmt: skip
# Two letters of a number word in each other's place; "there" is a word.
_MISTYPED = {
    name[:place] + name[place + 1] + name[place] + name[place + 2 :]: name
    for name in (*_UNITS, *_TENS, *_SCALES, *_ORDINALS, *_PARTS)
    if len(name) >= 5
    for place in range(1, len(name) - 1)
    if name[place] != name[place + 1] and (name, place) != ("three", 2)
}
_WORDS_OF_RATIO = {"half": ["1", "/", "2"], "twice": ["2", "times"], "thrice": ["3", "times"]}


def in_digits(found: list[str]) -> list[str]:
    """Lower-case tokens with their number words in digits; ordinals all end in `th`."""
    found = [_MISTYPED.get(token, token) for token in found]
    read: list[str] = []
    index = 0
    while index < len(found):
        token = found[index]
        if token in _UNITS or token in _TENS or token[0].isdigit() or token[0] == "." and token != "...":
            number, index = _number(found, index)
            read.append(number)
            if index < len(found) and found[index] in _PARTS and number.isdigit() and _is_part(number, found[index]):
                read += ["/", _PARTS[found[index]]]
                index += 1
            continue
        index += 1
        if token in _WORDS_OF_RATIO:
            read += _WORDS_OF_RATIO[token]
        elif token in _ORDINALS:
            read.append(_ORDINALS[token] + "th")
        elif token == "dozen":
            read.append("12")
        else:
            read.append(token)
    return read


def _is_part(number: str, name: str) -> bool:
    """`two thirds`, `one third`; not `2 third-graders`, `25 first` or `49 quarters`, which are coins."""
    return int(number) < int(_PARTS[name]) and (name.endswith("s") or number == "1" or name in ("half", "quarter"))


def _number(found: list[str], index: int) -> tuple[str, int]:
    """The number that begins here, in digits, and where it ends."""
    token = found[index]
    if token[0].isdigit() or token[0] == ".":
        if token[-1].isalpha():
            return token.rstrip("stndrh") + "th", index + 1
        if index + 1 < len(found) and found[index + 1] in _SCALES:
            return _written(Fraction(token) * _SCALES[found[index + 1]]), index + 2
        return _plain(token), index + 1
    total = group = 0
    start = index
    while index < len(found):
        word = found[index]
        goes_on = index == start or _after_scale(found, index)
        if word in _UNITS and (goes_on or found[index - 1] in _TENS and _UNITS[word] < 10):
            group += _UNITS[word]
        elif word in _TENS and goes_on:
            group += _TENS[word]
        elif word in ("hundred", "dozen") and index > start and found[index - 1] != word:
            group *= _SCALES[word]
        elif word in _SCALES and index > start and found[index - 1] != word:
            total, group = total + group * _SCALES[word], 0
        elif word == "and" and found[index - 1] in _SCALES and index + 1 < len(found) and _is_small(found[index + 1]):
            pass
        else:
            break
        index += 1
    return str(total + group), index


def _after_scale(found: list[str], index: int) -> bool:
    before = found[index - 1]
    return before in _SCALES and before != "dozen" or before == "and"


def _is_small(word: str) -> bool:
    return word in _UNITS or word in _TENS


def _plain(number: str) -> str:
    if "." in number:
        whole, _, part = number.partition(".")
        part = part.rstrip("0")
        return f"{whole.lstrip('0') or '0'}.{part}" if part else whole.lstrip("0") or "0"
    return number.lstrip("0") or "0"


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else _plain(f"{float(value):f}")


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
