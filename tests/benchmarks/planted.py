r"""Recall and precision of `curate` by kind of copy, against the 8-gram rule of open-r1, on the same rows.

A kind makes of each problem a copy, which must be dropped, or another problem written alike, which must be kept.
Each kind is measured on its own, so that no copy is found through another one:

    benchmark    the rows of the kind against the problems as a benchmark
    duplicates   the rows behind the problems in one set; a copy has its problem's gold, another problem another
    same gold    the same where all golds are equal, so that the texts alone must tell problems apart
"""

import contextlib
import io
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import planted_copies as copies
import planted_others as others
import planted_words as words

HERE = Path(__file__).parent
WHOLE, PART = "whole", "part"
# kind -> how it is measured: a part of a problem, or one that asks for another form of the answer, is not a duplicate.
COPIES = {
    copies.exact: WHOLE,
    copies.spacing_and_case: WHOLE,
    copies.prompt: WHOLE,
    copies.embedded: PART,
    copies.numbered: WHOLE,
    copies.points_and_source: WHOLE,
    copies.options_added: WHOLE,
    copies.options_removed: WHOLE,
    copies.instruction: WHOLE,
    copies.solution_appended: PART,
    copies.html: WHOLE,
    copies.markdown: WHOLE,
    copies.escaped_twice: WHOLE,
    copies.literal_newlines: WHOLE,
    copies.drawing_removed: WHOLE,
    copies.image_removed: WHOLE,
    copies.fraction_back: PART,
    copies.plain_ascii: WHOLE,
    copies.unicode_maths: WHOLE,
    copies.latex_forms: WHOLE,
    copies.without_dollars: WHOLE,
    words.renamed_people: WHOLE,
    words.units_in_words: WHOLE,
    words.numbers_in_words: WHOLE,
    words.numbers_in_digits: WHOLE,
    words.currency: WHOLE,
    words.second_half: PART,
    words.tail_dropped: PART,
    words.question_first: WHOLE,
    words.typing_errors: WHOLE,
}
# Copies that take a reader: a second stage may find them, and a report of suspects names them.
REWRITTEN = {
    words.variables_renamed: WHOLE,
    words.clauses_reordered: WHOLE,
    words.paraphrase: WHOLE,
    words.reworded: WHOLE,
}
OTHERS = (
    others.digit_changed,
    others.number_word_changed,
    others.numbers_swapped,
    others.all_numbers_changed,
    others.minus_removed,
    others.minus_added,
    others.plus_for_minus,
    others.relation_reversed,
    others.strictness_changed,
    others.root_braces,
    others.exponent_braces,
    others.fraction_extent,
    others.bracket_moved,
    others.exponent_changed,
    others.subscript_for_power,
    others.function_changed,
    others.opposite_word,
    others.asked_quantity,
    others.names_swapped,
    others.variables_swapped,
    others.condition_added,
    others.unit_asked,
    others.negation_added,
)


@dataclass
class Measured:
    """Rows of a kind and which of them were dropped: row -> what it was taken for. noted: reported, but not dropped."""

    kind: str
    copy: str
    rows: list[tuple[int, str]] = field(default_factory=list)
    benchmark: set[int] = field(default_factory=set)
    noted: set[int] = field(default_factory=set)
    duplicates: set[int] | None = None
    same_gold: set[int] | None = None
    ngrams: set[int] = field(default_factory=set)

    def figures(self) -> dict:
        count = len(self.rows)
        share = lambda found: None if found is None else round(len(found) / count, 4)  # noqa: E731
        kept = lambda found: None if found is None else round(1 - len(found) / count, 4)  # noqa: E731
        rate = share if self.copy else kept
        return {
            "kind": self.kind,
            "must_be": "dropped" if self.copy else "kept",
            "rows": count,
            "benchmark": rate(self.benchmark),
            "noted": share(self.noted),
            "duplicates": rate(self.duplicates),
            "same_gold": rate(self.same_gold),
            "8-grams": rate(self.ngrams),
        }


def planted(args) -> dict:
    rng = random.Random(args.seed)
    problems = own_problems() + [text for path in args.problems for text in problems_of(path, args.of_each_file, rng)]
    golds = [gold(number) for number in range(len(problems))]
    chosen = args.kinds.split(",") if args.kinds else None
    measured, since = [], time.perf_counter()
    for kind, copy in [*(COPIES | REWRITTEN).items(), *((kind, "") for kind in OTHERS)]:
        if chosen and kind.__name__ not in chosen:
            continue
        rows = rows_of(kind, problems, args.rows_a_kind, random.Random(f"{args.seed} {kind.__name__}"))
        if rows:
            measured.append(measure(Measured(kind.__name__, copy, rows), problems, golds, args.same_gold))
            if sys.stderr.isatty():
                print(f"{time.perf_counter() - since:5.1f} s  {kind.__name__}", file=sys.stderr)
    figures = [one.figures() for one in measured]
    print(table(figures), file=sys.stderr)
    if args.show:
        show(measured, problems, args.show)
    result = {
        "problems": len(problems),
        "seconds": round(time.perf_counter() - since, 1),
        "kinds": figures,
        "totals": totals(figures),
    }
    if args.result:
        args.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def own_problems() -> list[str]:
    text = (HERE / "planted_problems.txt").read_text(encoding="utf-8")
    return [one.strip() for one in text.split("\n\n") if one.strip()]


def problems_of(path: Path, most: int, rng: random.Random) -> list[str]:
    """Problems of a JSONL file: `problem`, `question` or `prompt`."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = [next(row[name] for name in ("problem", "question", "prompt") if row.get(name)).strip() for row in rows]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) >= 10]
    return rng.sample(texts, min(most, len(texts)))


def gold(number: int) -> str:
    """A distinct gold for each problem, of several forms."""
    forms = ("{0}", r"\frac{{{0}}}{{1009}}", r"{0}\sqrt{{2}}", "({0}, 3)", "x^2 + {0}", "{0}")
    return forms[number % len(forms)].format(number + 1001)


def rows_of(kind: Callable, problems: list[str], most: int, rng: random.Random) -> list[tuple[int, str]]:
    """(number of the problem, row) of up to `most` problems for which the kind has a row."""
    rows = []
    for number in rng.sample(range(len(problems)), len(problems)):
        text = kind(problems[number], rng)
        if text is not None and (text != problems[number] or kind is copies.exact) and text.strip():
            rows.append((number, text))
        if len(rows) == most:
            break
    return rows


def measure(one: Measured, problems: list[str], golds: list[str], same_gold: bool) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = [(text, golds[number] if one.copy else f"{golds[number]}7") for number, text in one.rows]
        originals = list(zip(problems, golds, strict=True))
        write(folder / "problems.jsonl", originals)
        write(folder / "rows.jsonl", rows)
        curate(
            "--source",
            folder / "rows.jsonl",
            "--benchmark",
            f"held-out={folder / 'problems.jsonl'}",
            "--keep-duplicates",
            "--output",
            folder / "clean",
        )
        hits = lines(folder / "clean/reports/contamination.jsonl")
        one.benchmark = {hit["row"] - 1 for hit in hits if hit.get("dropped", True)}
        suspects = lines(folder / "clean/reports/suspects.jsonl")
        one.noted = {hit["row"] - 1 for hit in [*hits, *suspects] if "row" in hit} - one.benchmark
        if one.copy != PART:
            one.duplicates = duplicates(folder / "together", originals, rows)
        if not one.copy and same_gold:
            equal = lambda pairs: [(text, "7") for text, _ in pairs]  # noqa: E731
            one.same_gold = duplicates(folder / "same", equal(originals), equal(rows))
        one.ngrams = eight_grams([text for text, _ in rows], problems)
    return one


def duplicates(folder: Path, originals: list, rows: list) -> set[int]:
    """The rows, by their numbers from 0, that were taken for a problem before them."""
    folder.mkdir()
    write(folder / "rows.jsonl", [*originals, *rows])
    curate("--source", folder / "rows.jsonl", "--output", folder / "out")
    found = {line["row"] - 1 for line in lines(folder / "out/reports/duplicates.jsonl")}
    return {row - len(originals) for row in found if row >= len(originals)}


def write(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"problem": text, "answer": answer}) + "\n" for text, answer in pairs)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def curate(*arguments) -> None:
    """The command, in this process: starting one for each kind would take longer than its work."""
    from openrlhf_math.cli import main

    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        code = main(["curate", *map(str, arguments), "--filters", "", "--workers", "0", "--json"])
    if code and "is left" not in errors.getvalue():  # all rows dropped is a result
        raise SystemExit(errors.getvalue()[-2000:])


def eight_grams(rows: list[str], problems: list[str], length: int = 8) -> set[int]:
    """open-r1's rule (scripts/decontaminate.py): lower case, words by white space, any shared run of eight words."""

    def runs(text: str) -> set[str]:
        split = text.lower().split()
        return {" ".join(split[start : start + length]) for start in range(len(split) - length + 1)}

    known = set().union(*map(runs, problems))
    return {number for number, row in enumerate(rows) if not known.isdisjoint(runs(row))}


COLUMNS = ("benchmark", "noted", "duplicates", "same_gold", "8-grams")


def totals(figures: list[dict]) -> list[dict]:
    """Over the rows of all kinds: of copies the share dropped, of others the share kept, and the precision."""
    found = []
    rewritten = {kind.__name__ for kind in REWRITTEN}
    for name, must_be, chosen in (
        ("mechanical copies", "dropped", lambda kind: kind not in rewritten),
        ("rewritten copies", "dropped", lambda kind: kind in rewritten),
        ("other problems", "kept", lambda kind: True),
    ):
        those = [one for one in figures if one["must_be"] == must_be and chosen(one["kind"])]
        if those:
            total = {"kind": name, "must_be": must_be, "rows": sum(one["rows"] for one in those)}
            for column in COLUMNS:
                known = [one for one in those if one[column] is not None]
                rows = sum(one["rows"] for one in known)
                total[column] = round(sum(one[column] * one["rows"] for one in known) / rows, 4) if rows else None
            found.append(total)
    return found + [precision(figures)]


def precision(figures: list[dict]) -> dict:
    """Of all rows that were dropped, the share of copies."""
    found = {"kind": "precision", "must_be": "", "rows": sum(one["rows"] for one in figures)}
    for column in COLUMNS:
        right = sum(
            one[column] * one["rows"] for one in figures if one["must_be"] == "dropped" and one[column] is not None
        )
        wrong = sum(
            (1 - one[column]) * one["rows"] for one in figures if one["must_be"] == "kept" and one[column] is not None
        )
        found[column] = round(right / (right + wrong), 4) if right and column not in ("noted", "same_gold") else None
    return found


def table(figures: list[dict]) -> str:
    """As text: what must be dropped by its recall, what must be kept by the share that is kept."""
    shown = [f"{'kind':24}{'must be':9}{'rows':>6}" + "".join(f"{name:>12}" for name in COLUMNS)]
    for one in [*figures, *totals(figures)]:
        cells = "".join(f"{'' if one[name] is None else format(one[name], '.3f'):>12}" for name in COLUMNS)
        shown.append(f"{one['kind']:24}{one['must_be']:9}{one['rows']:>6}" + cells)
    return "\n".join(shown)


def show(measured: list[Measured], problems: list[str], most: int) -> None:
    """Rows that were judged wrongly, with their problems, to standard error."""
    for one in measured:
        for way in ("benchmark", "duplicates", "same_gold"):
            found = getattr(one, way)
            if found is None:
                continue
            wrong = sorted(set(range(len(one.rows))) - found if one.copy else found)
            for row in wrong[:most]:
                number, text = one.rows[row]
                was = "missed" if one.copy else "wrongly dropped"
                print(
                    f"\n{was}: {one.kind}, {way}\n  row     {_line(text)}\n  problem {_line(problems[number])}",
                    file=sys.stderr,
                )


def _line(text: str) -> str:
    return re.sub(r"\n", "⏎", text)[:700]


def pairs(args) -> dict:
    """Pairs of problems from a JSONL file, judged in both ways.

    Columns: a, b, same; gold_a, gold_b (equal without them); kind; ways, where only one of them counts.
    """
    cases = lines(args.pairs_file)
    wrong, by_kind = [], {}
    for case in cases:
        golds = case.get("gold_a", "7"), case.get("gold_b", "7")
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            write(folder / "a.jsonl", [(case["a"], golds[0])])
            write(folder / "b.jsonl", [(case["b"], golds[1])])
            benchmark = f"held-out={folder / 'a.jsonl'}"
            curate("--source", folder / "b.jsonl", "--benchmark", benchmark, "--output", folder / "clean")
            dropped = any(hit.get("dropped", True) for hit in lines(folder / "clean/reports/contamination.jsonl"))
            merged = bool(duplicates(folder / "together", [(case["a"], golds[0])], [(case["b"], golds[1])]))
        right, count = by_kind.get(case.get("kind", ""), (0, 0))
        found = {"benchmark": dropped, "duplicates": merged}
        agrees = all(found[way] == case["same"] for way in case.get("ways", found))
        by_kind[case.get("kind", "")] = right + agrees, count + 1
        if not agrees:
            wrong.append(case | found)
    shown = {kind: f"{right} of {count}" for kind, (right, count) in by_kind.items()}
    return {"pairs": len(cases), "right": len(cases) - len(wrong), "by_kind": shown, "wrong": wrong}
