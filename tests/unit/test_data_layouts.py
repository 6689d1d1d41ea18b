"""Sets of the field in their own columns and file formats, read by every command without a flag.

`sft` is in test_sft_layouts.py.

The rows are written by hand after the sets' cards and the code that loads them; docs/data.md says which.
"""

import io
import json

import pytest

from openrlhf_math.cli import main
from openrlhf_math.data.columns import label_of
from openrlhf_math.data.problems import read_problems
from openrlhf_math.distill.questions import UNKNOWN, Columns, read_tasks
from openrlhf_math.evaluation.problem_sets import Reading, read_set
from openrlhf_math.evaluation.recorded import row_of
from openrlhf_math.grpo.flags import RECIPE as GRPO

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

A = "Tom has 3 boxes with 4 pens each and finds 5 more pens. How many pens does he have?"
B = r"What is the value of $\frac{1}{2} + \frac{1}{4}$? Write it as a fraction in lowest terms."
GOLDS = {A: "17", B: r"\frac{3}{4}"}
TRACE = "<think>\nLet me see.\n</think>\n\nThe answer is \\boxed{%s}."


def trace(problem):
    return TRACE % GOLDS[problem]


def verl(problem, extra, **more):
    return {
        "data_source": "openai/gsm8k",
        "prompt": [
            {
                "role": "user",
                "content": f'{problem} Let\'s think step by step and output the final answer after "####".',
            }
        ],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": GOLDS[problem]},
        "extra_info": extra,
    } | more


def dapo(problem):
    asks = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
    )
    after = '\n\nRemember to put your answer on its own line after "Answer:".'
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": asks + problem + after, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": GOLDS[problem], "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4"},
    }


def skywork(problem):
    return {
        "data_source": "train-math-numinamath1.5_olympiads",
        "prompt": [{"content": problem, "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": json.dumps([GOLDS[problem]]), "style": "rule"},
        "extra_info": {"index": 1, "model_difficulty": {"DeepSeek-R1-Distill-Qwen-7B": 3}},
    }


def orz(problem):
    gold = {"value": GOLDS[problem]}
    return [{"from": "human", "value": problem}, {"from": "assistant", "ground_truth": gold, "pass_at_n": 0.5}]


def openr1(problem):
    return {
        "problem": problem, "solution": "It is so.", "answer": GOLDS[problem], "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "olympiads", "uuid": "1", "is_reasoning_complete": [True, True],
        "generations": ["<think>\nno\n</think>\n\n\\boxed{1}", trace(problem)],
        "correctness_math_verify": [False, True], "correctness_llama": None, "finish_reasons": None,
        "correctness_count": 1,
        "messages": [{"role": "user", "content": problem}, {"role": "assistant", "content": trace(problem)}],
    }  # fmt: skip


def am(problem):
    info = {"source": "OpenR1-Math", "reference_answer": GOLDS[problem], "test_case": None}
    thinking, answer = "Let me see.", f"The answer is \\boxed{{{GOLDS[problem]}}}."
    text = f"<think>\n{thinking}\n</think>\n\n<answer>{answer}</answer>"
    said = info | {"think_content": thinking, "answer_content": answer}
    return {
        "messages": [
            {"role": "user", "content": problem, "info": info | {"think_content": None, "answer_content": None}},
            {"role": "assistant", "content": text, "info": said},
        ]
    }


def stratos(problem):
    said = (
        "<|begin_of_thought|>\nLet me see.\n<|end_of_thought|>\n\n<|begin_of_solution|>The answer is "
        f"\\boxed{{{GOLDS[problem]}}}.<|end_of_solution|>"
    )
    asked = f"Return your final response within \\boxed{{}}. {problem}"
    turns = [{"from": "user", "value": asked}, {"from": "assistant", "value": said}]
    return {"system": "Your role as an assistant involves thinking.", "conversations": turns}


def sharegpt(problem):
    return {
        "id": "x_0",
        "conversations": [{"from": "human", "value": problem}, {"from": "gpt", "value": trace(problem)}],
    }


def math500(problem):
    return {
        "problem": problem, "solution": f"So it is $\\boxed{{{GOLDS[problem]}}}$.", "answer": GOLDS[problem],
        "subject": "Prealgebra", "level": 2, "unique_id": "test/prealgebra/1.json",
    }  # fmt: skip


def numina(problem):
    return {
        "problem": problem, "solution": "It is so.", "answer": GOLDS[problem], "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "olympiads", "problem_is_valid": "Yes",
        "solution_is_valid": "Yes", "synthetic": False,
    }  # fmt: skip


def numina_cot(problem):
    turns = [{"role": "user", "content": problem}, {"role": "assistant", "content": trace(problem)}]
    return {"source": "orca_math", "problem": problem, "solution": trace(problem), "messages": turns}


def openmathreasoning(problem):
    return {
        "expected_answer": GOLDS[problem], "problem_type": "has_answer_extracted", "problem_source": "aops_c4",
        "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.25", "problem": problem,
        "generated_solution": trace(problem), "inference_mode": "cot", "used_in_kaggle": True,
    }  # fmt: skip


def deepmath(problem):
    solution = trace(problem).removeprefix("<think>\n")
    return {
        "question": problem, "final_answer": GOLDS[problem], "difficulty": 5.5, "topic": "Mathematics -> Algebra",
        "r1_solution_1": solution, "r1_solution_2": solution, "r1_solution_3": solution,
    }  # fmt: skip


def gsm8k(problem):
    return {"question": problem, "answer": f"There are <<3*4=12>>12.\n#### {GOLDS[problem]}"}


def bigmath(problem):
    return {
        "problem": problem, "answer": GOLDS[problem], "source": "orca_math", "domain": ["Mathematics -> Algebra"],
        "llama8b_solve_rate": 0.75,
    }  # fmt: skip


def omni(problem):
    return {
        "domain": ["Mathematics -> Algebra -> Other"], "difficulty": 4.5, "problem": problem, "solution": "It is so.",
        "answer": GOLDS[problem], "source": "HMMT_11",
    }  # fmt: skip


def openthoughts3(problem):
    return {"difficulty": 9, "source": "ai2-adapt-dev/openmath-2-math", "domain": "math"} | {
        "conversations": sharegpt(problem)["conversations"]
    }


def mixture(problem):
    return {"messages": numina_cot(problem)["messages"], "num_tokens": 99, "source": "open-r1/OpenR1-Math-220k"}


# name: (file, row, whether it has a trace, difficulty)
LAYOUTS = {
    "DAPO-Math-17k": ("dapo-math-17k.parquet", dapo, False, None),
    "Skywork-OR1-RL-Data": ("math-00000-of-00001.parquet", skywork, False, None),
    "verl": ("train.parquet", lambda one: verl(one, {"split": "train", "index": 0, "answer": "x"}), False, None),
    "verl with question": ("train.parquet", lambda one: verl(one, {"index": 0, "question": one}), False, None),
    "verl in CSV": ("train.csv", lambda one: verl(one, {"index": 0}), False, None),
    "ORZ": ("orz_math_57k_collected.json", orz, False, None),
    "ORZ as datasets has it": ("orz.parquet", lambda one: {"0": orz(one)[0], "1": orz(one)[1]}, False, None),
    "Big-Math-RL-Verified": ("train.parquet", bigmath, False, 0.25),
    "Omni-MATH": ("test.jsonl", omni, False, 4.5),
    "OpenMathReasoning": ("cot-00000-of-00144.parquet", openmathreasoning, True, 0.75),
    "AceReason-Math": ("math.jsonl", lambda one: {"problem": one, "answer": GOLDS[one]}, False, None),
    "NuminaMath-CoT": ("train-00000-of-00005.parquet", numina_cot, True, None),
    "NuminaMath-1.5": ("train.parquet", numina, False, None),
    "Polaris-53K": ("train.jsonl", lambda one: {
        "problem": one, "answer": GOLDS[one], "difficulty": "3/8"}, False, 0.375),
    "AM-DeepSeek-R1-Distilled": ("am_0.9M.jsonl.zst", am, True, None),
    "OpenThoughts3": ("train.parquet", openthoughts3, True, 9),
    "ShareGPT": ("sharegpt.json", sharegpt, True, None),
    "Mixture-of-Thoughts": ("train.parquet", mixture, True, None),
    "OpenR1-Math-220k": ("train.parquet", openr1, True, None),
    "Bespoke-Stratos-17k": ("train.parquet", stratos, True, None),
    "DeepMath-103K": ("train.parquet", deepmath, True, 5.5),
    "GSM8K": ("main_train.jsonl", gsm8k, False, None),
    "MATH-500": ("test.jsonl", math500, False, 2),
    "aime_2024": ("train.parquet", lambda one: {
        "id": 60, "problem": one, "solution": "So.", "answer": GOLDS[one], "url": "u", "year": "2024"}, False, None),
    "aime24": ("test.jsonl", lambda one: {
        "id": 60, "problem": one, "solution": f"\\boxed{{{GOLDS[one]}}}", "url": "u"}, False, None),
    "aime25": ("test.jsonl", lambda one: {"problem": one, "answer": GOLDS[one], "id": "0"}, False, None),
    "AIME_2024": ("train.jsonl", lambda one: {
        "ID": "2024-I-1", "Problem": one, "Solution": "So.", "Answer": GOLDS[one]}, False, None),
    "AIME2025": ("aime2025-I.jsonl", lambda one: {"question": one, "answer": GOLDS[one]}, False, None),
    "TRL": ("train.jsonl", lambda one: {
        "prompt": [{"role": "user", "content": one}],
        "completion": [{"role": "assistant", "content": trace(one)}], "answer": GOLDS[one]}, True, None),
}  # fmt: skip


def write(folder, name):
    file, row, *_ = LAYOUTS[name]
    path, rows = folder / file, [row(A), row(B)]
    lines = "".join(json.dumps(one) + "\n" for one in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        text = io.StringIO()
        text.write(",".join(rows[0]) + "\n")
        for one in rows:
            cells = (json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in one.values())
            text.write(",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n")
        path.write_text(text.getvalue())
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(lines, "zstd", asbytes=True))
    else:
        path.write_bytes(json.dumps(rows, indent=1).encode() if path.suffix == ".json" else lines)
    return path


def curate(path, traces, difficulty):
    output = path.parent / "curated"
    assert main(["curate", "--source", str(path), "--filters", "", "--output", str(output), "--workers", "0"]) == 0
    rows = [row for one in sorted((output / "data").iterdir()) for row in pq.read_table(one).to_pylist()]
    assert [row["difficulty"] for row in rows] == [difficulty] * 2
    assert [row["trace"] for row in rows] == traces
    return [(row["problem"], row["answer"]) for row in rows]


def distill(path, traces, difficulty):
    return [
        (one.problem.problem, one.problem.answer) for one in read_tasks(str(path), "train", Columns(), {}, None).asked
    ]


def grpo(path, traces, difficulty):
    keys = GRPO["data.input_key"], GRPO["data.label_key"]
    return [(one.problem, one.answer) for one in read_problems(str(path), *keys, "train")]


def evaluate(path, traces, difficulty):
    questions = read_set(str(path), Reading()).questions
    return [(one.problem.problem, one.problem.answer) for one in questions]


@pytest.mark.parametrize("command", [curate, distill, grpo, evaluate])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_parsed(name, command, tmp_path):
    _, _, has_trace, difficulty = LAYOUTS[name]
    traces = [trace(problem) if has_trace else None for problem in (A, B)]
    assert command(write(tmp_path, name), traces, difficulty) == list(GOLDS.items())


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_nothing_in_a_column_is_no_name_of_a_group(tmp_path, nothing):
    """As pandas has it in columns that some rows lack: no source, licence, difficulty or subject called nan or None."""
    columns = ("datasource", "source", "license", "difficulty", "subject", "level")
    row = {"problem": "1+1?", "answer": "2"} | dict.fromkeys(columns, nothing)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (problem,) = read_problems(str(path), None, None)
    assert problem.source == "rows"
    (task,) = read_tasks(str(path), "train", Columns(), {}, None).asked
    assert (task.source, task.difficulty, task.licence) == ("rows", None, UNKNOWN)
    assert row_of({"gold": "2", "responses": []} | row, "row 1").labels == {}


@pytest.mark.parametrize(
    ("value", "label"), [(5.0, "5"), (1e7, "10000000"), (0.3 + 1e-12, "0.3"), (5, "5"), ("a", "a"), (0, "0")]
)
def test_label_of_a_group(value, label):
    assert label_of(value) == label
