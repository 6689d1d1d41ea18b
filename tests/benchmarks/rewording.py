"""A problem written otherwise, and another problem written alike: what finding duplicates is measured with."""

# ruff: noqa: SIM905
import random
import re
from collections import Counter

NUMBER = re.compile(r"(?<![\w.,^{\\$-])\d+(?![\w.^}%-]|,\d)")
SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
SMALL = f"{SMALL} seventeen eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
TENS = TENS.split()


def in_words(number: int) -> str:
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = number % 100
        return f"{SMALL[number // 100]} hundred" + (f" and {in_words(rest)}" if rest else "")
    rest = number % 1000
    return f"{in_words(number // 1000)} thousand" + (f" {in_words(rest)}" if rest else "")


# The same problem, written otherwise ---------------------------------------------------------------------------------

# None of these but "Find" is a synonym the product knows of.
REWORDED = [
    (r"\bHow many\b", "What is the number of"), (r"\baltogether\b", "in total"), (r"\bin total\b", "in all"),
    (r"\bbought\b", "purchased"), (r"\bbuys\b", "purchases"), (r"\bkids\b", "children"), (r"\bbecause\b", "since"),
    (r"\bFind\b", "Determine"), (r"\bFind\b", "Work out"), (r"\bwants to\b", "would like to"), (r"\balso\b", ""),
    (r"\bstarted\b", "began"), (r"\bgets\b", "receives"), (r"\bmoney does\b", "cash does"), (r"\bIf\b", "Suppose"),
    (r"\bLet\b", "Suppose that"), (r"\bthen\b", "after that"), (r"\bper\b", "for every"), (r"\bhe\b", "this person"),
    (r"\bpossible\b", "conceivable"), (r"\bhas\b", "owns"), (r"\bmade\b", "produced"), (r"\bWhat is\b", "What's"),
    (r"\bbig\b", "large"), (r"\bneeds\b", "requires"), (r"\bcosts\b", "is priced at"), (r"\bonly\b", "just"),
]  # fmt: skip
AROUND = [
    ("Solve the following problem. ", ""), ("", " Give the final answer only."), ("Question: ", ""),
    ("", " Show your work."), ("Consider the following. ", ""), ("", " Explain your reasoning."),
]  # fmt: skip
NAMES = "Oluwaseun Priyanka Thorsten Yevgenia Marisol Kwabena Ingrid Tadashi".split()
LATEX = [
    (r"\\frac", r"\\dfrac"), (r"\\frac\{(\w)\}\{(\w)\}", r"\1/\2"), (r"\$([^$]+)\$", r"\\(\1\\)"),
    (r"\\cdot", r"\\times"), (r"\\le\b", r"\\leq"), (r"\\ge\b", r"\\geqslant"), (r"\^(\d)", r"^{\1}"),
    (r"(?<!\\left)\(([^()$]+)\)", r"\\left(\1\\right)"), (r"\^\\circ", r"^{\\circ}"), (r"\^\\circ\$", r"$ degrees"),
    (r"([-+=])", r" \1 "), (r"_(\w)", r"_{\1}"), (r"\\%", " percent"), (r"\\ldots", r"\\dots"),
    (r"\\text\{(\w+)\}", r"\\mathrm{\1}"), (r"\\sqrt\{", r"\\sqrt {"),
]  # fmt: skip


def numbers_otherwise(text: str, rng: random.Random) -> str:
    """At least one number in words, or one in words in digits, or with a thousands separator."""

    def other(found: re.Match) -> str:
        value = int(found[0])
        if value >= 1000 and (rng.random() < 0.5 or value >= 10**6):
            return f"{value:,}"
        return in_words(value) if value < 10**6 and not found[0].startswith("0") and rng.random() < 0.7 else found[0]

    plain = "".join(part if "$" in part else NUMBER.sub(other, part) for part in _formulas_apart(text))
    if plain != text:
        return plain
    return re.sub(r"\b(?:two|three|four|five|six|seven|eight|nine|ten)\b(?! hundred|-)", digits, text)


def _formulas_apart(text: str) -> list[str]:
    """Text and formulas, or amounts of money, in turn."""
    return (
        re.split(r"(\$[^$]+\$)", text) if "\\" in text or "$x" in text or "$n" in text else re.split(r"(\$\d\S*)", text)
    )


def digits(found: re.Match) -> str:
    return str(SMALL.index(found[0]))


def spacing(text: str, rng: random.Random) -> str:
    parts = re.split(r"( )", text)
    text = "".join(
        rng.choice(("  ", "\n", " \t", " ")) if part == " " and rng.random() < 0.3 else part for part in parts
    )
    return rng.choice(
        (text, re.sub(r"([.,?])(?=\s|$)", r" \1", text), text + "  \n", re.sub(r"\.(\s)", r".\1\1", text))
    )


def wording(text: str, rng: random.Random) -> str:
    """One to three words or phrases for others, or a sentence around it."""
    rules = [rule for rule in REWORDED if re.search(rule[0], text)]
    for pattern, other in rng.sample(rules, min(len(rules), rng.randint(1, 3))):
        text = re.sub(pattern, other, text, count=1)
    if not rules or rng.random() < 0.3:
        before, after = rng.choice(AROUND)
        text = before + text + after
    return text


def other_names(text: str, rng: random.Random) -> str:
    """The person who is named most has another name."""
    named = Counter(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", text))
    if not named:
        return wording(text, rng)
    return re.sub(rf"\b{named.most_common(1)[0][0]}\b", rng.choice(NAMES), text)


def latex(text: str, rng: random.Random) -> str:
    rules = [rule for rule in LATEX if re.search(rule[0], text)] if "$" in text and "\\" in text else []
    for pattern, other in rng.sample(rules, min(len(rules), rng.randint(1, 3))):
        text = re.sub(pattern, other, text)
    return text


def several(text: str, rng: random.Random) -> str:
    for change in rng.sample((numbers_otherwise, spacing, wording, latex), 2):
        text = change(text, rng)
    return text


SAME = (numbers_otherwise, spacing, wording, other_names, latex, several)

# Another problem, written alike --------------------------------------------------------------------------------------

OPPOSITE = "more less|largest smallest|sum product|even odd|positive negative|before after|first last|area perimeter"
OPPOSITE += "|minimum maximum|increased decreased|older younger|days weeks|hours minutes|faster slower|week month"
OPPOSITE = [pair.split() for pair in OPPOSITE.split("|")]
DIGITS = re.compile(r"\d+")


def other_number(text: str, rng: random.Random) -> str:
    found = rng.choice(list(DIGITS.finditer(text)))
    return text[: found.start()] + str(int(found[0]) + rng.choice((1, 2, 10))) + text[found.end() :]


def swapped_numbers(text: str, rng: random.Random) -> str:
    found = list(DIGITS.finditer(text))
    pairs = [(a, b) for a in found for b in found if a.start() < b.start() and int(a[0]) != int(b[0])]
    if not pairs:
        return other_number(text, rng)
    first, second = rng.choice(pairs)
    middle = text[first.end() : second.start()]
    return text[: first.start()] + second[0] + middle + first[0] + text[second.end() :]


def opposite_word(text: str, rng: random.Random) -> str:
    choices = [(a, b) for pair in OPPOSITE for a, b in (pair, pair[::-1]) if re.search(rf"\b{a}\b", text)]
    if not choices:
        return swapped_numbers(text, rng)
    before, after = rng.choice(choices)
    return re.sub(rf"\b{before}\b", after, text, count=1)


def other_sign(text: str, rng: random.Random) -> str:
    """Plus for minus, a relation turned round, another function."""
    swaps = (("+", "-"), (r"\le ", r"\ge "), (r"\sin", r"\cos"), ("x^2", "x^3"), (r"\sqrt", r"\sqrt[3]"))
    choices = [swap for swap in swaps if "$" in text and swap[0] in text]
    return text.replace(*rng.choice(choices), 1) if choices else other_number(text, rng)


OTHER_VALUES = (other_number, swapped_numbers, other_sign)
OTHER = (*OTHER_VALUES, opposite_word)


def changed(text: str, ways, rng: random.Random) -> tuple[str, str]:
    """The text in one of the ways, and which it was; tried until it is another text."""
    for _ in range(50):
        way = rng.choice(ways)
        other = way(text, rng)
        if other != text:
            return other, way.__name__
    return "Consider this. " + text if ways is SAME else other_number(text, rng), "around"


def embedded(text: str, rng: random.Random) -> str:
    return rng.choice(
        (
            "You are a helpful assistant. Think step by step and answer the question that follows.\n\n{}\n\nPut the "
            "answer in a box.",
            "{} Write down every step of the calculation and explain to a student why it is right.",
            "Here is a task from a competition for young students, to be solved without a calculator: {}",
        )
    ).format(text)
