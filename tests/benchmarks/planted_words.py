"""One problem in other words, or a part of it: copies that must be found. See planted_copies.py."""

import re

from planted_copies import asks, has_formula, in_formulas, in_prose, sentences

NAMES = "Amara Bjorn Chidi Dagmar Eluned Farid Gwen Hiroto Ilse Jerzy Katya Lorcan".split()
NOT_NAMES = set(
    "The In On At If Let For Find What How Each Two Three Four Five Six Twelve Given Suppose Solve Evaluate Compute "
    "Define Express Convert Point Points Triangle Rectangle Working Their After Both Which Monday Tuesday Wednesday "
    "Thursday Friday Saturday Sunday January February March April May June July August September October November "
    "December When There They She He His Her It Its One All Every During Then This That These Those Some Mr Mrs Ms Dr "
    "Determine Simplify English Chord Sales Enter Write Together With Of By As And But Maria's Ulm Kempten"
    " Last Team Next Every Half Third First Second Fourth Fifth".split()
)
WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
WORDS = f"{WORDS} eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def names_in(text):
    found = []
    in_prose(text, lambda part: found.extend(re.findall(r"(?<![.?!\\\w] )(?<!\\)\b[A-Z][a-z]{2,}\b", part)) or part)
    starts = re.findall(
        r"(?:^|[.?!] )([A-Z][a-z]{2,})(?=(?:'s)? (?:is|has|had|buys|bought|walks|reads|invests|can|and|wants|gave))",
        text,
    )
    return [name for name in dict.fromkeys([*starts, *found]) if name not in NOT_NAMES]


def renamed_people(text, rng):
    people = names_in(text)
    if not people:
        return None
    others = dict(zip(people, rng.sample(NAMES, min(len(people), len(NAMES))), strict=False))
    return re.sub(r"\b[A-Z][a-z]{2,}\b", lambda m: others.get(m[0], m[0]), text)


UNITS = [
    ("cm", "centimeters"),
    ("km", "kilometers"),
    ("kg", "kilograms"),
    ("m", "meters"),
    ("ft", "feet"),
    ("min", "minutes"),
    ("mi", "miles"),
    ("cm", "centimetres"),
    ("lbs", "pounds"),
    ("oz", "ounces"),
    ("km/h", "kilometers per hour"),
    ("mph", "miles per hour"),
    ("sq. in.", "square inches"),
    ("cm^3", "cubic centimeters"),
    ("hrs", "hours"),
    ("L", "liters"),
]


def units_in_words(text, rng):
    pairs = [(a, b) for a, b in UNITS if re.search(rf"(?<=\d[$ ]){re.escape(a)}\b|(?<=\d\$ ){re.escape(a)}\b", text)]
    back = [(b, a) for a, b in UNITS if a != "m" and re.search(rf"(?<=\d ){b}\b|(?<=\d\$ ){b}\b", text)]
    if not pairs and not back:
        return None
    for old, new in pairs or back[-1:]:
        text = re.sub(rf"(?<=\d ){re.escape(old)}\b|(?<=\d\$ ){re.escape(old)}\b", new, text)
    return text


def in_words(n):
    if n < 20:
        return WORDS[n]
    return TENS[n // 10] + (f"-{WORDS[n % 10]}" if n % 10 else "")


def numbers_in_words(text, rng):
    pattern = r"(?<![\w.,$^{\\/-])\d{1,2}(?![\w.^}%/:-]|,\d|\$)"
    other = in_prose(text, lambda part: re.sub(pattern, lambda m: in_words(int(m[0])), part))
    return other if other != text else None


def numbers_in_digits(text, rng):
    pattern = rf"(?<!-)\b(?:{'|'.join(WORDS[2:])})\b(?!-)"
    other = in_prose(text, lambda part: re.sub(pattern, lambda m: str(WORDS.index(m[0])), part))
    return other if other != text else None


def currency(text, rng):
    if not re.search(r"\\?\$\d", text) or "\\$" not in text and has_formula(text):
        return None
    if "\\$" in text:
        return re.sub(r"\$?\\\$([\d.,]*\d)\$?", rng.choice((r"$\1", r"\1 dollars", r"USD \1", r"\\$\1")), text)
    return re.sub(r"\$([\d.,]*\d)", rng.choice((r"\1 dollars", r"\\$\1", r"USD \1", r"$\\$\1$")), text)


# A part of it, or in another order ------------------------------------------------------------------------------------


def second_half(text, rng):
    """The second half of the sentences, or of a long sentence: nothing that has fewer than ten words."""
    cut = sentences(text)
    half = " ".join(cut[len(cut) // 2 :]) if len(cut) > 1 else " ".join(text.split()[len(text.split()) // 2 :])
    return (
        half
        if len(half.split()) >= 10 and "[asy]" not in text and "(A)" not in text and half.count("$") % 2 == 0
        else None
    )


def tail_dropped(text, rng):
    words = text.split()
    if len(words) < 15 or "[asy]" in text:
        return None
    return " ".join(words[: -max(2, len(words) * 15 // 100)])


def question_first(text, rng):
    cut = sentences(text)
    if len(cut) < 2 or not asks(cut[-1]) or "[asy]" in text or "(A)" in text:
        return None
    return " ".join([cut[-1], *cut[:-1]])


VARIABLES = [
    ("x", "t"),
    ("y", "u"),
    ("n", "k"),
    ("a", "p"),
    ("b", "q"),
    ("f", "g"),
    ("m", "r"),
    ("z", "w"),
    ("k", "j"),
    ("c", "s"),
]


def variables_renamed(text, rng):
    """Consistently, in the formulas; a new name is one that the text does not use."""
    used = set()
    in_formulas(text, lambda f: used.update(re.findall(r"(?<![a-zA-Z\\])([a-zA-Z])(?![a-zA-Z])", f)) or f)
    other = {a: b for a, b in VARIABLES if a in used and b not in used}
    if not other or "pmatrix" in text or "[asy]" in text:
        return None
    # A letter within a command (\frac, \text{cm}) is none.
    pattern = r"\\[a-zA-Z]+|[a-zA-Z]+"

    def change(formula):
        def one(found):
            word = found[0]
            if word.startswith("\\") or word.isupper() or len(word) > 2 and not other.keys() >= set(word):
                return word
            return "".join(other.get(letter, letter) for letter in word)

        return re.sub(pattern, one, formula)

    return in_formulas(text, change)


def clauses_reordered(text, rng):
    """Two statements before the question in the other order, or "If A, B?" as "B if A?"."""
    cut = sentences(text)
    given = [one for one in cut if not asks(one)]
    moved = [one for one in given if not re.match(r"(?:He|She|It|They|This|These|Then|His|Her|After|That)\b", one)]
    if "[asy]" in text or "(A)" in text:
        return None
    if len(moved) >= 2 and len(given) == len(moved):
        first, second = given[0], given[1]
        return " ".join(second if one is first else first if one is second else one for one in cut)
    found = re.match(r"(?:If|Given that|When) ([^?]*\S), ((?:what|how|find|which|by what) [^?.]*)([?.])$", text)
    if found and found[1].count("$") % 2 == 0:
        return found[2][0].upper() + found[2][1:] + " if " + found[1] + found[3]
    return None


SYNONYMS = [
    (r"\bFind the value of\b", "What is the value of"),
    (r"\bCompute\b", "Calculate"),
    (r"\bEvaluate\b", "Work out"),
    (r"\bDetermine\b", "Find"),
    (r"\bFind\b", "Determine"),
    (r"\bHow many\b", "What is the number of"),
    (r"\bLet\b", "Suppose"),
    (r"\bis equal to\b", "equals"),
    (r"\bWhat is\b", "Find"),
    (r"\bsuch that\b", "for which"),
    (r"\bGiven that\b", "Suppose that"),
    (r"\btogether\b", "in total"),
    (r"\bbuys\b", "purchases"),
    (r"\bbought\b", "purchased"),
    (r"\bchosen\b", "picked"),
    (r"\bat random\b", "randomly"),
    (r"\bcan be\b", "may be"),
    (r"\bstarts?\b", "begins"),
    (r"\breceives?\b", "gets"),
    (r"\bballs?\b", "spheres"),
    (r"\bchildren\b", "kids"),
    (r"\bpossible\b", "conceivable"),
    (r"\bsatisfies\b", "fulfils"),
    (r"\bpasses through\b", "goes through"),
    (r"\bhas\b", "possesses"),
    (r"\beach\b", "apiece"),
    (r"\bcosts?\b", "is priced at"),
    (r"\bearns\b", "makes"),
    (r"\bwants to\b", "would like to"),
    (r"\bneeds\b", "requires"),
    (r"\bwritten\b", "expressed"),
]


def paraphrase(text, rng):
    """Words and phrases for others of the same meaning: at least two of them."""
    used = 0

    def change(part):
        nonlocal used
        for pattern, other in SYNONYMS:
            if used < 5 and (found := re.search(pattern, part)) and other.lower() not in part.lower():
                part = part[: found.start()] + other + part[found.end() :]
                used += 1
        return part

    other = in_prose(text, change)
    return other if used >= 2 else None


REWORDED = [
    (r"^How many (.*?)\?", r"We would like to know the number of \1."),
    (r"\bWhat is the (.*?)\?", r"Tell me the \1, please."),
    (r"^(?:Find|Compute|Evaluate) (.*)", r"Your task is to work out \1"),
    (r"\bHow much (.*?)\?", r"Say how much \1."),
    (r"\bLet (\$[^$]*\$) be\b", r"We write \1 for"),
    (r"\bIf (.*?), (what|how|find)\b", r"Imagine that \1. Then \2"),
]


def reworded(text, rng):
    """Another frame around the same numbers, with synonyms."""
    other = text
    for pattern, form in REWORDED:
        other = re.sub(pattern, form, other, count=1, flags=re.S)
    return (paraphrase(other, rng) or other) if other != text else None


def typing_errors(text, rng):
    """Two letters swapped in two long words, as from a scan or a hasty hand."""

    def change(part):
        words = part.split(" ")
        long = [i for i, word in enumerate(words) if re.fullmatch(r"[a-z]{6,}", word)]
        for i in rng.sample(long, min(2, len(long))):
            at = rng.randint(1, len(words[i]) - 3)
            words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
        return " ".join(words)

    other = in_prose(text, change)
    return other if other != text else None
