"""The prompt of a problem and the place of the answer, by prompt style."""

import pytest

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.prompts import EXAMPLES, PROMPTS, find_prompt, register_prompt, style_of
from openrlhf_math.registry import Registry
from openrlhf_math.rewards import grade

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]


class Tokenizer:
    """What a chat template makes of messages, in few words. opens: whether it opens the thinking itself."""

    def __init__(self, opens: bool = False) -> None:
        self.opens = opens

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt and not tokenize
        text = "".join(f"[{turn['role']}]{turn['content']}" for turn in messages)
        return f"{text}[assistant]" + ("<think>\n" if self.opens else "")


@pytest.mark.parametrize(
    "name, tokenizer, text",
    [
        ("chat", Tokenizer(), "[system]Be brief.[user]1+1?[assistant]"),
        ("r1", Tokenizer(), "[user]1+1?[assistant]<think>\n"),
        ("r1", Tokenizer(opens=True), "[user]1+1?[assistant]<think>\n"),
        ("plain", None, "1+1?"),
    ],
)
def test_prompt(name, tokenizer, text):
    assert find_prompt(name)(tokenizer, MESSAGES) == text


def test_few_shot_prompt_ends_before_the_solution():
    text = find_prompt("few-shot")(None, MESSAGES)
    assert text.count("Problem:") == 5 and text.endswith("Problem: 1+1?\nSolution:")
    (stop,) = style_of(PROMPTS["few-shot"]).stop
    assert text.count(stop) == 4


@pytest.mark.parametrize("problem, solution", EXAMPLES)
def test_worked_examples_are_in_correct_format(problem, solution):
    answer = solution.rpartition("boxed{")[2].removesuffix("}.")
    found = grade(solution, answer, problem=problem)
    assert found.outcome == "correct" and found.well_formed


@pytest.mark.parametrize(
    "name, answers, template", [("chat", "boxed", True), ("r1", "think", True), ("plain", "boxed", False)]
)
def test_style_defines_answer_place_and_requirements(name, answers, template):
    style = style_of(PROMPTS[name])
    assert (style.answers, style.chat_template) == (answers, template)


def shouting(tokenizer, messages):
    return messages[-1]["content"].upper()


def test_custom_style_by_dotted_path_or_registered(monkeypatch):
    assert find_prompt(f"{__name__}.shouting")(None, MESSAGES) == "1+1?"
    assert style_of(shouting).answers == "boxed"
    monkeypatch.setattr("openrlhf_math.evaluation.prompts.PROMPTS", Registry(PROMPTS))
    register_prompt("thinking", answers="think", stop=("END",))(lambda tokenizer, messages: "x")
    assert style_of(find_prompt("thinking")).stop == ("END",)


def test_unknown_style_lists_known_ones():
    with pytest.raises(UserError, match="--prompt r2: there is none of that name; choose one of chat, r1, plain, few-"):
        find_prompt("r2")
