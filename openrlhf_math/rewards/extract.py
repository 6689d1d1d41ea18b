r"""Steps 1 and 2: find the final answer in a response, and check that the response has the requested format.

What counts, in this order: the last complete, non-empty `\boxed{}`; the last `<answer>` tag; what follows the last
"answer is", "answer:" or "####". Nothing inside the thinking part counts, nor the output of code, see
`without_tool_output`. Boxes with no more than a comma or an "and" between them are one answer, so `\boxed{3},
\boxed{5}` gives the list `3, 5`.

The thinking part ends at the last `</think>`. Where a response is to think first ("think") and has none, it is all
thinking: the prompt may have opened it, and a draft in a box is not an answer. Marks of models that have other ones
count as these tags, see `thinking`.

The format "boxed":

1. outside the thinking part there is at least one complete `\boxed{}` with something in it;
2. no two boxes there differ, unless they are joined into one list (`\boxed{3} and \boxed{5}`): several different
   boxes leave the reader to choose, which is not an answer;
3. no box is longer than an answer can be (2,000 characters);
4. a thinking part, if any, is closed;
5. `<answer>` tags are optional; if there are any, there is one pair and it is not empty.

"think" (DeepSeek-R1): the same, and the reasoning comes first:

6. exactly one `</think>`, and before it some reasoning;
7. `<think>` at the very start, or nowhere, where the chat template already wrote it into the prompt.

The format is what a wrong answer is paid for, so it asks for all that makes an answer gradable and nothing about how it
was reached. A right answer is paid in full in any format: being right is the rarer thing, and a format that costs it
would teach form before mathematics. What cannot be found, as in thinking never closed, is not right.
"""

import re
from collections import deque
from dataclasses import dataclass

from openrlhf_math.rewards.notation import MAX_ANSWER, key
from openrlhf_math.rewards.thinking import CLOSE, OPEN, in_think_tags
from openrlhf_math.rewards.tool_output import without_tool_output

# A final answer is at the end: only this many characters are searched, whatever the response's length.
TAIL = 1 << 16

# `\\boxed{5}` is escaped once more than it should be.
_TOKEN = re.compile(
    r"\\\\?(?:boxed|fbox|framebox(?:\[[^][{}]{0,20}\])?|colorbox\{[a-z]{1,20}\})\s{0,8}\{|\\[{}\\]|[{}]"
)
_BARE_BOX = re.compile(r"\\boxed (?=[0-9A-Za-z])")
# Between two boxes that are one answer: a comma, "and" or "or" and nothing else. Longer gaps are not read.
_JOINT = re.compile(
    r"\A(?:[\s$,;&]|\\(?:[()\[\],;]|q(?:uad|quad)|text\{ ?(?:(?:and|or) ?)?\})"
    r"|(?<![a-zA-Z])(?:a(?:nd(?![a-zA-Z=])| ?=)|o(?:r(?![a-zA-Z=])| ?=)|[b-np-zA-Z] ?=))*\Z"
)
_JOINS = re.compile(r"[,;&]|\\text|and|or")
_LONGEST_JOINT = 200
_PHRASE = re.compile(
    r"\banswer\b(?: to (?:the|this) (?:problem|question)\b)?"
    r"(?:\*\*)?[ \t]{0,8}(?:is|:|=)(?:[ \t]{0,8}:)?(?:\*\*)?|^####"
    r"|\b(?:option|choice) is (?=\(?[A-J]\b)"
    r"|最终答案[是为:：]?|答案[是为:：]"
    r"|^(?:#{1,4} (?:\*\*)?|\*\*)(?:final answer:?(?:\*\*)?:?|answer:?(?:\*\*)?:?[ \t]{0,8}$)",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST_PHRASE = 4000
_BLANK = " \t\n\r~$\\,;."
_MATH_SIGN = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_SENTENCE_END = re.compile(r"[.!](?=\s|\Z)|\bI hope\b|。")
_OPENING = re.compile(
    r"\A(?:therefore|thus|hence|then|simply|clearly|just|indeed|now|exactly|given by|equal to)\b,? ?", re.IGNORECASE
)
_REMARK = re.compile(
    r", ?(?:in total|altogether|so|as|since|because|which|and we are done|as required|as desired)\b", re.IGNORECASE
)
# What a tokenizer writes at the end, where special tokens are not skipped.
_END_TOKEN = re.compile(r"(?:<\|[a-z_]{1,20}\|>|</s>)[ \t]{0,8}\Z")
_TAKES_BACK = re.compile(
    r"\A(?:or|no|wait|actually|alternatively|maybe|perhaps|hmm|sorry|oops|correction|i mean|i meant|rather|but)\b",
    re.IGNORECASE,
)
_DOUBT = re.compile(r"\b(?:or|not|no|maybe|perhaps|unless|but|wrong|wait)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The final answer as written (None if there is none), and every complete box outside the thinking part."""

    answer: str | None
    boxes: tuple[str, ...] = ()


def extract(response: str, style: str = "boxed") -> Extraction:
    """Find the final answer of a response in the given style, see `RewardConfig`."""
    text = visible(response, style)[-TAIL:]
    spans = box_spans(text)
    boxes = [text[start:end].strip() for _, start, end, _ in spans]
    full = [index for index, content in enumerate(boxes) if content.strip(_BLANK)]
    if full:
        return Extraction(_last_answer(text, spans, boxes, full), tuple(boxes[index] for index in full))
    answer = _tagged(text) or _bare(text) or _after_phrase(text)
    return Extraction(answer if answer and answer.strip(_BLANK) else None)


def visible(response: str, style: str = "boxed") -> str:
    """The part of a response that is neither thinking nor a program's output: after the last `</think>`, before a
    `<think>` left open."""
    _, closed, rest = without_tool_output(in_think_tags(response)).rpartition(CLOSE)
    if style == "think" and not closed:
        return ""
    return rest.partition(OPEN)[0]


def box_spans(text: str) -> list[tuple[int, int, int, int]]:
    r"""The complete outermost boxes as (start of `\boxed`, start of content, end of content, end), in one pass."""
    spans: list[tuple[int, int, int, int]] = []
    open_braces: list[tuple[bool, int, int]] = []
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind == "}":
            if not open_braces:
                continue
            is_box, start, content = open_braces.pop()
            if is_box:
                while spans and spans[-1][0] > start:  # boxes within this one
                    spans.pop()
                spans.append((start, content, token.start(), token.end()))
        elif kind == "{" or len(kind) > 2:
            open_braces.append((kind != "{", token.start(), token.end()))
    return spans


def _last_answer(text: str, spans: list, boxes: list[str], full: list[int]) -> str:
    answers = [boxes[full[-1]]]
    for before, after in zip(full[-2::-1], full[:0:-1], strict=True):
        between = text[spans[before][3] : spans[after][0]]
        if len(between) > _LONGEST_JOINT or not _JOINS.search(between) or not _JOINT.match(between):
            break
        answers.append(boxes[before])
    answers = [_unwrap(answer) for answer in reversed(answers)]
    return ", ".join(dict.fromkeys(answers))


def _unwrap(content: str) -> str:
    r"""`\boxed{5}` -> `5`: a box that holds nothing but a box, once or twice. More is not meant."""
    for _ in range(2):
        spans = box_spans(content)
        if not spans or spans[0][0] != 0 or spans[0][3] != len(content):
            break
        content = content[spans[0][1] : spans[0][2]].strip()
    return content


def _tagged(text: str) -> str | None:
    """The content of the last `<answer>` tag with something in it."""
    end = len(text)
    while (end := text.rfind("</answer>", 0, end)) >= 0:
        start = text.rfind("<answer>", 0, end)
        before = text.rfind("</answer>", 0, end)
        if start < 0:
            return None
        if start > before:
            content = text[start + len("<answer>") : end].strip()
            if content:
                return _without_words(content)
    return None


def _bare(text: str) -> str | None:
    r"""What follows a `\boxed` without braces."""
    ends = deque((box.end() for box in _BARE_BOX.finditer(text)), maxlen=1)
    return _sentence(text[ends[0] : ends[0] + _LONGEST_PHRASE].partition("\n")[0]) if ends else None


def _after_phrase(text: str) -> str | None:
    r"""What follows the last "answer is": all of its sentence, so that `$204$ million` and `$2$ or $3$` stay whole."""
    ends = deque((phrase.end() for phrase in _PHRASE.finditer(text)), maxlen=1)
    if not ends:
        return None
    lines = text[ends[0] : ends[0] + _LONGEST_PHRASE].strip(" *\t\n:").split("\n", 3)
    sentence = lines[0].strip()
    if sentence in ("\\[", "$$") and len(lines) > 1:
        sentence = lines[1].strip()
    return _sentence(sentence)


def _without_words(content: str) -> str:
    """An `<answer>` tag that says "The final answer is 5." says 5."""
    phrase = _PHRASE.search(content)
    return _sentence(content[phrase.end() :].strip(" *:")) or content if phrase else content


def _sentence(text: str) -> str | None:
    text = _MATH_SIGN.sub("", _END_TOKEN.sub("", text))
    end = _SENTENCE_END.search(text)
    rest = text[end.end() :].strip(" *\"'") if end else ""
    if not rest[:1].isdigit() and not _TAKES_BACK.match(rest):
        text = text[: end.start()] if end else text
    text = _OPENING.sub("", text.strip(" *"))
    remark = _REMARK.search(text)
    after = text[remark.end() :] if remark else ""
    if remark and not _DOUBT.search(after) and not any(map(str.isdigit, after)):
        text = text[: remark.start()]
    return text.strip(" *") or None


# No answer is a list of more boxes. They are not even compared.
MOST_BOXES = 50


def well_formed(response: str, extraction: Extraction, style: str) -> bool:
    """Whether the response follows `style`; `extraction` is what `extract` found in it."""
    response = in_think_tags(response)
    return (
        _boxes_agree(extraction)
        and _answer_tags_sound(visible(response, style)[-TAIL:])
        and (_reasoned_first(response) if style == "think" else _thinking_closed(response))
    )


def _boxes_agree(extraction: Extraction) -> bool:
    boxes = extraction.boxes
    if not boxes or any(len(text) > MAX_ANSWER for text in (*boxes, extraction.answer or "")):
        return False
    if len(set(boxes)) == 1:
        return True
    if len(set(boxes)) > MOST_BOXES:
        return False
    # Boxes joined into one list, "x = \boxed{3} or x = \boxed{5}", are one answer in two boxes.
    return len({key(box) for box in boxes}) == 1 or extraction.answer == ", ".join(dict.fromkeys(boxes))


def _answer_tags_sound(text: str) -> bool:
    opened, closed = text.count("<answer>"), text.count("</answer>")
    if opened == closed == 0:
        return True
    inside = text.partition("<answer>")[2].partition("</answer>")[0]
    return opened == closed == 1 and bool(inside.strip())


def _reasoned_first(response: str) -> bool:
    if response.count(CLOSE) != 1 or response.count(OPEN) > 1:
        return False
    reasoning = response.partition(CLOSE)[0].lstrip()
    if OPEN in response:
        if not reasoning.startswith(OPEN):
            return False
        reasoning = reasoning.removeprefix(OPEN)
    return bool(reasoning.strip())


def _thinking_closed(response: str) -> bool:
    return response.rfind(OPEN) <= response.rfind(CLOSE)
