"""Small tokenizers in the layouts in which models are published, and what each makes of a prompt, worked out by hand.

Vocabularies hold single characters or bytes, so that the tokens of a text can be written down without the library.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LETTERS = [chr(code) for code in range(33, 127)] + ["▁", "\n", "π", "≤"]


@dataclass(frozen=True)
class Layout:
    """bos: what the tokenizer puts in front of a text, "" for nothing. special: its control tokens.

    chat: (problem) to the text of the chat, as the model's authors publish it; None without a chat template.
    pieces: (text between control tokens, whether it begins the whole text) to the vocabulary's entries.
    """

    name: str
    tokenizer: PreTrainedTokenizerFast
    vocabulary: dict[str, int]
    bos: str
    special: tuple[str, ...]
    chat: Callable[[str], str] | None
    pieces: Callable[[str, bool], list[str]]

    def ids(self, text: str, first: bool) -> list[int]:
        """The tokens of a text by hand. first: whether the tokenizer's first token is to be in front."""
        found = [self.vocabulary[self.bos]] if first and self.bos else []
        begins = True
        for part in re.split(f"({'|'.join(map(re.escape, self.special))})", text):
            pieces = [part] if part in self.special else self.pieces(part, begins) if part else []
            found += [self.vocabulary[piece] for piece in pieces]
            begins &= not part
        return found


def bytes_of(text: str, begins: bool) -> list[str]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for code points from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in text.encode()]


def characters(text: str) -> list[str]:
    """SentencePiece with byte fallback."""
    text = text.replace(" ", "▁")
    return [piece for one in text for piece in ([one] if one in LETTERS else [f"<0x{b:02X}>" for b in one.encode()])]


def byte_level(special: list[str]) -> tuple[Tokenizer, dict[str, int]]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet + special)}
    backend = Tokenizer(models.BPE(vocab={letter: vocabulary[letter] for letter in alphabet}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    return backend, vocabulary


def sentence_piece(special: list[str]) -> dict[str, int]:
    entries = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    return {entry: number for number, entry in enumerate(entries)}


def front(backend: Tokenizer, vocabulary: dict[str, int], bos: str, eos: str = "") -> None:
    """As published: a post-processor that puts BOS in front, and EOS behind where a layout says so."""
    known = [(token, vocabulary[token]) for token in (bos, eos) if token]
    single = " ".join([*([bos] if bos else []), "$A", *([eos] if eos else [])])
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=known)


def wrapped(backend: Tokenizer, bos: str | None, eos: str, template: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos, chat_template=template
    )


def llama3() -> Layout:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    backend, vocabulary = byte_level(special)
    front(backend, vocabulary, special[0])
    template = (
        "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    )
    tokenizer = wrapped(backend, special[0], "<|eot_id|>", template)

    def chat(problem: str) -> str:
        return (
            f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{problem.strip()}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        )

    return Layout("Llama 3", tokenizer, vocabulary, special[0], tuple(special), chat, bytes_of)


def gemma2() -> Layout:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    vocabulary = sentence_piece(special)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(special)
    front(backend, vocabulary, "<bos>")
    template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + "
        "message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{'<start_of_turn>model\n'}}{% endif %}"
    )

    def chat(problem: str) -> str:
        return f"<bos><start_of_turn>user\n{problem.strip()}<end_of_turn>\n<start_of_turn>model\n"

    tokenizer = wrapped(backend, "<bos>", "<eos>", template)
    return Layout("Gemma 2", tokenizer, vocabulary, "<bos>", tuple(special), chat, lambda text, _: characters(text))


def qwen25() -> Layout:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"]
    backend, vocabulary = byte_level(special)
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    template = (
        "{%- if messages[0]['role'] == 'system' %}"
        "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
        "{%- else %}{{- '<|im_start|>system\n" + system + "<|im_end|>\n' }}{%- endif %}{%- for message in messages %}"
        "{%- if not (message.role == 'system' and loop.first) %}{{- '<|im_start|>' + message.role + '\n' + "
        "message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
        "{{- '<|im_start|>assistant\n' }}{%- endif %}"
    )

    def chat(problem: str) -> str:
        return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n"

    return Layout(
        "Qwen2.5", wrapped(backend, None, "<|im_end|>", template), vocabulary, "", tuple(special), chat, bytes_of
    )


def gpt2() -> Layout:
    """Its BOS is a name: nothing puts it in front of a text."""
    backend, vocabulary = byte_level(["<|endoftext|>"])
    tokenizer = wrapped(backend, "<|endoftext|>", "<|endoftext|>", None)
    return Layout("GPT-2", tokenizer, vocabulary, "", ("<|endoftext|>",), None, bytes_of)


def unigram(name: str, eos: bool) -> Layout:
    """Mistral's: a space in front of what begins a text, and of nothing behind a control token."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    vocabulary = sentence_piece(special)
    scored = [(entry, 0.0 if entry in special else -1.0) for entry in vocabulary]
    backend = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(special)
    front(backend, vocabulary, "<s>", "</s>" if eos else "")
    template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
        "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    )

    def pieces(text: str, begins: bool) -> list[str]:
        return characters(text if not begins or text[0] in " ▁" else " " + text)

    def chat(problem: str) -> str:
        return f"<s>[INST] {problem} [/INST]"

    return Layout(name, wrapped(backend, "<s>", "</s>", template), vocabulary, "<s>", tuple(special), chat, pieces)


def mistral() -> Layout:
    return unigram("Mistral", eos=False)


def with_eos() -> Layout:
    """add_bos_token and add_eos_token both set, as in some fine-tuned models' tokenizers."""
    return unigram("add_eos_token", eos=True)


def llama2() -> Layout:
    """The legacy behaviour: a space in front of every piece of text, behind control tokens too."""
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = sentence_piece(special)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(special)
    front(backend, vocabulary, "<s>")
    tokenizer = wrapped(backend, "<s>", "</s>", None)
    return Layout("Llama 2", tokenizer, vocabulary, "<s>", tuple(special), None, lambda text, _: characters(" " + text))


def deepseek_r1() -> Layout:
    special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]
    backend, vocabulary = byte_level(special)
    front(backend, vocabulary, special[0])
    template = (
        "{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}"
        "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}"
        "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}"
        "{%- endif %}{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
    )

    def chat(problem: str) -> str:
        return f"<｜begin▁of▁sentence｜><｜User｜>{problem}<｜Assistant｜><think>\n"

    tokenizer = wrapped(backend, special[0], special[1], template)
    return Layout("DeepSeek-R1-Distill", tokenizer, vocabulary, special[0], tuple(special), chat, bytes_of)


# Layouts whose prompts are like those above, for what is written around answers.


def chatml() -> PreTrainedTokenizerFast:
    """A base model's: engines stop at its end of sequence, not at the end of a turn."""
    backend, _ = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
        "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return wrapped(backend, None, "<|endoftext|>", template)


def qwen3(asked: str = "") -> PreTrainedTokenizerFast:
    """Thinking is shown behind the last question alone, and there an empty part without any.

    asked: what its prompts have behind the assistant's header: an empty part with enable_thinking=false.
    """
    backend, _ = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.add_tokens(["<think>", "</think>"])
    template = (
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
        "{%- endif %}{%- set ns = namespace(last=-1) %}{%- for message in messages %}"
        "{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for message in messages %}{%- if message.role == 'user' %}"
        "{{- '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}{%- elif message.role == 'assistant' %}"
        "{%- set content, thinking = message.content, message.reasoning_content or '' %}"
        "{%- if '</think>' in content %}"
        "{%- set thinking = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
        "{{- '<|im_start|>assistant\n' }}{%- if loop.index0 > ns.last and (loop.last or thinking) %}"
        "{{- '<think>\n' + thinking.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
        "{%- else %}{{- content }}{%- endif %}{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n" + asked.replace("\n", "\\n") + "' }}{%- endif %}"
    )
    return wrapped(backend, None, "<|im_end|>", template)


def phi3() -> PreTrainedTokenizerFast:
    """Its control tokens swallow the space behind them. Its template leaves the system's message out, as the first
    release did."""
    special = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"]
    backend, _ = byte_level([])
    backend.add_special_tokens([AddedToken(token, rstrip=True, normalized=False) for token in special])
    template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '<|user|>\n' + message['content'] + '<|end|>\n<|assistant|>\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    )
    return wrapped(backend, None, "<|endoftext|>", template.replace("{{ bos_token }}", ""))


def mistral_v3() -> PreTrainedTokenizerFast:
    """A space in front of an answer, and control tokens for the instruction."""
    tokenizer = mistral().tokenizer
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] | trim + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    )
    return tokenizer


# Templates with marks of thinking other than <think>.


def _with(special: list[str], eos: str, template: str, bos: str | None = None) -> PreTrainedTokenizerFast:
    backend, _ = byte_level(special)
    return wrapped(backend, bos, eos, template)


def gpt_oss() -> PreTrainedTokenizerFast:
    """Harmony: thinking is a message of another channel, taken from `thinking`, and shown of the last answer alone."""
    return _with(
        ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"],
        "<|return|>",
        "{%- for message in messages %}{%- if message.role == 'assistant' %}"
        "{%- if '<|channel|>' in message.content %}{{- raise_exception('channels in the content') }}{%- endif %}"
        "{%- if loop.last and not add_generation_prompt %}{%- if message.thinking %}"
        "{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{%- endif %}"
        "{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' }}"
        "{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}{%- endif %}"
        "{%- else %}{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{%- endif %}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}",
    )


def seed_oss() -> PreTrainedTokenizerFast:
    """Its marks, which are not control tokens, around what is in `reasoning_content`, in every turn."""
    return _with(
        ["<seed:bos>", "<seed:eos>"],
        "<seed:eos>",
        "{%- for message in messages %}{{- bos_token + message.role + '\n' }}"
        "{%- if message.role == 'assistant' and message.reasoning_content is string and message.reasoning_content %}"
        "{{- '<seed:think>' + message.reasoning_content | trim + '</seed:think>\n' }}{%- endif %}"
        "{{- message.content | trim + eos_token }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- bos_token + 'assistant\n' }}{%- endif %}",
        "<seed:bos>",
    )


def ministral() -> PreTrainedTokenizerFast:
    """Thinking is a part of the content."""
    return _with(
        ["<s>", "</s>", "[INST]", "[/INST]", "[THINK]", "[/THINK]"],
        "</s>",
        "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'user' %}"
        "{{- '[INST]' + message.content + '[/INST]' }}{%- elif message.content is string %}"
        "{{- message.content + eos_token }}{%- else %}{%- for block in message.content %}"
        "{%- if block.type == 'thinking' %}{{- '[THINK]' + block.thinking + '[/THINK]' }}"
        "{%- else %}{{- block.text }}{%- endif %}{%- endfor %}{{- eos_token }}{%- endif %}{%- endfor %}",
        "<s>",
    )


def exaone_deep() -> PreTrainedTokenizerFast:
    """Its prompt opens <thought>, and what is in front of </thought> is left out of earlier turns."""
    return _with(
        ["[|user|]", "[|assistant|]", "<|endofturn|>"],
        "<|endofturn|>",
        "{%- for message in messages %}{%- set content = message.content %}{%- if '</thought>' in content %}"
        "{%- set content = content.split('</thought>')[-1].lstrip('\n') %}{%- endif %}"
        "{{- '[|' + message.role + '|]' + content }}"
        "{{- '\n' if message.role == 'user' else '<|endofturn|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '[|assistant|]<thought>\n' }}{%- endif %}",
    )


def command_r7b() -> PreTrainedTokenizerFast:
    """Its prompt has an empty thinking part, its history has none; both begin with other control tokens."""
    return _with(
        ["<|USER|>", "<|CHATBOT|>", "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>",
         "<|END|>"],
        "<|END|>",
        "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|USER|>' + message.content + '<|END|>' }}"
        "{%- else %}{{- '<|CHATBOT|><|START_RESPONSE|>' + message.content + '<|END_RESPONSE|><|END|>' }}{%- endif %}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- '<|CHATBOT|><|START_THINKING|><|END_THINKING|>' }}"
        "{%- endif %}",
    )  # fmt: skip


def kimi_thinking() -> PreTrainedTokenizerFast:
    """It writes an empty thinking part into all earlier turns, and does not look for tags within their content."""
    return _with(
        ["<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"],
        "<|im_end|>",
        "{%- for message in messages %}{{- '<|im_' + message.role + '|>' + message.role + '<|im_middle|>' }}"
        "{%- if message.role == 'assistant' %}{%- if message.tool_calls and message.get('reasoning_content') %}"
        "{{- '<think>' + message.reasoning_content + '</think>' }}{%- else %}{{- '<think></think>' }}{%- endif %}"
        "{%- endif %}{{- message.content + '<|im_end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{%- endif %}",
    )


LAYOUTS = (llama3, gemma2, qwen25, gpt2, mistral, with_eos, llama2, deepseek_r1)
