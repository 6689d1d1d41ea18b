r"""One problem written otherwise, in more than thirty kinds: what must be found as a copy.

Each kind is a function of a problem and a random source. It returns the copy, or None where it does not apply. Nothing
here is shared with the product.
"""

import re

# An amount of money, "$67 and", begins no formula.
FORMULA = re.compile(
    r"(\$\$[^$]+\$\$|\$(?!\s?\d[\d,.]*\s+[a-zA-Z,])(?:\\\$|[^$])+\$|\[asy\].*?\[/asy\]|\\\$[\d.,]+)", re.S
)
ASY = re.compile(r"\s*\[asy\].*?\[/asy\]\s*", re.S)
IMAGE = re.compile(r"\s*(?:!\[[^\]]*\]\([^)]*\)|\[img\].*?\[/img\]|<img[^>]*>)\s*")
OPTIONS = re.compile(r"\s*(?:\$?\\(?:textbf|mathrm)\{\(A\)|\(A\)|\bA[.)]\s)", re.S)
ASKS = ("find", "compute", "what", "how", "determine", "evaluate", "which", "express", "solve", "at that", "for how")


def in_prose(text, change):
    """The text with `change` made outside its formulas."""
    return "".join(part if index % 2 else change(part) for index, part in enumerate(FORMULA.split(text)))


def in_formulas(text, change):
    parts = FORMULA.split(text)
    return "".join(change(p) if i % 2 and not p.startswith(("[asy]", "\\$")) else p for i, p in enumerate(parts))


def has_formula(text):
    return any(i % 2 and p.startswith("$") for i, p in enumerate(FORMULA.split(text)))


def sentences(text):
    """Cut between sentences, never within a formula or a drawing."""
    kept = []
    safe = FORMULA.sub(lambda m: f"\0{kept.append(m[0]) or len(kept) - 1}\1", text)
    cut = re.split(r"(?<=[.?!])\s+(?=[A-Z\0])", safe)
    return [re.sub("\0(\\d+)\1", lambda m: kept[int(m[1])], one) for one in cut]


def asks(sentence):
    return sentence.lower().startswith(ASKS) or sentence.rstrip().endswith("?")


# Around it ------------------------------------------------------------------------------------------------------------


def exact(text, rng):
    return text


def spacing_and_case(text, rng):
    spaced = in_prose(text, lambda s: re.sub(" ", lambda m: rng.choice((" ", " ", "  ", "\n", "\t")), s))
    case = rng.choice((str.lower, str.upper, str))
    return in_prose(spaced, case) + rng.choice(("", "\n", "  "))


def prompt(text, rng):
    return rng.choice(
        (
            "Solve the following problem.\n\n{}",
            "Question: {}\nAnswer:",
            "Please solve this math problem step by step: {}",
            "Below is an instruction that describes a task.\n\n### Instruction:\n{}\n\n### Response:",
            "User: {}\nAssistant:",
            "Here is a mathematics problem for you. {} Think carefully before you answer.",
        )
    ).format(text)


def embedded(text, rng):
    before = (
        "Our club met on Thursday evening and talked about the homework of last week, which nobody had liked. ",
        "The teacher handed out a sheet with several exercises; the second of them caused a long discussion. ",
        "I came across this in an old notebook of my brother and could not find a short way. ",
    )
    after = (
        " I tried to draw a sketch and to guess, but my guess did not agree with the solution at the back of the book.",
        " Any hint is welcome, and a complete solution with all steps is even better. Thank you very much in advance.",
        " Afterwards everybody went home and wrote down what they remembered of the discussion.",
    )
    return rng.choice(before) + text + rng.choice(after)


def numbered(text, rng):
    n = rng.randint(1, 40)
    return (
        rng.choice(
            ("{}. ", "{}) ", "Problem {}. ", "Example {} ", "Exercise {}: ", "Q{}. ", "**{}.** ", "#{} ")
        ).format(n)
        + text
    )


def points_and_source(text, rng):
    return (
        rng.choice(
            (
                "(5 points) ",
                "(2019 AIME) ",
                "[i](HMMT 2012)[/i] ",
                "## Task 3. ",
                "[3 marks] ",
                "(AMC 12A 2007, Problem 9) ",
                "6. [10] ",
                "(2003 National High School Mathematics League) ",
                "[b]p4.[/b] ",
                "Task B-1.4. ",
                "(20 pts) ",
                "14 (12 points) ",
                "Example 7 (2005 Iberoamerican Olympiad) ",
            )
        )
        + text
    )


def options_added(text, rng):
    if OPTIONS.search(text):
        return None
    values = sorted(rng.sample(range(2, 200), 5))
    form = rng.choice(
        (
            "\n(A) {} (B) {} (C) {} (D) {} (E) {}",
            "\nA. {}\nB. {}\nC. {}\nD. {}",
            r" $\textbf{{(A)}}\ {} \qquad \textbf{{(B)}}\ {} \qquad \textbf{{(C)}}\ {} \qquad \textbf{{(D)}}\ {}$",
        )
    )
    return text + form.format(*values)


def options_removed(text, rng):
    found = OPTIONS.search(text)
    return text[: found.start()].rstrip(" $") if found and found.start() > 30 else None


def instruction(text, rng):
    return text + rng.choice(
        (
            r" Please reason step by step, and put your final answer within \boxed{}.",
            "\nLet's think step by step and output the final answer within \\boxed{}.",
            " Give your answer as an integer from 0 to 999, inclusive.",
            '\n\nRemember to put your answer on its own line after "Answer:".',
            " Show your work. The last line of your response should be of the form Answer: $ANSWER.",
        )
    )


def solution_appended(text, rng):
    return text + rng.choice(
        (
            "\n\nSolution. We set up the equations and simplify both sides. The answer is \\boxed{42}.",
            "\n<think>Okay, let me look at what is given. First I write down everything.</think> So we get 17.",
        )
    )


# Markup ---------------------------------------------------------------------------------------------------------------


def html(text, rng):
    if "<img" in text:
        return None
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br/>")
    text = in_formulas(text, lambda f: re.sub(r"\^(\d)", r"<sup>\1</sup>", re.sub(r"_(\d)", r"<sub>\1</sub>", f)))
    words = text.split(" ")
    words = [w + ("&nbsp;" if rng.random() < 0.15 else " ") for w in words]
    return rng.choice(("<p>{}</p>", '<div class="problem"><p>{}</p></div>', "<span>{}</span><br>")).format(
        "".join(words).strip()
    )


def markdown(text, rng):
    def bold(part):
        words = part.split(" ")
        chosen = [i for i, w in enumerate(words) if w.isalpha() and len(w) > 3]
        for i in rng.sample(chosen, min(2, len(chosen))):
            words[i] = f"**{words[i]}**" if rng.random() < 0.6 else f"*{words[i]}*"
        return " ".join(words)

    return rng.choice(("## Problem\n\n", "### Question\n", "> ", "- ", "**Problem.** ")) + in_prose(text, bold)


def escaped_twice(text, rng):
    return text.replace("\\", "\\\\") if "\\" in text else None


def literal_newlines(text, rng):
    cut = sentences(text)
    if len(cut) > 1:
        return rng.choice((r"\n", r"\n\n", r" \n ")).join(cut)
    words = text.split(" ")
    return (
        " ".join(words[: len(words) // 2]) + r"\n" + " ".join(words[len(words) // 2 :])
        if "$" not in text
        else text + r"\n"
    )


def drawing_removed(text, rng):
    return ASY.sub(" ", text).strip() if "[asy]" in text else None


def image_removed(text, rng):
    return IMAGE.sub(" ", text).strip() if IMAGE.search(text) else None


def fraction_back(text, rng):
    """ "... is m/n. Find m + n" asked for as the fraction itself."""
    found = re.search(
        r"(?:,? where \$\w\$(?:, \$\w\$)? and \$\w\$ are| for relatively prime| with relatively prime).*$", text, re.S
    )
    if not found or not re.search(r"[Ff]ind \$\w ?\+|What is \$\w ?\+|Compute \$\w ?\+", found[0]):
        return None
    head = text[: found.start()]
    form = re.search(
        r"(?: can be (?:written|expressed) as| is equal to| equals| is|(?<=\$) =|,? lies below) ?\$?\\t?frac\{[^$]*\$$"
        r"|\s=\s\\t?frac\{\w\}\{\w\}\$$",
        head,
    )
    if not form:
        return None
    stem = head[: form.start()].rstrip(" ,")
    stem += "$" if stem.count("$") % 2 else ""
    last = sentences(stem)
    if not last[-1].startswith("The "):
        last[-1] = "Find " + last[-1].removeprefix("Then ") + "."
        return " ".join(last)
    last[-1] = rng.choice(("What is t", "Find t", "Determine t")) + last[-1][1:]
    last[-1] += "?" if last[-1].startswith("What") else "."
    return " ".join(last)


# Formulas in other characters -----------------------------------------------------------------------------------------


def _fractions(formula, form):
    for _ in range(4):
        formula = re.sub(r"\\[dt]?frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}", form, formula)
    return formula


def _bracket(part):
    return part if re.fullmatch(r"-?[\w.]+", part) else f"({part})"


def _plain(formula, signs):
    formula = formula.strip("$")
    formula = _fractions(formula, lambda m: f"{_bracket(m[1])}/{_bracket(m[2])}")
    for _ in range(3):
        formula = re.sub(r"\\sqrt\{((?:[^{}]|\{[^{}]*\})*)\}", signs["sqrt"], formula)
    formula = re.sub(r"\^\{?\\circ\}?", signs["deg"], formula)
    formula = re.sub(r"\\overline\{(\w+)\}|\\text\{([^}]*)\}", lambda m: m[1] or m[2], formula)
    for command, sign in signs["commands"]:
        formula = re.sub(rf"\\{command}(?![a-zA-Z])", sign, formula)
    formula = re.sub(r"\\(?:left|right)(?![a-zA-Z])", "", formula)
    return formula.replace("\\{", "{").replace("\\}", "}").replace("\\ ", " ")


def _simple(text):
    """Formulas that a plain form can hold without being ambiguous."""
    return has_formula(text) and not re.search(
        r"matrix|\\sum|\\int|\\textbf|\\mathrm|overline\{\d|binom|\\star|mathbf|\$\$|floor|ceil|perp|\\to", text
    )


ASCII = {
    "sqrt": r" sqrt(\1)",
    "deg": " degrees",
    "commands": [
        ("leq?", "<="),
        ("geq?", ">="),
        ("neq?", "!="),
        ("cdots", "..."),
        ("[lc]dots", "..."),
        ("cdot", "*"),
        ("times", "*"),
        ("angle", "angle "),
        ("sin", "sin"),
        ("cos", "cos"),
        ("tan", "tan"),
        ("log", "log"),
        ("pi", "pi"),
        ("theta", "theta"),
        ("alpha", "alpha"),
        ("omega", "omega"),
        ("%", "%"),
        (r"\$", "$"),
    ],
}
UNICODE = {
    "sqrt": r"√(\1)",
    "deg": "°",
    "commands": [
        ("leq?", "≤"),
        ("geq?", "≥"),
        ("neq?", "≠"),
        ("cdots", "⋯"),
        ("[lc]dots", "…"),
        ("cdot", "·"),
        ("times", "×"),
        ("angle", "∠"),
        ("sin", "sin"),
        ("cos", "cos"),
        ("tan", "tan"),
        ("log", "log"),
        ("pi", "π"),
        ("theta", "θ"),
        ("alpha", "α"),
        ("omega", "ω"),
        ("%", "%"),
        (r"\$", "$"),
    ],
}
RAISED = str.maketrans("0123456789n-+", "⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ⁻⁺")
LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def plain_ascii(text, rng):
    def plain(formula):
        formula = _plain(formula, ASCII)
        return re.sub(r"([\^_])\{([^{}]*)\}", lambda m: m[1] + _bracket(m[2]), formula)

    return in_formulas(text, plain) if _simple(text) and re.search(r"\\(?!\$)|\^", text) else None


def unicode_maths(text, rng):
    def plain(formula):
        formula = re.sub(r"√\((\w)\)", r"√\1", _plain(formula, UNICODE)).replace("-", "−")
        formula = re.sub(
            r"\^(?:\{(−?[\dn]+)\}|([\dn]))", lambda m: (m[1] or m[2]).replace("−", "-").translate(RAISED), formula
        )
        formula = re.sub(r"_\{?(\d+)\}?", lambda m: m[1].translate(LOWERED), formula)
        return re.sub(r"([\^_])\{([^{}]*)\}", lambda m: m[1] + _bracket(m[2]), formula)

    return in_formulas(text, plain) if _simple(text) and re.search(r"\\(?!\$)|\^|-", text) else None


LATEX_FORMS = [
    (r"\\frac", r"\\dfrac"),
    (r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2"),
    (r"(?<!left)\((?=[^()]*\))([^()]*)\)", r"\\left(\1\\right)"),
    (r"\\cdot\b", r"\\times"),
    (r"\\le\b", r"\\leq"),
    (r"\\leq\b", r"\\leqslant"),
    (r"\\geq?\b", r"\\geqslant"),
    (r"\^(\d)", r"^{\1}"),
    (r"_(\w)", r"_{\1}"),
    (r"([=+<>])", r" \1 "),
    (r"\^\\circ", r"^{\\circ}"),
    (r"\\ldots", r"\\dots"),
    (r"\\neq?\b", r"\\not="),
    (r"\\sqrt\{(\d)\}", r"\\sqrt\1"),
    (r"\\overline\{", r"\\overline {"),
    (r"\\binom\{", r"{\\binom{"),
]


def latex_forms(text, rng):
    def other(formula):
        if "{(A)}" in formula:
            return formula
        inner = formula.strip("$")
        for pattern, form in rng.sample(LATEX_FORMS[:-1], 6):
            inner = re.sub(pattern, form, inner)
        inner = inner.replace(", ", r",\, ") if rng.random() < 0.5 else inner
        before, after = rng.choice(
            (("$", "$"), (r"\(", r"\)"), ("$ ", " $"), (r"$\displaystyle ", "$"), ("$$", "$$"), (r"\[", r"\]"))
        )
        return before + inner + after

    return in_formulas(text, other) if has_formula(text) and "pmatrix" not in text else None


def without_dollars(text, rng):
    """The formulas' LaTeX as it is, without the signs around it."""
    return in_formulas(text, lambda f: f.strip("$")) if has_formula(text) else None
