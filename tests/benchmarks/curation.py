r"""What `openrlhf-math curate` finds, how fast it is, what memory it takes, and whether it survives `kill -9`.

    python tests/benchmarks/curation.py planted --problems gsm8k_train.jsonl   # duplicates, benchmark problems
    python tests/benchmarks/curation.py memory --rows 100000 1000000           # rows a second, peak memory
    python tests/benchmarks/curation.py kills --times 10                       # the same bytes after ten kills

`--problems` is GSM8K's training split as JSONL (question, answer); half of the planted problems are made from it, the
other half from templates with LaTeX. Every number is printed as JSON.
"""

# ruff: noqa: SIM905
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

NUMBER = re.compile(r"(?<![\w.,^{\\$-])\d+(?![\w.^}%-]|,\d)")
SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
SMALL = f"{SMALL} seventeen eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
TENS = TENS.split()


def in_words(number: int) -> str:
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = number % 100
        return f"{SMALL[number // 100]} hundred" + (f" and {in_words(rest)}" if rest else "")
    rest = number % 1000
    return f"{in_words(number // 1000)} thousand" + (f" {in_words(rest)}" if rest else "")


# The same problem, written otherwise ---------------------------------------------------------------------------------

# None of these but "Find" is a synonym the product knows of.
REWORDED = [
    (r"\bHow many\b", "What is the number of"), (r"\baltogether\b", "in total"), (r"\bin total\b", "in all"),
    (r"\bbought\b", "purchased"), (r"\bbuys\b", "purchases"), (r"\bkids\b", "children"), (r"\bbecause\b", "since"),
    (r"\bFind\b", "Determine"), (r"\bFind\b", "Work out"), (r"\bwants to\b", "would like to"), (r"\balso\b", ""),
    (r"\bstarted\b", "began"), (r"\bgets\b", "receives"), (r"\bmoney does\b", "cash does"), (r"\bIf\b", "Suppose"),
    (r"\bLet\b", "Suppose that"), (r"\bthen\b", "after that"), (r"\bper\b", "for every"), (r"\bhe\b", "this person"),
    (r"\bpossible\b", "conceivable"), (r"\bhas\b", "owns"), (r"\bmade\b", "produced"), (r"\bWhat is\b", "What's"),
    (r"\bbig\b", "large"), (r"\bneeds\b", "requires"), (r"\bcosts\b", "is priced at"), (r"\bonly\b", "just"),
]  # fmt: skip
AROUND = [
    ("Solve the following problem. ", ""), ("", " Give the final answer only."), ("Question: ", ""),
    ("", " Show your work."), ("Consider the following. ", ""), ("", " Explain your reasoning."),
]  # fmt: skip
NAMES = "Oluwaseun Priyanka Thorsten Yevgenia Marisol Kwabena Ingrid Tadashi".split()
LATEX = [
    (r"\\frac", r"\\dfrac"), (r"\\frac\{(\w)\}\{(\w)\}", r"\1/\2"), (r"\$([^$]+)\$", r"\\(\1\\)"),
    (r"\\cdot", r"\\times"), (r"\\le\b", r"\\leq"), (r"\\ge\b", r"\\geqslant"), (r"\^(\d)", r"^{\1}"),
    (r"(?<!\\left)\(([^()$]+)\)", r"\\left(\1\\right)"), (r"\^\\circ", r"^{\\circ}"), (r"\^\\circ\$", r"$ degrees"),
    (r"([-+=])", r" \1 "), (r"_(\w)", r"_{\1}"), (r"\\%", " percent"), (r"\\ldots", r"\\dots"),
    (r"\\text\{(\w+)\}", r"\\mathrm{\1}"), (r"\\sqrt\{", r"\\sqrt {"),
]  # fmt: skip


def numbers_otherwise(text: str, rng: random.Random) -> str:
    """At least one number in words, or one in words in digits, or with a thousands separator."""

    def other(found: re.Match) -> str:
        value = int(found[0])
        if value >= 1000 and (rng.random() < 0.5 or value >= 10**6):
            return f"{value:,}"
        return in_words(value) if value < 10**6 and not found[0].startswith("0") and rng.random() < 0.7 else found[0]

    plain = "".join(part if "$" in part else NUMBER.sub(other, part) for part in _formulas_apart(text))
    if plain != text:
        return plain
    return re.sub(r"\b(?:two|three|four|five|six|seven|eight|nine|ten)\b(?! hundred|-)", digits, text)


def _formulas_apart(text: str) -> list[str]:
    """Text and formulas, or amounts of money, in turn."""
    return (
        re.split(r"(\$[^$]+\$)", text) if "\\" in text or "$x" in text or "$n" in text else re.split(r"(\$\d\S*)", text)
    )


def digits(found: re.Match) -> str:
    return str(SMALL.index(found[0]))


def spacing(text: str, rng: random.Random) -> str:
    parts = re.split(r"( )", text)
    text = "".join(
        rng.choice(("  ", "\n", " \t", " ")) if part == " " and rng.random() < 0.3 else part for part in parts
    )
    return rng.choice(
        (text, re.sub(r"([.,?])(?=\s|$)", r" \1", text), text + "  \n", re.sub(r"\.(\s)", r".\1\1", text))
    )


def wording(text: str, rng: random.Random) -> str:
    """One to three words or phrases for others, or a sentence around it."""
    rules = [rule for rule in REWORDED if re.search(rule[0], text)]
    for pattern, other in rng.sample(rules, min(len(rules), rng.randint(1, 3))):
        text = re.sub(pattern, other, text, count=1)
    if not rules or rng.random() < 0.3:
        before, after = rng.choice(AROUND)
        text = before + text + after
    return text


def other_names(text: str, rng: random.Random) -> str:
    """The person who is named most has another name."""
    named = Counter(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", text))
    if not named:
        return wording(text, rng)
    return re.sub(rf"\b{named.most_common(1)[0][0]}\b", rng.choice(NAMES), text)


def latex(text: str, rng: random.Random) -> str:
    rules = [rule for rule in LATEX if re.search(rule[0], text)] if "$" in text and "\\" in text else []
    for pattern, other in rng.sample(rules, min(len(rules), rng.randint(1, 3))):
        text = re.sub(pattern, other, text)
    return text


def several(text: str, rng: random.Random) -> str:
    for change in rng.sample((numbers_otherwise, spacing, wording, latex), 2):
        text = change(text, rng)
    return text


SAME = (numbers_otherwise, spacing, wording, other_names, latex, several)

# Another problem, written alike --------------------------------------------------------------------------------------

OPPOSITE = "more less|largest smallest|sum product|even odd|positive negative|before after|first last|area perimeter"
OPPOSITE += "|minimum maximum|increased decreased|older younger|days weeks|hours minutes|faster slower|week month"
OPPOSITE = [pair.split() for pair in OPPOSITE.split("|")]
DIGITS = re.compile(r"\d+")


def other_number(text: str, rng: random.Random) -> str:
    found = rng.choice(list(DIGITS.finditer(text)))
    return text[: found.start()] + str(int(found[0]) + rng.choice((1, 2, 10))) + text[found.end() :]


def swapped_numbers(text: str, rng: random.Random) -> str:
    found = list(DIGITS.finditer(text))
    pairs = [(a, b) for a in found for b in found if a.start() < b.start() and int(a[0]) != int(b[0])]
    if not pairs:
        return other_number(text, rng)
    first, second = rng.choice(pairs)
    middle = text[first.end() : second.start()]
    return text[: first.start()] + second[0] + middle + first[0] + text[second.end() :]


def opposite_word(text: str, rng: random.Random) -> str:
    choices = [(a, b) for pair in OPPOSITE for a, b in (pair, pair[::-1]) if re.search(rf"\b{a}\b", text)]
    if not choices:
        return swapped_numbers(text, rng)
    before, after = rng.choice(choices)
    return re.sub(rf"\b{before}\b", after, text, count=1)


def other_sign(text: str, rng: random.Random) -> str:
    """Plus for minus, a relation turned round, another function."""
    swaps = (("+", "-"), (r"\le ", r"\ge "), (r"\sin", r"\cos"), ("x^2", "x^3"), (r"\sqrt", r"\sqrt[3]"))
    choices = [swap for swap in swaps if "$" in text and swap[0] in text]
    return text.replace(*rng.choice(choices), 1) if choices else other_number(text, rng)


OTHER_VALUES = (other_number, swapped_numbers, other_sign)
OTHER = (*OTHER_VALUES, opposite_word)

# Problems ------------------------------------------------------------------------------------------------------------

TEMPLATES = [
    r"Find the sum of all real numbers $x$ such that $\frac{{x^2+{a}x}}{{{b}}} = {c}$ and $x \le {d}$.",
    r"Let $f(x) = {a}x^2 - {b}x + {c}$. What is the largest possible value of $f({d}) \cdot f(-{e})$?",
    r"In triangle $ABC$, the angle at $A$ is ${a}^\circ$, $AB = {b}$ and $AC = {c}\text{{ cm}}$. Find the area of the "
    r"triangle if the first side is increased by ${d}\%$.",
    r"How many positive integers less than ${a}$ are divisible by {b} but not by {c} or {d}?",
    r"Evaluate $\sqrt{{{a}}} + \frac{{{b}}}{{{c}}} \cdot \sin {d}^\circ$ and round the result to {e} decimal places.",
    r"The sequence $a_1, a_2, \ldots, a_{{{a}}}$ is arithmetic with first term ${b}$ and last term ${c}$. What is the "
    r"sum of its even terms when {d} is added to each of them?",
    r"A committee of {a} people is chosen from {b} men and {c} women. If it has at least {d} women and more men than "
    r"women, in how many ways can the committee be chosen?",
    r"What is the smallest positive integer $n$ such that $n^2 + {a}n \ge {b}$ and $n \cdot {c}$ leaves a remainder of "
    r"${d}$ when divided by ${e}$?",
    r"The polynomial $p(x) = x^3 - {a}x^2 + {b}x - {c}$ has roots $r_1$, $r_2$ and $r_3$. Find the value of "
    r"$\frac{{1}}{{2}}(r_1 + r_2 + r_3) + {d}$.",
    r"A circle with center $(h, k)$ and radius ${a}$ passes through the points $({b}, {c})$ and $(-{d}, {e})$. Find "
    r"the largest possible value of $h + k$.",
]


def templated(count: int, rng: random.Random) -> list[str]:
    return [rng.choice(TEMPLATES).format(**{name: rng.randint(3, 4000) for name in "abcde"}) for _ in range(count)]


def word_problems(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return list(dict.fromkeys(json.loads(line)["question"].strip() for line in file))


def changed(text: str, ways, rng: random.Random) -> tuple[str, str]:
    """The text in one of the ways, and which it was; tried until it is another text."""
    for _ in range(50):
        way = rng.choice(ways)
        other = way(text, rng)
        if other != text:
            return other, way.__name__
    return "Consider this. " + text if ways is SAME else other_number(text, rng), "around"


def planted(args: argparse.Namespace) -> dict:
    """Each of `--pairs` problems stands three times: itself, written otherwise, and as another problem."""
    rng = random.Random(args.seed)
    real = word_problems(args.problems)
    rng.shuffle(real)
    real = [text for text in real if DIGITS.search(text)]
    half = min(args.pairs // 2, len(real) - args.benchmark_problems // 2)
    texts = real[:half] + templated(args.pairs - half, rng)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        return {
            "within": _within(texts, folder, rng),
            "benchmarks": _benchmarks(
                real[half : half + args.benchmark_problems // 2] + templated(args.benchmark_problems // 2, rng),
                folder,
                rng,
            ),
        }


def _within(texts: list[str], folder: Path, rng: random.Random) -> dict:
    rows = []
    for number, text in enumerate(texts):
        rows.append((number, "original", text))
        rows += [(number, *reversed(changed(text, ways, rng))) for ways in (SAME, OTHER)]
    originals, rest = [row for row in rows if row[1] == "original"], [row for row in rows if row[1] != "original"]
    rng.shuffle(rest)
    rows = originals + rest
    _write(folder / "rows.jsonl", [text for *_, text in rows])
    _curate("--source", folder / "rows.jsonl", "--filters", "", "--output", folder / "within")
    same = {way.__name__ for way in SAME} | {"around"}
    found = {}
    for line in (folder / "within/reports/duplicates.jsonl").read_text().splitlines():
        one = json.loads(line)
        found[one["row"] - 1] = int(one["kept"].rpartition("row ")[2]) - 1
    right = {row for row, kept in found.items() if rows[row][1] in same and rows[kept][0] == rows[row][0]}
    planted_rows = [index for index, (_, way, _) in enumerate(rows) if way in same]
    wrong = [index for index in found if index not in right]
    missed = [index for index in planted_rows if index not in right]
    _tell("wrongly dropped", [(rows[index][1], rows[index][2], rows[found[index]][2]) for index in wrong])
    _tell("missed", [(rows[index][1], rows[index][2], texts[rows[index][0]]) for index in missed])
    return _rates(len(right), len(planted_rows), len(found)) | {
        "hard_negatives": len(rows) - len(texts) - len(planted_rows),
        "recall_by_kind": _by_kind(rows, planted_rows, right),
        "wrongly_dropped_by_kind": dict(Counter(rows[index][1] for index in wrong)),
    }


def embedded(text: str, rng: random.Random) -> str:
    return rng.choice(
        (
            "You are a helpful assistant. Think step by step and answer the question that follows.\n\n{}\n\nPut the "
            "answer in a box.",
            "{} Write down every step of the calculation and explain to a student why it is right.",
            "Here is a task from a competition for young students, to be solved without a calculator: {}",
        )
    ).format(text)


def _benchmarks(texts: list[str], folder: Path, rng: random.Random) -> dict:
    """Of each problem: word for word, within other text, written otherwise; other problems; with one word changed."""
    _write(folder / "benchmark.jsonl", texts)
    rows = []
    for number, text in enumerate(texts):
        rows += [(number, "copied", text), (number, "embedded", embedded(text, rng))]
        rows += [(number, *reversed(changed(text, SAME, rng))) for _ in range(3)]
        rows += [(number, *reversed(changed(text, OTHER_VALUES, rng))) for _ in range(5)]
        one = opposite_word(text, rng)
        if DIGITS.findall(one) == DIGITS.findall(text):
            rows.append((number, "opposite_word", one))
    rng.shuffle(rows)
    _write(folder / "train.jsonl", [text for *_, text in rows])
    _curate(
        *("--source", folder / "train.jsonl", "--benchmark", f"held-out={folder / 'benchmark.jsonl'}"),
        *("--filters", "", "--keep-duplicates", "--output", folder / "clean"),
    )
    same = {way.__name__ for way in SAME} | {"around", "copied", "embedded"}
    hits = [json.loads(line) for line in (folder / "clean/reports/contamination.jsonl").read_text().splitlines()]
    found = {hit["row"] - 1 for hit in hits if hit["dropped"]}
    planted_rows = [index for index, (_, way, _) in enumerate(rows) if way in same]
    right = found & set(planted_rows)
    one_word = {index for index, (_, way, _) in enumerate(rows) if way == "opposite_word"}
    found_of_them, found = found & one_word, found - one_word  # these are dropped by intent: see decontaminate.py
    _tell("missed", [(rows[index][1], rows[index][2], "") for index in planted_rows if index not in right])
    _tell("wrongly dropped", [(rows[index][1], rows[index][2], "") for index in found - right])
    return _rates(len(right), len(planted_rows), len(found)) | {
        "hard_negatives": len(rows) - len(planted_rows) - len(one_word),
        "recall_by_kind": _by_kind(rows, planted_rows, right),
        "wrongly_dropped_by_kind": dict(Counter(rows[index][1] for index in found - right)),
        "one_word_changed_and_dropped": f"{len(found_of_them)}/{len(one_word)}",
        "hits_reported": len(hits),
    }


def _rates(right: int, planted_count: int, found: int) -> dict:
    return {
        "planted": planted_count,
        "recall": round(right / planted_count, 4),
        "precision": round(right / max(found, 1), 4),
    }


def _by_kind(rows, planted_rows, right) -> dict:
    kinds = Counter(rows[index][1] for index in planted_rows)
    return {kind: f"{sum(rows[i][1] == kind for i in right)}/{count}" for kind, count in sorted(kinds.items())}


def _tell(what: str, examples: list[tuple], most: int = 12) -> None:
    for kind, text, other in random.Random(0).sample(examples, min(most, len(examples))):
        print(f"{what} ({kind}): {text!r:.400}\n    {other!r:.400}", file=sys.stderr)


def _write(path: Path, texts: list[str]) -> None:
    """All with the same gold, so that the gold cannot tell one problem from the other."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"problem": text, "answer": "7"}) + "\n" for text in texts)


def _command(*arguments) -> list[str]:
    return [sys.executable, "-m", "openrlhf_math", "curate", *map(str, arguments)]


def _curate(*arguments) -> dict:
    result = subprocess.run(_command(*arguments, "--json"), capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    return json.loads(result.stdout)


# Memory and speed ----------------------------------------------------------------------------------------------------

VERBS = "sold bought packed counted planted collected painted carried found stored".split()
THINGS = "apples books lamps tiles boxes coins tickets shells stamps pencils bottles cards flowers chairs".split()
PLACES = "at the market|in the garden|for the school|near the river|in the attic|on the train|at the fair".split("|")
TAILS = (
    "How many {} are left when {} of them are given away?|What is the cost of all {} if each one costs {} cents?|"
    "How many {} does that make after {} such days?"
).split("|")


def synthetic(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of about 300 characters with a solution; every tenth is an earlier one of its block, with other spacing."""
    rng = random.Random(seed)
    block: list[dict] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 10 == 9:
                row = rng.choice(block) | {}
                row["problem"] = row["problem"].replace(". ", ".  ")
            else:
                row = _synthetic_row(rng)
                block = (block + [row])[-100:]
            file.write(json.dumps(row) + "\n")


def _synthetic_row(rng: random.Random) -> dict:
    name, thing, count = rng.choice(NAMES), rng.choice(THINGS), rng.randint(10, 9999)
    sentences = [
        f"{rng.choice(NAMES)} {rng.choice(VERBS)} {rng.randint(2, 9999)} {rng.choice(THINGS)} {rng.choice(PLACES)}."
        for _ in range(4)
    ]
    tail = rng.choice(TAILS).format(thing, rng.randint(2, 99))
    problem = " ".join([f"{name} {rng.choice(VERBS)} {count} {thing} {rng.choice(PLACES)}.", *sentences, tail])
    return {"problem": problem, "answer": str(count * 3), "solution": f"There are {count} {thing}. " * 6}


def memory(args: argparse.Namespace) -> list[dict]:
    """Peak of the proportional set size of the command and all its children, Ray's own processes among them."""
    told = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "rows.jsonl"
            synthetic(source, rows)
            megabytes = source.stat().st_size >> 20
            output = Path(folder) / "out"
            synthetic(Path(folder) / "benchmark.jsonl", 1000, seed=1)
            command = _command("--source", source, "--output", output, "--workers", args.workers, "--json")
            command += ["--benchmark", f"some={Path(folder) / 'benchmark.jsonl'}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            peaks = _Peaks(process.pid)
            out = json.loads(process.communicate()[0])
            peaks.stop()
        steps = {name: round(rows / taken) for name, taken in out["seconds"].items() if not name.startswith("stage")}
        stages = {name[7:]: round(taken, 1) for name, taken in out["seconds"].items() if name.startswith("stage")}
        told.append(
            {
                "rows": rows,
                "input_MB": megabytes,
                "written": out["written"],
                "seconds": round(out["elapsed"], 1),
                "rows_a_second": round(rows / out["elapsed"]),
                "rows_a_second_of_one_worker": steps,
                "stage_seconds": stages,
                "peak_MB_all": peaks.together,
                "peak_MB_one_process": peaks.one,
            }
        )
        print(json.dumps(told[-1]), flush=True)
    return told


class _Peaks:
    """Looks at a process and its children five times a second."""

    def __init__(self, pid: int) -> None:
        self.pid, self.together, self.one, self.over = pid, 0, 0, False
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        import psutil

        root = psutil.Process(self.pid)
        while not self.over:
            sizes = []
            for pid in [self.pid, *(child.pid for child in _children(root))]:
                try:
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                sizes.append(int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) >> 10)
            self.together, self.one = max(self.together, sum(sizes)), max(self.one, *sizes, 0)
            time.sleep(0.2)

    def stop(self) -> None:
        self.over = True
        self.thread.join()


def _children(root) -> list:
    import psutil

    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


# kill -9 -------------------------------------------------------------------------------------------------------------


def kills(args: argparse.Namespace) -> dict:
    """Runs are killed at random moments of their length and taken up again; what gets through is compared.

    It must have the bytes of a run nobody disturbed, in one process. A dataset that is finished is made anew.
    """
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source, benchmark = folder / "rows.jsonl", folder / "benchmark.jsonl"
        synthetic(source, args.kill_rows)
        shutil.copy(source, folder / "copy.jsonl")
        with source.open() as file, benchmark.open("w") as some:
            some.writelines(line for number, line in enumerate(file) if number % 500 == 0)
        common = ["--source", source, "--source", folder / "copy.jsonl", "--benchmark", f"planted={benchmark}"]
        _curate(*common, "--output", folder / "alone", "--workers", 0)
        expected = digest(folder / "alone")
        output = folder / "killed"
        commands = [_command(*common, "--output", output, "--workers", count) for count in (args.workers, 0)]
        killed, same, lengths = [], [], []

        def compare() -> None:
            same.append(digest(output) == expected)
            shutil.rmtree(output)

        for command in commands:
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            lengths.append(time.perf_counter() - begun)
            compare()
        while len(killed) < args.times:
            which = len(killed) % 2  # through Ray, and in one process
            process = subprocess.Popen(commands[which], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = rng.uniform(0, lengths[which])
            try:
                process.wait(after)
                compare()
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                workers = (args.workers, 0)[which]
                killed.append(f"--workers {workers} after {after:.1f} s, tasks done: {_tasks_done(output)}")
        subprocess.run(commands[0], check=True, capture_output=True)
        compare()
    return {
        "rows": 2 * args.kill_rows,
        "undisturbed_seconds": [round(length, 1) for length in lengths],
        "killed": killed,
        "datasets_finished": len(same),
        "byte_identical": sum(same),
    }


def _tasks_done(output: Path) -> str:
    stages = ("read", "pair", "verify", "write")
    return ", ".join(f"{stage} {len(list((output / '.work' / stage).glob('*.json')))}" for stage in stages)


def digest(folder: Path) -> dict[str, str]:
    """The files of a dataset and what is in them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("planted", "memory", "kills"))
    parser.add_argument("--problems", type=Path, help="word problems as JSONL, question and answer")
    parser.add_argument("--pairs", type=int, default=10_000, help="problems that stand three times")
    parser.add_argument("--benchmark-problems", type=int, default=2_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--kill-rows", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = {"planted": planted, "memory": memory, "kills": kills}[args.what](args)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
