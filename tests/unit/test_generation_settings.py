"""Engine arguments, stops, template variables and how evaluations are sampled, in `grpo` and `sft`."""

import json
from types import SimpleNamespace

import pytest
from rollout_without_engines import generator
from trained_batch import settings
from vllm import SamplingParams

from openrlhf_math.cli import main
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.generation import sampling_words, with_model_defaults
from openrlhf_math.grpo.rollout.determinism import sampling_params
from openrlhf_math.modeling.model_folder import recommended_sampling

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if not thinks %}<no>{% endif %}{% endif %}"
)
EVAL = ("--eval.dataset", "some/eval")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--math.eval_top_p", 0), "--math.eval_top_p 0"),
        (("--math.eval_top_p", "nan"), "--math.eval_top_p nan"),
        (("--math.eval_top_k", 0), "--math.eval_top_k 0"),
        (("--math.eval_min_p", 1.5), "--math.eval_min_p 1.5"),
        (("--math.stop", ""), "--math.stop"),
        (("--math.stop", "x", "--math.tool", "python"), "--math.stop"),
        (("--chat-template-kwargs", '{"a": 1}', "--no-data.apply_chat_template"), "--chat-template-kwargs"),
        (("--rollout.top_p", 0.9), "--rollout.top_p 0.9"),
        (("--vllm.args", '{"enable_chunked_prefill": true}', "--train.full_determinism_enable"), "--vllm.args"),
    ],
)
def test_invalid_settings(flags, sentence):
    with pytest.raises(UserError) as raised:
        settings(*flags)
    assert str(raised.value).startswith(sentence)


def sampled(args, evaluating: bool, monkeypatch):
    """The parameters that vLLM gets."""
    made = generator(args, {}, monkeypatch)
    made.evaluating = evaluating
    temperature = args.eval.temperature if evaluating else args.rollout.temperature
    return sampling_params(made._sampling(), max_tokens=7, temperature=temperature, top_p=1.0, top_k=-1)


def test_rollouts_sample_the_policy_and_evaluations_as_configured(monkeypatch):
    args = settings(*EVAL, "--math.eval_top_p", 0.9, "--math.eval_top_k", 20, "--math.eval_min_p", 0.1, "--math.stop",
                    "END", "--math.stop", "\n\n\n", "--eval.temperature", 0.3)  # fmt: skip
    rollout, evaluation = (sampled(args, evaluating, monkeypatch) for evaluating in (False, True))
    assert (rollout.temperature, rollout.top_p, rollout.top_k, rollout.min_p) == (1, 1, -1, 0)
    assert rollout.stop == evaluation.stop == ["END", "\n\n\n"] and rollout.include_stop_str_in_output
    assert (evaluation.temperature, evaluation.top_p, evaluation.top_k, evaluation.min_p) == (0.3, 0.9, 20, 0.1)
    plain = sampled(settings(*EVAL), True, monkeypatch)
    assert (plain.temperature, plain.top_p, plain.top_k, plain.min_p, plain.stop) == (0.6, 1, -1, 0, [])
    upstream = SamplingParams(max_tokens=7, temperature=1.0, top_p=1.0, top_k=-1)
    assert str(sampled(settings(), False, monkeypatch)) == str(upstream), "without the flags nothing changes"


@pytest.mark.parametrize(
    ("file", "flags", "expected"),
    [
        (None, (), (0.6, 1, -1, 1)),
        ({"temperature": 0.7, "top_p": 0.8}, (), (0.6, 1, -1, 1)),  # it does not ask for sampling
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}, (),
         (0.7, 0.8, 20, 1.05)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8}, ("--eval.temperature", 1, "--math.eval_top_k", 5),
         (1, 0.8, 5, 1)),
        ({"do_sample": True, "top_p": 0.8}, (), (1, 0.8, -1, 1)),
        ({"do_sample": True, "top_p": 0.8}, ("--math.recipe", "none"), (0.6, 1, -1, 1)),
    ],
)  # fmt: skip
def test_evaluations_use_the_models_defaults(file, flags, expected, tmp_path):
    if file is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(file))
    args = settings(*EVAL, *flags)
    with_model_defaults(args, recommended_sampling("--m", str(tmp_path)))
    found = args.math.generation.evaluation
    assert (found["temperature"], found["top_p"], found["top_k"], found["repetition_penalty"]) == expected
    assert args.eval.temperature == expected[0] and args.rollout.temperature == 1
    lines = sampling_words(args)
    assert len(lines) == 3 if (file or {}).get("do_sample") else 2
    assert f"temperature {expected[0]:g}" in lines[1]


# Commands, as far as they go without an engine


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--vllm.args", '{"kv_cash_dtype": "fp8"}'], "did you mean kv_cache_dtype?"),
        (["--vllm.args", '{"max_model_len": 5}'], "use --data.max_len"),
        (["--vllm.args", '{"gpu_memory_utilization": 0.5}'], "use --vllm.gpu_memory_utilization"),
        (["--vllm.args", '{"logprobs_mode": "raw_logits"}'], "logprobs_mode is set by this command"),
        (["--vllm.args", "[1]"], "--vllm.args"),
        (["--vllm.args", '{"kv_cache_dtype": "fp9"}'], "kv_cache_dtype is 'fp9'"),
        (["--vllm.args", '{"max_num_seqs": 1.5}'], "max_num_seqs is 1.5"),
        (["--vllm.args", '{"enable_chunked_prefill": "yes"}'], "enable_chunked_prefill is 'yes'"),
        (["--chat-template-kwargs", '{"think": true}'], "reads no think, only thinks"),
        (["--vllm.max_num_seqs", "4"], """--vllm.args '{"max_num_seqs": VALUE}'"""),
        (["--vllm.num_engine", "4"], "did you mean --vllm.num_engines?"),
    ],
)
def test_grpo_refuses_unknown_names(flags, said, model_folder, problem_file, tmp_path, capsys):
    command = ["grpo", "--model", str(model_folder), "--problems", str(problem_file), "--output", str(tmp_path / "run")]
    assert main([*command, "--math.device", "cpu", "--dry-run", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_values_valid_in_vllm_are_accepted():
    from openrlhf_math.colocation.layout import check_engine_args

    given = {"kv_cache_dtype": "fp8", "max_num_seqs": 16, "enable_chunked_prefill": False, "hf_overrides": {"a": 1},
             "attention_backend": "FLASH_ATTN", "quantization": None, "compilation_config": {"mode": 0},
             "kv_cache_memory_bytes": 1 << 30, "max_num_batched_tokens": 4096}  # fmt: skip
    check_engine_args("--vllm.args", given, {})


@pytest.mark.parametrize(
    ("name", "value"), [("max_num_seqs", 0), ("max_num_batched_tokens", -1), ("cpu_offload_gb", -0.5)]
)
def test_values_out_of_the_bounds_of_vllm_are_refused(name, value):
    from openrlhf_math.colocation.layout import check_engine_args

    with pytest.raises(UserError, match=f"--vllm.args: {name} is {value}; input should be greater than or equal to"):
        check_engine_args("--vllm.args", {name: value}, {})


def test_template_without_variables_is_named():
    from openrlhf_math.data.prompts import check_variables

    tokenizer = SimpleNamespace(get_chat_template=lambda: "{{ messages[0].content }}")
    with pytest.raises(UserError, match="reads no think, and no other variable; leave it out"):
        check_variables("--chat-template-kwargs", "m", {"think": True}, tokenizer)


def test_template_gets_its_variables_in_grpo_and_sft(model_folder, problem_file):
    from openrlhf_math.grpo import inputs
    from openrlhf_math.sft.render import Renderer

    for variables, ending in (({}, "<assistant><no>"), ({"thinks": True}, "<assistant>")):
        flags = ("--actor.model_name_or_path", model_folder, "--data.prompt_dataset", problem_file,
                 "--math.instruction", "", "--chat-template-kwargs", json.dumps(variables))  # fmt: skip
        args = settings(*flags)
        prompts = inputs.render_prompts(args, inputs.load_problem_sets(args))[str(problem_file)]
        first = json.loads(problem_file.read_text().splitlines()[0])["problem"]
        assert prompts[0] == f"<user>{first}{ending}"
        data = SimpleNamespace(apply_chat_template=True, tokenizer_chat_template=None, input_template=None)
        math = SimpleNamespace(
            thinking_tags="think", template_variables=variables, thinking="keep", instruction="", chat_date=None
        )
        made = Renderer(
            SimpleNamespace(data=data, math=math, model=SimpleNamespace(model_name_or_path=str(model_folder)))
        )
        messages = [{"role": "user", "content": "1"}]
        text = made.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == f"<user>1{ending}"


def test_sft_refuses_a_variable_that_its_template_does_not_read(model_folder, problem_file, tmp_path, capsys):
    command = ["sft", "--model", str(model_folder), "--problems", str(problem_file), "--output", str(tmp_path / "run")]
    assert main([*command, "--dry-run", "--math.device", "cpu", "--chat-template-kwargs", '{"think": true}']) == 2
    assert "reads no think, only thinks" in capsys.readouterr().err
