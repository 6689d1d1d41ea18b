r"""Text around a problem that is not part of it: markup, numbering, points, source, options, drawings, instructions.

>>> strip("Example 3 (2019 AIME) Find $x$. (5 points)").text
'Find $x$.'
"""

import html
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stripped:
    """text: the problem. options: of a multiple choice, in order. drawing: the code of its figures, "" for none."""

    text: str
    options: tuple[str, ...] = ()
    drawing: str = ""


# Markup ---------------------------------------------------------------------------------------------------------------

# LaTeX's commands that begin with n: any other `\n` is the end of a line that was escaped once too often.
_N_COMMANDS = (
    "ne|neq|neg|nu|nabla|not|notin|ni|nmid|nexists|nleq|ngeq|ncong|nparallel|nsubseteq|natural|nearrow|nwarrow|nolimits"
    "|nonumber|noindent|newline|normalsize|nobreak|nless|ngtr|nsim|nprec|nsucc|nsubset|nsupset|newcommand"
)
_LINE_END = re.compile(rf"(?<!\\)\\n(?!(?<=n)(?:{_N_COMMANDS.replace('|n', '|')[1:]})(?![a-zA-Z]))")
_BACKSLASHES = re.compile(r"(\\{1,8})(?=[a-zA-Z(\[])")
_TAG = re.compile(
    r"<(/?)(p|br|div|span|b|i|em|strong|u|s|sup|sub|ul|ol|li|h[1-6]|table|tr|td|th|tbody|thead|center|font|img|a|hr"
    r"|code|pre|small|big)(?![a-zA-Z0-9])[^<>]{0,300}>",
    re.I,
)
_MARKED_UP = re.compile(r"</[a-zA-Z]|<(?:br|p|img|hr|li|div)\b|&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});", re.I)
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_PROPOSED = re.compile(r"\[i\]\s{0,4}(?:proposed|submitted|suggested) by[^\[\]]{1,80}\[/i\]", re.I)
_FORUM_IMAGE = re.compile(r"\[img[^\[\]]{0,40}\][^\[\]]{0,300}\[/img\]", re.I)
_STRETCHED = re.compile(r"\\(?:left|right)(?=[()\[\]|])")
# `*regular*` and `**find**`; a product has no words of three letters.
_EMPHASIS = re.compile(r"(?<![\w\\*)}])\*{1,3}([A-Za-z][^*\n$]{0,80}?)\*{1,3}(?![\w*({])")
_QUOTED = re.compile(r"^[ \t]{0,4}>[ \t]", re.M)
_PROMPT_HEADINGS = re.compile(
    r"#{2,4}\s{0,4}(?:Instruction|Response|Input|Problem|Question|Assistant|User)\s{0,4}:?\s{0,4}$",
    re.I | re.M,
)
_FORUM_TAG = re.compile(r"\[/?(?:b|i|u|hide|quote|center|size|color|list|url)\]", re.I)
_IMAGE = re.compile(r"!\[[^\[\]]{0,64}\]\([^()\s]{0,300}\)")
_BLOCKS = (
    ("[asy]", "[/asy]"),
    ("<asy>", "</asy>"),
    (r"\begin{asy}", r"\end{asy}"),
    (r"\begin{tikzpicture}", r"\end{tikzpicture}"),
    (r"\begin{center}[asy]", r"[/asy]\end{center}"),
)


def _without_markup(text: str) -> str:
    if "[/" in text:
        text = _FORUM_TAG.sub("", _FORUM_IMAGE.sub(" ", _PROPOSED.sub(" ", text)))
    if "###" in text:
        text = _PROMPT_HEADINGS.sub("", text)
    if "\\" in text:
        text = _LINE_END.sub("\n", text)
        runs = [len(run) for run in _BACKSLASHES.findall(text)]
        if runs and all(run % 2 == 0 for run in runs):
            text = _LINE_END.sub("\n", text.replace("\\\\", "\\"))
    if "\\left" in text:
        text = _STRETCHED.sub("", text)
    if "*" in text:
        text = _EMPHASIS.sub(lambda found: found[1] if _NAME.search(found[1]) else found[0], text)
    if ">" in text:
        text = _QUOTED.sub("", text)
    if ("<" in text or "&" in text) and _MARKED_UP.search(text):
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), _TAG.sub(_untagged, text))
    return _IMAGE.sub(" ", text) if "![" in text else text


def _untagged(found: re.Match) -> str:
    closes, name = found[1], found[2].lower()
    if name in ("sup", "sub"):
        return "}" if closes else "^{" if name == "sup" else "_{"
    return "\n" if name in ("p", "br", "div", "li", "tr", "hr", "ul", "ol", "table") else " " if name == "td" else ""


def _without_drawings(text: str) -> tuple[str, str]:
    drawings = []
    for opening, closing in _BLOCKS:
        while (start := text.find(opening)) >= 0 and (stop := text.find(closing, start)) >= 0:
            drawings.append(text[start + len(opening) : stop])
            text = text[:start] + " " + text[stop + len(closing) :]
    return text, "\n".join(drawings)


# Before and after -----------------------------------------------------------------------------------------------------

_NUMBER = r"(?:[A-Z]{0,2}[-.]?\d{1,4}(?:[.-]\d{1,4}){0,3}[a-z]?|[IVX]{1,5})"
_POINTS = (
    r"[(\[]\s{0,3}(?:this (?:question|problem) is worth |total )?\d{1,3}\s{0,3}(?:points?|pts?\.?|marks?|minutes?|分)"
    r"(?: each| in total)?\s{0,3}[)\]]"
)
_BEFORE = re.compile(
    r"\A(?:[*#]{1,4}\s{0,3})?(?:"
    rf"(?i:problem|example|exercise|question|task|prob|ex|no|item|q)\.?\s{{0,3}}(?:(?i:no\.?|nr\.?|number)|\#)?\s{{0,3}}{_NUMBER}"
    r"\s{0,3}(?:[.:)](?:\*\*)?|\n|\*\*|(?=[\[(])|(?=\s[A-Z$\\\[(])|(?<=\s)(?=[A-Z$\\\[(]))"
    r"|(?i:problem|example|exercise|question|task|q)\s{0,3}(?:\*\*)?(?::(?:\*\*)?|\.\s(?=\s{0,3}[A-Z$\\\[(*])|\n)"
    r"|(?i:for|in) (?i:exercise|problem) \d{1,4}[,:]"
    r"|(?:One|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|Eleven|Twelve)[.,]\s{0,3}(?=[(\[]\s{0,3}\d{1,3}\s{0,3}(?:points|marks))"
    r"|[(\[]?\d{1,4}(?:[.-]\d{1,4}){0,3}\s?[*★☆]{0,3}(?:[.)\]、]\s?[*★☆]{0,3}\s{1,9}(?=[A-Za-z$\\(\[*])|[.)](?=[A-Z$\\(\[*]))"
    r"|[(\[](?:[IVX]{1,4}|[a-hA-H])[)\]]\s{1,9}(?=[A-Z$\\(\[])|(?:[IVX]{1,4}|[A-Z]\d{1,2})[.)]\s{1,9}(?=[A-Z$\\(\[])"
    rf"|\d{{1,4}}\s{{1,3}}(?={_POINTS})|\#\s?\d{{1,4}}[.:)]?\s{{1,9}}|p\d{{1,3}}\.\s{{1,9}}|\d{{1,3}}[・·]\d{{1,3}}\s{{1,9}}|(?i:{_POINTS})[.:]?"
    r")"
)
_BRACKETS = re.compile(r"\A[*\\]{0,2}[(\[]([^()\[\]]{3,120})[)\]][*.:]{0,3}")
_LAST_BRACKETS = re.compile(r"[(\[]([^()\[\]]{3,120})[)\]]\.?\s{0,99}\Z")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_CONTEST = re.compile(
    r"\b(?:AIME|AMC|AHSME|AJHSME|HMMT|IMO|USAMO|USAJMO|Putnam|BMO|SMT|PUMaC|CMIMC|BMT|APMO|ISL|MATHCOUNTS|Gaokao|JBMO|EGMO"
    r"|Olympiad|Competition|Contest|Tournament|League|AoPS|Cup|Examination|Exam)\b"
)
_NAME = re.compile(r"[^\W\d_]{3}")
_CONTEST_FIRST = re.compile(
    r"\A(?=(?:\S{1,20}\s){0,3}(?:19|20)\d\d\b)(?=[^\n.:]{0,60}(?:AIME|AMC|AHSME|HMMT|IMO|USAMO|Putnam|BMO|SMT|Problem|#))"
    r"[^\n.:]{0,60}(?:[:.]\s|\n)"
)
_POINTS_LAST = re.compile(rf"(?i:{_POINTS})\.?\s{{0,99}}\Z")
_CUE_FIRST = re.compile(r"(?:(?<=\n)|(?<=[.:$] ))(?:Problem|Question)\s?(?:\*\*)?:\s")
_CUE_LAST = re.compile(r"(?:\n|\s)(?:[#*]{1,4}\s?)?(?:Answer|Solution|Assistant|A)\s?(?:\*\*)?:(?:\*\*)?\s{0,99}\Z")
_FIRST_SENTENCES = (re.compile(r"\A[^.:?\n]{1,200}:"), re.compile(r"\A[^.:?\n]{1,300}[.?\n]"))
_SENTENCE_END = re.compile(r"[.?!:}$)][\"'$*)]{0,3}\s{1,9}(?=[A-Z(\\$*<])|\n{1,9}")
_INSTRUCTION = re.compile(
    r"step[ -]by[ -]step|\\boxed|\bboxed\s?\{|\banswer\b[^.\n]{0,30}\bin a box\b"
    r"|\bshow (?:all |me )?(?:of )?(?:your|the) (?:work|steps)|\bexplain your (?:reasoning|answer|work)"
    r"|\byour (?:reasoning|response)\b|<answer>|<think>|\bput your (?:final )?answer\b"
    r"|\bfinal answer (?:within|inside|in|only|after|between|on)\b|\b(?:give|state) (?:only )?the final answer\b"
    r"|\banswer on its own line\b|\byou are an? (?:helpful|expert)\b|\bdescribes a task\b"
    r"|\A\W{0,3}(?:please )?(?:give|express|write|enter|provide|report|state) (?:your|the) (?:final )?answers?\b",
    re.I,
)
# Instructions in a sentence without a number; with one it is a story: "He can solve a problem every 2 minutes".
_MAYBE_INSTRUCTION = re.compile(
    r"\b(?:solve|answer|consider|work out|here is|read) (?:the |this |a )?(?:following )?"
    r"(?:math(?:s|ematics|ematical)? )?"
    r"(?:problem|question|task|following)\b(?! (?:of|in|for (?!you\b)|where|about))"
    r"|\bthink carefully\b",
    re.I,
)
_AMOUNT = re.compile(r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|half|twice|third|quarter)\b", re.I)
# One of these is in every text that is an instruction; looking for them costs a tenth of it.
_INSTRUCTION_WORDS = (
    "step by step", "step-by-step", "box", "show", "your", "answer", "<think>", "you are a", "solve", "consider",
    "work out", "here is", "read", "think carefully", "describes a task",
)  # fmt: skip
_CONDITION = re.compile(r"[<>]|\\[lg]e(?:q|qslant)?(?![a-zA-Z])|[≤≥]|\bwhere\b")


def _without_ends(text: str) -> str:
    """Without what comes before a problem and after it, in any order and number up to a bound."""
    lower = text[:600].lower() + "\n" + text[-600:].lower()
    instructs = any(word in lower for word in _INSTRUCTION_WORDS)
    if instructs and (found := _CUE_FIRST.search(text, 0, 2000)) and _instructs(text[: found.start()]):
        text = text[found.end() :]
    for _ in range(6):
        before = text = text.lstrip()
        if found := _before(text, instructs):
            text = text[found.end() :]
        if text == before:
            break
    for _ in range(6):
        before = text
        text = text.rstrip()
        if (
            (found := _POINTS_LAST.search(text, max(0, len(text) - 80)))
            or (found := _CUE_LAST.search(text, max(0, len(text) - 40)))
            or (found := _LAST_BRACKETS.search(text, max(0, len(text) - 130)))
            and _is_source(found[1])
        ):
            text = text[: found.start()]
        elif instructs:
            ends = [found.end() for found in _SENTENCE_END.finditer(text, max(0, len(text) - 600))]
            for end in ends[:-3:-1]:
                if _instructs(text[end:]) and not _CONDITION.search(text[end:]):
                    text = text[:end]
                    break
        if text.rstrip() == before.rstrip():
            break
    return text.strip()


def _before(text: str, instructs: bool) -> re.Match | None:
    """What is in front of a problem: its number or points, its source, a sentence that asks to solve it."""
    if found := _BEFORE.match(text):
        return found
    if (found := _BRACKETS.match(text)) and _is_source(found[1]):
        return found
    if found := _CONTEST_FIRST.match(text):
        return found
    sentences = map(_instruction_first, _FIRST_SENTENCES, (text, text)) if instructs else ()
    return next((one for one in sentences if one), None)


def _instruction_first(pattern: re.Pattern, text: str) -> re.Match | None:
    found = pattern.match(text)
    return found if found and found.end() < len(text.rstrip()) and _instructs(found[0]) else None


def _instructs(text: str) -> bool:
    return bool(_INSTRUCTION.search(text) or _MAYBE_INSTRUCTION.search(text) and not _AMOUNT.search(text))


def _is_source(inside: str) -> bool:
    """Whether brackets at an end of a problem name where it is from: a contest, or a year with a name."""
    if _CONTEST.search(inside):
        return True
    return bool(_YEAR.search(inside) and _NAME.search(inside)) and not any(sign in inside for sign in "=+<>?")


# Options --------------------------------------------------------------------------------------------------------------

_OPTION = re.compile(
    r"(?:\\(?:textbf|text|mathrm|mathbf|textrm|rm|bf)\s{0,3}\{?\s{0,3}|(?<=\s)|(?<=[$}~,;.])|\A)"
    r"(?:\(([A-H])\)|([A-H])\)|([A-H])\.|([A-H]):)(?:\s{0,3}\})?(?=[\s\\$~}]|[^\W_])"
)


def _without_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Options are three letters or more from A on, in order and in one style; the problem ends before them."""
    runs: dict[int, list[re.Match]] = {}
    best: list[re.Match] = []
    for found in _OPTION.finditer(text):
        style = found.lastindex or 0
        letter = found[style]
        run = runs.get(style, [])
        if letter == "A":
            runs[style] = [found]
        elif run and ord(letter) == ord("A") + len(run):
            run.append(found)
            if len(run) >= 3 and len(run) >= len(best):
                best = run
    if not best:
        return text, ()
    ends = [one.start() for one in best[1:]] + [len(text)]
    options = tuple(text[one.end() : end] for one, end in zip(best, ends, strict=True))
    return (text[: best[0].start()], options) if text[: best[0].start()].strip() else (text, ())


def strip(text: str) -> Stripped:
    """Linear in the length of the text."""
    text = _without_markup(text)
    text, drawing = _without_drawings(text)
    text = _without_ends(text)
    text, options = _without_options(text)
    if options:
        text = _without_ends(text)
    return Stripped(text, options, drawing)
