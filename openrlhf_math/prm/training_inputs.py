"""What a training reads: labelled steps, checked before anything starts, in the run directory."""

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from openrlhf_math.checkpoints.folder import settle
from openrlhf_math.data.chat_date import checked_date
from openrlhf_math.data.files import atomic_write, write_json
from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import check_window, positions
from openrlhf_math.modeling.model_folder import check_model, check_weights
from openrlhf_math.modeling.model_kind import check_not_quantised, read_config, token_error
from openrlhf_math.prm.forms import Form, find_form
from openrlhf_math.prm.rows import Rejected, Solution, read_lines, read_solution
from openrlhf_math.prm.training_settings import PRMArguments
from openrlhf_math.runs.process import claim_run_dir
from openrlhf_math.sft.inputs import MODEL_FLAG, check_same, settings_of
from openrlhf_math.sft.settings import is_first, processes
from openrlhf_math.training.schedule import print_steps

FORM = ("math.scorer", "math.separator")  # settings on which the weights depend
FILES = {"train": "data", "eval": "eval"}  # our names of the parts, and the sections of their flags


@dataclass(slots=True)
class Rows:
    """The rows of a part: those that are learned from, and those that are set aside."""

    kept: list[Solution] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def prepare(args: PRMArguments) -> None:
    """Check the inputs, write them into the run directory and point OpenRLHF's flags at them. Raises UserError.

    Only the first process reads and writes; the others wait for it where OpenRLHF first brings all together.
    """
    run_dir, model = args.math.run_dir, args.model.model_name_or_path
    parts = ["train", "eval"] if args.eval.dataset else ["train"]
    if is_first():
        claim_run_dir(args)
        form = check_base(model, args.math.scorer, args.math.separator)
        tokenizer = form.tokenizer(model)
        found = checked_date(None, model, tokenizer) if form.separator is None else None  # in a chat
        args.math = replace(args.math, scorer=form.scorer, separator=form.separator, chat_date=found)
        rows = {part: _read(getattr(args, FILES[part]).dataset, args, part, form, tokenizer) for part in parts}
        _check_amount(args, rows["train"])
        check_base_weights(model, form)
        config = settings_of(args) | {"processes": processes(), "traces": _identity(rows["train"])}
        if args.ckpt.load_enable:
            check_same(args, config, FORM)
            settle(Path(args.ckpt.path))
        _write(run_dir, rows, config)
        for part in parts:
            _print_rejected(rows[part], run_dir / f"rejects_{part}.jsonl")
    args.data.dataset, args.data.dataset_split = str(_file(run_dir, "train")), "train"
    if args.eval.dataset:
        args.eval.dataset, args.eval.split = str(_file(run_dir, "eval")), "train"


def check_base(model: str, scorer: str | None, separator: str | None) -> Form:
    """The form that a base model becomes. Raises UserError unless it can become a PRM.

    scorer, separator: `--math.scorer` and `--math.separator`, or None.
    """
    check_model(MODEL_FLAG, model)
    config = read_config(MODEL_FLAG, model)
    check_not_quantised(MODEL_FLAG, model, config)
    check_window(MODEL_FLAG, model, config)
    return find_form(model, scorer, separator)


def check_base_weights(model: str, form: Form, may_be_missing: bool = False) -> None:
    """Raise UserError if a directory lacks a weight that is not of the new head. may_be_missing: all of them."""
    if os.path.isdir(model):
        check_weights(MODEL_FLAG, model, form.architecture(model), new=("score.",), may_be_missing=may_be_missing)


def _read(specs: str, args: PRMArguments, part: str, form: Form, tokenizer: Tokenizer) -> Rows:
    model = args.model.model_name_or_path
    most = positions(read_config(MODEL_FLAG, model))
    unknown = token_error(MODEL_FLAG, model, tokenizer)
    rows, split = Rows(), {"train": args.data.dataset_split, "eval": args.eval.split}[part]
    for spec in specs.split(","):
        for place, row in read_lines(spec.strip(), split):
            if isinstance(row, Rejected):
                rows.rejected.append(row)
                continue
            try:
                solution = read_solution(row)
            except ValueError as error:
                rows.rejected.append(Rejected(place, str(error)))
                continue
            ids = form.encode(tokenizer, solution.problem, solution.steps).ids
            tokens = len(ids) + 1
            if fault := form.fault(solution.steps):
                rows.rejected.append(Rejected(place, fault))
            elif form.separator is not None and (fault := unknown(ids)):
                raise UserError(f"{place}: {fault}")
            elif tokens > args.data.max_len:
                reason = f"its {tokens} tokens are more than --data.max_len {args.data.max_len}"
                rows.rejected.append(Rejected(place, reason))
            elif tokens > most:
                reason = f"its {tokens} tokens are more than the {most:g} positions of the model"
                rows.rejected.append(Rejected(place, reason))
            else:
                rows.kept.append(solution)
    if not rows.kept:
        first = "it is empty" if not rows.rejected else f"{rows.rejected[0].place}: {rows.rejected[0].reason}"
        raise UserError(f"--{FILES[part]}.dataset {specs} has no row to use ({first})")
    return rows


def _print_rejected(rows: Rows, path: Path) -> None:
    if rows.rejected:
        count, first = len(rows.rejected), rows.rejected[0]
        print(
            f"set aside: {count} of {count + len(rows.kept)} rows, the first {first.place}: {first.reason}; "
            f"all are in {path}"
        )


def _check_amount(args: PRMArguments, rows: Rows) -> None:
    count = min(len(rows.kept), args.data.max_samples)
    if count < args.train.batch_size:
        why = f", as {len(rows.rejected)} are set aside ({rows.rejected[0].reason})" if rows.rejected else ""
        raise UserError(
            f"--data.dataset {args.data.dataset} has {count} rows, fewer than one batch "
            f"(--train.batch_size {args.train.batch_size}){why}; lower the batch size or add rows"
        )
    kinds = {label > 0.5 for row in rows.kept for label in row.labels if label is not None}
    if len(kinds) < 2:
        only = "right" if kinds == {True} else "wrong"
        raise UserError(f"--data.dataset {args.data.dataset}: all its steps are {only}, so there is nothing to learn")
    print_steps(count, processes(), args, "solutions")


def _identity(rows: Rows) -> dict:
    """What a resumed run must find again."""
    digest = hashlib.sha256()
    for row in rows.kept:
        digest.update(json.dumps(row.as_row()).encode())
    return {"rows": len(rows.kept), "sha256": digest.hexdigest()}


def _write(run_dir: Path, rows: dict[str, Rows], config: dict) -> None:
    (run_dir / "steps").mkdir(parents=True, exist_ok=True)
    for part, found in rows.items():
        with atomic_write(_file(run_dir, part)) as file:
            file.writelines(json.dumps(row.as_row(), ensure_ascii=False) + "\n" for row in found.kept)
        with atomic_write(run_dir / f"rejects_{part}.jsonl") as file:
            file.writelines(json.dumps({"place": one.place, "reason": one.reason}) + "\n" for one in found.rejected)
    write_json(run_dir / "config.json", config)


def _file(run_dir: Path, part: str) -> Path:
    return run_dir / "steps" / f"{part}.jsonl"
