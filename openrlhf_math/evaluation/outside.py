"""Completions made by other tools, read by the columns of those tools."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openrlhf_math.data.columns import decoded
from openrlhf_math.data.problems import completion_rows
from openrlhf_math.data.tables import Keys
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.recorded import LABELS, Row, row_of
from openrlhf_math.runs.rollouts import MAJORITY, TOKEN_COLUMNS

# From a row as written to one with `gold` and `responses`, see `recorded.row_of`.
Translator = Callable[[dict], dict]


Again = Literal["another problem", "another completion", "a repetition"]


@dataclass(frozen=True, slots=True)
class Form:
    """A way to write completions. again: what another row of the same problem is."""

    name: str
    columns: frozenset[str]
    translate: Translator
    again: Again


FORMS: list[Form] = []


def register_form(name: str, *columns: str, again: Again = "another problem") -> Callable[[Translator], Translator]:
    """Make a form known by its columns. Of several that fit, the first registered is taken."""

    def register(translate: Translator) -> Translator:
        FORMS.append(Form(name, frozenset(columns), translate, again))
        return translate

    return register


@register_form("a problem a row", "gold", "responses")
def problem_a_row(row: dict) -> dict:
    return row


@register_form("a completion a row", "gold", "response", again="another completion")
def completion_a_row(row: dict) -> dict:
    """What `eval` itself leaves, and what `grade` reads."""
    lists = {"responses": [row["response"]]}
    lists |= {name: [_plain(row[name])] for name in ("tokens", "truncated") if row.get(name) is not None}
    if "scores" in row:  # null where the scorer has failed; Parquet holds them as JSON
        lists["scores"] = [_plain(row["scores"])]
    if "confidence" in row:
        lists["confidence"] = [_plain(row["confidence"])]
    return {name: row.get(name) for name in ("problem", "gold", *LABELS)} | lists


def _plain(value: Any) -> Any:
    """Lists and objects are JSON in Parquet. CSV has numbers as text; pandas writes True, and 5.0 near empty cells."""
    if not isinstance(value, str):
        return value
    found = json.loads(value.lower() if value in ("True", "False") else value)
    return int(found) if isinstance(found, float) and found.is_integer() else found


@register_form("Qwen2.5-Math's evaluation", "gt", "code")
def qwen_math(row: dict) -> dict:
    code = decoded(row["code"])
    responses = code if isinstance(code, list) else [code]
    labels = {"subject": row.get("type") or row.get("subfield"), "level": row.get("level")}
    return {"problem": row.get("question"), "gold": row["gt"], "responses": responses} | labels


@register_form("lm-evaluation-harness", "doc", "target", "resps", again="a repetition")
def lm_evaluation_harness(row: dict) -> dict:
    """`resps` is a list of requests, each a list of its completions. A document is repeated for each of a task's
    filters."""
    doc, resps = decoded(row["doc"]), decoded(row["resps"])
    if not isinstance(resps, list):
        raise TypeError(f"resps is {resps!r:.40}, no list")
    doc = doc if isinstance(doc, dict) else {}
    problem = next((doc[name] for name in ("problem", "question", "query") if isinstance(doc.get(name), str)), None)
    responses = [text for request in resps for text in (request if isinstance(request, list) else [request])]
    labels = {"subject": doc.get("subject") or doc.get("type"), "level": doc.get("level")}
    return {"problem": problem, "gold": row["target"], "responses": responses} | labels


@register_form("lighteval", "doc", "model_response")
def lighteval(row: dict) -> dict:
    """The gold is one of the choices."""
    doc, made = decoded(row["doc"]), decoded(row["model_response"])
    index = doc["gold_index"]
    gold = doc["choices"][index[0] if isinstance(index, list) else index]
    if not isinstance(made["text"], list):
        raise TypeError(f"text is {made['text']!r:.40}, no list")
    tokens = {"tokens": [len(one) for one in made["output_tokens"]]} if made.get("output_tokens") else {}
    return {"problem": doc.get("query"), "gold": gold, "responses": made["text"]} | tokens


def read_completions(path: Path, keys: Keys | None = None, flag: str = "--completions ") -> list[Row]:
    """A problem with its completions each, in their order. Raises UserError naming what is wrong where."""
    if not path.exists():
        raise UserError(f"{flag}{path}: there is no such file")
    raw = [
        (place, _plain_names((keys or Keys()).renamed(row)))
        for place, row in completion_rows(str(path), without=TOKEN_COLUMNS)
    ]
    if by_majority := sum(row.get("graded_by") == MAJORITY for _, row in raw):
        print(
            f"Note: {by_majority} of {len(raw)} completions of {path} have the answer of their group's majority as "
            "gold, so accuracy is agreement with it.",
            file=sys.stderr,
        )
    form = next((form for form in FORMS if form.columns <= raw[0][1].keys()), None)
    if form is None:
        known = "; ".join(f"{form.name}: {', '.join(sorted(form.columns))}" for form in FORMS)
        raise UserError(
            f"{flag}{path}: its columns are {', '.join(raw[0][1])}, of no known form ({known}); "
            "other columns are named with --gold-key and --response-key"
        )
    rows: Iterable[tuple[str, str, dict]] = _translated(form, raw, flag)
    if form.again == "another completion":
        rows = _together(rows)
    elif form.again == "a repetition":
        rows = _once(rows, flag)
    found = [row_of(row, place) for place, _, row in rows]
    if not any(row.responses for row in found):
        raise UserError(f"{flag}{path} has no completions: all its `responses` are empty")
    return found


def _plain_names(row: dict) -> dict:
    """lighteval's columns are `__doc__` in some releases, `doc` in others."""
    return {name.strip("_"): value for name, value in row.items()}


def _translated(form: Form, raw: Iterable[tuple[str, dict]], flag: str) -> Iterator[tuple[str, str, dict]]:
    """Place, name of the problem, and the row as `row_of` takes it."""
    for number, (place, row) in enumerate(raw, start=1):
        try:
            found = form.translate(row)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{flag}{place}: not as {form.name} writes it ({error!r:.100}); correct or drop it"
            ) from None
        yield place, _name_of(number, row), found


def _name_of(number: int, row: dict) -> str:
    """What the rows of one problem share. A number alone does not make a problem: two sets count from 0 each."""
    named = [row.get(name) for name in ("problem_index", "doc_id")]
    content = [row.get(name) for name in ("problem", "doc")]
    if all(one is None for one in named) and all(one is None for one in content):
        return f"row {number}"
    gold = row.get("gold", row.get("target"))
    return json.dumps([*map(str, named), content, str(gold)], sort_keys=True, default=str)


def _once(rows: Iterable[tuple[str, str, dict]], flag: str) -> Iterator[tuple[str, str, dict]]:
    """The first row of each problem. Raises UserError where another has other completions: it is of another run."""
    seen: dict[str, tuple[str, list]] = {}
    for place, name, row in rows:
        first, responses = seen.setdefault(name, (place, row["responses"]))
        if first == place:
            yield place, name, row
        elif row["responses"] != responses:
            raise UserError(
                f"{flag}{place} has other completions of the problem of {first}; give the samples of one run at a time"
            )


def _together(rows: Iterable[tuple[str, str, dict]]) -> list[tuple[str, str, dict]]:
    """Rows of one completion each, put together by problem."""
    problems: dict[str, tuple[str, str, dict]] = {}
    for place, name, row in rows:
        first = problems.setdefault(name, (place, name, row))[2]
        if first is not row:
            for column in ("responses", "scores", "tokens", "truncated", "confidence"):
                if column in first or column in row:
                    first[column] = first.get(column, []) + row.get(column, [])
    return list(problems.values())
