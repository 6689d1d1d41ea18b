r"""The form of a problem that is compared: a list of tokens in which spelling is taken away and structure is kept.

    >>> tokens(r"Find $\dfrac{x+1}{2}$ of twenty-five.") == tokens("compute (x+1)/2 of 25")
    True
    >>> tokens(r"$\sqrt{x+1}$"), tokens(r"$\sqrt{x}+1$")
    (['sqrt', '(', 'x', '+', '1', ')'], ['sqrt', 'x', '+', '1'])

Numbers are written in digits; LaTeX, Unicode and plain ASCII in one way; words in lower case. The braces of exponents,
roots, fractions and binomials become parentheses, and parentheses that change nothing go. What carries no meaning
(articles, dollar signs, sentence marks, grouping braces) is left out. Nothing here judges; `alike` does.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from openrlhf_math.curation.number_words import in_digits
from openrlhf_math.curation.surroundings import strip

# Spelling -------------------------------------------------------------------------------------------------------------

_SIGNS = {
    **dict.fromkeys("−‐‑–﹣－", "-"), **dict.fromkeys("—―", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""), **dict.fromkeys("\u00a0\u2009\u202f", r"\,"),
    "×": "*", "⋅": "*", "·": "*", "∙": "*", "∗": "*", "÷": "/", "∕": "/", "⁄": "/", "≤": "<=", "⩽": "<=", "≥": ">=",
    "⩾": ">=", "≠": "!=", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "∛": r"\cbrt ", "∞": r"\infty ", "∠": r"\angle ",
    "∡": r"\angle ", "△": r"\triangle ", "∆": r"\triangle ", "∈": r"\in ", "∉": r"\notin ", "°": " degrees ",
    "º": " degrees ", "…": "...", "⋯": "...", "’": "'", "‘": "'", "′": "'", "″": "''", "“": '"', "”": '"',
    "¢": " cents ", "€": " euros ", "£": " pounds ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "∪": r"\cup ",
    "∩": r"\cap ", "⊂": r"\subset ", "⊆": r"\subseteq ", "∅": r"\emptyset ", "→": r"\to ", "⟶": r"\to ", "⇒":
    r"\implies ",
    "≡": r"\equiv ", "≅": r"\cong ", "≈": r"\approx ", "∼": r"\sim ", "⊥": r"\perp ", "∥": r"\parallel ", "∣": "|",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∀": r"\forall ", "∃": r"\exists ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "∂": r"\partial ", "ℓ": "l", "⟨": r"\langle ",
    "⟩": r"\rangle ", "∧": r"\wedge ", "∨": r"\vee ", "⊕": r"\oplus ", "∘": r"\circ ", "⋆": r"\star ", "★": r"\star ",
}  # fmt: skip
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega"
).split()
_SIGNS |= {
    unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if name == 'lambda' else name.upper()}"): rf"\{name} "
    for name in _GREEK
}
_SIGNS |= {  # fmt: skip
    "Γ": r"\Gamma ",
    "Δ": r"\Delta ",
    "Θ": r"\Theta ",
    "Λ": r"\Lambda ",
    "Π": r"\Pi ",
    "Σ": r"\Sigma ",
    "Φ": r"\Phi ",
    "Ψ": r"\Psi ",
    "Ω": r"\Omega ",
    "ϕ": r"\phi ",
    "ε": r"\epsilon ",
    "ϵ": r"\epsilon ",
}
_SIGNS = str.maketrans(_SIGNS)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖᵢⱼₐₓ]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:(?:\\[,! ]|\{,\}|,(?:\\!)?)\d{3}){1,9}(?!\d)")
_NOT_DIGITS = re.compile(r"\D+")
_DIGIT_ARGUMENT = re.compile(r"\s{0,4}\{?\d")
_CAPITALS = re.compile(r"[A-Z]{3,40}")
_SMALL = re.compile(r"[a-z]{3}")
_NO_COMMANDS = re.compile(r"\\[a-zA-Z]+|\$[^$]{0,200}\$")
_POSSESSIVE = re.compile(r"\s?'s\b|(?<=s)'(?=\s)")

_LEXEMES = re.compile(
    r"(?P<environment>\\begin\s{0,4}\{[^{}]{0,40}\}(?:\{[|lcr\s]{0,40}\})?|\\end\s{0,4}\{[^{}]{0,40}\})"
    r"|(?P<command>\\[a-zA-Z]+)"
    r"|(?P<escaped>\\.)"
    r"|(?P<number>\d+(?:(?:st|nd|rd|th)\b|\.\d+)?|\.\d+)"
    r"|(?P<word>[^\W\d_]+(?:'[a-zA-Z]+)?)"
    r"|(?P<sign><=|>=|!=|==|=<|=>|\.\.\.+|\.\s\.\s\.|'+|-+|\n(?=[ \t]{0,8}-[ \t])|\*\*\*?|[+*/=<>^!()\[\]{}|_$%,&])",
    re.DOTALL,
)

# LaTeX's many spellings of one thing. What is not here keeps its name.
_COMMANDS = {
    **dict.fromkeys("dfrac tfrac cfrac".split(), "frac"), **dict.fromkeys("dbinom tbinom".split(), "binom"),
    **dict.fromkeys("cdot times ast".split(), "*"), "div": "/", **dict.fromkeys("le leq leqslant leqq".split(), "<="),
    **dict.fromkeys("ge geq geqslant geqq".split(), ">="), **dict.fromkeys("ne neq".split(), "!="),
    "lt": "<", "gt": ">",
    **dict.fromkeys("ldots cdots dots dotsc dotsb dotsm vdots".split(), "..."),
    **dict.fromkeys("lvert rvert vert mid lVert rVert Vert".split(), "|"),
    **dict.fromkeys("circ degree".split(), "degrees"),
    "prime": "'", "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "infty": "infinity", "lbrack": "[",
    "rbrack": "]", "lparen": "(", "rparen": ")", "pmod": "mod", "bmod": "mod", "rightarrow": "to", "longrightarrow":
    "to",
    "mapsto": "to", "land": "and", "lor": "or", "colon": ":", "sp": "^", "sb": "_", "setminus": "minus", "lg": "log",
    "newline": "\n", "par": "\n",
}  # fmt: skip
_NOTHING = frozenset(
    "left right big Big bigl bigr bigg Bigg bigm Bigl Bigr biggl biggr middle displaystyle textstyle scriptstyle "
    "limits "
    "nolimits quad qquad rm bf it cal text textbf textit textrm textsf texttt textsc mathrm mathbf mathit mathsf "
    "mathcal "
    "mathbb mathfrak mbox hbox operatorname emph boldsymbol bm pmb bold vec bar hat tilde widehat widetilde underline "
    "overrightarrow overleftarrow boxed fbox mathop mathrel mathbin mathop hfill noindent item centering hline phantom "
    "smallskip medskip bigskip large Large small tiny normalsize nonumber notag ensuremath allowbreak thinspace "
    "negthinspace "
    "lbrace rbrace langle rangle dot overbrace underbrace stackrel".split()
)
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim gcd lcm det mod sqrt cbrt floor ceil "
    "binom "
    "sum prod int overline infinity pm mp cup cap subset subseteq equiv cong approx sim star oplus partial".split()
)
_SYMBOL_WORDS = (
    (_FUNCTIONS - {"sum", "int", "star", "floor", "sim"}) | frozenset(_GREEK) | {"rr", "zz", "nn", "qq", "cc"}
)
_NO_WORDS = _SYMBOL_WORDS | {"degrees", "degree", "percent"}
# Words of consonants alone, and other short ones, that are no product of variables.
_SHORT_WORDS = frozenset(
    "cm mm km kg mg ml dl hl ft lb lbs hr hrs dry try sky fly why by my cry gym shy spy fry pry sly th st nd rd vs dr "
    "mr mrs "
    "ms pm tv dvd pdf html ln gcd lcm csc hmm mph kph sq pt pts qt gb mb kb ghz khz mhz hz rpm cd cds jr sr etc nth "
    "kth mth "
    "ith jth rhs lhs usd eur gbp usa uk am dna nba gpa ceo atm faq id ok wt ct "
    "tbsp tsp yd yds rv bmw wwf cc gp sgn tr rm bf wlog np nt lt gt hymn myth lynx pygmy rhythm "
    "tryst "
    "nymph crypt sync gypsy dryly shyly wry".split()
)
_PRODUCTS = frozenset(
    "ab abc abcd abcde abcdef ac ax ay az ae bc bcd bd bx cd cde cx dx dy dt ef efg fg gh xy xyz yz zx xz pq "
    "pqr qr "
    "mn mnp rs uv uvw vw kx mx nx px qx rx bca ca aab abb aabb abba".split()
)
_NOT_CONSONANTS = re.compile(r"[aeiou]")
# Behind the variable `a` (not the article) comes one of these, or no word at all.
_AFTER_VARIABLE = frozenset(
    "and or is are be in if such for when where as to with satisfy satisfies equals so that has have from by on then "
    "will "
    "given must was were represents denotes divides does can at over not we".split()
)
_AMOUNTS = frozenset(
    "hundred thousand million billion one two three four five six seven eight nine ten eleven twelve fifteen twenty "
    "thirty forty fifty sixty seventy eighty ninety".split()
)
_ORDINAL_ENDINGS = frozenset(("st", "nd", "rd", "th"))
_OPENS = frozenset("([{|,\n<+*/=>^-!'")  # in front of a minus these make it a sign

_DROPPED = frozenset(("the", "an", "please"))
_CURRENCY = frozenset(("dollar", "dollars", "usd"))
_SAME = {
    other: one
    for one, others in {
        "find": "compute calculate evaluate determine",
        "largest": "greatest maximum maximal biggest highest",
        "smallest": "least minimum minimal lowest",
        "centimeters": "cm centimeter centimetre centimetres",
        "kilometers": "km kilometer kilometre kilometres",
        "kilograms": "kg kilogram",
        "millimeters": "mm millimeter millimetre millimetres",
        "meters": "meter metre metres",
        "degrees": "degree",
        "percent": "percentage",
        "isosceles": "isoceles",
        "infinity": "oo",
        "mod": "modulo",
        "minutes": "minute min mins",
        "hours": "hour hr hrs",
        "seconds": "sec secs",
        "milliliters": "ml milliliter millilitre millilitres",
        "liters": "liter litre litres",
        "grams": "gram",
        "pounds": "pound lb lbs",
        "inches": "inch",
        "feet": "foot ft",
        "yards": "yard yd yds",
        "ounces": "ounce oz",
        "dollars": "dollar usd",
        "miles": "mile mi",
        "square": "sq",
        "distinct": "different",
        "center": "centre",
        "color": "colour",
        "sqrt": "squareroot",
    }.items()
    for other in others.split()
}
# Phrases that bound a number. Each is one token, so that it is compared as a whole.
_PHRASES = {
    ("at", "least"): "at-least", ("no", "fewer", "than"): "at-least", ("no", "less", "than"): "at-least",
    ("not", "less", "than"): "at-least", ("at", "most"): "at-most", ("no", "more", "than"): "at-most",
    ("no", "greater", "than"): "at-most", ("not", "more", "than"): "at-most", ("not", "exceeding"): "at-most",
    ("greater", "than", "or", "equal", "to"): "at-least", ("less", "than", "or", "equal", "to"): "at-most",
    ("per", "cent"): "percent", ("square", "root", "of"): "sqrt", ("plus", "or", "minus"): "pm",
}  # fmt: skip
_PHRASE_STARTS = frozenset(phrase[0] for phrase in _PHRASES)


def is_number(token: str) -> bool:
    """Whether a token is a number or an ordinal in digits."""
    return token[0].isdigit()


def is_symbol(token: str) -> bool:
    """Whether a token is a variable, a relation, an operator, a bracket or a function; a product does not count.

    `2x` is `2\\cdot x`, so the product says nothing.
    """
    return (not token[0].isalnum() and token not in ("*", "...")) or len(token) == 1 or token in _SYMBOL_WORDS


@dataclass(frozen=True, slots=True)
class Form:
    """A problem as it is compared.

    options: of a multiple choice, their tokens joined by spaces. drawing: the tokens of the code of its figures, joined
    by spaces; "" for none. names: lower-case words that are names of somebody.
    """

    tokens: list[str]
    options: tuple[str, ...] = ()
    drawing: str = ""
    names: frozenset[str] = frozenset()


def form(problem: str) -> Form:
    """The form of a whole problem, without what is around it: numbering, points, source, options, instructions."""
    stripped = strip(problem)
    words, names = _read(stripped.text)
    options = tuple(" ".join(tokens(option)) for option in stripped.options)
    return Form(words, options, " ".join(stripped.drawing.split()), names)


def tokens(text: str) -> list[str]:
    """The tokens of a text that are compared."""
    return _read(text)[0]


def _read(text: str) -> tuple[list[str], frozenset[str]]:
    if not text.isascii():
        text = _ascii(text)
    text = _THOUSANDS.sub(lambda found: _NOT_DIGITS.sub("", found[0]), text)
    lexemes = list(_lexemes(_POSSESSIVE.sub("", text)))
    found = _with_units(_Structure().read(lexemes))
    return [_SAME.get(token, token) for token in in_digits(_with_phrases(found))], _names(lexemes)


def _ascii(text: str) -> str:
    text = _RAISED.sub(lambda found: "^{" + unicodedata.normalize("NFKC", found[0]) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + unicodedata.normalize("NFKC", found[0]) + "}", text)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]) + " ", text)
    return unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)


def _with_phrases(found: list[str]) -> list[str]:
    read, index = [], 0
    while index < len(found):
        if found[index] in _PHRASE_STARTS:
            for length in (5, 3, 2):
                if (phrase := _PHRASES.get(tuple(found[index : index + length]))) is not None:
                    read.append(phrase)
                    index += length
                    break
            else:
                read.append(found[index])
                index += 1
        else:
            read.append(found[index])
            index += 1
    return read


_LETTER_UNITS = {"m": "meters", "l": "liters", "g": "grams", "h": "hours", "s": "seconds"}
_LONG_UNITS = frozenset(
    "cm mm km kg mg ml mi ft lb oz miles mile meters kilometers gallons words pages dollars cents feet".split()
)


def _with_units(found: list[str]) -> list[str]:
    """`km/h` as `km per hours`."""
    for place in range(1, len(found) - 1):
        before, after = found[place - 1], found[place + 1]
        if found[place] == "/" and (before in _LONG_UNITS or before == "m" and after == "s"):
            found[place] = "per"
            found[place - 1] = _LETTER_UNITS.get(before, before)
            found[place + 1] = _LETTER_UNITS.get(after, after)
    return found


# Lexemes --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Lexeme:
    """kind: number, word, function or sign. close: whether nothing stands between it and the lexeme before."""

    text: str
    kind: str
    close: bool
    written: str = ""


def _lexemes(text: str) -> Iterator[_Lexeme]:
    end, in_math, negated, blackboard = -1, False, False, False
    raw = list(_LEXEMES.finditer(text))
    heading = _is_in_capitals(text)
    for index, found in enumerate(raw):
        kind, written, close = found.lastgroup, found[0], found.start() == end
        end = found.end()
        if kind == "command":
            name = written[1:]
            if name in ("lfloor", "lceil"):
                yield _Lexeme("floor" if name == "lfloor" else "ceil", "function", close)
                yield _Lexeme("(", "sign", True)
            elif name in ("rfloor", "rceil"):
                yield _Lexeme(")", "sign", close)
            elif name == "overline" and _DIGIT_ARGUMENT.match(text, end):
                yield _Lexeme("overline", "function", close)
            elif name == "mathbb":
                blackboard = True
            elif name == "not":
                negated = True
            elif name not in _NOTHING and name != "overline":
                name = _COMMANDS.get(name, name)
                kind = "function" if name.isalpha() else "sign"
                yield _Lexeme(name.lower() if len(name) > 1 else name, kind, close)
        elif kind == "escaped":
            if written[1] in ",;:! ":
                end = -1
            if written in (r"\(", r"\["):
                in_math = True
                yield _Lexeme("$", "sign", close, "open")
            elif written in (r"\)", r"\]"):
                in_math = False
                yield _Lexeme("$", "sign", close, "close")
            elif written == r"\%":
                yield _Lexeme("percent", "word", close)
            elif written == "\\\\":
                continue
            elif written == r"\|":
                yield _Lexeme("|", "sign", close)
        elif kind == "sign":
            if written == "$":
                if end < len(text) and text[end] == "$":
                    continue  # the second of `$$` counts
                in_math = not in_math
                yield _Lexeme("$", "sign", close, "open" if in_math else "close")
            elif written == "%":
                yield _Lexeme("percent", "word", close)
            elif written[0] == ".":
                yield _Lexeme("...", "sign", close)
            elif written[0] == "-":
                if len(written) == 1:
                    yield _Lexeme("-", "sign", close)
            elif written == "=" and negated:
                negated = False
                yield _Lexeme("!=", "sign", close)
            elif written in ("**", "***"):
                if close and end < len(text) and not text[end].isspace() and _is_power(text, found.start(), end):
                    yield _Lexeme("^", "sign", close)
            elif written in ("==", "=<", "=>"):
                yield _Lexeme({"==": "=", "=<": "<=", "=>": ">="}[written], "sign", close)
            elif written[0] == "'":
                if close and index and raw[index - 1].lastgroup == "word" and len(raw[index - 1][0]) == 1:
                    for _ in written:
                        yield _Lexeme("'", "sign", close)
            elif written != "&":
                yield _Lexeme(written, "sign", close)
        elif kind == "number":
            yield _Lexeme(written, "number", close)
        elif kind == "word" and blackboard and len(written) == 1:
            blackboard = False
            yield _Lexeme(2 * written.lower(), "word", close, written)
        elif kind == "word":
            capitals = len(written) > 1 and written.isupper() and (heading or _beside_capitals(raw, index))
            yield from _word(written, close, capitals)


def _is_power(text: str, start: int, end: int) -> bool:
    """`x**2`, not `**Find** the`: between a term and a digit or a bracket."""
    return (
        text[start - 1].isdigit()
        or text[start - 1] == ")"
        or text[start - 1].isalpha()
        and (start < 2 or not text[start - 2].isalpha())
    ) and (text[end].isdigit() or text[end] in "(-{")


def _is_in_capitals(text: str) -> bool:
    """Whether a whole text is in capitals, so that they say nothing."""
    return len(_CAPITALS.findall(text)) > 3 and not _SMALL.search(_NO_COMMANDS.sub(" ", text))


def _word(written: str, close: bool, capitals: bool) -> Iterator[_Lexeme]:
    """A word, or the letters of a product of variables or of a polygon: `AB`, `xy`. capitals: they say nothing."""
    lower = written.lower()
    if 2 <= len(written) <= 5 and (
        written.isupper()
        and not capitals
        and lower not in _SHORT_WORDS
        or written.islower()
        and (
            lower in _PRODUCTS or len(written) <= 3 and lower not in _SHORT_WORDS and not _NOT_CONSONANTS.search(lower)
        )
    ):
        for place, letter in enumerate(lower):
            yield _Lexeme(letter, "word", close if not place else True, written[place])
    else:
        yield _Lexeme(lower, "word", close, written)


def _beside_capitals(raw: list[re.Match], index: int) -> bool:
    """Whether a word in capitals is one of several, as in a heading."""
    for other in (index - 1, index + 1):
        if (
            0 <= other < len(raw)
            and raw[other].lastgroup == "word"
            and len(raw[other][0]) > 1
            and raw[other][0].isupper()
        ):
            return True
    return False


_VERBS = frozenset(
    "has had is was and wants wanted needs needed bought buys can could will would does did made makes went goes "
    "started "
    "spent spends gave gives walks walked ran runs read reads ate eats sold sells earns earned works worked took "
    "takes got "
    "gets have are were plays played collects collected found finds received receives picked drives drove saved saves "
    "put "
    "uses used bakes baked decided decides".split()
)
_NOT_NAMES = frozenset(
    "there it he she they we you this that these those what which who how if let when the a an each every all some "
    "one if "
    "suppose given find compute in on at for of to from with his her their its our my your by after before then so as "
    "and "
    "but or not monday tuesday wednesday thursday friday saturday sunday january february march april may june july "
    "august "
    "september october november december two three four five six seven eight nine ten i water everyone everybody nobody"
    .split()
)  # fmt: skip


def _names(lexemes: list[_Lexeme]) -> frozenset[str]:
    """Capitalised words within sentences, and at the beginning of one where a verb follows: `Tom has`."""
    names = set()
    for index, one in enumerate(lexemes):
        if one.kind != "word" or len(one.text) < 2 or not one.written[:1].isupper() or one.text in _NOT_NAMES:
            continue
        before = lexemes[index - 1] if index else None
        after = lexemes[index + 1] if index + 1 < len(lexemes) else None
        within = before and before.kind == "word" and before.written[:1].islower()
        if within or after and after.text in _VERBS:
            names.add(one.text)
    return frozenset(names)


# Structure ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """An open group. start: of its bracket in the output. What it holds so far: tokens, sums, commas, words,
    factors."""

    kind: str
    start: int
    before: str = ""
    count: int = 0
    sums: bool = False
    commas: bool = False
    words: bool = False
    factors: int = 0
    last: str = ""
    want: list[str] = field(default_factory=list)
    fraction: tuple[int, int] = (-1, -1)
    bound: bool = False  # the fraction is the argument of a function


class _Structure:
    """Lexemes into tokens: one pass with a stack, linear in their number, whatever the nesting."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.stack = [_Group("text", -1)]

    def read(self, lexemes: list[_Lexeme]) -> list[str]:
        self.lexemes = lexemes
        for self.at, one in enumerate(lexemes):
            self._take(one)
        while len(self.stack) > 1:
            self._close("")
        return [token for token in self.out if token]

    def _take(self, one: _Lexeme) -> None:
        text, top = one.text, self.stack[-1]
        if one.kind == "sign":
            if text in "$\n":
                return
            if text == "{" or text in "([" and (text == "(" or not (top.want and top.want[0] in ("num", "den"))):
                self._open(text)
            elif text in "})]":
                self._close(text)
            elif text == ",":
                top.commas = True
            elif text == "-":
                if self._is_minus():
                    self._operator("-")
            elif text == "!":
                if one.close and self._is_term(self.at - 1) and not self._is_word(self.at + 1, close=True):
                    self._wrap_fraction()
                    self._emit("!")
            elif text == "_":
                if (
                    one.close
                    and (self._is_term(self.at - 1) or self.lexemes[self.at - 1].text in _FUNCTIONS)
                    and self.at + 1 < len(self.lexemes)
                    and (self.lexemes[self.at + 1].close)
                ):
                    top.want = ["_"]
            elif text == "*":
                if self._is_term(self.at - 1) and not self._is_word(self.at + 1, close=False):
                    self._emit("*")
            elif text == "^":
                self._wrap_fraction()
                if self._next() == "degrees":
                    return
                if self._next() in _ORDINAL_ENDINGS:
                    top.want = ["{"]
                    return
                self._emit("^")
                top.want = ["^"]
            elif text in ("+", "=", "<", ">", "<=", ">=", "!="):
                self._operator(text)
            elif text == "'":
                self._emit("'")
            else:
                self._emit(text)
        elif one.kind == "number":
            self._number(text)
        elif text == "frac":
            self._before_argument()
            top.want = ["num", "den"]
            top.fraction, top.bound = (len(self.out), -1), top.last in _FUNCTIONS
        elif text == "binom" and one.kind == "function":
            self._before_argument()
            top.want = ["top", "bottom"]
        elif text == "choose" and (one.kind == "function" or self._between_numbers()):
            self._emit("binom")
        elif text in ("sqrt", "cbrt", "overline") and one.kind == "function" or text == "sqrt":
            self._before_argument()
            self._emit(text)
            top.want = ["root"]
        elif one.kind == "word" and self._is_article(one) or text in _DROPPED or text in _CURRENCY and self._is_price():
            return
        elif one.text in _LETTER_UNITS and self._is_unit(one):
            self._term(_LETTER_UNITS[one.text], True)
        elif text in _ORDINAL_ENDINGS and self._raised() and (place := self._last_place()) >= 0:
            self.out[place] += text
        else:
            self._term(text, len(text) > 1 and text not in _FUNCTIONS and text not in _NO_WORDS)

    # Groups

    def _open(self, bracket: str) -> None:
        top = self.stack[-1]
        kind = top.want.pop(0) if top.want and (bracket != "[" or top.want[0] != "_") else bracket
        if bracket == "[" and kind == "root":  # the degree of a root
            top.want = ["root"]
            kind = "["
        if kind == "den":
            self._emit("/")
        if kind == "bottom":
            self._emit("binom")
        self.stack.append(_Group(kind, len(self.out), top.last))
        self.out.append("[" if kind == "[" else "(")

    def _close(self, bracket: str) -> None:
        if len(self.stack) == 1 or bracket == "}" and self.stack[-1].kind in ("(", "[") and not self._has_brace():
            return
        group = self.stack.pop()
        top = self.stack[-1]
        if group.kind == "^" and group.count == 1 and group.last == "degrees":
            self.out[group.start] = ""
            self.out[group.start - 1] = ""
            top.last = "degrees"
            return
        keep = bool(bracket) and self._keeps(group)
        if keep:
            self.out.append("]" if bracket == "]" else ")")
            if not self._is_factor_of(group.before):
                top.factors += 1
            top.count += group.count + 2
            top.last = ")"
        else:
            self.out[group.start] = ""
            top.count += group.count
            if group.kind in ("{", "(", "["):
                top.sums |= group.sums
                top.commas |= group.commas
            top.factors += 0 if self._is_factor_of(group.before) else group.factors
            top.last = group.last or top.last
        top.words |= group.words
        if group.kind == "num" and top.want[:1] != ["den"]:
            top.want = ["den"]
        if group.kind == "den":
            self._after_argument("den")

    def _has_brace(self) -> bool:
        return any(group.kind not in ("(", "[", "text") for group in self.stack[-3:])

    def _keeps(self, group: _Group) -> bool:
        """Whether the parentheses of a group change what it means."""
        if group.count <= 1 or group.kind == "{" or group.words and group.kind in ("(", "[", "{", "^", "_"):
            return False
        if group.kind in ("root", "_"):
            return True
        if group.kind == "^":
            return not (group.count == 2 and self.out[group.start + 1] == "-")
        if group.kind in ("num", "top"):
            return group.sums and not self._only_signed(group)
        if group.kind in ("den", "bottom"):
            return group.sums or group.factors > 1
        if group.commas or group.sums or group.last == "(":
            return not self._is_doubled(group)
        after = self._next()
        if after == "/":
            return False
        before = group.before
        return (
            before in ("/", "^") or len(before) == 1 and before.isalpha() or before in _FUNCTIONS or after in ("^", "!")
        )

    def _only_signed(self, group: _Group) -> bool:
        inside = [token for token in self.out[group.start + 1 : group.start + 4] if token]
        return group.count <= 3 and inside[:1] == ["-"] and group.factors == 1

    def _is_doubled(self, group: _Group) -> bool:
        """`((x+1))`: the inner parentheses are the whole of the outer."""
        inside = next(
            (place for place in range(group.start + 1, min(group.start + 4, len(self.out))) if self.out[place]), -1
        )
        return inside >= 0 and self.out[inside] == "(" and group.factors == 1 and self.out[-1] == ")" and not group.sums

    def _is_factor_of(self, before: str) -> bool:
        """What follows a power sign, a function or `f` belongs to the factor that has begun."""
        return before == "^" or before in _FUNCTIONS or before in ("f", "g", "h")

    def _wrap_fraction(self) -> None:
        """`\\frac{1}{2}^2`: the fraction is one thing."""
        begin, end = self.stack[-1].fraction
        if begin >= 0 and end == len(self.out):
            self.out.insert(begin, "(")
            self.out.append(")")
            self.stack[-1].fraction = (-1, -1)

    # Terms

    def _emit(self, token: str) -> None:
        top = self.stack[-1]
        self.out.append(token)
        top.count += 1
        top.last = token

    def _operator(self, token: str) -> None:
        top = self.stack[-1]
        if not (top.want and token == "-"):
            top.sums = True
            top.want = []
        self._emit(token)

    def _before_argument(self) -> str:
        """What a term or a command, as in `\\frac\\pi2` and `2^\\sqrt2`, is the argument of; "" for nothing."""
        top = self.stack[-1]
        kind = top.want.pop(0) if top.want else ""
        if kind in ("den", "bottom"):
            self._emit("/" if kind == "den" else "binom")
        return kind

    def _after_argument(self, kind: str) -> None:
        if kind == "den":
            top = self.stack[-1]
            top.fraction = (top.fraction[0], len(self.out))
            if top.bound:
                top.bound = False
                self._wrap_fraction()

    def _number(self, text: str) -> None:
        want = self.stack[-1].want
        if want[:1] == ["num"] and len(text) == 2 and text.isdigit():  # \frac12
            self._term(text[0], False)
            self._term(text[1], False)
        elif (
            want[:1] == ["den"]
            and len(text) > 1
            and text.isdigit()
            and self.lexemes[self.at].close
            and (self.lexemes[self.at - 1].text == "}")
        ):
            self._term(text[0], False)  # \frac{1}23 is 1/2 times 3
            self._term(text[1:], False)
        else:
            self._term(text, False)

    def _term(self, text: str, word: bool) -> None:
        kind = self._before_argument()
        top = self.stack[-1]
        if not self._is_factor_of(top.last):
            top.factors += 1
        top.words |= word
        self._emit(text)
        self._after_argument(kind)

    def _last_place(self) -> int:
        return next(
            (place for place in range(len(self.out) - 1, max(len(self.out) - 4, -1), -1) if self.out[place].isalnum()),
            -1,
        )

    # Looking around

    def _raised(self) -> bool:
        """Whether this follows a power sign, and perhaps a brace."""
        return any(self.lexemes[place].text == "^" for place in range(max(self.at - 4, 0), self.at))

    def _next(self) -> str:
        after = self.at + 1
        while after < len(self.lexemes) and self.lexemes[after].text in ("$", "{", "\n") and after < self.at + 3:
            after += 1
        return self.lexemes[after].text if after < len(self.lexemes) else ""

    def _is_term(self, index: int) -> bool:
        if not 0 <= index < len(self.lexemes):
            return False
        one = self.lexemes[index]
        if one.kind == "sign":
            return one.text in ")]}|!'" or one.text == "$"
        return (
            one.kind == "number"
            or len(one.text) == 1
            or one.text in ("degrees", "percent")
            or one.kind == "function"
            or one.text in _SYMBOL_WORDS
        )

    def _is_word(self, index: int, close: bool) -> bool:
        if not 0 <= index < len(self.lexemes):
            return False
        one = self.lexemes[index]
        plain = one.kind == "word" and len(one.text) > 1 and one.text not in _SYMBOL_WORDS
        return plain and (one.close or not close)

    def _is_minus(self) -> bool:
        """A minus joins two terms, or is the sign of one; a hyphen joins words, a dash sentences."""
        at, lexemes = self.at, self.lexemes
        here = lexemes[at]
        after = lexemes[at + 1] if at + 1 < len(lexemes) else None
        before = lexemes[at - 1] if at else None
        tight = after is not None and after.close
        if after is None or self._is_word(at + 1, close=False):
            return False  # `9-kilometer`, `So - at last`
        starts = after.kind != "sign" or after.text in "([{|$+-"
        if not starts:
            return False
        if before is None or before.text == "\n":
            return tight  # else the mark of a list
        if before.kind == "sign" and before.text == "$":
            return before.written == "open" or tight or not self._is_word(at + 1, close=False)
        if before.kind == "sign" and before.text in _OPENS | {"<=", ">=", "!=", "..."} and before.text not in "|!'":
            return True
        if self._is_term(at - 1):
            return True
        return tight and not here.close  # `is -3`, not `COVID-19`

    def _between_numbers(self) -> bool:
        return self._is_term(self.at - 1) and self._is_term(self.at + 1)

    def _is_price(self) -> bool:
        """Whether a currency is that of a number, as in `5 dollars`, `USD 5` and `$5`, of which all are one."""
        around = (self.lexemes[place] for place in range(max(self.at - 2, 0), self.at + 3) if place < len(self.lexemes))
        return any(one.kind == "number" or one.text in _AMOUNTS for one in around)

    def _is_unit(self, one: _Lexeme) -> bool:
        """`3 m long`, `$60$ L of water`: a letter behind a number and a space, and not in a formula."""
        at, lexemes = self.at, self.lexemes
        before = at - 1
        while before > 0 and lexemes[before].text == "$" and lexemes[before].written == "close":
            before -= 1
        if one.close or before < 0 or lexemes[before].kind != "number" or lexemes[at - 1].written == "open":
            return False
        after = lexemes[at + 1] if at + 1 < len(lexemes) else None
        return (
            after is None
            or after.kind in ("word", "number")
            and len(after.text) > 1
            or (after.kind == "number" or after.text == "$" and after.written == "open" or after.text == ",")
        )

    def _is_article(self, one: _Lexeme) -> bool:
        if one.text != "a" or one.written not in ("a", "A") or one.kind != "word":
            return False
        before = self.lexemes[self.at - 1] if self.at else None
        after = self.lexemes[self.at + 1] if self.at + 1 < len(self.lexemes) else None
        if (
            after is None
            or one.close
            and before.text != "$"
            or after.close
            and after.kind != "word"
            and after.text != "$"
        ):
            return False
        if after.text == "$":
            return after.written == "open"
        if after.kind == "word":
            return len(after.text) > 1 and after.text not in _AFTER_VARIABLE or len(after.text) == 1 and not after.close
        return after.kind == "number"
