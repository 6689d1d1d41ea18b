r"""Another problem that is written like one: what must be kept. Nothing here is shared with the product.

Each kind is a function of a problem and a random source; it returns the other problem, or None where it does not apply.
"""

import re

from planted_copies import FORMULA, OPTIONS, in_prose
from planted_words import WORDS, in_words, names_in

# Numbers that matter: not the sides of a drawing, not the options, not what an instruction names.
NUMBER = re.compile(r"(?<![\w.\\])\d+(?![\w.]*\])")
PROTECTED = re.compile(r"\[asy\].*?\[/asy\]|!\[.*?\]\([^)]*\)|\[img\].*?\[/img\]|<img[^>]*>", re.S)


def _at(text, pattern, rng, change, flags=0):
    """One match of the pattern, outside drawings and options, replaced."""
    options = OPTIONS.search(text)
    end = options.start() if options else len(text)
    hidden = [m.span() for m in PROTECTED.finditer(text)]
    found = [
        m
        for m in re.finditer(pattern, text, flags)
        if m.end() <= end and not any(a <= m.start() < b for a, b in hidden)
    ]
    if not found:
        return None
    one = rng.choice(found)
    return text[: one.start()] + change(one) + text[one.end() :]


def digit_changed(text, rng):
    def change(found):
        at = rng.randrange(len(found[0]))
        digits = [d for d in "123456789" if d != found[0][at]]
        return found[0][:at] + rng.choice(digits) + found[0][at + 1 :]

    return _at(text, r"(?<![\w.\\}])\d+(?![a-zA-Z])", rng, change)


def number_word_changed(text, rng):
    words = "|".join(WORDS[2:13])
    return (
        _at(
            text,
            rf"\b(?:{words})\b(?! of\b)",
            rng,
            lambda m: in_words(WORDS.index(m[0].lower()) + rng.randint(1, 4)),
            re.I,
        )
        if re.search(rf"\b(?:{words})\b", text)
        else None
    )


def numbers_swapped(text, rng):
    hidden = [m.span() for m in PROTECTED.finditer(text)]
    options = OPTIONS.search(text)
    end = options.start() if options else len(text)
    found = [m for m in NUMBER.finditer(text) if m.end() <= end and not any(a <= m.start() < b for a, b in hidden)]
    pairs = [
        (a, b)
        for a in found
        for b in found
        if a.start() < b.start() and a[0] != b[0] and re.search(r"[a-z]{3}|[-/^]", text[a.end() : b.start()])
    ]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    return text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]


def all_numbers_changed(text, rng):
    """Another problem of the same template, as GSM-symbolic makes them."""
    if FORMULA.search(text) and "\\" in text:
        return None
    other = re.sub(r"(?<![\w.\\])\d+(?![\w])", lambda m: str(max(2, int(m[0]) + rng.choice((-1, 1, 2, 3, 5, 7)))), text)
    return other if other != text else None


def minus_removed(text, rng):
    return _at(text, r"(?<=[$(=,{ |])-(?!axis)(?=\s?[\d\w(\\{])", rng, lambda m: "") if "$" in text else None


def minus_added(text, rng):
    return _at(text, r"(?<=\$)(?=\d+\$)|(?<=[(=] )(?=\d)|(?<=\()(?=\d)", rng, lambda m: "-") if "$" in text else None


def plus_for_minus(text, rng):
    return (
        _at(text, r"(?<=[\w)}] )[-+](?= [\w(\\])", rng, lambda m: "+" if m[0] == "-" else "-") if "$" in text else None
    )


def relation_reversed(text, rng):
    pairs = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\leq": r"\geq", r"\geq": r"\leq"}
    return (
        _at(text, r"(?<=[\w$ )}])(?:<|>|\\[lg]eq?(?![a-z]))(?=[ \d$])", rng, lambda m: pairs[m[0]])
        if "$" in text
        else None
    )


def strictness_changed(text, rng):
    pairs = {"<": r"\le", ">": r"\ge", r"\le": "<", r"\ge": ">", r"\leq": "<", r"\geq": ">"}
    return (
        _at(text, r"(?<=[\w$ )}])(?:<|>|\\[lg]eq?(?![a-z]))(?=[ \d$])", rng, lambda m: pairs[m[0]])
        if "$" in text
        else None
    )


def root_braces(text, rng):
    return _at(text, r"\\sqrt\{(\w+)( ?[-+] ?)(\w+)\}", rng, lambda m: rf"\sqrt{{{m[1]}}}{m[2]}{m[3]}")


def exponent_braces(text, rng):
    return _at(text, r"\^\{(\w+)( ?[-+] ?)(\w+)\}", rng, lambda m: f"^{{{m[1]}}}{m[2]}{m[3]}")


def fraction_extent(text, rng):
    r"""\frac{a+b}{c} and a + \frac{b}{c}; \frac{a}{b+c} and \frac{a}{b} + c."""

    def change(m):
        if not (m[2] or m[5]):
            return m[0]
        if m[2]:
            return rf"{m[1]}{m[2]}\frac{{{m[3]}}}{{{m[4]}}}"
        return rf"\frac{{{m[3]}}}{{{m[4]}}}{m[5]}{m[6]}"

    return _at(
        text, r"\\frac\{(?:([\w^\\]+)( ?[-+] ?))?(\w+)\}\{(\w+)(?:( ?[-+] ?)([\w^]+))?\}(?<!\{\w\}\{\w\})", rng, change
    )


def bracket_moved(text, rng):
    r"""(a+b)c and a+(b)c: the bracket of a factor is taken away."""
    return _at(
        text,
        r"(?<![a-zA-Z\d])(\d|\w|\})?\((\w+) ?([-+]) ?(\w+)\)(?=[(\d\\a-z])",
        rng,
        lambda m: f"{m[1] or ''}{m[2]} {m[3]} {m[4]}",
    )


def exponent_changed(text, rng):
    return _at(text, r"\^(\d)", rng, lambda m: f"^{int(m[1]) % 8 + 1}")


def subscript_for_power(text, rng):
    return _at(text, r"(?<=[a-z])\^(?=\d)", rng, lambda m: "_")


def function_changed(text, rng):
    pairs = {
        r"\sin": r"\cos",
        r"\cos": r"\sin",
        r"\tan": r"\cot",
        r"\lfloor": r"\lceil",
        r"\lceil": r"\lfloor",
        r"\log": r"\ln",
        r"\binom": r"\frac",
        r"\cdot": "+",
        r"\cup": r"\cap",
        r"\sum": r"\prod",
        r"\sqrt{": r"\sqrt[3]{",
    }
    pattern = "|".join(re.escape(one) + ("" if one.endswith("{") else "(?![a-zA-Z])") for one in pairs)
    if "\\lfloor" in text:
        return text.replace("lfloor", "lceil").replace("rfloor", "rceil")
    return _at(text, pattern, rng, lambda m: pairs[m[0]]) if "$" in text else None


OPPOSITES = """
domain/range|at least/at most|at least/exactly|inscribed/circumscribed|shaded/unshaded|odd/even
increasing/decreasing|sum/difference|sum/product|largest/smallest|greatest/least|maximum/minimum|area/perimeter
more/fewer|more/less|before/after|positive/negative|with replacement/without replacement
without replacement/with replacement|length/width|older/younger|arithmetic/geometric|inside/outside|mean/median
median/mode|prime/composite|rational/irrational|divisible/not divisible|increased/decreased|horizontal/vertical
radius/diameter|hypotenuse/shorter leg|parallel/perpendicular|numerator/denominator|real/complex
integer/real number|height/base|right/acute|heads/tails|boys/girls|quotient/remainder
greatest common divisor/least common multiple|concave/convex|inclusive/exclusive|x-axis/y-axis|left/right
clockwise/counterclockwise|surface area/volume|circumference/area|interior/exterior|opposite/adjacent
local/global|total/average|wins/loses|buys/sells|receives/gives|twice/half|distinct/equal|union/intersection
first/last|slope/intercept|minutes/hours|days/weeks|miles/kilometers|edges/faces|profit/loss|open/closed
none/all|above/below|earlier/later|faster/slower|tens/units
"""
OPPOSITES = [pair.split("/") for line in OPPOSITES.strip().split("\n") for pair in line.split("|")]


def opposite_word(text, rng):
    choices = [
        (a, b)
        for one, other in OPPOSITES
        for a, b in ((one, other), (other, one))
        if re.search(rf"\b{a}\b", text.lower()) and not (a == "right" and "right circular" in text)
    ]
    if not choices:
        return None
    before, after = rng.choice(choices)
    return (
        in_prose(text, lambda p: re.sub(rf"\b{before}\b", after, p, count=1, flags=re.I))
        if re.search(rf"\b{before}\b", FORMULA.sub("", text), re.I)
        else None
    )


ASKED = [
    (r"[Ff]ind \$(\w) ?\+ ?(\w)\$", r"Find $\1 - \2$"),
    (r"(?<=What is )\$(\w) ?\+ ?(\w)\$", r"$\1\2$"),
    (r"\b[Hh]ow many minutes\b", "how many seconds"),
    (r"\b[Hh]ow old is\b", "How old will next year be"),
    (r"\bthe sum of (the squares of|all|their)\b", r"the number of \1"),
    (r"\bFind the sum of\b", "Find the number of"),
    (r"\bFind the number of\b", "Find the sum of"),
    (r"\bthe length of\b", "the square of the length of"),
    (r"\bFind the area of\b", "Find the perimeter of"),
    (r"\b[Ww]hat is the area of\b", "what is the perimeter of"),
    (r"\bWhat is the value of\b", "What is twice the value of"),
    (r"\b[Ff]ind the value of\b", "find half the value of"),
    (r"\bWhat is the probability that\b", "What are the odds in favor of the event that"),
    (r"\bfind \$x\$", "find $x^2$"),
    (r"\bHow many (\w+) (?:are|is|were|does|do|did) ", r"How many \1 less than 1000 are "),
    (r"\bHow many more\b", "How many times as many"),
    (r"\bin total\b", "on average"),
    (r"\baltogether\b", "on average"),
    (r"\bthe remainder when\b", "the quotient when"),
    (r"\bthe radius of\b", "the area of"),
    (r"\bCompute\b", "Compute the square of"),
]


def asked_quantity(text, rng):
    choices = [(a, b) for a, b in ASKED if re.search(a, text)]
    if not choices:
        return None
    pattern, other = rng.choice(choices)
    return re.sub(pattern, other, text, count=1)


def names_swapped(text, rng):
    """Two people change places where one of them is named last, so that another one is asked for."""
    people = [name for name in names_in(text) if text.count(name) > 1]
    if len(people) < 2:
        return None
    a, b = people[:2]
    last = max(text.rfind(a), text.rfind(b))
    name = a if text.startswith(a, last) else b
    if not re.search(r"\?\s*$", text) or text.rfind(".", 0, last) < 20:
        return None
    return text[:last] + (b if name == a else a) + text[last + len(name) :]


def variables_swapped(text, rng):
    """Another variable is asked for."""
    for a, b in (("x", "y"), ("a", "b"), ("m", "n"), ("AB", "AC"), ("p", "q"), ("y", "x"), ("b", "a"), ("AC", "AB")):
        ask = re.search(rf"(?:[Ff]ind|value of|is|length of|integer) \${a}\$", text)
        if ask and re.search(rf"\${b}\b|\b{b}\$", text):
            return text[: ask.start()] + ask[0].replace(f"${a}$", f"${b}$") + text[ask.end() :]
    return None


def condition_added(text, rng):
    """A condition that makes another problem of it."""
    if "relatively prime" in text:  # a fraction in lowest terms: nothing is changed by what its terms are said to be
        return None
    for pattern, other in (
        (r"\bpositive integers\b", "positive odd integers"),
        (r"\breal numbers?\b", "positive integers"),
        (r"\bdistinct ", ""),
        (r"\bpositive integers?\b", "prime numbers"),
        (r"\bdigits\b", "nonzero digits"),
        (r"\bprime numbers\b", "odd numbers"),
    ):
        if re.search(pattern, text):
            return in_prose(text, lambda p, a=pattern, b=other: re.sub(a, b, p, count=1))
    return None


def unit_asked(text, rng):
    """The same words with another unit: another answer."""
    pairs = {
        "minutes": "hours",
        "hours": "minutes",
        "feet": "inches",
        "inches": "feet",
        "miles": "kilometers",
        "dollars": "cents",
        "cents": "dollars",
        "centimeters": "meters",
        "days": "weeks",
        "weeks": "days",
        "km": "m",
        "degrees": "radians",
    }
    return _at(text, rf"(?<![a-z])(?:{'|'.join(pairs)})\b", rng, lambda m: pairs[m[0]])


def negation_added(text, rng):
    for a, b in (
        ("is divisible by", "is not divisible by"),
        ("are divisible by", "are not divisible by"),
        ("that are ", "that are not "),
        ("does not ", "does "),
        ("contain ", "do not contain "),
        ("touch", "do not touch"),
        (" and not ", " and "),
    ):
        if a in FORMULA.sub("", text):
            return in_prose(text, lambda p, a=a, b=b: p.replace(a, b, 1))
    return None
