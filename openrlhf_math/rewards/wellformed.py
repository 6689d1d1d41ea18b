r"""Step 2: is the response in the format that was asked for?

"boxed":

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

from openrlhf_math.rewards.extract import TAIL, Extraction, visible
from openrlhf_math.rewards.notation import MAX_ANSWER, key
from openrlhf_math.rewards.thinking import CLOSE, OPEN, in_think_tags

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
