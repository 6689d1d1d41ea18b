"""What `sft` reads of the sets of the field: each in its own columns and file format, and the trained text."""

import json
import random
from types import SimpleNamespace

import pytest
from public_tokenizers import chatml
from test_data_layouts import GOLDS, LAYOUTS, A, B, write

from openrlhf_math.errors import UserError
from openrlhf_math.runs.progress import Pace
from openrlhf_math.sft.render import Renderer
from openrlhf_math.sft.rows import SetRows, read_set, read_sources

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ASKED = "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"
LEARNED = "[[<think>\nLet me see.\n</think>\n\nThe answer is \\boxed{%s}.<|im_end|>]]"
ROWS = [ASKED % problem + LEARNED % GOLDS[problem] for problem in (A, B)]
ROLE = "<|im_start|>system\nYour role as an assistant involves thinking.<|im_end|>\n"
# name: the rows expected of its two conversations, for sets with traces.
EXPECTED = dict.fromkeys(
    ("OpenMathReasoning", "NuminaMath-CoT", "AM-DeepSeek-R1-Distilled", "OpenThoughts3", "ShareGPT",
     "Mixture-of-Thoughts", "OpenR1-Math-220k", "TRL"),
    ROWS,
) | {
    "DeepMath-103K": [row for row in ROWS for _ in range(3)],  # three solutions of each problem
    "Bespoke-Stratos-17k": [ROLE + row for row in ROWS],
}  # fmt: skip


@pytest.fixture(scope="module")
def render_args(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    chatml().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    end = chatml().convert_tokens_to_ids("<|im_end|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    data = SimpleNamespace(
        apply_chat_template=True, input_template=None, tokenizer_chat_template=None, multiturn=False, max_len=4096
    )
    tags = {"thinking_tags": "think", "code_output": "mask", "template_variables": {}, "chat_date": None}
    settings = SimpleNamespace(instruction="", thinking="keep", max_bad_rows=0.05, **tags)
    return SimpleNamespace(data=data, model=SimpleNamespace(model_name_or_path=str(folder)), math=settings)


def read(args, spec, columns=(None, None), **more) -> tuple[SetRows, list[str]]:
    """What `sft` reads of a set, and its rows as texts with [[ and ]] around what is learned."""
    render = Renderer(args)
    (source,) = read_sources("--data.dataset", str(spec), columns)
    found = read_set(args, source, "train", render, None, **more)
    return found, [trace.marked(render.tokenizer) for trace in found.traces]


@pytest.mark.parametrize("name", EXPECTED)
def test_traces_of_a_known_set_are_trained(name, render_args, tmp_path):
    found, texts = read(render_args, write(tmp_path, name))
    assert texts == EXPECTED[name]
    assert not found.bad and found.read == len(EXPECTED[name])


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - EXPECTED.keys()))
def test_set_without_traces_is_refused(name, render_args, tmp_path):
    assert not LAYOUTS[name][2], "a fixture with traces belongs above"
    with pytest.raises(UserError):
        read(render_args, write(tmp_path, name))


@pytest.mark.parametrize(
    ("name", "known"),
    [("DeepMath-103K", "deepmath-103k"), ("OpenR1-Math-220k", "openr1-math-220k"),
     ("AM-DeepSeek-R1-Distilled", "am-deepseek-r1-distilled"), ("NuminaMath-CoT", "numinamath-cot")],
)  # fmt: skip
def test_set_is_read_under_its_name(name, known, render_args, tmp_path):
    _, texts = read(render_args, f"{known}={write(tmp_path, name)}:2")
    assert texts == EXPECTED[name]


def lines(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


THOUGHT = "<|begin_of_thought|>\n\nadd\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n2\n\n<|end_of_solution|>"


def test_system_message_that_asks_for_marks_asks_for_the_tags(render_args, tmp_path):
    system = "Think between <|begin_of_thought|> and <|end_of_thought|>."
    turns = [{"from": "user", "value": "1+1?"}, {"from": "assistant", "value": THOUGHT}]
    _, texts = read(render_args, lines(tmp_path / "a.jsonl", [{"system": system, "conversations": turns}]))
    asked = "<|im_start|>system\nThink between <think> and </think>.<|im_end|>\n" + ASKED % "1+1?"
    assert texts == [asked + "[[<think>\nadd\n</think>\n\n2<|im_end|>]]"]


def test_solutions_that_are_not_traces_are_refused(render_args, tmp_path):
    row = LAYOUTS["OpenMathReasoning"][1](A)
    path = lines(tmp_path / "a.jsonl", [row | {"inference_mode": "tir"}])
    with pytest.raises(UserError, match="line 1.*'tir'"):
        read(render_args, path)


def test_available_deepmath_solutions_are_trained(render_args, tmp_path):
    row = LAYOUTS["DeepMath-103K"][1](A)
    rows = [row | {"r1_solution_1": None}, row | {"r1_solution_2": "", "r1_solution_3": None}]
    found, texts = read(render_args, lines(tmp_path / "a.jsonl", rows))
    assert [trace.row for trace in found.traces] == [1, 1, 2] and set(texts) == {ROWS[0]}
    _, texts = read(render_args, f"{lines(tmp_path / 'b.jsonl', [row])}@question+r1_solution_2")
    assert texts == [ROWS[0]]


def test_known_set_with_foreign_conversations_is_ambiguous(render_args, tmp_path):
    """As OpenThoughts-114k-math: NuminaMath's solutions in `messages`, R1's in `conversations`."""
    row = LAYOUTS["NuminaMath-CoT"][1](A) | {"conversations": LAYOUTS["ShareGPT"][1](A)["conversations"]}
    with pytest.raises(UserError, match="messages, conversations"):
        read(render_args, lines(tmp_path / "a.jsonl", [row]))


def test_output_of_curate_is_read(render_args, tmp_path):
    row = {"problem": A, "answer": "17", "solution": None, "trace": ROWS[0].partition("[[")[2].removesuffix("]]")}
    _, texts = read(render_args, lines(tmp_path / "a.jsonl", [row]))
    assert texts == [ROWS[0]]


GOOD = {"problem": "1+1?", "response": "2"}
TEXT = ASKED % "1+1?" + "[[2<|im_end|>]]"


def broken_csv(path):
    path.write_text("problem,response\n" + "1+1?,2\n" * 3 + "1+1?\n" + "1+1?,2\n" * 36)


def broken_array(path):
    path.write_text(json.dumps([GOOD] * 3 + ["no row"] + [GOOD] * 36))


def broken_parquet(path):
    """A text that is not UTF-8, which Parquet does not check when it is written."""
    texts = pa.array([b"2"] * 3 + [b"\xff"] + [b"2"] * 36, pa.binary())
    plain = pa.StringArray.from_buffers(len(texts), texts.buffers()[1], texts.buffers()[2])
    pq.write_table(pa.table({"problem": ["1+1?"] * 40, "response": plain}), path)


def broken_lines(path):
    lines(path, [GOOD] * 3 + ['{"problem": "1+1?", "resp'] + [GOOD] * 36)


@pytest.mark.parametrize(
    ("name", "make", "place"),
    [("a.jsonl", broken_lines, "line 4"), ("a.csv", broken_csv, "row 4"), ("a.json", broken_array, "row 4"),
     ("a.parquet", broken_parquet, "row 4")],
)  # fmt: skip
def test_unreadable_row_is_skipped_and_named(name, make, place, render_args, tmp_path):
    make(tmp_path / name)
    found, texts = read(render_args, tmp_path / name)
    assert texts == [TEXT] * 39 and found.read == 40
    (bad,) = found.bad
    assert bad.row == 4 and bad.place == f"{tmp_path / name}, {place}"


def test_too_many_broken_rows_end_the_command(render_args, tmp_path):
    path = lines(tmp_path / "a.jsonl", [GOOD] * 17 + ["no json"])
    with pytest.raises(UserError, match="1 of 18 .*line 18"):
        read(render_args, path)
    with pytest.raises(UserError, match="line 1: the line is not JSON"):
        read(render_args, lines(tmp_path / "b.jsonl", ["no json"] * 3))


def test_bad_row_of_a_folder_is_named_by_its_file(render_args, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    lines(folder / "train-0.jsonl", [GOOD] * 30)
    lines(folder / "train-1.jsonl", [GOOD, "no json", *[GOOD] * 20])
    found, _ = read(render_args, folder)
    (bad,) = found.bad
    assert (bad.row, bad.place) == (32, f"{folder / 'train-1.jsonl'}, line 2")


def large(path, rows=5000):
    rng = random.Random(0)
    rows = [{"problem": "1+1?", "response": "2" * rng.randint(1, 60)} for _ in range(rows)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines(path, rows)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "folder"])
def test_reading_of_a_large_set_has_a_rate_and_an_end(name, render_args, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        large(path / "0.jsonl", 4000)
        large(path / "1.jsonl", 1000)
    else:
        large(path)
    seen = []
    found, _ = read(render_args, path, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert found.read == 5000 and seen[-1][1:] == (5000, 5000) and str(path) in seen[0][0]
    middle = [total for _, done, total in seen if 2000 <= done < 5000]
    assert all(4000 < total < 6250 for total in middle), "the true number within a quarter"
    pace = Pace(clock=iter([0.0, 10.0]).__next__)
    pace(*seen[0])
    moment = pace(*next(one for one in seen if one[1] == 3000))
    assert moment.rate == pytest.approx(100) and moment.left == pytest.approx((moment.total - 3000) / 100)


def test_reading_of_a_small_set_shows_nothing(render_args, tmp_path):
    seen = []
    read(render_args, large(tmp_path / "a.jsonl", 100), progress=lambda *what: seen.append(what))
    assert not seen


@pytest.mark.parametrize("extra", ["", "4 and 5"])
def test_prompt_in_two_columns_is_refused(extra, render_args, tmp_path):
    rows = tmp_path / "alpaca.jsonl"
    rows.write_text(json.dumps({"instruction": "Add them.", "input": extra, "output": "9"}) + "\n")
    with pytest.raises(UserError, match="instruction and input"):
        read(render_args, rows)
    _, texts = read(render_args, rows, ("instruction", None))
    assert texts == [ASKED % "Add them." + "[[9<|im_end|>]]"]


def test_input_and_output_form_a_pair_without_an_instruction(render_args, tmp_path):
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(json.dumps({"input": "Add 4 and 5.", "output": "9"}) + "\n")
    assert read(render_args, rows)[1] == [ASKED % "Add 4 and 5." + "[[9<|im_end|>]]"]
