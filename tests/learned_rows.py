"""What a fine-tuning learns of a few rows, by hand, in the layouts in which models are published.

[[ and ]] are around what is learned.
"""

from public_tokenizers import (
    chatml,
    command_r7b,
    deepseek_r1,
    exaone_deep,
    gemma2,
    gpt_oss,
    kimi_thinking,
    llama3,
    ministral,
    mistral,
    mistral_v3,
    phi3,
    qwen3,
    qwen25,
    seed_oss,
)

ONE = {"problem": "1+1?", "response": "<think>\nadd\n</think>\n\n2"}
BARE = {"problem": "1+1?", "response": "2"}
TWO = {
    "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nb"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "<think>\ny\n</think>\n\nd"},
    ]
}
BARE_TWO = {"messages": [message | {"content": message["content"][-1]} for message in TWO["messages"]]}

QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# name: tokenizer, control tokens at which engines stop, then each row with the rows expected.
TEMPLATES = {
    "ChatML": (
        lambda: qwen25().tokenizer, (),
        [
            (ONE, ["<|im_start|>system\n" + QWEN + "<|im_end|>\n"
                   "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n[[<think>\nadd\n</think>\n\n2<|im_end|>]]"]),
            (TWO, ["<|im_start|>system\n" + QWEN + "<|im_end|>\n"
                   "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[<think>\nx\n</think>\n\nb<|im_end|>]]\n"
                   "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[[<think>\ny\n</think>\n\nd<|im_end|>]]"]),
        ],
    ),
    "ChatML of a base model": (
        chatml, (),
        [
            (BARE_TWO, ["<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[b<|im_end|><|endoftext|>]]",
                        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[[d<|im_end|><|endoftext|>]]"]),
        ],
    ),
    "Qwen3": (
        qwen3, (),
        [
            (ONE, ["<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
                   "[[<think>\nadd\n</think>\n\n2<|im_end|>]]"]),
            (BARE, ["<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n[[<think>\n\n</think>\n\n2<|im_end|>]]"]),
            (TWO, ["<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[<think>\nx\n</think>\n\nb<|im_end|>]]",
                   "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                   "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[[<think>\ny\n</think>\n\nd<|im_end|>]]"]),
        ],
    ),
    "Qwen3, enable_thinking=false": (
        lambda: qwen3("<think>\n\n</think>\n\n"), (),
        [
            (BARE, ["<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n[[2<|im_end|>]]"]),
            ({"problem": "1+1?", "response": "<think>\n\n</think>\n\n2"},
             ["<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n[[2<|im_end|>]]"]),
        ],
    ),
    "DeepSeek-R1-Distill": (
        lambda: deepseek_r1().tokenizer, (),
        [
            (ONE, ["<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n"
                   "[[add\n</think>\n\n2<｜end▁of▁sentence｜>]]"]),
            (BARE, ["<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n"
                    "[[\n</think>\n\n2<｜end▁of▁sentence｜>]]"]),
            ({"problem": "1+1?", "response": "add\n</think>\n\n2"},
             ["<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n"
              "[[add\n</think>\n\n2<｜end▁of▁sentence｜>]]"]),
            (TWO, ["<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>\n"
                   "[[x\n</think>\n\nb<｜end▁of▁sentence｜>]]",
                   "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>\n\nb<｜end▁of▁sentence｜>"
                   "<｜User｜>c<｜Assistant｜><think>\n[[y\n</think>\n\nd<｜end▁of▁sentence｜>]]"]),
        ],
    ),
    "Llama 3": (
        lambda: llama3().tokenizer, (),
        [
            ({"problem": "1+1?", "response": " 2 \n"},
             ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n[[2<|eot_id|>]]"]),
            (TWO, ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n[[<think>\nx\n</think>\n\nb<|eot_id|>]]"
                   "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n[[<think>\ny\n</think>\n\nd<|eot_id|>]]"]),
        ],
    ),
    "Gemma": (
        lambda: gemma2().tokenizer, ("<eos>", "<end_of_turn>"),
        [
            (ONE, ["<bos><start_of_turn>user\n1+1?<end_of_turn>\n<start_of_turn>model\n"
                   "[[<think>\nadd\n</think>\n\n2<end_of_turn>]]"]),
            (BARE_TWO, ["<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n[[b<end_of_turn>]]\n"
                        "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n[[d<end_of_turn>]]"]),
        ],
    ),
    "Gemma whose engines stop at <eos> alone": (
        lambda: gemma2().tokenizer, ("<eos>",),
        [(BARE, ["<bos><start_of_turn>user\n1+1?<end_of_turn>\n<start_of_turn>model\n[[2<end_of_turn><eos>]]"])],
    ),
    "Mistral": (
        lambda: mistral().tokenizer, (),
        [
            (ONE, ["<s>[INST] 1+1? [/INST][[<think>\nadd\n</think>\n\n2</s>]]"]),
            (BARE_TWO, ["<s>[INST] a [/INST][[b</s>]][INST] c [/INST][[d</s>]]"]),
        ],
    ),
    "Mistral v3": (mistral_v3, (), [(BARE_TWO, ["<s>[INST] a[/INST][[ b</s>]][INST] c[/INST][[ d</s>]]"])]),
    "Phi-3": (  # its control tokens swallow the line's end behind them
        phi3, ("<|endoftext|>", "<|end|>"),
        [
            (ONE, ["<|user|>1+1?<|end|><|assistant|>[[<think>\nadd\n</think>\n\n2<|end|>]]"]),
            (BARE_TWO, ["<|user|>a<|end|><|assistant|>[[b<|end|>]]<|user|>c<|end|><|assistant|>[[d<|end|>]]"]),
        ],
    ),
    "gpt-oss": (
        gpt_oss, (),
        [
            (ONE, ["<|start|>user<|message|>1+1?<|end|><|start|>assistant[[<|channel|>analysis<|message|>add<|end|>"
                   "<|start|>assistant<|channel|>final<|message|>2<|return|>]]"]),
            (BARE, ["<|start|>user<|message|>1+1?<|end|><|start|>assistant"
                    "[[<|channel|>final<|message|>2<|return|>]]"]),
            (TWO, ["<|start|>user<|message|>a<|end|><|start|>assistant[[<|channel|>analysis<|message|>x<|end|>"
                   "<|start|>assistant<|channel|>final<|message|>b<|return|>]]",
                   "<|start|>user<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|end|>"
                   "<|start|>user<|message|>c<|end|><|start|>assistant[[<|channel|>analysis<|message|>y<|end|>"
                   "<|start|>assistant<|channel|>final<|message|>d<|return|>]]"]),
        ],
    ),
    "Seed-OSS": (
        seed_oss, (),
        [
            (BARE, ["<seed:bos>user\n1+1?<seed:eos><seed:bos>assistant\n[[2<seed:eos>]]"]),
            (TWO, ["<seed:bos>user\na<seed:eos><seed:bos>assistant\n[[<seed:think>x</seed:think>\nb<seed:eos>]]"
                   "<seed:bos>user\nc<seed:eos><seed:bos>assistant\n[[<seed:think>y</seed:think>\nd<seed:eos>]]"]),
        ],
    ),
    "Ministral": (
        ministral, (),
        [
            (BARE, ["<s>[INST]1+1?[/INST][[2</s>]]"]),
            (TWO, ["<s>[INST]a[/INST][[[THINK]x[/THINK]b</s>]][INST]c[/INST][[[THINK]y[/THINK]d</s>]]"]),
        ],
    ),
    "EXAONE Deep": (
        exaone_deep, (),
        [
            (ONE, ["[|user|]1+1?\n[|assistant|]<thought>\n[[add\n</thought>\n\n2<|endofturn|>]]"]),
            (BARE, ["[|user|]1+1?\n[|assistant|]<thought>\n[[\n</thought>\n\n2<|endofturn|>]]"]),
        ],
    ),
    "Command R7B": (
        command_r7b, (),
        [
            (BARE, ["<|USER|>1+1?<|END|><|CHATBOT|><|START_THINKING|><|END_THINKING|>"
                    "[[<|START_RESPONSE|>2<|END_RESPONSE|><|END|>]]"]),
        ],
    ),
    "Kimi K2 Thinking": (
        kimi_thinking, (),
        [
            (TWO, ["<|im_user|>user<|im_middle|>a<|im_end|><|im_assistant|>assistant<|im_middle|>"
                   "[[<think>\nx\n</think>\n\nb<|im_end|>]]",
                   "<|im_user|>user<|im_middle|>a<|im_end|><|im_assistant|>assistant<|im_middle|><think></think>b"
                   "<|im_end|><|im_user|>user<|im_middle|>c<|im_end|><|im_assistant|>assistant<|im_middle|>"
                   "[[<think>\ny\n</think>\n\nd<|im_end|>]]"]),
        ],
    ),
}  # fmt: skip
