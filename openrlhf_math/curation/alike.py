r"""Whether two problems are one, by their forms.

    >>> from openrlhf_math.curation.normalise import form
    >>> compare(form("Find the domain of $f$."), form("Find the range of $f$.")).verdict
    'other'

Two problems are different if their numbers, symbols or brackets differ or come in another order, if a word is in
place of its opposite, if a bound or a negation is added, or if words have changed places. What is left are words for
other words. They are explained if they are spelling, grammar, synonyms of a list, or names; how many are not is
counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from rapidfuzz.distance import OSA, Indel, Levenshtein

from openrlhf_math.curation.normalise import Form, is_number, is_symbol

# Two texts of which a smaller share of the tokens agrees, in order, are never called the same.
LEAST_ALIKE = 0.7

# Words of which one instead of another makes another problem.
_OPPOSITES = [
    frozenset(group.split())
    for group in (
        "more less fewer",
        "most fewest least",
        "at-least at-most exactly",
        "largest smallest second-largest",
        "sum difference product quotient ratio remainder average number total",
        "even odd",
        "positive negative nonnegative nonpositive",
        "before after",
        "above below",
        "over under",
        "inside outside",
        "first last",
        "area perimeter circumference volume radius diameter circumradius inradius side diagonal height length width",
        "add subtract multiply divide",
        "added subtracted multiplied divided",
        "plus minus times",
        "increase decrease",
        "increased decreased",
        "increases decreases",
        "increasing decreasing",
        "mean median mode range variance",
        "domain range codomain",
        "arithmetic geometric harmonic",
        "left right",
        "up down",
        "with without",
        "all none some",
        "every no",
        "gave received",
        "faster slower",
        "older younger",
        "taller shorter",
        "longer shorter",
        "heavier lighter",
        "wider narrower",
        "earlier later",
        "day week month year hour minute second",
        "days weeks months years hours minutes seconds",
        "daily weekly monthly yearly",
        "prime composite",
        "rational irrational",
        "row column",
        "rows columns",
        "clockwise counterclockwise",
        "horizontal vertical",
        "parallel perpendicular",
        "numerator denominator",
        "square cube triangle circle rectangle hexagon pentagon octagon sphere cylinder cone",
        "integer integers real complex rational",
        "sine cosine tangent",
        "each total",
        "remaining used left",
        "percent times",
        "boys girls",
        "men women",
        "boy girl",
        "man woman",
        "won lost",
        "wins losses",
        "heads tails",
        "red blue green yellow white black orange purple",
        "long wide tall deep high",
        "length width height depth",
        "base height",
        "hypotenuse leg",
        "opposite adjacent",
        "acute obtuse right",
        "equilateral isosceles scalene",
        "concave convex",
        "concavity extrema monotonicity inflection",
        "maxima minima",
        "x-intercept y-intercept",
        "quotient remainder",
        "dividend divisor",
        "permutations combinations",
        "divisible indivisible",
        "divisors multiples factors",
        "ordered unordered",
        "distinct identical",
        "distinguishable indistinguishable",
        "same different",
        "same distinct",
        "replacement order",
        "open closed",
        "union intersection",
        "chord tangent secant",
        "altitude median bisector",
        "centroid orthocenter incenter circumcenter",
        "floor ceil",
        "north south east west",
        "morning afternoon evening night",
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april may june july august september october november december",
        "profit loss cost revenue",
        "income expense",
        "buyer seller",
        "full empty",
        "hot cold",
        "ascending descending",
        "forward backward",
        "start end",
        "beginning end",
        "top bottom",
        "front back",
        "inner outer",
        "internal external",
        "interior exterior",
        "minimum maximum",
        "upper lower",
        "encrypt decrypt",
        "encode decode",
        "import export",
        "true false",
        "correct incorrect",
        "necessary sufficient",
        "and or",
        "either both neither",
        "units tens hundreds thousands",
        "longest shortest middle",
        "tallest shortest",
        "oldest youngest",
        "heaviest lightest",
        "fastest slowest",
        "nearest farthest closest furthest",
        "widest narrowest",
        "best worst",
        "interior exterior face space",
        "surface lateral base",
        "both only neither",
        "factor exceed",
        "faces edges vertices sides diagonals",
        "probability odds",
        "average altogether",
        "average total",
    )
]
# In a story any word of one line may be put for another of it, none for one of the other line.
_GAINING = "gains gets finds buys receives earns wins found bought got earned won"
_LOSING = "loses gives sells spends donates lost gave sold spent donated"
_OPPOSITES += [frozenset(pair) for pair in product(_GAINING.split(), _LOSING.split())]
_OPPOSED = {
    word: frozenset().union(*(group for group in _OPPOSITES if word in group)) - {word}
    for word in frozenset().union(*_OPPOSITES)
}
# A prefix that turns a word around, and prefixes of which one instead of another does: in-scribed, circum-scribed.
_TURNING = ("un", "in", "im", "ir", "non", "dis", "anti", "counter")
_PREFIXES = (
    "in circum de en ex im sub super over under inter intra pre post up down out hypo hyper mono multi bi tri quad con "
    "di mini maxi semi fore".split()
)
_NEGATIONS = "not no never cannot isn't aren't don't doesn't didn't can't won't nor neither without none nothing"
_NEGATIONS = frozenset(_NEGATIONS.split())
# What bounds or restricts: one more or less makes another problem.
_BOUNDS = frozenset(
    "at-least at-most exactly odd even prime composite positive negative nonnegative nonpositive nonzero distinct "
    "rational irrational consecutive ordered square squared cube cubed double triple reciprocal absolute twice".split()
)
_UNITS = frozenset(
    "centimeters meters kilometers millimeters inches feet yards miles grams kilograms pounds ounces liters "
    "milliliters gallons seconds minutes hours days weeks months years dollars cents euros degrees radians "
    "acres".split()
)

# Words that carry grammar or courtesy: one for another, one more or one less changes nothing.
_GRAMMAR = frozenset(
    "the of is are was were be been being to in on at by for from with and that which who whom whose this these those "
    "it its "
    "he she they his her their them him we our us you your i'm let's there here then thus so as if when where while "
    "since "
    "because does do did has have had will would could should can may might also just only now today please find what "
    "how "
    "many much value answer following suppose assume let given consider denote denoted such into onto per each a an "
    "one's "
    "altogether together still all whole itself himself herself themselves during upon about possible expressed "
    "express "
    "solve problem question show determine compute calculate what's is's called named known written write form like "
    "some "
    "any both respectively but however moreover hence therefore get gets got terms term simplest number total "
    "amount".split()
)
_SYNONYMS = {
    other: line.split()[0]
    for line in (
        "buy buys bought purchase purchases purchased",
        "child children kid kids",
        "begin begins began start starts started starting beginning commence",
        "receive receives received get gets got obtains obtained",
        "money cash",
        "large big huge",
        "small little tiny",
        "require requires required need needs needed",
        "want wants wanted wish wishes wished",
        "cost costs price priced prices",
        "make makes made produce produces produced",
        "own owns owned possess possesses has have had",
        "everyday daily",
        "person people individual individuals man",
        "student students pupil pupils",
        "mother mom mum mama",
        "father dad papa",
        "pick picks picked choose chooses chose chosen select selects selected",
        "remain remains remaining left",
        "finish finishes finished end ends ended complete completes completed",
        "total altogether all",
        "automobile car cars automobiles",
        "store shop stores shops",
        "roll rolls rolled throw throws thrown threw toss tosses tossed flip flips flipped",
        "die dice",
        "natural whole",
        "satisfying satisfy satisfies",
        "equal equals",
        "remove removes removed",
        "give gives gave given hand hands handed",
        "divide divides divided split splits",
        "biggest largest",
        "different distinct",
        "similarly likewise",
        "entire whole",
        "collect collects collected gather gathers gathered",
        "speed velocity rate",
        "journey trip",
        "bicycle bike bicycles bikes",
        "flower flowers",
        "combine combined",
        "additional more extra further another",
        "every each",
        "real",
        "integer integers",
        "sides side",
        "randomly random",
        "probability chance likelihood",
        "altogether overall",
        "quickly fast",
        "return returns returned",
        "travel travels traveled travelled",
        "walk walks walked",
        "spend spends spent pay pays paid",
        "bake bakes baked cook cooks cooked",
        "friend friends buddy buddies pal pals",
        "arrive arrives arrived reach reaches reached",
        "evaluate compute",
        "prove show",
    )
    for other in line.split()
}
_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "'s")


_MOST_WORDS = 40  # of two texts that are looked at for slips; with more they are not alike


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two problems compare.

    verdict: "exact", "same" (all differences are explained), "near" (some words are not), "other" (two problems).
    likeness: 2 LCS / (n + m) of the tokens, 0 to 1. unexplained: words in place of others, or added.
    """

    verdict: str
    likeness: float = 0.0
    unexplained: int = 0


OTHER = Comparison("other")


def compare(first: Form, second: Form) -> Comparison:
    """Compare two whole problems. Options and drawings, where both have them, must be the same."""
    if first.options and second.options and first.options != second.options:
        return OTHER
    if first.drawing and second.drawing and first.drawing != second.drawing:
        return OTHER
    return compare_tokens(first.tokens, second.tokens, first.names, second.names)


def compare_tokens(
    first: Sequence[str],
    second: Sequence[str],
    first_names: frozenset[str] = frozenset(),
    second_names: frozenset[str] = frozenset(),
) -> Comparison:
    """As `compare`, of the tokens alone. Texts without any token are two problems."""
    if first == second:
        return Comparison("exact", 1.0) if first else OTHER
    if structure(first) != structure(second):
        return OTHER
    likeness = Indel.normalized_similarity(first, second)
    if likeness < LEAST_ALIKE:
        return OTHER
    unexplained = count_unexplained(first, second, first_names, second_names)
    if unexplained is None:
        return OTHER
    return Comparison("near" if unexplained else "same", likeness, unexplained)


def count_unexplained(
    first: Sequence[str],
    second: Sequence[str],
    first_names: frozenset[str] = frozenset(),
    second_names: frozenset[str] = frozenset(),
) -> int | None:
    """How many words in place of others, or added, are not explained; None if the words are those of two problems."""
    if opposed(first, second):
        return None
    if changed_places(first, second):
        return None
    unexplained = 0
    for (start, stop), (other_start, other_stop) in replaced(first, second):
        ours, theirs = first[start:stop], second[other_start:other_stop]
        left, added = _unexplained(ours, theirs, first_names, second_names, first, second)
        if any(word in second for word in left) and any(word in first for word in added):
            return None  # words have changed places
        if len(left) == len(added) == 1:
            if left[0] in second or added[0] in first:
                return None  # the question is for another of the things that are there
            if left[0] in _UNITS and added[0] in _UNITS and not (start and is_number(first[start - 1])):
                return None  # it is for the same thing in another unit
        unexplained += max(len(left), len(added))
    return unexplained


def changed_places(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether what is done with two numbers, or what they count, has changed places.

    As in "finds 1, sells 3" and "sells 1, finds 3", or "3 pens and a book" and "a pen and 3 books".
    """
    ours, theirs = _done(first), _done(second)
    if len(ours) != len(theirs):
        return False
    if any(words_opposed(Counter(one), Counter(other)) for one, other in zip(ours, theirs, strict=True)):
        return True
    pairs = zip(_counted(first), _counted(second), strict=True)
    changed = [(one, other) for one, other in pairs if one and other and not _alike(one, other)]
    return any(
        any(_alike(one, word) for word in second) and any(_alike(other, word) for word in first)
        for one, other in changed
    )


def _done(tokens: Sequence[str]) -> list[Sequence[str]]:
    """The two words before each number."""
    return [tokens[max(place - 2, 0) : place] for place, one in enumerate(tokens) if is_number(one)]


def _counted(tokens: Sequence[str]) -> list[str]:
    """The word right behind each number, "" if it is no content word."""
    after = (tokens[place + 1] if place + 1 < len(tokens) else "" for place, one in enumerate(tokens) if is_number(one))
    return [word if word and is_content(word) else "" for word in after]


def numbers(tokens: Iterable[str]) -> tuple[str, ...]:
    """The numbers of a problem in their order."""
    return tuple(token for token in tokens if is_number(token))


def structure(tokens: Iterable[str]) -> tuple[str, ...]:
    """Numbers, symbols and brackets in their order."""
    return tuple(token for token in tokens if is_number(token) or is_symbol(token))


def replaced(first: Sequence[str], second: Sequence[str]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The runs of tokens in which two lists differ: (start and stop in the first, start and stop in the second)."""
    found = []
    for tag, start, stop, other_start, other_stop in Levenshtein.opcodes(first, second):
        if tag == "equal":
            continue
        if found and found[-1][1] == start and found[-1][3] == other_start:
            found[-1] = (found[-1][0], stop, found[-1][2], other_stop)
        else:
            found.append((start, stop, other_start, other_stop))
    return [((start, stop), (other, end)) for start, stop, other, end in found]


def opposed(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether a word is in place of its opposite, or a negation or a bound is in one of the two alone."""
    ours, theirs = Counter(first), Counter(second)
    ours, theirs = ours - theirs, theirs - ours
    for word in list(ours) if len(ours) <= _MOST_WORDS and len(theirs) <= _MOST_WORDS else ():
        other = next((other for other in theirs if is_content(word) and _alike(word, other)), None)
        if other is not None:
            shared = min(ours[word], theirs[other])
            ours -= Counter({word: shared})
            theirs -= Counter({other: shared})
    if any(word in _BOUNDS for word in (*ours, *theirs)):
        return True
    if sum(ours[word] for word in _NEGATIONS) != sum(theirs[word] for word in _NEGATIONS):
        return True
    return words_opposed(ours, theirs)


def words_opposed(ours: Counter[str], theirs: Counter[str]) -> bool:
    """Whether a word of the one is the opposite of a word of the other."""
    if not ours or not theirs:
        return False
    if any(not theirs.keys().isdisjoint(_OPPOSED.get(word, ())) for word in ours):
        return True
    return any(_turned(one, other) for one in ours for other in theirs if len(one) > 4 and len(other) > 4)


def _turned(one: str, other: str) -> bool:
    """`shaded` and `unshaded`, `inscribed` and `circumscribed`."""
    if one[-3:] != other[-3:]:
        return False
    for prefix in _TURNING:
        if one == prefix + other or other == prefix + one:
            return True
    for prefix in _PREFIXES:
        if one.startswith(prefix) and len(rest := one[len(prefix) :]) >= 3:
            for another in _PREFIXES:
                if prefix != another and other == another + rest:
                    return True
    return False


def is_content(token: str) -> bool:
    """Whether a token is a word that says what a problem is about."""
    return not (is_number(token) or is_symbol(token) or token in _GRAMMAR or not token[0].isalnum())


def is_negation(token: str) -> bool:
    """Whether a word turns a sentence around."""
    return token in _NEGATIONS


def stem(word: str) -> str:
    """A word without its ending, synonyms as one."""
    word = _SYNONYMS.get(word, word)
    for ending in ("ing", "ies", "ied", "es", "ed", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _unexplained(
    ours: Sequence[str],
    theirs: Sequence[str],
    our_names: frozenset[str],
    their_names: frozenset[str],
    first: Sequence[str],
    second: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Of words in place of others: those that are not synonyms, grammar, endings or names."""
    left, added = [word for word in ours if is_content(word)], [word for word in theirs if is_content(word)]
    for word in list(left):
        match = next((other for other in added if _alike(word, other)), None)
        if match is not None:
            left.remove(word)
            added.remove(match)
    renamed = [word for word in left if word in our_names and word not in second]
    names = [word for word in added if word in their_names and word not in first]
    if renamed and names:
        left = [word for word in left if word not in renamed]
        added = [word for word in added if word not in names]
    return left, added


def _alike(word: str, other: str) -> bool:
    """One word in two forms, with a slip of one letter, or two synonyms."""
    if word == other or _SYNONYMS.get(word, word) == _SYNONYMS.get(other, other):
        return True
    short, long = sorted((word, other), key=len)
    if (
        len(short) >= 3
        and long.startswith(short[:-1] if short[-1] in "ey" else short)
        and (long[len(short) :] in _ENDINGS or long[len(short) - 1 :] in ("ing", "ies", "ied", "ed"))
    ):
        return True
    if len(short) < 4 or word[0] != other[0]:
        return False
    slips = OSA.distance(word, other, score_cutoff=2)
    return slips == 1 and (len(short) >= 7 and word[-1] == other[-1] or sorted(word) == sorted(other))
