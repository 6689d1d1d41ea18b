r"""Step 1: find the final answer in a response.

What counts, in this order: the last complete, non-empty `\boxed{}`; the last `<answer>` tag; what
follows the last "answer is", "answer:" or "####". Nothing inside the thinking part counts. Boxes with no more than a
comma or an "and" between them are one answer, so `\boxed{3}, \boxed{5}` gives the list `3, 5`.

The thinking part ends at the last `</think>`. Where a response is to think first ("think") and has none, it is all
thinking: the prompt may have opened it, and a draft in a box is no answer.
"""

import re
from collections import deque
from dataclasses import dataclass

# A final answer stands at the end: only this many characters are searched, whatever the response's length.
TAIL = 1 << 16

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
# Between two boxes that are one answer. Longer gaps are not read.
_JOINT = re.compile(
    r"\A(?:[\s$,;&]|\\(?:[()\[\],;]|q(?:uad|quad)|text\{ ?(?:(?:and|or) ?)?\})"
    r"|(?<![a-zA-Z])(?:a(?:nd(?![a-zA-Z=])| ?=)|o(?:r(?![a-zA-Z=])| ?=)|[b-np-zA-Z] ?=))*\Z"
)
_LONGEST_JOINT = 200
_PHRASE = re.compile(r"\banswer\b(?:\*\*)?[ \t]*(?:is|:|=)(?:[ \t]*:)?(?:\*\*)?|^####", re.IGNORECASE | re.MULTILINE)
_LONGEST_PHRASE = 4000
_BLANK = " \t\n\r~$\\,;."
_MATH = re.compile(r"\A(?:\$([^$]+)\$|\\\(([^\\]*(?:\\[^)][^\\]*)*)\\\)|\\\[([^\\]*(?:\\[^\]][^\\]*)*)\\\])")
_SENTENCE_END = re.compile(r"\.(?:\s|\Z)|\bI hope\b")


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
    answer = _tagged(text) or _said(text)
    return Extraction(answer if answer and answer.strip(_BLANK) else None)


def visible(response: str, style: str = "boxed") -> str:
    """The part of a response that is not thinking: after the last `</think>`, before a `<think>` left open."""
    _, closed, rest = response.rpartition("</think>")
    if style == "think" and not closed:
        return ""
    return rest.partition("<think>")[0]


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
        if len(between) > _LONGEST_JOINT or not _JOINT.match(between):
            break
        answers.append(boxes[before])
    answers = [_unwrap(answer) for answer in reversed(answers)]
    return ", ".join(dict.fromkeys(answers))


def _unwrap(content: str) -> str:
    r"""`\boxed{5}` -> `5`: a box that holds nothing but a box, once or twice. Nobody means more."""
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
                return content
    return None


def _said(text: str) -> str | None:
    ends = deque((phrase.end() for phrase in _PHRASE.finditer(text)), maxlen=1)
    if not ends:
        return None
    said = text[ends[0] : ends[0] + _LONGEST_PHRASE].strip(" *\t\n").partition("\n")[0]
    math = _MATH.match(said)
    if math:
        return next(group for group in math.groups() if group).strip() or None
    return _SENTENCE_END.split(said, maxsplit=1)[0].strip(" *") or None
