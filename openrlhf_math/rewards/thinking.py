"""The thinking part of a response, with `<think>` tags for the marks of models that have others.

Marks that are control tokens are read as they are decoded with special tokens; of harmony (gpt-oss) the text without
them as well, as engines return it by default.
"""

import re

OPEN, CLOSE = "<think>", "</think>"
# Openings and closings of other models. What closes may be all that a completion has: the prompt has opened it.
MARKS = (
    ("[THINK]", "[/THINK]"),  # Magistral, Ministral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax-M3
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<thinking>", "</thinking>"),
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThoughts
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),  # Solar Open
)
PAIRS = ((OPEN, CLOSE), *MARKS)
# Those of them, and of harmony, that are single tokens.
TOKENS = frozenset({OPEN, CLOSE, "<|channel|>", "<|channel>", "<channel|>", "<|think|>"}.union(*MARKS[:-2]))
# Around the answer that follows.
AROUND_ANSWERS = (
    "<|begin_of_solution|>", "<|end_of_solution|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>",
    "<|END_TEXT|>",
)  # fmt: skip
CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
# Where a message of harmony begins or ends.
_BOUNDS = re.compile(r"(<\|(?:channel|start|end|return|call)\|>)")
_BARE_ANALYSIS, _BARE_FINAL = "analysis", "assistantfinal"


def in_think_tags(text: str) -> str:
    """The text with its thinking part in `<think>` tags; one without the marks of other models as it is."""
    if is_harmony(text):
        return _of_messages(text) if CHANNEL in text else _of_bare_messages(text)
    found = False
    for opening, closing in MARKS:
        if opening in text or closing in text:
            text, found = text.replace(opening, OPEN).replace(closing, CLOSE), True
    if found:
        for mark in AROUND_ANSWERS:
            text = text.replace(mark, "")
    return text


def is_harmony(text: str) -> bool:
    """Whether a text is in gpt-oss's messages, with their control tokens or without."""
    begins, _, rest = text.partition(_BARE_ANALYSIS)
    is_bare = not begins.strip() and bool(rest[:1].strip()) and _BARE_FINAL in rest
    return is_bare or (CHANNEL in text and MESSAGE in text)


def _of_bare_messages(text: str) -> str:
    thinking, _, answer = text.partition(_BARE_ANALYSIS)[2].rpartition(_BARE_FINAL)
    return _joined(thinking, answer)


def _of_messages(text: str) -> str:
    """Of harmony's messages the last of the channel `final` is the answer; all before it is thinking."""
    begun, *pieces = _BOUNDS.split(text)
    messages = [("", begun)] if begun.strip() else []  # the prompt has written its head
    for bound, piece in zip(pieces[::2], pieces[1::2], strict=True):
        channel, is_message, content = piece.partition(MESSAGE)
        if bound == CHANNEL and is_message:
            messages.append(((channel.split() or [""])[0], content))
    final = [number for number, (channel, _) in enumerate(messages) if channel == "final"]
    if not final:
        return f"{OPEN}\n" + "\n".join(content for _, content in messages)
    return _joined("\n".join(content for _, content in messages[: final[-1]]), messages[final[-1]][1])


def _joined(thinking: str, answer: str) -> str:
    return f"{OPEN}\n{thinking.strip()}\n{CLOSE}\n\n{answer.lstrip()}" if thinking.strip() else answer.lstrip()


def begins_thinking(prompt: str) -> bool:
    """Whether a prompt has opened the thinking part of what follows."""
    return prompt.rstrip().endswith((*(opening for opening, _ in PAIRS), f"{CHANNEL}analysis{MESSAGE}"))


def behind_thinking(text: str) -> str:
    """What follows the thinking part, or is in front of one that is not closed; all of a text without one."""
    return in_think_tags(text).rpartition(CLOSE)[2].partition(OPEN)[0]
