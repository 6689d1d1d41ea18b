"""A teacher's reply as one trace: `<think>`, the reasoning, `</think>`, the answer. Pure functions."""

from dataclasses import dataclass

from openrlhf_math.errors import UserError
from openrlhf_math.rewards.thinking import in_think_tags, is_harmony

# How end-of-sequence tokens are written: of a server that does not leave out special tokens.
ENDS = (
    "<｜end▁of▁sentence｜>", "<|end▁of▁sentence|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>",
    "<|eot|>", "<|eom_id|>", "<|end|>", "<|return|>", "<end_of_turn>", "<eos>", "<|end_of_turn|>", "<turn|>", "</s>",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tags:
    """Around the thinking part, and around the answer where a teacher has tags there too."""

    thinking: tuple[str, str]
    answer: tuple[str, str] | None = None


THINK = Tags(("<think>", "</think>"))
TAGS = {
    "think": THINK,  # DeepSeek-R1, Qwen3
    "mistral": Tags(("[THINK]", "[/THINK]")),  # Magistral
    "thinking": Tags(("<thinking>", "</thinking>")),
    "thought": Tags(
        ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|begin_of_solution|>", "<|end_of_solution|>")
    ),  # Sky-T1, OpenThoughts
}


def find_tags(name: str, flag: str = "--thinking-tags") -> Tags:
    """The tags called `name`, a value of `flag`, or `OPEN...CLOSE` as a pair. Raises UserError if it is neither."""
    if name in TAGS:
        return TAGS[name]
    opening, dots, closing = name.partition("...")
    if not (opening.strip() and dots and closing.strip()) or opening == closing:
        raise UserError(f"{flag} {name}: choose one of {', '.join(TAGS)}, or give the pair as '<reason>...</reason>'")
    return Tags((opening, closing))


def trace(content: str, reasoning: str, tags: Tags = THINK) -> str:
    """A reply as one text, without the text of end-of-sequence tokens at its end.

    Endpoints give the reasoning apart, in tags, or with a closing tag alone where the chat template has opened it.
    """
    content = without_end(content.strip())
    if reasoning.strip():
        reasoning = without_end(reasoning.strip())
        closed = f"\n</think>\n\n{content}" if content else ""
        return f"<think>\n{reasoning}{closed}"
    content = in_think_tags(content) if is_harmony(content) else content
    if tags != THINK:
        content = _retagged(content, tags)
    if "</think>" in content and "<think>" not in content:
        return f"<think>\n{content}"
    return content


def _retagged(content: str, tags: Tags) -> str:
    """With `<think>` for the teacher's tags, and the answer without the teacher's tags around it.

    A text that has `<think>` as well stays as it is, and is refused if that is in two places.
    """
    (opening, closing), answer_tags = tags.thinking, tags.answer
    if "<think>" in content or "</think>" in content:
        return content
    thinking, closed, answer = content.partition(closing)
    if not closed:
        return content.replace(opening, "<think>")
    answer = answer.strip()
    if answer_tags and answer.startswith(answer_tags[0]) and answer.endswith(answer_tags[1]):
        answer = answer.removeprefix(answer_tags[0]).removesuffix(answer_tags[1]).strip()
    answer = answer.replace(opening, "<think>").replace(closing, "</think>")  # thinking a second time is refused
    head, opened, thoughts = thinking.partition(opening)
    thoughts = thoughts if opened else head
    before = head if opened else ""
    return f"{before}<think>\n{thoughts.strip()}\n</think>\n\n{answer}"


def without_end(text: str, ends: tuple[str, ...] = ENDS) -> str:
    """What is left of a text before the ends it has at its end, in linear time."""
    end = len(text)
    while found := next((one for one in ends if text.endswith(one, 0, end)), ""):
        end -= len(found)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]
