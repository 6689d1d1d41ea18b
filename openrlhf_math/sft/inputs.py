"""What a fine-tuning reads: rows as the model sees them, checked before anything starts, in the run directory."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.checkpoints import folder
from openrlhf_math.checkpoints.folder import settle
from openrlhf_math.data.files import atomic_write, write_json, write_parquet
from openrlhf_math.data.problems import read_rows
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import check_model, check_weights
from openrlhf_math.modeling.model_kind import check_language_model, check_positions, checked_family
from openrlhf_math.runs.process import claim_run_dir
from openrlhf_math.runs.progress import Progress, silent
from openrlhf_math.sft.render import MODEL_FLAG, Renderer, Trace
from openrlhf_math.sft.rows import (
    FIRST,
    SetRows,
    Source,
    apply_weights,
    print_counts,
    print_set,
    read_set,
    read_sources,
)
from openrlhf_math.sft.settings import SFTRunArguments, data_parallel_ranks, is_first, processes
from openrlhf_math.training.flag_checks import check_installed
from openrlhf_math.training.lora import check_base
from openrlhf_math.training.schedule import print_steps

# May differ from what the run began with when it is resumed: nothing the weights depend on.
FREE_SECTIONS = ("ckpt", "logger", "eval", "local_rank", "math")

Sets = dict[str, list[Source]]  # of "train" and "eval"
Display = Callable[[], AbstractContextManager[Progress]]


def _quiet() -> AbstractContextManager[Progress]:
    return nullcontext(silent)


def prepare(args: SFTRunArguments, display: Display = _quiet) -> None:
    """Check the inputs, write them into the run directory and point OpenRLHF's flags at them. Raises UserError.

    display: shows how far reading is, while it lasts. Only the first process reads and writes; the others wait for it
    where OpenRLHF first brings all together.
    """
    sets = _sets(args)
    files = {kind: [_folder(args) / f"{kind}{n}.parquet" for n in range(len(sets[kind]))] for kind in sets}
    if is_first():
        check_model(MODEL_FLAG, args.model.model_name_or_path)
        check_language_model(MODEL_FLAG, args.model.model_name_or_path)
        ring = args.ds.ring_attn_size
        checked_family(MODEL_FLAG, args.model.model_name_or_path, ring, ask_hub=ring > 1)
        check_installed(args)
        claim_run_dir(args)
        found = {} if is_plain_text(args) else _read(args, sets, display)
        check_weights(MODEL_FLAG, args.model.model_name_or_path)
        config = _config(args, found)
        if args.ckpt.load_enable:
            check_same(args, config)
            check_base(args.math.run_dir, args.model.model_name_or_path, args.math.lora)
            settle(Path(args.ckpt.path))
        for kind in found:
            for path, part in zip(files[kind], found[kind], strict=True):
                _write(path, part.traces)
        args.math.run_dir.mkdir(parents=True, exist_ok=True)
        _list(args.math.run_dir, [part for parts in found.values() for part in parts])
        write_json(args.math.run_dir / "config.json", config)
    if not is_plain_text(args):
        _point_at(args, files)


def look(args: SFTRunArguments) -> None:
    """Print what the first rows of each set on this machine become. Raises UserError for what `prepare` would refuse.

    Without the model on this machine, their columns and messages are checked alone.
    """
    sets = _sets(args)
    render, model = None, args.model.model_name_or_path
    if os.path.isdir(model) and not is_plain_text(args):
        render = _renderer(args)
    train: list[SetRows] = []
    for source, split in _splits(args, sets):
        if not source.is_here:
            print(f"rows: {source.name} is not on this machine and was not read")
        elif not is_plain_text(args):
            found = read_set(args, source, split, render, max(FIRST, args.train.batch_size))
            if render is None:
                columns = found.layout.text
                print(f"rows: columns {columns} of {source.name}; not rendered, as {model} is not on this machine")
                continue
            print_set(found, args.data.max_len)
            if found.traces:
                print(f"the first row, with [[what is learned]]:\n{found.traces[0].marked(render.tokenizer)}")
            if found.whole and any(source is one for one in sets["train"]):
                train.append(found)
    if len(train) == len(sets["train"]):
        _check_amount(args, train)
    if render:
        print_counts(render)


def is_plain_text(args: SFTRunArguments) -> bool:
    """Plain text is left to OpenRLHF's own reading: it has no turns."""
    return args.model.pretrain_mode_enable


def _sets(args: SFTRunArguments) -> Sets:
    """The sets; their weights are set as OpenRLHF's flag. Raises UserError."""
    columns = (args.data.input_key, args.data.output_key)
    sets = {
        "train": read_sources("--data.dataset", args.data.dataset, columns),
        "eval": read_sources("--eval.dataset", args.eval.dataset, columns),
    }
    if weighed := [source for source in sets["eval"] if source.weight is not None]:
        raise UserError(f"--eval.dataset: {weighed[0].name} has a weight, but all rows are measured; leave it out")
    if is_plain_text(args):
        _check_plain_text(args, sets)
    apply_weights(args, sets["train"])
    return sets


def _check_plain_text(args: SFTRunArguments, sets: Sets) -> None:
    """Raise UserError if columns are named for a set (`SET@COLUMNS`), or it lacks the one that OpenRLHF is to read."""
    for source, split in _splits(args, sets):
        if source.weight is not None or source.columns != (args.data.input_key, None):
            raise UserError(f"{source.name}: plain text takes no weight or columns here; use --data.input_key, and "
                            "--data.dataset_probs")  # fmt: skip
        if not source.is_here:
            continue
        row = next(iter(read_rows(source.name, split)), None)
        if row is None:
            raise UserError(f"{source.name} is empty; give a set with at least one row")
        if args.data.input_key not in row:
            raise UserError(
                f"{source.name} has no column '{args.data.input_key}', only {', '.join(row)}; name it with "
                "--data.input_key"
            )


def _splits(args: SFTRunArguments, sets: Sets) -> list[tuple[Source, str]]:
    """All sets, each with its split."""
    splits = {"train": args.data.dataset_split, "eval": args.eval.split}
    return [(source, splits[kind]) for kind in sets for source in sets[kind]]


def _folder(args: SFTRunArguments) -> Path:
    return args.math.run_dir / "traces"


def _point_at(args: SFTRunArguments, files: dict[str, list[Path]]) -> None:
    args.data.dataset, args.data.dataset_split = ",".join(map(str, files["train"])), "train"
    if files["eval"]:
        args.eval.dataset, args.eval.split = ",".join(map(str, files["eval"])), "train"


def _read(args: SFTRunArguments, sets: Sets, display: Display) -> dict[str, list[SetRows]]:
    """The rows of each set that fit in the context; what is left out is printed."""
    render = _renderer(args)
    splits = {"train": args.data.dataset_split, "eval": args.eval.split}
    with display() as progress:
        found = {
            kind: [read_set(args, source, splits[kind], render, None, progress) for source in sets[kind]]
            for kind in sets
        }
    for part in found["train"] + found["eval"]:
        print_set(part, args.data.max_len)
        if longest := max(part.traces, key=_tokens, default=None):
            what = f"{longest.source} row {longest.row} has {_tokens(longest)} tokens"
            check_positions(MODEL_FLAG, args.model.model_name_or_path, what, _tokens(longest), ask_hub=True)
    print_counts(render)
    _check_amount(args, found["train"])
    if empty := [part.source for part in found["train"] + found["eval"] if not part.traces]:
        raise UserError(f"{empty[0]} has no row left to use; correct it, raise --data.max_len, or leave it out")
    return found


def _renderer(args: SFTRunArguments) -> Renderer:
    """The date that its prompts have is set in the settings."""
    render = Renderer(args)
    args.math = replace(args.math, chat_date=render.chat_date)
    return render


def _tokens(trace: Trace) -> int:
    return len(trace.ids)


def _list(run_dir: Path, parts: list[SetRows]) -> None:
    """The rows that were left out, by why: set_aside.jsonl and too_long.jsonl, where there are any."""
    bad = [
        {"set": part.source, "row": one.row, "place": one.place, "reason": one.why}
        for part in parts
        for one in part.bad
    ]
    long = [{"set": part.source, "row": row, "tokens": tokens} for part in parts for row, tokens in part.long]
    for name, rows in (("set_aside.jsonl", bad), ("too_long.jsonl", long)):
        if rows:
            with atomic_write(run_dir / name) as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _check_amount(args: SFTRunArguments, parts: list[SetRows]) -> None:
    rows = min(sum(len(part.traces) for part in parts), args.data.max_samples)
    if rows < args.train.batch_size:
        long = sum(len(part.long) for part in parts)
        why = f", as {long} are longer than --data.max_len {args.data.max_len}" if long else ""
        more = "raise --data.max_len" if long else "add rows"
        raise UserError(
            f"--data.dataset {args.data.dataset} has {rows} rows, fewer than one batch "
            f"(--train.batch_size {args.train.batch_size}){why}; lower the batch size or {more}"
        )
    if not args.data.dataset_probs:  # or some are drawn several times
        print_steps(rows, data_parallel_ranks(args.ds.ring_attn_size, args.ds.tensor_parallel_size), args, "rows")


def _write(path: Path, traces: list[Trace]) -> None:
    """As Parquet: source, row, ids and learned of each."""
    import pyarrow

    number = pyarrow.int32()
    schema = pyarrow.schema(
        {
            "source": pyarrow.string(),
            "row": pyarrow.int64(),
            "ids": pyarrow.list_(number),
            "learned": pyarrow.list_(pyarrow.list_(number)),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"source": one.source, "row": one.row, "ids": one.ids, "learned": one.learned} for one in traces)
    write_parquet(path, rows, schema)


def _config(args: SFTRunArguments, found: dict[str, list[SetRows]]) -> dict:
    """The settings, and what identifies the rows and the layout they are trained in."""
    digest, rows = hashlib.sha256(), 0
    for trace in (trace for part in found.get("train", []) for trace in part.traces):
        digest.update(trace.ids.tobytes() + repr(trace.learned).encode())
        rows += 1
    return settings_of(args) | {"processes": processes(), "traces": {"rows": rows, "sha256": digest.hexdigest()}}


def settings_of(args: SFTRunArguments) -> dict:
    """The settings as plain sections. Secrets are left out."""
    sections = {key: value for key, value in vars(args).items() if key != "math"}
    settings = json.loads(json.dumps(sections | {"math": asdict(args.math)}, default=_plain))
    settings["logger"]["wandb"]["key"] = None
    return settings


def _plain(value: object) -> object:
    return vars(value) if isinstance(value, SimpleNamespace) else str(value)


def check_same(args: SFTRunArguments, config: dict, fixed: tuple[str, ...] = ()) -> None:
    """Raise UserError if the run began with other settings or rows. fixed: settings that may not differ, although the
    others of their section may."""
    source = f"--data.dataset {args.data.dataset}"

    def is_free(name: str) -> bool:
        return name not in fixed and name.split(".")[0] in (*FREE_SECTIONS, "traces")

    folder.check_same(args.math.run_dir, config, is_free, "traces", source)
