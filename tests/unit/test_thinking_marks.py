"""Thinking that models mark otherwise than with <think>: where it ends, as engines return it, and in earlier turns."""

from types import SimpleNamespace

import pytest
from public_tokenizers import (
    chatml,
    command_r7b,
    deepseek_r1,
    exaone_deep,
    gpt_oss,
    kimi_thinking,
    ministral,
    qwen3,
    seed_oss,
)

from openrlhf_math.data.prompts import chat_text
from openrlhf_math.data.trace import trace
from openrlhf_math.evaluation.prompts import r1
from openrlhf_math.rerank.genselect import choice
from openrlhf_math.rerank.prompts import EngineText
from openrlhf_math.rerank.scorers import Verifier
from openrlhf_math.rerank.steps import split_steps
from openrlhf_math.rerank.verdicts import verdict
from openrlhf_math.rewards.extract import extract, well_formed
from openrlhf_math.rewards.thinking import begins_thinking, in_think_tags

DRAFT, FINAL = r"maybe \boxed{3}", r"So \boxed{5}."
ANALYSIS, NEXT = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
TO_FINAL = f"{NEXT}<|channel|>final<|message|>"
CALL = f"{NEXT}<|channel|>commentary to=functions.python <|constrain|>json<|message|>{{}}<|call|>"
CLOSED = {
    "harmony": f"{ANALYSIS}{DRAFT}{TO_FINAL}{FINAL}",
    "harmony, ended": f"{ANALYSIS}{DRAFT}{TO_FINAL}{FINAL}<|return|>",
    "harmony, several": f"{ANALYSIS}{DRAFT}{CALL}<|start|>assistant{ANALYSIS}then \\boxed{{4}}{TO_FINAL}{FINAL}",
    "harmony, opened by the prompt": f"{DRAFT}{TO_FINAL}{FINAL}",
    "harmony without its tokens": f"analysis{DRAFT}assistantfinal{FINAL}",
    "Magistral": f"[THINK]{DRAFT}[/THINK]{FINAL}",
    "Magistral, opened by the prompt": f"{DRAFT}[/THINK]{FINAL}",
    "Seed-OSS": f"<seed:think>{DRAFT}</seed:think>\n{FINAL}",
    "EXAONE Deep": f"{DRAFT}\n</thought>\n\n{FINAL}",
    "Kimi-VL": f"◁think▷{DRAFT}◁/think▷{FINAL}",
    "Command A": f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{FINAL}<|END_RESPONSE|>",
    "Gemma 4": f"<|channel>thought\n{DRAFT}<channel|>{FINAL}",
    "Solar Open": f"<|think|>{DRAFT}<|end|><|begin|>assistant<|content|>{FINAL}",
}


@pytest.mark.parametrize("style", ["boxed", "think"])
@pytest.mark.parametrize("response", CLOSED.values(), ids=CLOSED.keys())
def test_draft_is_not_an_answer_and_the_format_is_valid(response, style):
    found = extract(response, style)
    assert (found.answer, found.boxes) == ("5", ("5",))
    assert well_formed(response, found, style)


@pytest.mark.parametrize("style", ["boxed", "think"])
@pytest.mark.parametrize(
    "response", [ANALYSIS + DRAFT, f"{ANALYSIS}x{CALL}<|start|>assistant{ANALYSIS}{DRAFT}", f"[THINK]{DRAFT}",
                 f"<seed:think>{DRAFT}", f"<|START_THINKING|>{DRAFT}"],
)  # fmt: skip
def test_thinking_that_is_not_closed_has_no_answer(response, style):
    found = extract(response, style)
    assert found.answer is None and not well_formed(response, found, style)


@pytest.mark.parametrize(
    "text", ["", r"\boxed{5}", "<think>a</think>b", "analysis of the case: 5", "f[x] <5 and 6> |x|", "a<|end|>"]
)
def test_other_texts_are_unchanged(text):
    assert in_think_tags(text) == text


def test_every_reader_knows_the_thinking_marks():
    thought = f"{ANALYSIS}Verdict: No. The best is solution 2.\n\nWell.{TO_FINAL}"
    assert verdict(thought + "Verdict: Yes") is True
    assert split_steps("[THINK]a\n\nb[/THINK]c\n\nd") == ["a", "b", "c", "d"]
    assert trace(f"{ANALYSIS}a{TO_FINAL}b", "") == "<think>\na\n</think>\n\nb"
    assert choice(f"{ANALYSIS}Choice: 2{TO_FINAL}Choice: 1", 2) == 1 and choice(f"{ANALYSIS}Choice: 2", 2) is None


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [("x<think>\n", True), ("x<thought>\n", True), (f"x<|start|>assistant{ANALYSIS}", True),
     ("x<|start|>assistant", False), ("x<think>\n\n</think>\n\n", False), ("x[/INST]", False)],
)  # fmt: skip
def test_prompts_that_open_thinking(prompt, begun):
    assert begins_thinking(prompt) is begun


@pytest.mark.parametrize("tokenizer", [chatml, command_r7b, exaone_deep, gpt_oss, ministral, qwen3, seed_oss])
@pytest.mark.parametrize("added", ["", "<think>\n", "<|channel|>analysis<|message|>", "[THINK]"])
def test_opened_thinking_is_found_in_the_tokens_of_a_prompt(tokenizer, added):
    tokenizer = tokenizer()
    text = chat_text(tokenizer, [{"role": "user", "content": "1+1? " * 50}], {}) + added
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert EngineText(tokenizer).opens_thinking(ids) is begins_thinking(text)


@pytest.mark.parametrize(
    ("tokenizer", "kept"),
    [(gpt_oss, True), (ministral, True), (command_r7b, True), (seed_oss, False), (qwen3, False), (chatml, False)],
)
def test_engines_keep_special_tokens_of_thinking(tokenizer, kept):
    tokenizer = tokenizer()
    text = EngineText(tokenizer)
    assert text.arguments() == ({"skip_special_tokens": False} if kept else {})
    ended = SimpleNamespace(token_ids=[5, tokenizer.eos_token_id], finish_reason="stop", stop_reason=None)
    assert text.without_end("a" + tokenizer.eos_token, ended) == ("a" if kept else "a" + tokenizer.eos_token)
    for other in ({"finish_reason": "length"}, {"stop_reason": tokenizer.eos_token}):
        one = SimpleNamespace(**(vars(ended) | other))
        assert text.without_end("a" + tokenizer.eos_token, one) == "a" + tokenizer.eos_token


EARLIER = [
    (gpt_oss, "<|start|>user<|message|>1+1?<|end|><|start|>assistant<|channel|>final<|message|>2<|end|>"
              "<|start|>user<|message|>and?<|end|><|start|>assistant"),
    (seed_oss, "<seed:bos>user\n1+1?<seed:eos><seed:bos>assistant\n<seed:think>add</seed:think>\n2<seed:eos>"
               "<seed:bos>user\nand?<seed:eos><seed:bos>assistant\n"),
    (ministral, "<s>[INST]1+1?[/INST][THINK]add[/THINK]2</s>[INST]and?[/INST]"),
    (kimi_thinking, "<|im_user|>user<|im_middle|>1+1?<|im_end|><|im_assistant|>assistant<|im_middle|>"
                    "<think></think>2<|im_end|><|im_user|>user<|im_middle|>and?<|im_end|>"
                    "<|im_assistant|>assistant<|im_middle|>"),
    (qwen3, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
            "<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [{"content": "<think>\nadd\n</think>\n\n2"}, {"content": "add</think>2"}, {"content": "2", "thinking": "add"},
     {"content": "2", "reasoning_content": "add"}, {"content": "2", "reasoning": "add"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("tokenizer", "expected"), EARLIER)
def test_earlier_thinking_is_placed_by_the_template(tokenizer, expected, said):
    messages = [{"role": "user", "content": "1+1?"}, {"role": "assistant", **said}, {"role": "user", "content": "and?"}]
    assert chat_text(tokenizer(), messages) == expected


def test_templates_without_a_thinking_field_get_tags_in_content():
    said = {"role": "assistant", "content": "<think>\nadd\n</think>\n\n2"}
    messages = [{"role": "user", "content": "1+1?"}, said, {"role": "user", "content": "and?"}]
    assert "assistant\n<think>\nadd\n</think>\n\n2<|im_end|>" in chat_text(chatml(), messages)
    assert "<｜Assistant｜>\n\n2<｜end▁of▁sentence｜>" in chat_text(deepseek_r1().tokenizer, messages)


def test_verifier_prompt_that_opens_thinking_is_refused():
    config = SimpleNamespace(architectures=["Qwen2ForCausalLM"])
    Verifier(chatml(), config)
    opened = chatml()
    opened.chat_template = opened.chat_template + "{{ '<think>\n' }}"
    with pytest.raises(ValueError, match="verdict"):
        Verifier(opened, config)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [(exaone_deep, "[|user|]1+1?\n[|assistant|]<thought>\n"),
     (chatml, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n")],
)  # fmt: skip
def test_r1_prompt_opens_thinking_that_the_template_has_not_opened(tokenizer, expected):
    assert r1(tokenizer(), [{"role": "user", "content": "1+1?"}]) == expected
