r"""Prompt styles: the prompt of a problem, and the place of the answer in the completion.

A style is a function from the tokenizer and the chat messages, the last of which is the problem with the instruction,
to the text of the prompt. A user's own has a dotted path, `package.module.function`, with the decorator if its
answers are elsewhere than a chat's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from openrlhf_math.data.prompts import INSTRUCTION, Messages, Tokenizer, chat_text
from openrlhf_math.registry import Registry
from openrlhf_math.rewards.thinking import OPEN, begins_thinking

Writer = Callable[[Tokenizer, Messages], str]


@dataclass(frozen=True, slots=True)
class Style:
    """What goes with a prompt.

    answers         where the answer is, as in `RewardConfig.style`
    instruction     appended to every problem; "" for none
    chat_template   whether it uses the tokenizer's; one without gets the tokenizer's own first token
    stop            texts that end a completion, being the beginning of another problem
    """

    answers: Literal["boxed", "think"] = "boxed"
    instruction: str = INSTRUCTION
    chat_template: bool = True
    stop: tuple[str, ...] = ()


PROMPTS: Registry[Writer] = Registry()


def register_prompt(name: str, **style: Any) -> Callable[[Writer], Writer]:
    """Register a way to write prompts. style: as in `Style`."""
    return PROMPTS.register(name, style=Style(**style))


def find_prompt(name: str) -> Writer:
    """A known way to write prompts, or a user's own by dotted path. Raises UserError if there is none."""
    return PROMPTS.find("--prompt", name)


def style_of(write: Writer) -> Style:
    return getattr(write, "style", Style())


@register_prompt("chat")
def chat(tokenizer: Tokenizer, messages: Messages) -> str:
    """The model's own chat template."""
    return chat_text(tokenizer, messages)


@register_prompt("r1", answers="think")
def r1(tokenizer: Tokenizer, messages: Messages) -> str:
    """As the authors of DeepSeek-R1 ask for: no system prompt, and the thinking is opened for the model.

    https://github.com/deepseek-ai/DeepSeek-R1, "Usage Recommendations".
    """
    text = chat(tokenizer, [turn for turn in messages if turn["role"] != "system"])
    return text if begins_thinking(text) else f"{text}{OPEN}\n"


@register_prompt("plain", chat_template=False)
def plain(tokenizer: Tokenizer, messages: Messages) -> str:
    """The bare problem, for models without a chat template."""
    return messages[-1]["content"]


@register_prompt("few-shot", chat_template=False, instruction="", stop=("\nProblem:",))
def few_shot(tokenizer: Tokenizer, messages: Messages) -> str:
    """Worked examples before the problem, for base models."""
    shown = [f"Problem: {problem}\nSolution: {solution}\n\n" for problem, solution in EXAMPLES]
    return "".join(shown) + f"Problem: {messages[-1]['content']}\nSolution:"


EXAMPLES = (
    (
        "A baker fills 7 trays with 12 rolls each and sells 59 rolls. How many rolls are left?",
        r"The trays hold $7 \cdot 12 = 84$ rolls. Less the 59 sold, $84 - 59 = 25$ are left. The answer is \boxed{25}.",
    ),
    (
        "Solve $3x - 5 = 16$ for $x$.",
        r"Adding 5 to both sides gives $3x = 21$, so $x = 21/3 = 7$. The answer is \boxed{7}.",
    ),
    (
        "A fair coin is tossed three times. What is the probability of exactly two heads?",
        r"Of the $2^3 = 8$ equally likely outcomes, $\binom{3}{2} = 3$ have exactly two heads. "
        r"The answer is \boxed{\frac{3}{8}}.",
    ),
    (
        "The legs of a right triangle are 2 and 6. How long is its hypotenuse?",
        r"By the Pythagorean theorem its square is $2^2 + 6^2 = 40$, so its length is $\sqrt{40} = 2\sqrt{10}$. "
        r"The answer is \boxed{2\sqrt{10}}.",
    ),
)
