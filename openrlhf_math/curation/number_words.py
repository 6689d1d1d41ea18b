r"""Number words in digits: `two hundred and five` is `205`, `two thirds` `2 / 3`, `third` `3th`, `a dozen` `12`."""

from fractions import Fraction

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
_SAID = {"half": ["1", "/", "2"], "twice": ["2", "times"], "thrice": ["3", "times"]}


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
        if token in _SAID:
            read += _SAID[token]
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
