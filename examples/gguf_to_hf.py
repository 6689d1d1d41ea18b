"""A GGUF file as a model directory that SFT, GRPO and vLLM load: weights in bfloat16, tokenizer, chat template.

python examples/gguf_to_hf.py FILE.gguf DIRECTORY    # needs `pip install gguf`

What a quantised file has lost in precision stays lost.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

file, directory = map(Path, sys.argv[1:])
for kind, options in ((AutoModelForCausalLM, {"dtype": torch.bfloat16}), (AutoTokenizer, {})):
    kind.from_pretrained(file.parent, gguf_file=file.name, **options).save_pretrained(directory)
print(directory)
