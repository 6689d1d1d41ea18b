"""Distillation: a reply becomes one trace, whatever tags its teacher writes; loops and ends are seen."""

import random
import time

import pytest

from openrlhf_math.data.trace import ENDS, find_tags, trace
from openrlhf_math.distill.keep import refusal, repeats_itself
from openrlhf_math.errors import UserError

WHOLE = "<think>\n2+2\n</think>\n\nSo \\boxed{4}."


@pytest.mark.parametrize(
    ("tags", "content"),
    [
        ("mistral", "[THINK]2+2[/THINK]So \\boxed{4}."),
        ("mistral", "2+2\n[/THINK]\n\nSo \\boxed{4}."),
        ("thinking", "<thinking>\n2+2\n</thinking>\n\nSo \\boxed{4}."),
        (
            "thought",
            "<|begin_of_thought|>\n\n2+2\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nSo \\boxed{4}.\n\n"
            "<|end_of_solution|>",
        ),
        ("thought", "<|begin_of_thought|>2+2<|end_of_thought|>So \\boxed{4}."),
        ("<reason>...</reason>", "<reason>2+2</reason> So \\boxed{4}."),
        ("thought", "<|begin_of_thought|>2+2<|end_of_thought|>So \\boxed{4}.<|im_end|>"),
    ],
)
def test_other_tags_become_think(tags, content):
    assert trace(content, "", find_tags(tags)) == WHOLE
    assert refusal(trace(content, "", find_tags(tags)), "stop", "think") == ""


@pytest.mark.parametrize(
    ("tags", "content", "reason"),
    [
        ("mistral", "[THINK]2+2, so \\boxed{4}", "thinking not closed"),
        ("mistral", "[THINK]2[/THINK] [THINK]+2[/THINK] \\boxed{4}", "malformed"),
        ("mistral", "Well, [THINK]2+2[/THINK] \\boxed{4}", "malformed"),
        ("think", "[THINK]2+2[/THINK]So \\boxed{4}.", "other tags, [THINK]"),
        ("think", "<thinking>\\boxed{3}</thinking>So \\boxed{4}.", "other tags, <thinking>"),
        ("think", "<think>2+2</think><|begin_of_solution|>\\boxed{4}", "other tags, <|begin_of_solution|>"),
        (
            "thought",
            "<|begin_of_thought|>2<|end_of_thought|><|begin_of_solution|>\\boxed{4}",
            "other tags, <|begin_of_solution|>",
        ),
    ],
)
@pytest.mark.parametrize("style", ["think", "boxed"])
def test_mismatched_tags_are_refused(tags, content, reason, style):
    found = refusal(trace(content, "", find_tags(tags)), "stop", style)
    assert found == reason or (style == "boxed" and reason == "malformed")


@pytest.mark.parametrize("name", ["", "aunt", "<t>", "...</t>", "<t>...", "<t>...<t>"])
def test_texts_without_tags(name):
    with pytest.raises(UserError, match="--thinking-tags"):
        find_tags(name)


@pytest.mark.parametrize("end", ENDS)
def test_end_of_sequence_is_cut_off_at_the_end_and_refused_inside(end):
    assert trace(f"<think>\n2+2\n</think>\n\nSo \\boxed{{4}}.{end}", "") == WHOLE
    assert trace(f"So \\boxed{{4}}.\n{end} {end}\n", f"2+2{end}") == WHOLE
    inside = trace(f"<think>\n2+2{end}\n</think>\n\nSo \\boxed{{4}}.", "")
    assert refusal(inside, "stop", "think") == "an end-of-sequence token inside"


def test_megabyte_of_ends_takes_no_time():
    begun = time.perf_counter()
    assert trace("4" + "</s> " * 200_000, "") == "4"
    assert time.perf_counter() - begun < 10


def prose(words: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghij", k=rng.randint(1, 9))) for _ in range(words))


@pytest.mark.parametrize(
    "text",
    [
        "wait " * 4000, "Wait, " * 40, "wait" * 4000, "等等" * 4000, prose(500) + " so x=2" * 30 + " " + prose(500),
        prose(700) + (" " + prose(80, 1) + ".") * 5 + " " + prose(700, 2), (prose(9, 1) + "\n") * 60,
        prose(500) + "ha" * 900,
    ],
    ids=["wait", "with commas", "no blanks", "Chinese", "a phrase", "a paragraph", "a line", "one long word"],
)  # fmt: skip
def test_loops(text):
    assert repeats_itself(text)


ROW = " & ".join(["0"] * 10)


@pytest.mark.parametrize(
    "text",
    [
        "", "wait", "wait, " * 20, prose(20_000), (prose(60, 1) + "\n") * 3, " \\\\\n".join([ROW] * 10), "-" * 190,
        " \\cdot ".join(["2"] * 64), "1 + " * 99, "0" * 1000, "| a | b |\n|" + "---|" * 40, ", ".join(["x"] * 99),
        " ".join(f"f({number}) = f({number - 1}) + 2," for number in range(1, 500)),
    ],
    ids=[
        "nothing", "a word", "twenty words", "prose", "a paragraph thrice", "a matrix", "a rule", "a power", "a sum",
        "a large number", "a table", "a list", "cases",
    ],
)  # fmt: skip
def test_no_loops(text):
    assert not repeats_itself(text)


def slow_loop(words: list[str]) -> bool:
    """By definition: every start, every period."""
    for period in range(1, len(words) // 5 + 1):
        length = period
        for place in range(period, len(words)):
            length = length + 1 if words[place] == words[place - period] else period
            word = any(len(one) > 1 and one.isalpha() for one in words[place - period + 1 : place + 1])
            if (length >= 300 and length >= 5 * period) or (word and length >= 30 * period):
                return True
    return False


def test_as_by_definition_on_random_texts():
    """A few words, so that all kinds of stretches come up; the borders of both rules among them."""
    rng, found = random.Random(4), []
    for _ in range(40):
        part = [rng.choice(["ab", "cd", "1", "x"]) for _ in range(rng.choice((1, 2, 3, 7, 55, 61)))]
        copies = rng.choice((3, 5, 6, 29, 31, 32, 160))
        around = [str(rng.randrange(10**6)) for _ in range(40)]
        words = (around + part * copies + around[::-1])[:500]
        found.append(slow_loop(words))
        assert repeats_itself(" ".join(words)) == found[-1], (part, copies)
    assert 8 < sum(found) < 32


def test_hostile_texts_take_linear_time():
    texts = ("a b " * 100_000, "a" * 500_000, "".join("a " * number + "b " for number in range(1, 600)),
             (prose(20_000) + " ") * 4)  # fmt: skip
    for text in texts:
        begun = time.perf_counter()
        repeats_itself(text)
        assert time.perf_counter() - begun < 30
