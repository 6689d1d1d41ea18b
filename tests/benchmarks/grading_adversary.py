r"""Generated answers: near misses and other spellings of a few hundred golds, made mechanically.

    python tests/benchmarks/grading_adversary.py [--misses 20000] [--peer 2000] [--seed 0] [--show 20]

A near miss differs from its gold by one sign, digit, letter, case, exponent, bracket, unit, word or item; every change
is one of which the meaning follows from how it is made, not from any grader. A rewrite is another spelling of the same.
Prints by kind how many near misses are paid and how many rewrites are refused, against plain math-verify's numbers on
a sample, and how many are ungraded. Exits with 1 if a near miss is paid.
"""

import argparse
import contextlib
import logging
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

from adversary_golds import GOLDS

from openrlhf_math.rewards import Grade, RewardConfig
from openrlhf_math.rewards.outcome import Verdict, begin, conclude
from openrlhf_math.rewards.same import equivalent

CONFIG = RewardConfig(workers=1)
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[0-9]|[a-zA-Z]|.")
# Letters that stand for themselves in the golds; others belong to words, names of functions and units.
WORD = re.compile(r"\\(?:text|mathrm|mathbb|begin|end)\s*\{[^{}]*\}")
SWAPPED = {
    "<": r"\le ",
    ">": r"\ge ",
    "\\le": "<",
    "\\ge": ">",
    "\\cup": r"\cap ",
    "\\cap": r"\cup ",
    "\\sin": "\\cos",
    "\\cos": "\\sin",
    "\\tan": "\\cot",
    "\\ln": "\\sin",
    "\\pi": "3",
    "\\lfloor": None,
    "\\alpha": "\\beta",
    "\\theta": "\\phi",
    "\\sigma": "\\Sigma",
    "\\lambda": "\\mu",
    "\\infty": "9",
}
AFTER = (
    r"\text{ halves}",
    r"\text{ tens}",
    r"\text{ dozen}",
    r"\text{ or } 77",
    ", 77",
    r"\text{ is wrong}",
    " 77",
    "+1",
    "-1",
    r"\cdot 2",
    "h",
    "t",
    "n",
    r"\text{ squared}",
    r"\text{ maybe}",
    r"\text{ percent off}",
    "^2",
    "!",
    "/2",
    " k",
    "x",
    "'",
    r"\text{ not}",
    r"\text{ thousand}",
    r"\text{ base seven}",
    "_1",
    r"\pm 1",
    "=77",
    r"\neq 77",
    r"\ldots",
)
BEFORE = ("-", "2", r"\text{not }", r"\neq ", "< ", "3+", r"\frac{1}{2}", r"\sqrt{2}", "77, ", "a", "77=")


def near_misses(kind: str, gold: str, traits: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the answer): all single changes of a gold."""
    tokens = TOKEN.findall(gold)
    words = [False] * len(gold)
    for match in WORD.finditer(gold):
        words[match.start() : match.end()] = [True] * (match.end() - match.start())
    place = 0
    for index, token in enumerate(tokens):
        start, place = place, place + len(token)
        before, after = "".join(tokens[:index]), "".join(tokens[index + 1 :])
        if token.isdigit():
            for digit in "0123456789":
                if digit != token and not (
                    "d" in traits and digit in "01" or digit == "0" and not before[-1:].isdigit()
                ):
                    yield "digit", before + digit + after
            if token != "0" and "w" not in traits:
                yield "digit twice", before + token + token + after
        elif words[start]:
            continue
        elif token in "+-" and "s" not in traits:
            yield "sign", before + "-+"[token == "-"] + after
        elif len(token) == 1 and token.isalpha():
            for letter in "abkmnqrsuvwz":
                if letter not in gold.lower():
                    yield "letter", before + letter + after
            if "c" not in traits:
                yield "case", before + token.swapcase() + after
            if token not in "ei" and after[:1] not in ("(", "'") and "n" not in traits:
                yield "prime", before + token + "'" + after
                yield "accent", before + rf"\hat{{{token}}}" + after
        elif token in SWAPPED and SWAPPED[token] and "r" not in traits:
            yield "sign or name", before + SWAPPED[token] + (" " if after[:1].isalpha() else "") + after
        elif token in "()[]" and kind == "interval" and index in (0, len(tokens) - 1):
            yield "bracket", before + {"(": "[", ")": "]", "[": "(", "]": ")"}[token] + after
    if "a" not in traits:
        yield from (("behind", gold + text) for text in AFTER if not _keeps(kind, gold, text))
        yield from (("before", text + gold) for text in BEFORE if not (text == "2" and gold[:1] == "-"))
    yield from items(kind, gold)
    match = re.fullmatch(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", gold)
    if match and match[1] != match[2]:
        yield "upside down", rf"\frac{{{match[2]}}}{{{match[1]}}}"
    if kind == "unit":
        number, _, unit = gold.partition(r"\text{ ")
        for other in ("m", "kg", "s", "inches", "miles", "L", "hours", "g"):
            if not unit.startswith(other + "}"):
                yield "unit", rf"{number}\text{{ {other}}}"
        yield "unit", gold + ("^3" if not gold.endswith("}") else "^2")
        yield "unit", gold.replace(r"\text{ ", r"\text{ halves of a ")


def _keeps(kind: str, gold: str, text: str) -> bool:
    """Whether a text behind a gold may leave it as it was: `2!` is 2, `= 0x` is 0, `Monday!` is Monday."""
    if text == "!":
        return gold[-1] in "12" or kind == "text"
    return gold.endswith("=0") and text[:1] in "/^htnkx\\ " or kind == "text" and text == "'"


def items(kind: str, gold: str) -> Iterator[tuple[str, str]]:
    """One item more, one less, and for tuples another order."""
    if kind not in ("tuple", "list", "set"):
        return
    opening, closing = {"tuple": (1, 1), "list": (0, 0), "set": (2, 2)}[kind]
    inner = gold[opening : len(gold) - closing]
    found = inner.split(",")

    def put(parts: list[str]) -> str:
        return gold[:opening] + ",".join(parts) + gold[len(gold) - closing :]

    for index in range(len(found)):
        if len(found) > 2 or kind != "tuple":
            yield "item left out", put(found[:index] + found[index + 1 :])
    yield "item added", put([*found, "77"])
    yield "item changed", put(["77", *found[1:]])
    if kind == "tuple" and found[0].strip() != found[1].strip():
        yield "order", put([found[1], found[0], *found[2:]])


def rewrites(kind: str, gold: str, traits: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the answer): other spellings of a gold."""
    yield "itself", gold
    yield "dollars", f"${gold}$"
    yield "spaces", re.sub(r"([-+=,<>])", r" \1 ", gold) if kind != "text" and "-" not in gold[:1] else gold + " "
    yield "display style", rf"\displaystyle {gold}"
    yield "full stop", gold + "."
    yield "thin spaces", rf"\,{gold}\;"
    yield "braces", "{" + gold + "}"
    if "\\frac" in gold:
        yield "dfrac", gold.replace("\\frac", "\\dfrac")
        yield "tfrac", gold.replace("\\frac", "\\tfrac")
    if kind in ("interval", "tuple") or "(" in gold and kind != "text" and "\\left" not in gold and "w" not in traits:
        yield "left and right", re.sub(r"([(\[])", r"\\left\1", re.sub(r"([)\]])", r"\\right\1", gold))
    exponents = re.sub(r"\^([0-9a-zA-Z])", r"^{\1}", gold)
    if exponents != gold:
        yield "braces around exponents", exponents
    subscripts = re.sub(r"_([0-9a-zA-Z])", r"_{\1}", gold)
    if subscripts != gold:
        yield "braces around subscripts", subscripts
    if kind in ("number", "surd", "expression") and "=" not in gold and "n" not in traits:
        yield "a name before", f"{'Q' if 'Q' not in gold else 'W'} = {gold}"
        yield "the final answer is", rf"\text{{The answer is }}{gold}"
    if kind in ("number", "surd"):
        yield "a unit behind", rf"{gold}\text{{ cm}}"
        yield "a count behind", rf"{gold}\text{{ apples}}"
    if kind in ("expression", "surd") and (terms := summands(gold)):
        yield "terms turned round", joined(terms[::-1])
        yield "terms shifted", joined(terms[1:] + terms[:1])
    if kind in ("list", "set"):
        opening = 2 if kind == "set" else 0
        inner = gold[opening : len(gold) - opening].split(",")
        yield "items turned round", gold[:opening] + ",".join(inner[::-1]) + gold[len(gold) - opening :]
        yield "other braces", ", ".join(inner) if kind == "set" else r"\{" + gold + r"\}"
        if kind == "list":
            yield "and", ",".join(inner[:-1]) + r" \text{ and } " + inner[-1]
    if kind == "unit":
        yield "unit left out", gold.partition(r"\text")[0]
        yield "unit as letters", gold.replace(r"\text{", r"\mathrm{")
    if match := re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", gold):
        sign, top, bottom = match[1], int(match[2]), int(match[3])
        yield "fraction times 3", rf"{sign}\frac{{{3 * top}}}{{{3 * bottom}}}"
        yield "slash", f"{sign}{top}/{bottom}"
        yield "below zero", rf"\frac{{{sign}{top}}}{{{bottom}}}"
        if 10**4 % bottom == 0:
            yield "decimal", f"{sign}{top / bottom}"


def summands(text: str) -> list[tuple[str, str]] | None:
    """The terms of a sum with their signs; None if there are none or less than two."""
    found, depth, start = [], 0, 0
    for index, sign in enumerate(text + "+"):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0 and sign in "+-" and index and text[index - 1] not in "^_=,<>" and text[start:index].strip():
            found.append(text[start:index].strip())
            start = index
    if len(found) < 2 or any(sign in text for sign in ("=", ",", "<", ">", "|", r"\pm", ":")):
        return None
    return [(term[0] if term[0] in "+-" else "+", term.lstrip("+-").strip()) for term in found]


def joined(terms: list[tuple[str, str]]) -> str:
    return "".join(sign + term for sign, term in terms).removeprefix("+")


def ours(gold: str, answer: str) -> str:
    started = begin(rf"\boxed{{{answer}}}", gold, None, CONFIG)
    if not isinstance(started, Grade):
        verdict = Verdict(equivalent(started.gold, started.answer, started.problem), "", 0.0)
        started = conclude(started, verdict, CONFIG)
    return started.outcome


def peer(gold: str, answer: str) -> bool:
    from math_verify import parse, verify

    with contextlib.suppress(Exception):
        return verify(parse(f"${gold}$"), parse(rf"$\boxed{{{answer}}}$"))
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", type=int, default=20_000)
    parser.add_argument("--peer", type=int, default=2000, help="of either kind, for plain math-verify; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=20, help="mistakes that are printed")
    args = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    rng = random.Random(args.seed)
    # repetitions, and answers that spell the gold itself
    misses = sorted({(k, g, c, a) for k, g, t in GOLDS for c, a in near_misses(k, g, t) if a != g})
    same = sorted({(k, g, c, a) for k, g, t in GOLDS for c, a in rewrites(k, g, t)})
    print(f"{len(GOLDS)} golds, {len(misses)} near misses, {len(same)} rewrites\n")
    misses = rng.sample(misses, min(args.misses, len(misses)))
    paid = table("near misses", misses, True, args, rng)
    table("rewrites", same, False, args, rng)
    return 1 if paid else 0


def table(name: str, rows: list, wrong: bool, args: argparse.Namespace, rng: random.Random) -> int:
    """Print mistakes by kind of gold and by kind of change; returns how many there are."""
    counts: dict[str, Counter] = defaultdict(Counter)
    mistakes = []
    for kind, gold, change, answer in rows:
        outcome = ours(gold, answer)
        mistaken = (outcome == "correct") == wrong
        for label in (kind, f"by {change}"):
            counts[label].update(n=1, ours=mistaken, ungraded=outcome == "ungraded")
        if mistaken:
            mistakes.append((kind, change, gold, answer))
    for kind, gold, change, answer in rng.sample(rows, min(args.peer, len(rows))):
        for label in (kind, f"by {change}"):
            counts[label].update(asked=1, peer=peer(gold, answer) == wrong)
    what = "paid" if wrong else "refused"
    print(f"## {len(rows)} {name}: {len(mistakes)} {what} ({len(mistakes) / len(rows):.2%})\n")
    print(f"| kind | {name} | {what} | ungraded | {what} by math-verify, of asked |\n|---|---|---|---|---|")
    for label, count in sorted(counts.items(), key=lambda item: (item[0].startswith("by "), item[0])):
        beside = f"{count['peer']} of {count['asked']}" if count["asked"] else ""
        print(f"| {label} | {count['n']} | {count['ours']} | {count['ungraded']} | {beside} |")
    print()
    for kind, change, gold, answer in rng.sample(mistakes, min(args.show, len(mistakes))):
        print(f"- {kind}, {change}: gold `{gold}`, answer `{answer}`")
    print()
    return len(mistakes)


if __name__ == "__main__":
    sys.exit(main())
