r"""Where the final answer is found, and what counts as the right format."""

import pytest

from openrlhf_math.rewards.extract import extract, well_formed

ANSWERS = [
    # boxes
    (r"so \boxed{72}.", "72"),
    (r"$\boxed {72}$", "72"),
    (r"\fbox{72}", "72"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{\boxed{72}}", "72"),
    (r"\boxed{1} then \boxed{2}", "2"),
    (r"\boxed{1} then \boxed{2", "1"),
    (r"\boxed{ \boxed{7} and so on", "7"),
    (r"put it in \boxed{}: \boxed{5}. Done \boxed{}", "5"),
    (r"\boxed{}", None),
    (r"\boxed{3} and \boxed{5}", "3, 5"),
    (r"\boxed{3}, \boxed{5}, \boxed{3}", "3, 5"),
    (r"$x=\boxed{3}$ or $x=\boxed{5}$", "3, 5"),
    ("{ { { \\boxed{4} }", "4"),
    # the thinking part does not count
    (r"<think>\boxed{72}</think>", None),
    (r"<think>\boxed{72}</think>\boxed{73}", "73"),
    (r"\boxed{72} <think> but then again", "72"),
    (r"<think> \boxed{72}", None),
    (r"reasoning \boxed{1}</think> \boxed{2}", "2"),
    # tags and phrases
    ("<answer> 72 </answer>", "72"),
    ("<answer>71</answer><answer>72</answer><answer></answer>", "72"),
    (r"<answer>71</answer> \boxed{72}", "72"),
    ("The final answer is 72.", "72"),
    ("The answer is $\\frac{1}{2}$, as we saw.", r"\frac{1}{2}"),
    ("Final answer: \\(x+1\\)", "x+1"),
    ("**Final Answer:** 72", "72"),
    ("Final Answer: The final answer is $72$. I hope it is correct.", "72"),
    ("#### 72", "72"),
    ("answer is 3.5. Then", "3.5"),
    ("The answer is \\", None),  # cut off at the limit
    ("The answer is $", None),
    ("I think 72", None),
    ("", None),
]

FORMATS = [
    # response, boxed, think
    (r"\boxed{5}", True, False),
    (r"<think>2+3</think> \boxed{5}", True, True),
    (r"2+3</think> \boxed{5}", True, True),  # the chat template wrote <think>
    (r"<think></think> \boxed{5}", True, False),
    (r"</think> \boxed{5}", True, False),
    (r"\boxed{5} <think>2+3</think>", False, False),
    (r"Well, <think>2+3</think> \boxed{5}", True, False),
    (r"<think>2</think><think>3</think> \boxed{5}", True, False),
    (r"<think>2+3 \boxed{5}", False, False),
    (r"<think>\boxed{5}</think> It is five.", False, False),
    (r"<think>2+3</think> 5", False, False),
    (r"<think>2+3</think> <answer>\boxed{5}</answer>", True, True),
    (r"<think>2+3</think> <answer></answer> \boxed{5}", False, False),
    (r"<think>2+3</think> <answer>\boxed{5}</answer><answer>\boxed{5}</answer>", False, False),
    (r"<think>2+3</think> \boxed{5}, that is \boxed{5}", True, True),
    (r"<think>2+3</think> \boxed{5}, or maybe \boxed{6}", False, False),
    (r"<think>2+3</think> \boxed{5} or \boxed{6}", True, True),  # one answer, a list
    (r"<think>2+3</think> \boxed{}", False, False),
    (r"<think>2+3</think> \boxed{5", False, False),
    (r"<think>2+3</think> \boxed{" + "5" * 3000 + "}", False, False),
    ("", False, False),
]


@pytest.mark.parametrize("response, answer", ANSWERS)
def test_final_answer(response, answer):
    assert extract(response).answer == answer


@pytest.mark.parametrize("response, boxed, think", FORMATS)
def test_format(response, boxed, think):
    extraction = extract(response)
    assert (well_formed(response, extraction, "boxed"), well_formed(response, extraction, "think")) == (boxed, think)
