"""Whether a text is caught in a loop. Pure, and in linear time whatever the text."""

import re
from collections import Counter
from collections.abc import Iterable

# A stretch of a text is a loop if one part is in it so often, one copy right behind the other:
REPEATS_OF_WORDS = 30  # if the part holds a word of two letters or more, or
REPEATS = 5  # if the stretch is long: a table of zeros is not
LONG = 300  # words
GRAM = 8  # words by which an earlier copy is found
LONGEST_WORD = 200  # characters; a text with longer ones is cut into pieces, so that a loop within them is seen
_PIECE = re.compile(r"\\[a-zA-Z]{1,16}|[^\W\d_]{1,8}|\w{1,8}|[^\w\s]")
_WORD = re.compile(r"(?<![\\a-zA-Z])[^\W\d_]{2}")  # commands of LaTeX are none


def repeats_itself(text: str) -> bool:
    """Whether the text has a stretch in which it repeats one part exactly, see the numbers above.

    One pass over the words: as long as each is equal to the one a period before, the stretch grows; where it is not,
    the distance to the last place with the same `GRAM` words before it is the next period.
    """
    words = text.split()
    if max(map(len, words), default=0) > LONGEST_WORD:
        words = _PIECE.findall(text)
    if not _may_loop(Counter(words).values()):
        return False
    grams = list(zip(*(words[start:] for start in range(GRAM)), strict=False))
    if len(grams) - len(set(grams)) < REPEATS_OF_WORDS - 1 - GRAM:  # the fewest copies that a loop has
        return False
    last: dict[tuple[str, ...], int] = {}  # where a gram was last, by its end
    period = length = 0
    for place, gram in enumerate(grams, start=GRAM):
        if period and words[place - 1] == words[place - 1 - period]:
            length += 1
            if length >= REPEATS * period and length >= LONG:
                return True
            if length >= REPEATS_OF_WORDS * period and _WORD.search(" ".join(words[place - period : place])):
                return True
        else:
            period = place - last[gram] if gram in last else 0
            length = period + GRAM if period else 0
        last[gram] = place
    return False


def _may_loop(counts: Iterable[int]) -> bool:
    """Whether words that come so often can be in a loop: in one, each comes as often as the part. Rules out most texts
    at little cost.
    """
    often = [count for count in counts if count >= REPEATS]
    return max(often, default=0) >= REPEATS_OF_WORDS or sum(often) >= LONG
