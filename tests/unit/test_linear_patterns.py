r"""Whatever a model writes, reading it takes linear time in the calling process: 64 KiB take less than 50 ms.

Every pattern of the rooms that read model output is checked by its syntax tree (see `linear_patterns.py`), and each
public function is given long texts that would make a backtracking pattern hang.
"""

import ast
import contextlib
import importlib
import os
import random
import re
import time
from pathlib import Path

import pytest
from linear_patterns import faults

import openrlhf_math
from openrlhf_math.curation import filters, normalise
from openrlhf_math.rerank.steps import split_steps
from openrlhf_math.rerank.verdicts import verdict
from openrlhf_math.rewards import RewardConfig, parse_gold
from openrlhf_math.rewards.choices import choice, options
from openrlhf_math.rewards.extract import extract, well_formed
from openrlhf_math.rewards.fingerprint import fingerprint
from openrlhf_math.rewards.measures import read_measure
from openrlhf_math.rewards.notation import key, tidy
from openrlhf_math.rewards.number import read_number
from openrlhf_math.rewards.outcome import begin
from openrlhf_math.rewards.same import equivalent
from openrlhf_math.rewards.shape import shape
from openrlhf_math.rewards.tokens import tokens
from openrlhf_math.rewards.words import meaning

ROOT = Path(openrlhf_math.__file__).parent
ROOMS = ("rewards", "data", "sft", "distill", "curation", "evaluation", "rerank", "endpoint", "serving", "tools")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
# Next to another worker on the same core a text takes twice as much CPU time.
LENGTH, SECONDS = 1 << 16, 0.1 if "PYTEST_XDIST_WORKER" in os.environ else 0.05

# What takes more than linear time, and what does not.
BAD = [
    r"(a+)+b", r"(a|a)*b", r"(a|ab)*c", r"(?:a?a)*b", r"\s+\Z", r"a*a*b", r"(?:a*)*b", r"\A(a|b)*(b|c)*d", r".*x",
    r"\((.+?)\)", r"\A(?:[a-z ]|\^ ?[23] ?)+\Z", r"(?=a)[ab]+c", r"\A\s*x?\s*y", r"[a-z]+(?!\d)", r"(?:a+,)*a+b",
]  # fmt: skip
GOOD = [
    r"\s+", r"a*b?", r"\A\s*\Z", r"\\text *\{[^{}]*\}", r"\$[^$]+\$", r"\A(?:[a-z]|\^[23])+\Z", r"<[a-z]+>", r"\A.*",
    r"\A[^\\]*(?:\\[^)][^\\]*)*\\\)", r"[a-z]{1,9}[a-z]", r"\d+(?:\.\d+)?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", BAD)
def test_check_finds(pattern):
    assert faults(re.compile(pattern))


@pytest.mark.parametrize("pattern", GOOD)
def test_check_passes(pattern):
    assert faults(re.compile(pattern)) == []


def patterns(value) -> list[re.Pattern]:
    if isinstance(value, re.Pattern):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [pattern for one in inner for pattern in patterns(one)]


def compiled() -> dict[tuple[str, str], re.Pattern]:
    """Every pattern of a module, by module and text."""
    found = {}
    for path in MODULES:
        name = f"openrlhf_math.{path.parent.name}.{path.stem}"
        for value in vars(importlib.import_module(name)).values():
            found |= {(name, pattern.pattern): pattern for pattern in patterns(value)}
    return found


def test_every_pattern_is_linear():
    found = {place: faults(pattern) for place, pattern in compiled().items()}
    assert len(found) > 20
    assert {place: fault for place, fault in found.items() if fault} == {}


# Built from a tokenizer's control tokens, which are escaped: a choice of literal texts.
BUILT = {"steps.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_patterns_are_compiled_at_module_level(path):
    """All patterns are at the top of a module, where the check above sees them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = [node for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
              for node in ast.walk(function)]  # fmt: skip
    calls = [
        node.lineno
        for node in inside
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.func.attr != "escape"
    ]  # fmt: skip
    assert calls == [] or path.name in BUILT


BITS = (
    "f(", "a(", "f(x)", "\\sqrt", "\\sqrt{2}", "x^", "x^{", "\\sin ", "\\frac{d", "\\frac{d}{", "|x", "-(",
    "a(a", "f'(", "\\hat{", "\\binom{", "2(", "\\log_", "\\sum_{", "\\pm ", "x_", "\\{", "\\}", ":", "<",
    "\\le ", "\\in ", "\\cup ", "(1,", "[0,", "a", " ", "ab ", "(", ")", "{", "}", "{a", "\\", "\\\\", "\\(",
    "\\[", "\\{", "$", "$a", "^2 ", "^ {2 } ", "\\text{", "\\text{a}", "\\frac", "\\frac{", "\\frac{1}{2}",
    "\\frac{{a}", "\\boxed{", "\\boxed{5}", "\\boxed{a}, ", "\\fbox{a}", "<answer>", "</answer>",
    "<answer>a</answer>", "<think>", "</think>", "answer is ", "answer", "#", "#### ", "1", "1,", "1,000", "1 ",
    "0.", ".", "...", "-", "+", "=", "a=", "a = ", ",", ";", "&", "|", "or ", "and ", "\n", "\n\n", "~", "\\,",
    "\\!", "\\begin{pmatrix}", "\\end{pmatrix}", "(A) ", "A. ", "A", "é", "²", "√(", "½", "\u200b", "5^2 ",
    "\\circ", "^\\circ ", "verdict ", "![", "show that ", "in the ", "figure 1 ", "\\sqrt{", "_{1}", "\\left(",
    "!", "'", "prove ", "1st ", "\t", "\\mathrm{m}", "\\cdot ", "\\pmod{", "\\%", "%", "**", "`",
)  # fmt: skip


def texts() -> list[str]:
    rng = random.Random(5)
    runs = [bit * (LENGTH // len(bit)) for bit in BITS]
    mixed = []
    for _ in range(60):
        few = rng.sample(BITS, rng.randint(2, 4))
        mixed.append("".join(rng.choices(few, k=LENGTH))[:LENGTH])
    different = [" ".join(rf"\boxed{{{n}}}{joint}" for n in range(LENGTH // 14)) for joint in ("", ",", " or")]
    return runs + mixed + different


CONFIG = RewardConfig()
LONG = texts()
BOXED = [before + text[:1900] + "!}" for text in LONG for before in (r"\boxed{", r"\boxed{5 m", r"\boxed{x = ")]


def seconds(function, *arguments) -> float:
    """CPU time of this process, the best of up to three: what another process does to the caches is not counted."""
    taken = []
    for _ in range(3):
        begun = time.process_time()
        function(*arguments)
        taken.append(time.process_time() - begun)
        if taken[-1] < SECONDS / 2:
            break
    return min(taken)


def graded(text: str) -> None:
    for gold in ("5", r"\frac{x+1}{2}", "(1,2)"):
        begin(text, gold, None, CONFIG)


def read_as_gold(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_gold(text)


READERS = {
    "tidy": tidy,
    "key": key,
    "read_number": read_number,
    "read_measure": read_measure,
    "shape": shape,
    "meaning": meaning,
    "tokens": tokens,
    "begin": lambda text: begin(text, "5", None, CONFIG),
    "extract": lambda text: [extract(text, style) for style in ("boxed", "think")],
    "well_formed": lambda text: well_formed(text, extract(text), "boxed"),
    "parse_gold": read_as_gold,
    "options": options,
    "choice": choice,
    "steps": split_steps,
    "verdict": verdict,
    "normalise": normalise.tokens,
    "patterns of the filters": lambda text: [one.search(text) for one in patterns(vars(filters))],
    "missing figures, of the filters": filters.missing_figure,
}


# Curation reads the structure of a problem token by token and searches for every pattern, in separate processes that do
# nothing else.
OFFLINE = {"normalise": 20, "patterns of the filters": 5}


@pytest.mark.parametrize("name", READERS)
def test_long_texts(name):
    allowed = SECONDS * OFFLINE.get(name, 1)
    texts = LONG[::8] if name in OFFLINE or "filters" in name else LONG
    slow = {text[:60]: taken for text in texts if (taken := seconds(READERS[name], text)) > allowed}
    assert slow == {}


def test_longest_answers():
    slow = {text[:60]: taken for text in BOXED if (taken := seconds(graded, text)) > 3 * SECONDS}
    assert slow == {}


def test_comparison_never_raises():
    """What the worker does with texts as long as an answer can be; it has a deadline, but needs none here."""
    rng = random.Random(6)
    for text in rng.sample(LONG, 60):
        assert equivalent("x+y", tidy(text[:1900])) in (True, False)
        assert isinstance(fingerprint(text[:1900]), str)


@pytest.mark.parametrize("count", [22, 40, 900])
def test_powers_after_a_unit(count):
    """Each further `^2 ` doubled the time."""
    assert seconds(graded, r"\boxed{5 m^2" + " ^2" * count + " !}") < SECONDS
