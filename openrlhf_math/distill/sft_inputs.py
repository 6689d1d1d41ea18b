"""What a fine-tuning reads: traces as the text a model sees, checked before anything starts, in the run directory."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

from openrlhf_math.checkpoints import same_run
from openrlhf_math.checkpoints.folder import settle
from openrlhf_math.data.files import written_whole
from openrlhf_math.data.problems import Problem, read_rows, read_traces
from openrlhf_math.data.prompts import chat, prompt_ids, prompt_text
from openrlhf_math.distill.sft_settings import is_first, processes
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.inputs import NO_TEMPLATE, check_model, claim_run_dir, load_tokenizer
from openrlhf_math.grpo.lora import check_base
from openrlhf_math.grpo.model_kind import check_language_model, check_positions, check_tokens, checked_family
from openrlhf_math.modeling.flash_attn_package import check_installed
from openrlhf_math.modeling.whole_weights import check_weights

MODEL_FLAG = "--model.model_name_or_path"
ROOM = 2  # OpenRLHF leaves a row out unless it has room for more than these after its prompt
# May differ from what the run began with when it is resumed: nothing the weights depend on.
FREE_SECTIONS = ("ckpt", "logger", "eval", "local_rank", "math")


@dataclass(frozen=True, slots=True)
class Trace:
    """A row as the model sees it. source, row: where it is from, counted from 1. tokens: with the end of sequence."""

    prompt: str
    response: str
    source: str
    row: int
    tokens: int


def prepare(args: SimpleNamespace) -> None:
    """Check the inputs, write them into the run directory and point OpenRLHF's flags at them. Raises UserError.

    Only the first process reads and writes; the others wait for it where OpenRLHF first brings all together.
    """
    specs = {"train": _specs(args.data.dataset), "eval": _specs(args.eval.dataset)}
    files = {kind: [_folder(args) / f"{kind}{n}.jsonl" for n in range(len(specs[kind]))] for kind in specs}
    if is_first():
        check_model(MODEL_FLAG, args.model.model_name_or_path)
        check_language_model(MODEL_FLAG, args.model.model_name_or_path)
        ring = args.ds.ring_attn_size
        checked_family(MODEL_FLAG, args.model.model_name_or_path, ring, ask_hub=ring > 1)
        check_installed(args)
        claim_run_dir(args.math.run_dir, resume=args.ckpt.load_enable)
        if is_upstreams(args):
            _check_columns(args, specs)
        traces, long = ({}, []) if is_upstreams(args) else _read(args, specs)
        check_weights(MODEL_FLAG, args.model.model_name_or_path)
        config = _config(args, traces)
        if args.ckpt.load_enable:
            check_same(args, config)
            check_base(args.math.run_dir, args.model.model_name_or_path, args.math.lora)
            settle(Path(args.ckpt.path))
        for kind in traces:
            for path, part in zip(files[kind], traces[kind], strict=True):
                _write(path, part, args)
        args.math.run_dir.mkdir(parents=True, exist_ok=True)
        if long:
            _list_long(args.math.run_dir / "too_long.jsonl", long)
        with written_whole(args.math.run_dir / "config.json") as file:
            file.write(json.dumps(config, indent=2) + "\n")
    if not is_upstreams(args):
        _point_at(args, files)


def _specs(sets: str | None) -> list[str]:
    return [spec.strip() for spec in (sets or "").split(",") if spec.strip()]


def _folder(args: SimpleNamespace) -> Path:
    return args.math.run_dir / "traces"


def is_upstreams(args: SimpleNamespace) -> bool:
    """Whole conversations and plain text are left to OpenRLHF's own reading: they have no prompt and response."""
    return args.data.multiturn or args.model.pretrain_mode_enable


def _check_columns(args: SimpleNamespace, specs: dict[str, list[str]]) -> None:
    """Raise UserError if the first row of a set lacks a column that OpenRLHF is to read."""
    splits = {"train": args.data.dataset_split, "eval": args.eval.split}
    for spec, split in [(spec, splits[kind]) for kind, sets in specs.items() for spec in sets]:
        row = next(iter(read_rows(spec, split)), None)
        if row is None:
            raise UserError(f"{spec} is empty; give a set with at least one row")
        for flag, key in (("--data.input_key", args.data.input_key), ("--data.output_key", args.data.output_key)):
            if key is not None and key not in row:
                raise UserError(f"{spec} has no column '{key}', only {', '.join(row)}; name it with {flag}")


def _point_at(args: SimpleNamespace, files: dict[str, list[Path]]) -> None:
    args.data.dataset, args.data.dataset_split = ",".join(map(str, files["train"])), "train"
    if files["eval"]:
        args.eval.dataset, args.eval.split = ",".join(map(str, files["eval"])), "train"


def _read(args: SimpleNamespace, specs: dict[str, list[str]]) -> tuple[dict[str, list[list[Trace]]], list[Trace]]:
    """The traces of each set that fit in the context, and those that do not, which are told."""
    columns = (args.data.input_key, args.data.output_key)
    flags = ("--data.input_key", "--data.output_key")
    splits = {"train": args.data.dataset_split, "eval": args.eval.split}
    problems = {
        kind: [read_traces(spec, *columns, splits[kind], flags=flags) for spec in specs[kind]] for kind in specs
    }
    rows = sum(map(len, problems["train"]))
    _check_amount(args, rows)
    render = Renderer(args)
    traces = {
        kind: [list(render(spec, part)) for spec, part in zip(specs[kind], problems[kind], strict=True)]
        for kind in specs
    }
    limit, long = args.data.max_len, []
    for kind in traces:
        for number, part in enumerate(traces[kind]):
            long += [trace for trace in part if trace.tokens > limit]
            traces[kind][number] = [trace for trace in part if trace.tokens <= limit]
    longest = max((trace for part in traces["train"] + traces["eval"] for trace in part), key=_tokens, default=None)
    if longest:
        what = f"{longest.source} row {longest.row} has {longest.tokens} tokens"
        check_positions(MODEL_FLAG, args.model.model_name_or_path, what, longest.tokens, ask_hub=True)
    if long:
        _tell_long(args, long, rows + sum(map(len, problems["eval"])))
    _check_amount(args, sum(map(len, traces["train"])))
    return traces, long


def _tokens(trace: Trace) -> int:
    return trace.tokens


class Renderer:
    """From problems to traces: the prompt ends where the model begins to write, at the first token of its response.

    Rendered here, because the chat templates of reasoning models drop what is in think tags from a message of
    the assistant: upstream, which renders prompt and response together, would train on bare answers.
    """

    def __init__(self, args: SimpleNamespace) -> None:
        wants_template = args.data.apply_chat_template
        given = args.data.tokenizer_chat_template
        model = args.model.model_name_or_path
        self.args = args
        self.tokenizer = load_tokenizer(MODEL_FLAG, model, wants_template and not given, NO_TEMPLATE)
        check_language_model(MODEL_FLAG, model, ask_hub=True)
        self.tokenizer.chat_template = given or self.tokenizer.chat_template
        if not self.tokenizer.eos_token:
            raise UserError(f"{MODEL_FLAG} {model}: its tokenizer has no eos_token, so no answer would end; add one")

    def __call__(self, spec: str, problems: list[Problem]) -> Iterator[Trace]:
        """Raises UserError for a row without a response."""
        prompts, responses = zip(*(self._texts(spec, problem) for problem in problems), strict=True)
        for problem, response in zip(problems, responses, strict=True):
            if not response.strip():
                column = self.args.data.output_key
                raise UserError(f"{spec} row {problem.row}: '{column}' is empty; mend or drop the row")
        before = prompt_ids(self.tokenizer, prompts, self.args.data.apply_chat_template)
        where = (f"{spec} row {problem.row}" for problem in problems)
        model = self.args.model.model_name_or_path
        after = self.tokenizer(list(responses), add_special_tokens=False)["input_ids"]
        rows = [ids + learned for ids, learned in zip(before, after, strict=True)]
        check_tokens(MODEL_FLAG, model, self.tokenizer, zip(where, rows, strict=True))
        for problem, prompt, response, ids, learned in zip(problems, prompts, responses, before, after, strict=True):
            yield Trace(prompt, response, spec, problem.row, len(ids) + max(len(learned) + 1, ROOM + 1))

    def _texts(self, spec: str, problem: Problem) -> tuple[str, str]:
        data = self.args.data
        messages = chat(problem, self.args.math.instruction)
        try:
            prompt = prompt_text(self.tokenizer, messages, data.apply_chat_template, data.input_template)
        except UserError as error:
            raise UserError(f"{spec} row {problem.row}: {error}") from None
        # The template may open the thinking part itself.
        if data.apply_chat_template and prompt.rstrip().endswith("<think>"):
            return prompt, problem.answer.removeprefix("<think>").lstrip("\n")
        return prompt, problem.answer


def _tell_long(args: SimpleNamespace, long: list[Trace], rows: int) -> None:
    """OpenRLHF would cut such a row and put the end of sequence there, which teaches to stop in the middle."""
    print(
        f"left out: {len(long)} of {rows} rows are longer than --data.max_len {args.data.max_len} (the longest has "
        f"{max(trace.tokens for trace in long)} tokens; the first is row {long[0].row} of {long[0].source})"
    )


def _list_long(path: Path, long: list[Trace]) -> None:
    with written_whole(path) as file:
        for trace in long:
            file.write(json.dumps({"set": trace.source, "row": trace.row, "tokens": trace.tokens}) + "\n")


def _check_amount(args: SimpleNamespace, rows: int) -> None:
    rows = min(rows, args.data.max_samples)
    if rows < args.train.batch_size:
        raise UserError(
            f"--data.dataset {args.data.dataset} has {rows} rows, fewer than one batch "
            f"(--train.batch_size {args.train.batch_size}); lower it or add rows"
        )


def _write(path: Path, traces: list[Trace], args: SimpleNamespace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        for trace in traces:
            row = {args.data.input_key: trace.prompt, args.data.output_key: trace.response}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _config(args: SimpleNamespace, traces: dict[str, list[list[Trace]]]) -> dict:
    """The settings, and what identifies the rows and the layout they are trained in."""
    digest = hashlib.sha256()
    for trace in (trace for part in traces.get("train", []) for trace in part):
        digest.update(f"{trace.prompt}\0{trace.response}\0".encode())
    rows = sum(map(len, traces.get("train", [])))
    return settings_of(args) | {"processes": processes(), "traces": {"rows": rows, "sha256": digest.hexdigest()}}


def settings_of(args: SimpleNamespace) -> dict:
    """The settings as plain sections. Secrets are left out."""
    sections = {key: value for key, value in vars(args).items() if key != "math"}
    settings = json.loads(json.dumps(sections | {"math": asdict(args.math)}, default=_plain))
    settings["logger"]["wandb"]["key"] = None
    return settings


def _plain(value):
    return vars(value) if isinstance(value, SimpleNamespace) else str(value)


def check_same(args: SimpleNamespace, config: dict) -> None:
    """Raise UserError if the run began with other settings or rows."""
    source = f"--data.dataset {args.data.dataset}"
    same_run.check_same(args.math.run_dir, config, _is_free, "traces", source)


def _is_free(name: str) -> bool:
    return name.split(".")[0] in (*FREE_SECTIONS, "traces")
