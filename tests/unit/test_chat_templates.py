"""Chat templates of unusual kinds: several with names, and such as read a message only as a list of parts."""

import json

import pytest
from public_tokenizers import qwen25

from openrlhf_math.cli import main
from openrlhf_math.data.chat_template import find_form, prepared
from openrlhf_math.data.prompts import chat_text
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import load_tokenizer
from openrlhf_math.rerank.scorers import Verifier
from openrlhf_math.tools.turns import TemplateTurns

TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TOOL_USE = (
    "{{- '<tools>' + (tools | tojson) + '</tools> Call as <tool_call>{\"name\"}</tool_call>' }}"
    "{%- for message in messages %}{%- if message.role == 'tool' %}"
    "{{- '<tool_response>' + message.content + '</tool_response>' }}{%- else %}"
    "{{- message.reasoning_content }}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
PARTS = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}{%- for part in message.content %}"
    "{%- if part.type == 'text' %}{{- part.text }}{%- endif %}{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QUESTION = [{"role": "user", "content": "1+1?"}]
ASKED = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"


def with_template(template):
    tokenizer = qwen25().tokenizer
    tokenizer.chat_template = template
    return tokenizer


def save(folder, templates: dict[str, str], in_config: bool) -> str:
    """As transformers saves named templates now, in files, or as it did, in a list."""
    tokenizer = with_template(templates)
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    if in_config:
        for path in folder.rglob("*.jinja"):
            path.unlink()
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("in_config", [False, True])
def test_of_named_templates_the_default_one_asks_and_that_for_tools_shows_the_tool(model_folder, in_config):
    model = save(model_folder, {"default": TEMPLATE, "tool_use": TOOL_USE, "rag": "{{ documents }}"}, in_config)
    tokenizer = load_tokenizer("--model", model, True, "")
    assert chat_text(tokenizer, QUESTION) == ASKED
    turns = TemplateTurns(tokenizer, 100, model)
    assert chat_text(tokenizer, QUESTION, tools=turns.tools).startswith("<tools>")
    assert find_form(tokenizer) is None  # the field is that of the other template


@pytest.mark.parametrize("in_config", [False, True])
def test_named_templates_without_a_default_are_refused(model_folder, problem_file, tmp_path, in_config, capsys):
    model = save(model_folder, {"tool_use": TOOL_USE, "rag": "{{ documents }}"}, in_config)
    for command in (("grpo", "--problems", problem_file, "--dry-run"), ("sft", "--problems", problem_file, "--dry-run"),
                    ("eval", "--benchmark", problem_file)):  # fmt: skip
        assert main([command[0], "--model", model, "--output", str(tmp_path / "out"), *map(str, command[1:])]) == 2
        error = capsys.readouterr().err
        assert "rag, tool_use" in error and "default" in error and len(error.splitlines()) == 1


def test_template_that_reads_only_parts_gets_them():
    bare, tokenizer = with_template(PARTS), prepared(with_template(PARTS))
    with pytest.raises(UserError, match="1\\+1"):
        chat_text(bare, QUESTION)
    assert chat_text(tokenizer, QUESTION) == ASKED
    parts = [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}]
    assert chat_text(tokenizer, parts) == ASKED
    verifier = object.__new__(Verifier)
    verifier._tokenizer, verifier._controls = tokenizer, ()
    assert "8765" in verifier._text("8765", ["4321"]) and "4321" in verifier._text("8765", ["4321"])
    both = with_template(TEMPLATE)
    assert prepared(both).apply_chat_template == both.apply_chat_template  # texts stay texts


def test_template_that_omits_the_problem_is_refused():
    with pytest.raises(UserError, match="leaves out"):
        chat_text(with_template("{{- 'Hello.' }}"), QUESTION)
