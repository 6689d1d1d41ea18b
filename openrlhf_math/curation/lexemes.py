r"""A text of mathematics into lexemes: LaTeX, Unicode and plain ASCII in one spelling, letters of products apart."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_SIGNS = {
    **dict.fromkeys("−‐‑–﹣－➖", "-"), **dict.fromkeys("—―", " "),
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
_SIGNS |= {"➕": "+", "✖": "*", "➗": "/", "∶": ":"}
_SUITS = "♠♡♢♣♤♥♦♧"
_SIGN_TABLE = str.maketrans(_SIGNS)
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
    r"|(?P<sign><=|>=|!=|==|=<|=>|\.\.\.+|\.\s\.\s\.|'+|-+|\n(?=[ \t]{0,8}-[ \t])|\*\*\*?|[+*/=<>^!()\[\]{}|_$%,&])"
    r"|(?P<symbol>[^\x00-\x7f])",
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
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim gcd lcm det mod sqrt cbrt floor ceil "
    "binom "
    "sum prod int overline infinity pm mp cup cap subset subseteq equiv cong approx sim star oplus partial".split()
)
SYMBOL_WORDS = (FUNCTIONS - {"sum", "int", "star", "floor", "sim"}) | frozenset(_GREEK) | {"rr", "zz", "nn", "qq", "cc"}
NO_WORDS = SYMBOL_WORDS | {"degrees", "degree", "percent"}
# Words of consonants alone, and other short ones, that are not products of variables.
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
_TWO_LETTERS = frozenset(
    "am an as at ax be by do ed ex go he hi id if in is it la lo me mi my no of oh ok on or ox pi so to up us "
    "we".split()
)
_NOT_CONSONANTS = re.compile(r"[aeiou]")


def _ascii(text: str) -> str:
    text = _RAISED.sub(lambda found: "^{" + unicodedata.normalize("NFKC", found[0]) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + unicodedata.normalize("NFKC", found[0]) + "}", text)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]) + " ", text)
    return unicodedata.normalize("NFKC", text.translate(_SIGN_TABLE)).translate(_SIGN_TABLE)


@dataclass(slots=True)
class Lexeme:
    """kind: number, word, function or sign. close: whether nothing is between it and the lexeme before."""

    text: str
    kind: str
    close: bool
    written: str = ""


def lexemes(text: str) -> Iterator[Lexeme]:
    """The lexemes of a text, in order."""
    if not text.isascii():
        text = _ascii(text)
    text = _THOUSANDS.sub(lambda found: _NOT_DIGITS.sub("", found[0]), text)
    text = _POSSESSIVE.sub("", text)
    end, in_math, negated, blackboard = -1, False, False, False
    raw = list(_LEXEMES.finditer(text))
    heading = _is_in_capitals(text)
    alone = {found[0] for found in raw if found.lastgroup == "word" and len(found[0]) == 1}
    for index, found in enumerate(raw):
        kind, written, close = found.lastgroup, found[0], found.start() == end
        end = found.end()
        if kind == "command":
            name = written[1:]
            if name in ("lfloor", "lceil"):
                yield Lexeme("floor" if name == "lfloor" else "ceil", "function", close)
                yield Lexeme("(", "sign", True)
            elif name in ("rfloor", "rceil"):
                yield Lexeme(")", "sign", close)
            elif name == "overline" and _DIGIT_ARGUMENT.match(text, end):
                yield Lexeme("overline", "function", close)
            elif name == "mathbb":
                blackboard = True
            elif name == "not":
                negated = True
            elif name not in _NOTHING and name != "overline":
                name = _COMMANDS.get(name, name)
                kind = "function" if name.isalpha() else "sign"
                yield Lexeme(name.lower() if len(name) > 1 else name, kind, close)
        elif kind == "escaped":
            if written[1] in ",;:! ":
                end = -1
            if written in (r"\(", r"\["):
                in_math = True
                yield Lexeme("$", "sign", close, "open")
            elif written in (r"\)", r"\]"):
                in_math = False
                yield Lexeme("$", "sign", close, "close")
            elif written == r"\%":
                yield Lexeme("percent", "word", close)
            elif written == "\\\\":
                continue
            elif written == r"\|":
                yield Lexeme("|", "sign", close)
        elif kind == "sign":
            if written == "\n" and in_math:
                continue  # a line that begins with a minus is an item of a list in a text alone
            if written == "$":
                if end < len(text) and text[end] == "$":
                    continue  # the second of `$$` counts
                in_math = not in_math
                yield Lexeme("$", "sign", close, "open" if in_math else "close")
            elif written == "%":
                yield Lexeme("percent", "word", close)
            elif written[0] == ".":
                yield Lexeme("...", "sign", close)
            elif written[0] == "-":
                if len(written) == 1:
                    yield Lexeme("-", "sign", close)
            elif written == "=" and negated:
                negated = False
                yield Lexeme("!=", "sign", close)
            elif written in ("**", "***"):
                if close and end < len(text) and not text[end].isspace() and _is_power(text, found.start(), end):
                    yield Lexeme("^", "sign", close)
            elif written in ("==", "=<", "=>"):
                yield Lexeme({"==": "=", "=<": "<=", "=>": ">="}[written], "sign", close)
            elif written[0] == "'":
                if close and index and raw[index - 1].lastgroup == "word" and len(raw[index - 1][0]) == 1:
                    for _ in written:
                        yield Lexeme("'", "sign", close)
            elif written != "&":
                yield Lexeme(written, "sign", close)
        elif kind == "symbol":
            if written in _SUITS or unicodedata.category(written) in ("Sm", "Sc") and written not in "∴∵":
                yield Lexeme(written, "sign", close)  # it has no other spelling, but it says something
        elif kind == "number":
            yield Lexeme(written, "number", close)
        elif kind == "word" and blackboard and len(written) == 1:
            blackboard = False
            yield Lexeme(2 * written.lower(), "word", close, written)
        elif kind == "word":
            capitals = len(written) > 1 and written.isupper() and (heading or _is_among_capitals(raw, index))
            capitals = capitals and not (heading and _in_formula(raw, index, in_math))
            yield from _word(written, close, capitals, alone)


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


def _word(written: str, close: bool, capitals: bool, alone: set[str]) -> Iterator[Lexeme]:
    """A word, or the letters of a product of variables or of a polygon: `AB`, `xy`.

    capitals: they say nothing. alone: letters that the text has alone, too, so that `tu` is a product of `t` and `u`.
    """
    lower = written.lower()
    if 2 <= len(written) <= 5 and (
        written.isupper()
        and not capitals
        and lower not in _SHORT_WORDS
        or written.islower()
        and (
            lower in _PRODUCTS
            or len(written) == 2
            and alone.issuperset(written)
            and lower not in _TWO_LETTERS
            or len(written) <= 3
            and lower not in _SHORT_WORDS
            and not _NOT_CONSONANTS.search(lower)
        )
    ):
        for place, letter in enumerate(lower):
            yield Lexeme(letter, "word", close if not place else True, written[place])
    else:
        yield Lexeme(lower, "word", close, written)


def _in_formula(raw: list[re.Match], index: int, in_math: bool) -> bool:
    """Whether a word in a heading is within a formula: behind an equality, an angle, or the dollar that opens it."""
    before = raw[index - 1][0] if index else ""
    if before == "{":
        before = raw[index - 2][0] if index > 1 else ""
        return before in (r"\overline", r"\overrightarrow")
    return before in ("=", r"\angle", r"\triangle", r"\perp", r"\parallel") or before == "$" and in_math


def _is_among_capitals(raw: list[re.Match], index: int) -> bool:
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


def names(lexemes: list[Lexeme]) -> frozenset[str]:
    """Capitalised words within sentences, and at the beginning of one where a verb follows: `Tom has`."""
    found = set()
    for index, one in enumerate(lexemes):
        if one.kind != "word" or len(one.text) < 2 or not one.written[:1].isupper() or one.text in _NOT_NAMES:
            continue
        before = lexemes[index - 1] if index else None
        after = lexemes[index + 1] if index + 1 < len(lexemes) else None
        within = before and before.kind == "word" and before.written[:1].islower()
        if within or after and after.text in _VERBS:
            found.add(one.text)
    return frozenset(found)
