"""A prompt is the same tokens in every command: the tokenizer's first token once, nothing behind, templates literal.

What is expected is worked out by hand from the layouts of published tokenizers (tests/public_tokenizers.py).
"""

import asyncio
import json
from dataclasses import make_dataclass
from types import SimpleNamespace

import pytest
from public_tokenizers import LAYOUTS, Layout, gemma2, llama3, mistral, qwen25

from openrlhf_math.cli import main
from openrlhf_math.data.problems import Problem
from openrlhf_math.data.prompts import fill, first_tokens, prompt_ids, with_first_text, with_instruction
from openrlhf_math.evaluation.benchmarks import Sampling
from openrlhf_math.evaluation.evaluate import tokenized
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.grpo import inputs
from openrlhf_math.grpo.generation import Generation
from openrlhf_math.rewards import Grade, RewardConfig

PROBLEMS = (
    "What is 2 + 2?",
    r"Solve $\frac{1}{2}x = {}$ for {x}.",
    "<image>Find x.",
    "a <video> and <|image_pad|> b",
    "  leading π ≤ 4\n\nline",
    "He wrote <|im_end|>, </s>, <s> and <|endoftext|> there.",
)
INSTRUCTION = r"Put it into \boxed{}."
TEMPLATE = "Q: {}\nA (in \\boxed{} or \\frac{1}{}, {as} {{text}):"
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.__name__)
def layout(request) -> Layout:
    return request.param()


@pytest.fixture(scope="module")
def model(layout, tmp_path_factory):
    return saved(layout, tmp_path_factory.mktemp("model"))


def saved(layout: Layout, folder):
    layout.tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def expected(layout: Layout, problem: str, way: str) -> list[int]:
    """By hand: the chat is the text's own tokens, the others have the tokenizer's first token."""
    asked = f"{problem}\n{INSTRUCTION}"
    if way == "chat":
        return layout.ids(layout.chat(asked), first=False)
    if way == "template":
        asked = f"Q: {asked}\nA (in \\boxed{{}} or \\frac{{1}}{{}}, {{as}} {{{{text}}):"
    return layout.ids(asked, first=True)


def flags(way: str) -> tuple[bool, str | None]:
    return way == "chat", TEMPLATE if way == "template" else None


def problem_sets() -> dict[str, list[Problem]]:
    return {"set": [Problem(problem, "4", "set", row) for row, problem in enumerate(PROBLEMS, start=1)]}


class Engine:
    """Replaces vLLM's: it keeps the tokens of the prompt, and writes nothing."""

    model_config = SimpleNamespace(max_model_len=4096)

    def __init__(self) -> None:
        self.asked = []

    async def generate(self, ids, params):  # as OpenRLHF's actor has it
        self.asked.append(ids)
        one = SimpleNamespace(
            token_ids=[], text="", finish_reason="length", stop_reason=None, logprobs=SimpleNamespace(logprobs=[])
        )
        return SimpleNamespace(outputs=[one] * params.n)

    async def collective_rpc(self, *args, **options):
        pass


class StreamingEngine(Engine):
    errored = False

    async def generate(self, prompt, params, name):  # as vLLM's own has it
        self.asked.append(prompt["prompt_token_ids"])
        one = SimpleNamespace(token_ids=[], text="", finish_reason="length", stop_reason=None)
        yield SimpleNamespace(outputs=[one])


def record(**fields):
    """As settings, which `dataclasses.replace` takes."""
    return make_dataclass("Record", fields)(**fields)


def by_grpo(model, way: str, tmp_path) -> list[list[int]]:
    """What the engine of a run is asked: through the files of the run, OpenRLHF's data set and our executor."""
    from datasets import load_dataset
    from openrlhf.datasets import PromptDataset
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    from openrlhf_math.grpo.executor import AgentExecutor

    class Executor(AgentExecutor):
        async def grade(self, text, label, problem):
            return Grade(0.0, "wrong", False)

    chat_template, template = flags(way)
    data = SimpleNamespace(
        apply_chat_template=chat_template, input_template=template, input_key="problem", label_key="answer",
        max_len=4096, prompt_dataset="set", prompt_split="train",
    )  # fmt: skip
    args = SimpleNamespace(
        data=data, actor=SimpleNamespace(model_name_or_path=str(model)), rollout=SimpleNamespace(max_new_tokens=8),
        math=record(instruction=INSTRUCTION, run_dir=tmp_path, tool=None, generation=Generation(), chat_date=None),
        eval=SimpleNamespace(dataset=None),
    )  # fmt: skip
    prompts = inputs.render_prompts(args, problem_sets())
    inputs.write_prompts(args, problem_sets(), prompts, {})
    rows = load_dataset("json", data_files=data.prompt_dataset, split="train", cache_dir=str(tmp_path / "cache"))
    data.apply_chat_template, data.input_template = False, None  # as the driver hands them to OpenRLHF
    tokenizer = AutoTokenizer.from_pretrained(model)
    strategy = SimpleNamespace(args=args, is_rank_0=lambda: False)
    engine, executor = Engine(), Executor()
    executor.chat_template = chat_template
    for prompt in PromptDataset(rows, tokenizer, strategy, input_template=None).prompts:
        group = asyncio.run(executor.execute_group(prompt, "4", SamplingParams(), 4096, tokenizer, engine, 2))
        assert [rollout["observation_tokens"] for rollout in group] == [engine.asked[-1]] * 2, "what the trainer reads"
        assert group[0]["action_ranges"] == [(len(engine.asked[-1]),) * 2]
    return engine.asked


def by_sft(model, way: str, tmp_path) -> list[list[int]]:
    """The tokens of a training row that are not learned."""
    from openrlhf_math.data.conversations import Layout
    from openrlhf_math.sft.render import Renderer
    from openrlhf_math.sft.trainer import TraceDataset

    chat_template, template = flags(way)
    data = SimpleNamespace(apply_chat_template=chat_template, input_template=template, tokenizer_chat_template=None)
    ours = {"thinking_tags": "think", "code_output": "mask", "template_variables": {}, "chat_date": None}
    math = SimpleNamespace(instruction=INSTRUCTION, thinking="keep", **ours)
    args = SimpleNamespace(data=data, model=SimpleNamespace(model_name_or_path=str(model)), math=math)
    render, layout = Renderer(args), Layout(("problem", "response"))
    pieces = [render.pieces(layout.turns({"problem": problem, "response": "4"})) for problem in PROBLEMS]
    rows = [
        {"ids": list(trace.ids), "learned": trace.learned}
        for (trace,) in render.rows("set", list(enumerate(pieces, start=1)))
    ]
    dataset = TraceDataset(rows, render.tokenizer, 4096, SimpleNamespace(args=args))
    found = []
    for number in range(len(rows)):
        ids, _, mask = (part[0] for part in dataset[number])
        learned = mask.nonzero().flatten().tolist()
        found.append(ids[: learned[0] + 1].tolist())
        assert learned == list(range(learned[0], len(ids) - 1)) and ids[-1] == render.tokenizer.eos_token_id
    return found


def by_eval(model, way: str, tmp_path) -> list[list[int]]:
    chat_template, template = flags(way)
    settings = EvalSettings(
        str(model), tmp_path, 0, "chat" if chat_template else "plain", INSTRUCTION, "cpu", 1, None, False,
        RewardConfig(), input_template=template,
    )  # fmt: skip
    questions = [Question(problem) for problem in problem_sets()["set"]]
    return tokenized(ProblemSet("set", questions, Sampling()), settings)


def with_a_streaming_engine(kind: type, tokenizer):
    from openrlhf_math.rerank.prompts import EngineText, Prompts

    engine = object.__new__(kind)
    engine._under_way = {}
    engine._engine, engine._tokenizer, engine._context = StreamingEngine(), tokenizer, 4096
    engine._text = EngineText(tokenizer)
    engine._prompts = Prompts(engine._tokenize, 4096)
    return engine


def by_distill(model, way: str, tmp_path) -> list[list[int]]:
    from transformers import AutoTokenizer

    from openrlhf_math.distill.collect import question
    from openrlhf_math.distill.engine import Engine as Teacher
    from openrlhf_math.distill.questions import Task

    teacher = with_a_streaming_engine(Teacher, AutoTokenizer.from_pretrained(model))
    settings = SimpleNamespace(temperature=1.0, top_p=1.0, max_tokens=8, instruction=INSTRUCTION, seed=0, drawn={})
    teacher._settings = settings
    for problem in problem_sets()["set"]:
        asyncio.run(teacher.answer(question(Task("key", problem, "", None, ""), 0, settings)))
    return teacher._engine.asked


def by_solve(model, way: str, tmp_path) -> list[list[int]]:
    """`solve`, `serve`, and with a beginning the completions of `prm label`."""
    from transformers import AutoTokenizer

    from openrlhf_math.rerank.roles import Sampling
    from openrlhf_math.rerank.sampling_engine import SamplingEngine
    from openrlhf_math.rerank.solver import one_solver

    engine = with_a_streaming_engine(SamplingEngine, AutoTokenizer.from_pretrained(model))
    for problem in PROBLEMS:
        turn = one_solver(INSTRUCTION, Sampling(max_tokens=8, seed=0))(problem)(0)
        asyncio.run(engine.complete(turn.messages, turn.sampling))
    return engine._engine.asked


@pytest.mark.parametrize("way", ["chat", "plain", "template"])
@pytest.mark.parametrize("command", [by_grpo, by_sft, by_eval, by_distill, by_solve])
def test_every_command_sends_the_handwritten_tokens(layout, model, command, way, tmp_path):
    if way == "chat" and not layout.chat:
        pytest.skip("no chat template")
    if way != "chat" and command in (by_distill, by_solve):
        pytest.skip("a chat model's command")
    wanted = [expected(layout, problem, way) for problem in PROBLEMS]
    assert command(model, way, tmp_path) == wanted
    if layout.bos:  # once, but for a problem that spells it itself
        assert all(ids[0] == layout.vocabulary[layout.bos] and layout.vocabulary[layout.bos] not in ids[1:]
                   for ids in wanted[:-1])  # fmt: skip


def test_first_token_is_not_doubled():
    texts = ("<|begin_of_text|>1+1?", "<bos>1+1?", "<s>[INST] 1 [/INST]")
    for layout, text in zip((llama3(), gemma2(), mistral()), texts, strict=True):
        wanted = layout.ids(text, first=False)
        assert prompt_ids(layout.tokenizer, [text], chat_template=False) == [wanted]
        assert wanted.count(layout.vocabulary[layout.bos]) == 1


def test_first_tokens_match_the_tokenizer(layout):
    assert first_tokens(layout.tokenizer) == ([layout.vocabulary[layout.bos]] if layout.bos else [])


def test_openrlhf_executors_get_equivalent_text_or_are_refused(layout):
    text = "What is 2 + 2?"
    wanted = layout.ids(text, first=True)
    if layout.name in ("Mistral", "add_eos_token"):  # the space in front of a text is lost behind <s>
        with pytest.raises(ValueError, match="cannot be written in front"):
            with_first_text(layout.tokenizer, text)
    else:
        written = with_first_text(layout.tokenizer, text)
        assert layout.tokenizer(written, add_special_tokens=False)["input_ids"] == wanted


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (None, "X{}"),
        ("{}", "X{}"),
        ("Q: {} A: \\boxed{}", "Q: X{} A: \\boxed{}"),
        ("\\boxed{} for {}", "\\boxed{} for X{}"),
        ("{} \\frac{}{} \\sqrt[3]{} \\text*{}", "X{} \\frac{}{} \\sqrt[3]{} \\text*{}"),
        ("{{ {} }} {0} {name} %s {:d} }{", "{{ X{} }} {0} {name} %s {:d} }{"),
        ("a\\n{}", "a\\nX{}"),  # a line break that the shell did not read
        ("{{}}", "{X{}}"),
    ],
)
def test_template_is_literal_except_for_its_placeholder(template, text):
    assert fill(template, "X{}") == text


MINIMAL = {
    "grpo": ["--actor.model_name_or_path", "a/b", "--data.prompt_dataset", "c/d", "--no-data.apply_chat_template"],
    "sft": ["--model.model_name_or_path", "a/b", "--data.dataset", "c/d", "--no-data.apply_chat_template"],
    "eval": ["--model", "a/b", "--benchmark", "x.jsonl", "--output", "out", "--prompt", "plain"],
}
FLAG = {"grpo": "--data.input_template", "sft": "--data.input_template", "eval": "--input-template"}


@pytest.mark.parametrize("command", MINIMAL)
@pytest.mark.parametrize("template", ["", "no place", "{} and {}", "\\boxed{}", "{0}", "{}{}", "{} in \\boxed{{}}"])
def test_template_without_one_placeholder_is_refused(command, template, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([command, *MINIMAL[command], FLAG[command], template]) == 2
    error = capsys.readouterr().err
    assert FLAG[command] in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", MINIMAL)
def test_template_with_a_chat_template_is_refused(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in MINIMAL[command] if word not in ("--no-data.apply_chat_template", "--prompt", "plain")]
    assert main([command, *words, FLAG[command], "Q: {}"]) == 2
    error = capsys.readouterr().err
    assert FLAG[command] in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["grpo", "sft"])
def test_messages_that_the_chat_template_refuses_name_their_row(command, capsys, tmp_path):
    model = saved(gemma2(), tmp_path / "model")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    rows = [{"problem": [chat[1]], "answer": "2", "response": "2"}, {"problem": chat, "answer": "2", "response": "2"}]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = {
        "grpo": ["--actor.model_name_or_path", str(model), "--data.prompt_dataset", str(data),
                 "--rollout.batch_size", "2"],
        "sft": ["--model.model_name_or_path", str(model), "--data.dataset", str(data), "--train.batch_size", "1",
                "--train.micro_batch_size", "1"],
    }[command]  # fmt: skip
    assert main([command, *words, "--math.run_dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"{data} row 2: " in error or f"{data}, line 2: " in error
    assert "System role not supported" in error and "Traceback" not in error
    assert not (tmp_path / "run" / "prompts").exists()


def test_sampler_and_a_teacher_refuse_such_messages_one_by_one():
    from openrlhf_math.distill.engine import Engine as Teacher
    from openrlhf_math.distill.teachers import Question
    from openrlhf_math.endpoint.reply import Failure
    from openrlhf_math.rerank.roles import RequestError, Sampling
    from openrlhf_math.rerank.sampling_engine import SamplingEngine

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    engine, teacher = (with_a_streaming_engine(kind, gemma2().tokenizer) for kind in (SamplingEngine, Teacher))
    teacher._settings = SimpleNamespace(temperature=1.0, top_p=1.0, max_tokens=8, drawn={})
    with pytest.raises(RequestError, match="System role not supported"):
        asyncio.run(engine.complete(messages, Sampling()))
    with pytest.raises(Failure, match="System role not supported"):
        asyncio.run(teacher.answer(Question("key", 0, messages, 0)))


VISION = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "image_token_id": 259}


@pytest.mark.parametrize("command", ["grpo", "sft", "eval"])
def test_image_placeholder_is_refused_for_image_models(command, capsys, tmp_path):
    """<image> is ordinary text to Qwen's tokenizer, <|image_pad|> is a token; a text model has no use for it."""
    model = saved(qwen25(), tmp_path / "model")
    (model / "config.json").write_text(json.dumps(VISION))
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    rows = [{"problem": text, "answer": "2", "response": "2"} for text in ("<image>1+1?", "<|image_pad|>1+1?")]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = {
        "grpo": ["--actor.model_name_or_path", model, "--data.prompt_dataset", data, "--rollout.batch_size", "2",
                 "--math.run_dir", run],
        "sft": ["--model.model_name_or_path", model, "--data.dataset", data, "--train.batch_size", "1",
                "--train.micro_batch_size", "1", "--math.run_dir", run],
        "eval": ["--model", model, "--benchmark", data, "--output", run],
    }[command]  # fmt: skip
    assert main([command, *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "row 2: " in error or "line 2: " in error
    assert "<|image_pad|>" in error and len(error.strip().splitlines()) == 1
    assert not run.exists()


def test_openrlhf_executor_gets_the_first_token_and_returns_the_prompt():
    from openrlhf_math.grpo.rollout.rollout_actor import MathRolloutActor

    class Executor:
        async def execute(self, prompt, hf_tokenizer, **others):  # as OpenRLHF's tokenize
            return {"prompt": prompt, "ids": hf_tokenizer(text=prompt, add_special_tokens=False)["input_ids"]}

    for layout, chat_template in ((llama3(), False), (qwen25(), False), (llama3(), True)):
        actor = object.__new__(MathRolloutActor)
        actor.executor, actor.tokenizer, actor.together = Executor(), layout.tokenizer, None
        actor.chat_template = chat_template
        text = layout.chat("1+1?") if chat_template else "1+1?"
        group = asyncio.run(actor.generate_responses(text, "2", SimpleNamespace(), 64, None, 2))
        assert [(one.pop("weights"), len(one.pop("span"))) for one in group] == [(0, 2)] * 2
        assert group == [{"prompt": text, "ids": layout.ids(text, first=not chat_template)}] * 2


@pytest.mark.parametrize("way", ["chat", "template"])
def test_openrlhf_sft_does_not_render(way, tmp_path, monkeypatch):
    """The command up to where OpenRLHF takes over: its flags, and the tokens of the data set that it is given."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    from openrlhf_math.sft import launch as sft

    layout, handed_over = llama3(), []
    model, data = saved(layout, tmp_path / "model"), tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"problem": text, "response": "2"}) + "\n" for text in PROBLEMS))

    def take_over(args, kind, trainer, SFTDataset, **others):  # noqa: N803 (OpenRLHF's name)
        rows = load_dataset("parquet", data_files=args.data.dataset, split="train", cache_dir=str(tmp_path / "cache"))
        strategy = SimpleNamespace(args=args, is_rank_0=lambda: False)
        template = args.data.input_template
        dataset = SFTDataset(rows, AutoTokenizer.from_pretrained(model), 4096, strategy, input_template=template)
        handed_over.extend(part[0][0].tolist() for part in dataset)

    monkeypatch.setattr(sft, "run_upstreams_command", take_over)
    monkeypatch.setattr(sft, "be_a_launcher", lambda: None)
    monkeypatch.setattr(sft, "plot_loss", lambda *args: None)
    monkeypatch.setattr("openrlhf_math.colocation.layout.enter_environment", lambda *args: None)
    monkeypatch.setattr("openrlhf_math.sft.inputs.check_weights", lambda *args: None)
    words = [
        "sft", "--model.model_name_or_path", model, "--data.dataset", data, "--train.batch_size", "6",
        "--train.micro_batch_size", "6", "--math.run_dir", tmp_path / "run", "--math.instruction", INSTRUCTION,
    ]  # fmt: skip
    words += [] if way == "chat" else ["--no-data.apply_chat_template", "--data.input_template", TEMPLATE]
    assert main(list(map(str, words))) == 0
    answer = layout.ids("2<|eot_id|>", first=False)
    assert handed_over == [expected(layout, problem, way) + answer for problem in PROBLEMS]
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert (recorded["apply_chat_template"], recorded["input_template"]) == flags(way)


THINKS = (
    "{%- for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor -%}"
    "{{ 'assistant: ' }}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% if reasoning_effort is defined %}[{{ reasoning_effort }}]{% endif %}{% if crash %}{{ 1 // 0 }}{% endif %}"
)


@pytest.mark.parametrize(
    ("sampling", "end"),
    [
        ({}, "assistant: "),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "assistant: <think></think>"),
        ({"chat_template_kwargs": {"enable_thinking": True, "unknown": [1]}}, "assistant: "),
        ({"reasoning_effort": "none"}, "assistant: <think></think>[none]"),
        ({"reasoning_effort": "high"}, "assistant: [high]"),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, "assistant: [none]"),
    ],
    ids=str,
)
def test_variables_of_the_chat_template_are_those_of_the_request(sampling, end):
    from openrlhf_math.data.prompts import chat_text
    from openrlhf_math.rerank.roles import Sampling as Drawn

    tokenizer = qwen25().tokenizer
    tokenizer.chat_template = THINKS
    text = chat_text(tokenizer, [{"role": "user", "content": "1+1?"}], Drawn(**sampling).template_variables)
    assert text == "user: 1+1?\n" + end


@pytest.mark.parametrize(
    "variables", [{"tokenize": True}, {"chat_template": "x"}, {"add_generation_prompt": 0}, {"crash": 1}]
)
def test_invalid_chat_template_variables_are_refused(variables):
    from openrlhf_math.data.prompts import chat_text
    from openrlhf_math.errors import UserError

    tokenizer = qwen25().tokenizer
    tokenizer.chat_template = THINKS
    with pytest.raises(UserError):
        chat_text(tokenizer, [{"role": "user", "content": "1+1?"}], variables)


def test_existing_instruction_is_not_repeated():
    assert with_instruction("1+1?", "Box it.") == "1+1?\nBox it."
    assert with_instruction("1+1?\nBox it.", "Box it.") == "1+1?\nBox it."
    assert with_instruction("1+1? Box it. \n", "\nBox it.") == "1+1? Box it. \n"
    assert with_instruction("Box it. 1+1?", "Box it.") == "Box it. 1+1?\nBox it."
    assert with_instruction("1+1?", "") == "1+1?"
