"""Which tokens a fine-tuning learns from: every turn of the assistant and nothing else, behind the prompt of `grpo`.

What is expected is written by hand in the models' published layouts, with [[ and ]] around what is learned. A text's
tokens are single letters or bytes (tests/public_tokenizers.py), worked out without the library.
"""

import json
import re
from types import SimpleNamespace

import pytest
from learned_rows import BARE, BARE_TWO, ONE, QWEN, TEMPLATES, TWO
from public_tokenizers import (
    bytes_of,
    characters,
    chatml,
    command_r7b,
    deepseek_r1,
    gemma2,
    gpt_oss,
    phi3,
    qwen3,
    qwen25,
    seed_oss,
)

from openrlhf_math.data.conversations import BadRow, find_layout
from openrlhf_math.data.problems import Problem
from openrlhf_math.data.prompts import chat, chat_text, prompt_ids
from openrlhf_math.errors import UserError
from openrlhf_math.sft.render import Renderer

INSTRUCTION = r"Put it into \boxed{}."


def renderer(
    tokenizer, folder, stops=(), instruction="", thinking="keep", tags="think", template="chat", code_output="mask"
) -> Renderer:
    """stops: the control tokens that the model's generation_config.json names."""
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    if stops:
        numbers = tokenizer.convert_tokens_to_ids(list(stops))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": numbers}))
    data = SimpleNamespace(
        apply_chat_template=template == "chat",
        input_template=None if template == "chat" else template,
        tokenizer_chat_template=None,
    )
    ours = {"thinking_tags": tags, "code_output": code_output, "template_variables": {}, "chat_date": None}
    math = SimpleNamespace(instruction=instruction, thinking=thinking, **ours)
    return Renderer(SimpleNamespace(data=data, model=SimpleNamespace(model_name_or_path=str(folder)), math=math))


def rendered(render: Renderer, row: dict, multiturn: bool = False) -> list[list[tuple[str, bool]]]:
    """The rows that a row of a set becomes, as the vocabulary's entries, each with whether it is learned."""
    layout = find_layout("set", [row], (None, None), multiturn)
    (traces,) = render.rows("set", [(1, render.pieces(layout.turns(row)))])
    if isinstance(traces, BadRow):
        raise traces
    found = []
    for trace in traces:
        learned = {place for start, stop in trace.learned for place in range(start, stop)}
        entries = render.tokenizer.convert_ids_to_tokens(list(trace.ids))
        found.append([(entry, place in learned) for place, entry in enumerate(entries)])
    return found


def by_hand(tokenizer, marked: str) -> list[tuple[str, bool]]:
    """The same of a text with [[ and ]] around what is learned."""
    control = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    pieces = characters if "▁" in tokenizer.get_vocab() else lambda text: bytes_of(text, False)
    found = []
    for part in re.split(r"(\[\[.*?\]\])", marked, flags=re.DOTALL):
        learned = part.startswith("[[")
        part = part[2:-2] if learned else part
        for text in re.split(f"({'|'.join(map(re.escape, control))})", part):
            entries = [text] if text in control else pieces(text)
            found += [(entry, learned) for entry in entries]
    return found


CASES = [
    pytest.param(tokenizer, stops, row, rows, id=f"{name}-{number}")
    for name, (tokenizer, stops, cases) in TEMPLATES.items()
    for number, (row, rows) in enumerate(cases, start=1)
]


@pytest.mark.parametrize(("tokenizer", "stops", "row", "rows"), CASES)
def test_only_assistant_turns_are_trained(tokenizer, stops, row, rows, tmp_path):
    tokenizer = tokenizer()
    render = renderer(tokenizer, tmp_path, stops)
    assert rendered(render, row) == [by_hand(tokenizer, marked) for marked in rows]


FOREIGN = [
    (gpt_oss, {"problem": "1+1?", "response": "<think>\na<|end|>b\n</think>\n\n2"}),
    (gpt_oss, {"problem": "1+1?", "response": "2<|end|>3"}),
    (seed_oss, {"problem": "1+1?", "response": "<think>a</seed:think>b</think>2"}),
    (command_r7b, ONE),
]


@pytest.mark.parametrize(("tokenizer", "row"), FOREIGN)
def test_inner_marks_and_misplaced_thinking_are_refused(tokenizer, row, tmp_path):
    with pytest.raises(BadRow):
        rendered(renderer(tokenizer(), tmp_path), row)


def test_template_that_writes_json_has_no_thinking_form(tmp_path):
    tokenizer = chatml()
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content']",
        "(message['content'] if message['content'] is string else message['content'] | tojson)",
    )
    asked = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    expected = by_hand(tokenizer, asked + "[[<think>\nadd\n</think>\n\n2<|im_end|>]]")
    assert rendered(renderer(tokenizer, tmp_path, ("<|im_end|>",)), ONE) == [expected]


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
SAME = {
    "messages": {"messages": [SYSTEM, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]},
    "written": {"messages": '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}, '
                            '{"role": "assistant", "content": "2"}]'},
    "fields": {"messages": {"role": ["system", "user", "assistant"], "content": ["Be brief.", "1+1?", "2"]}},
    "parts": {"messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "1+"},
                                                               {"type": "text", "text": "1?"}]},
                           {"role": "assistant", "content": [{"type": "text", "text": "2"}]}]},
    "question behind": {"messages": [SYSTEM, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},
                                     {"role": "user", "content": "and?"}]},
    "not learned": {"messages": [SYSTEM, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},
                                 {"role": "user", "content": "3?"},
                                 {"role": "assistant", "content": "3", "weight": 0}]},
    "prompt and completion": {"prompt": [SYSTEM, {"role": "user", "content": "1+1?"}],
                              "completion": [{"role": "assistant", "content": "2"}]},
    "ShareGPT": {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "1+1?"},
                                   {"from": "gpt", "value": "2"}]},
    "ShareGPT, system apart": {"system": "Be brief.", "conversations": [{"from": "user", "value": "1+1?"},
                                                                        {"from": "assistant", "value": "2"}]},
    "messages as problem": {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": "2"},
    "number": {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": 2, "messages": "unused"},
    "ended": {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": "2<|im_end|>\n"},
    "ended twice": {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": "2<|im_end|><|endoftext|>"},
    "ended as another model's": {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": "2<|eot_id|>"},
}  # fmt: skip


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return renderer(qwen25().tokenizer, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("row", SAME.values(), ids=SAME.keys())
def test_all_forms_of_a_row_are_rendered_alike(row, chat_model):
    assert rendered(chat_model, row) == [by_hand(chat_model.tokenizer, ASKED + "[[2<|im_end|>]]")]


def test_sharegpt_without_a_system_has_none(tmp_path):
    render = renderer(chatml(), tmp_path, ("<|im_end|>",))
    row = {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}
    asked = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(render, row) == [by_hand(render.tokenizer, asked + "[[2<|im_end|>]]")]


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_thinking_in_a_separate_field_is_kept(field, chat_model):
    answer = {"role": "assistant", "content": "2", field: "add"}
    row = {"messages": [SYSTEM, {"role": "user", "content": "1+1?"}, answer]}
    expected = ASKED + "[[<think>\nadd\n</think>\n\n2<|im_end|>]]"
    assert rendered(chat_model, row) == [by_hand(chat_model.tokenizer, expected)]


def test_closing_tag_alone_gets_its_opening_tag(chat_model):
    row = {"problem": [SYSTEM, {"role": "user", "content": "1+1?"}], "response": "add\n</think>\n\n2"}
    expected = ASKED + "[[<think>\nadd\n</think>\n\n2<|im_end|>]]"
    assert rendered(chat_model, row) == [by_hand(chat_model.tokenizer, expected)]


@pytest.mark.parametrize(
    ("tags", "response"),
    [
        ("thought", "<|begin_of_thought|>\n\nadd\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n2\n\n"
                    "<|end_of_solution|>"),
        ("mistral", "[THINK]add[/THINK]2"),
        ("<reason>...</reason>", "<reason>add</reason>2"),
    ],
)  # fmt: skip
def test_other_thinking_tags_become_those_of_templates(tags, response, tmp_path):
    render = renderer(chatml(), tmp_path, ("<|im_end|>",), tags=tags)
    asked = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    expected = by_hand(render.tokenizer, asked + "[[<think>\nadd\n</think>\n\n2<|im_end|>]]")
    assert rendered(render, {"problem": "1+1?", "response": response}) == [expected]


KEPT = {
    "keep": ["[[<think>\nx\n</think>\n\nb<|im_end|>]]\n", "[[<think>\ny\n</think>\n\nd<|im_end|>]]"],
    "last": ["[[b<|im_end|>]]\n", "[[<think>\ny\n</think>\n\nd<|im_end|>]]"],
    "drop": ["[[b<|im_end|>]]\n", "[[d<|im_end|>]]"],
}


@pytest.mark.parametrize("thinking", KEPT)
def test_thinking_is_kept_or_dropped_by_turn(thinking, tmp_path):
    render = renderer(chatml(), tmp_path, ("<|im_end|>",), thinking=thinking)
    first, second = KEPT[thinking]
    expected = (
        f"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{first}"
        f"<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n{second}"
    )
    assert rendered(render, TWO) == [by_hand(render.tokenizer, expected)]
    asked_more = {"messages": [*TWO["messages"], {"role": "user", "content": "e"}]}
    assert rendered(render, asked_more) == [by_hand(render.tokenizer, expected)]


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (qwen3, "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n[[<think>\n\n</think>\n\n2<|im_end|>]]"),
        (lambda: qwen3("<think>\n\n</think>\n\n"),
         "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n[[2<|im_end|>]]"),
        (lambda: deepseek_r1().tokenizer,
         "<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n[[\n</think>\n\n2<｜end▁of▁sentence｜>]]"),
    ],
    ids=["Qwen3", "Qwen3, enable_thinking=false", "DeepSeek-R1-Distill"],
)  # fmt: skip
def test_dropped_thinking_keeps_the_templates_placeholder(tokenizer, expected, tmp_path):
    render = renderer(tokenizer(), tmp_path, thinking="drop")
    assert rendered(render, ONE) == [by_hand(render.tokenizer, expected)]


def test_instruction_is_placed_as_in_grpo_and_eval(tmp_path):
    """In the last message of each prompt, so that turns whose prompts differ have separate rows."""
    render = renderer(chatml(), tmp_path, ("<|im_end|>",), INSTRUCTION)
    user, answer = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    rows = [
        f"{user}a\n{INSTRUCTION}{answer}[[b<|im_end|>]]",
        f"{user}a{answer}b<|im_end|>\n{user}c\n{INSTRUCTION}{answer}[[d<|im_end|>]]",
    ]
    assert rendered(render, BARE_TWO) == [by_hand(render.tokenizer, marked) for marked in rows]

    problem = Problem(BARE_TWO["messages"][:3], "", "set", 1)  # as grpo and eval read it
    text = chat_text(render.tokenizer, chat(problem, INSTRUCTION))
    (asked,) = prompt_ids(render.tokenizer, [text], True)
    found = rendered(render, BARE_TWO)[1]
    assert render.tokenizer.convert_ids_to_tokens(asked) == [entry for entry, learned in found if not learned]


def test_prompt_turns_are_trained_only_with_multiturn(tmp_path):
    render = renderer(chatml(), tmp_path, ("<|im_end|>",))
    row = {"prompt": BARE_TWO["messages"][:3], "completion": BARE_TWO["messages"][3:]}
    user, answer = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    for multiturn, first in ((False, "b<|im_end|>"), (True, "[[b<|im_end|>]]")):
        expected = f"{user}a{answer}{first}\n{user}c{answer}[[d<|im_end|>]]"
        assert rendered(render, row, multiturn) == [by_hand(render.tokenizer, expected)]


def test_plain_template_that_opens_thinking_is_continued(tmp_path):
    render = renderer(qwen25().tokenizer, tmp_path, template="Q: {} A: <think>\n")
    for row, learned in ((ONE, "add\n</think>\n\n2"), (BARE, "\n</think>\n\n2")):
        expected = by_hand(render.tokenizer, f"Q: 1+1? A: <think>\n[[{learned}<|im_end|>]]")
        assert rendered(render, row) == [expected]


USER, TWO_POINTS = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
TEXT, THOUGHT = {"type": "text", "text": "2"}, {"type": "thinking", "thinking": "add"}
BAD = {
    "no response": {"problem": "1+1?", "response": None},
    "empty response": {"problem": "1+1?", "response": " \n"},
    "thinking alone": {"problem": "1+1?", "response": "<think>\nadd\n</think>\n"},
    "thinking not closed": {"problem": "1+1?", "response": "<think>\nadd 2"},
    "thinking twice": {"problem": "1+1?", "response": "<think>a</think>2<think>b</think>3"},
    "text before thinking": {"problem": "1+1?", "response": "Well, <think>a</think>2"},
    "a turn's end within": {"problem": "1+1?", "response": "2<|im_end|>\n<|im_start|>user\n3"},
    "an empty question": {"problem": "", "response": "2"},
    "a lone surrogate": {"problem": "1+1?", "response": "\ud800"},
    "a list": {"problem": "1+1?", "response": ["2"]},
    "no answer": {"messages": [USER]},
    "no question": {"messages": [TWO_POINTS]},
    "two answers": {"messages": [USER, TWO_POINTS, TWO_POINTS]},
    "a tool": {"messages": [USER, {"role": "tool", "content": "2"}, TWO_POINTS]},
    "tool calls": {"messages": [USER, TWO_POINTS | {"tool_calls": [{"name": "add"}]}]},
    "an unknown role": {"conversations": [{"from": "narrator", "value": "1"}, {"from": "gpt", "value": "2"}]},
    "a picture": {"messages": [USER | {"content": [{"type": "image"}]}, TWO_POINTS]},
    "two kinds of thinking": {"messages": [USER, {"role": "assistant", "content": "<think>a</think>2",
                                                  "thinking": "b"}]},
    "a completion with a question": {"prompt": [USER], "completion": [USER, TWO_POINTS]},
    "thinking behind the answer": {"messages": [USER, TWO_POINTS | {"content": [TEXT, THOUGHT]}]},
    "two parts of thinking": {"messages": [USER, TWO_POINTS | {"content": [THOUGHT, THOUGHT, TEXT]}]},
    "thinking in a part and a field": {"messages": [USER, TWO_POINTS | {"content": [THOUGHT, TEXT], "thinking": "b"}]},
    "thinking of the user": {"messages": [USER | {"content": [THOUGHT, TEXT]}, TWO_POINTS]},
    "thinking without an answer": {"messages": [USER, TWO_POINTS | {"content": [THOUGHT]}]},
    "thinking that is no text": {"messages": [USER, TWO_POINTS | {"content": [{"type": "thinking", "thinking": 1},
                                                                              TEXT]}]},
}  # fmt: skip


@pytest.mark.parametrize("thought", ["add", [{"type": "text", "text": "ad"}, {"type": "text", "text": "d"}]])
def test_thinking_as_the_first_part_is_as_in_a_field(chat_model, thought):
    """Mistral's and Anthropic's messages; Parquet gives every part all fields."""
    parts = [{"type": "thinking", "thinking": thought, "text": None}, TEXT | {"thinking": None}]
    in_field = {"role": "assistant", "content": "2", "reasoning_content": "add"}
    expected = rendered(chat_model, {"messages": [USER, in_field]})
    assert rendered(chat_model, {"messages": [USER, {"role": "assistant", "content": parts}]}) == expected


@pytest.mark.parametrize("row", BAD.values(), ids=BAD.keys())
def test_untrainable_row_is_bad(row, chat_model):
    with pytest.raises(BadRow):
        rendered(chat_model, row)


def templated(template: str):
    """ChatML's tokenizer, which ends a sequence with <|endoftext|>, with another template."""
    tokenizer = chatml()
    tokenizer.chat_template = template
    return tokenizer


GLM = (  # no control token behind an answer: engines stop where the next header begins, or at the end of sequence
    "{% for message in messages %}{% if message.role == 'user' %}{{ '<|im_start|>U\n' + message.content }}{% else %}"
    "{{ '<|im_start|>A\n' }}{% if '</think>' in message.content %}{{ message.content }}{% else %}"
    "{{ '<think></think>\n' + message.content }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>A' }}{% endif %}"
)
CHANNELS = (  # as gpt-oss has it: thinking in a separate channel, from a separate field
    "{% for message in messages %}{% if message.role == 'user' %}{{ '<|im_start|>U' + message.content + '<|im_end|>' }}"
    "{% else %}{{ '<|im_start|>A<|im_start|>final:' + message.content + '<|endoftext|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>A' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        (GLM, BARE, "<|im_start|>U\n1+1?<|im_start|>A[[\n<think></think>\n2<|endoftext|>]]"),
        (GLM, ONE, "<|im_start|>U\n1+1?<|im_start|>A[[\n<think>\nadd\n</think>\n\n2<|endoftext|>]]"),
        (CHANNELS, BARE, "<|im_start|>U1+1?<|im_end|><|im_start|>A[[<|im_start|>final:2<|endoftext|>]]"),
    ],
)
def test_template_text_before_an_answer_is_trained(template, row, expected, tmp_path):
    render = renderer(templated(template), tmp_path)
    assert rendered(render, row) == [by_hand(render.tokenizer, expected)]


def test_thinking_in_a_foreign_form_is_bad(tmp_path):
    with pytest.raises(BadRow, match="--math.thinking drop"):
        rendered(renderer(templated(CHANNELS), tmp_path), ONE)


def test_several_messages_need_a_chat_template(tmp_path):
    with pytest.raises(BadRow, match="chat template"):
        rendered(renderer(qwen25().tokenizer, tmp_path, template="Q: {}"), {"messages": [SYSTEM, USER, TWO_POINTS]})


def test_thinking_after_a_prompt_that_closes_it_is_bad(tmp_path):
    with pytest.raises(BadRow, match="--math.thinking drop"):
        rendered(renderer(qwen3("<think>\n\n</think>\n\n"), tmp_path), ONE)


@pytest.mark.parametrize("tokenizer", [phi3, lambda: gemma2().tokenizer], ids=["left out", "refused"])
def test_message_omitted_by_the_template_is_bad(tokenizer, tmp_path):
    with pytest.raises(BadRow):
        rendered(renderer(tokenizer(), tmp_path), {"messages": [SYSTEM, USER, TWO_POINTS]})


@pytest.mark.parametrize(
    ("rows", "named", "columns"),
    [
        ([{"question": "q", "output": "a"}], (None, None), ("question", "output")),
        ([{"problem": "q", "response": "a", "messages": []}], (None, None), ("problem", "response")),
        ([{"problem": "q", "solution": "a", "messages": [USER, TWO_POINTS]}], (None, None), ("messages",)),
        ([{"chat": [USER, TWO_POINTS]}], ("chat", None), ("chat",)),
        ([{"chat": [USER], "completion": "a"}], ("chat", None), ("chat", "completion")),
        ([{"q": "1", "a": "2"}], ("q", "a"), ("q", "a")),
        ([{"extra": {"q": "1"}, "response": "2"}], ("extra.q", None), ("extra.q", "response")),
        ([{"problem": "q"}, {"problem": "q", "response": "a"}], (None, None), ("problem", "response")),
    ],
)
def test_columns_of_a_set_are_detected(rows, named, columns):
    assert find_layout("set", rows, named, False).columns == columns


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"prompt": "q", "question": "q", "output": "a"}, (None, None)),
        ({"question": "q", "output": "a", "messages": [USER, TWO_POINTS]}, (None, None)),
        ({"problem": "q", "answer": "a"}, (None, None)),
        ({"problem": "q", "response": "a"}, ("question", None)),
        ({"chat": [USER]}, ("chat", None)),
    ],
)
def test_missing_or_ambiguous_columns_are_refused(row, named):
    with pytest.raises(UserError):
        find_layout("set", [row], named, False)


# What the model writes, and [what the tool wrote].
CODE = (
    "I compute.\n```python\nprint(2)\n```\n", "[```output\n2\n```\n]", "Then\n```python\nprint(3)\n```\n\n",
    "[```output\n3\n```\n]", "so 5.",
)  # fmt: skip
WITH_CODE = "".join(part.strip("[]") for part in CODE)


@pytest.mark.parametrize("code_output", ["mask", "learn"])
def test_code_output_is_trained_only_on_request(tmp_path, code_output):
    tokenizer = qwen25().tokenizer
    render = renderer(tokenizer, tmp_path, code_output=code_output)
    prompt = "<|im_start|>system\n" + QWEN + "<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    said = "".join(part[1:-1] if part[0] == "[" else f"[[{part}]]" for part in CODE).removesuffix("]]") + "<|im_end|>]]"
    if code_output == "learn":
        said = f"[[{WITH_CODE}<|im_end|>]]"
    (row,) = rendered(render, {"problem": "1+1?", "response": WITH_CODE})
    assert row == by_hand(tokenizer, prompt + said)
    assert ("blocks of the output of code, which are not learned" in +render.counts) == (code_output == "mask")
