#!/usr/bin/env bash
# The poster's experiments with Qwen2.5-32B after distillation, on 4 nodes with 8 GPUs of 80 GiB each. GRPO is
# grpo_qwen2.5_32b_multinode.sh: 128 problems and 2,048 completions of up to 16,384 tokens a step, learning rate 1e-6;
# STEPS of them (100) are 12,800 problems. Start Ray first, as that script says; RUNS must be on a shared file system.
# Held-out: AIME'24 under 5,048 tokens, as on the poster, on the head node's GPUs. One seed and the two ends of the KL
# coefficients: a run with a reference model holds 32B more weights. Qwen's PRM reads 4,096 tokens: a longer attempt has
# no score, and `vote` reports how many there are.
# Usage: STUDENT=runs/sft-qwen2.5-32b/model examples/experiments_qwen2.5_32b.sh kl|efficiency|rerank \
#   [MORE FLAGS of `grpo`, e.g. --dry-run]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

export RUNS="${RUNS:-runs/experiments-qwen2.5-32b}" SEEDS="${SEEDS:-0}" COEFFICIENTS="${COEFFICIENTS:-0 0.01}"
export GRPO="$here/grpo_qwen2.5_32b_multinode.sh" STUDENT="${STUDENT:-Qwen/Qwen2.5-32B-Instruct}"
export BENCHMARK=aime24
export SAMPLING="--prompt r1 --samples 64 --temperature 0.6 --top-p 0.95 --max-tokens 5048 --tensor-parallel 8"
export SET=HuggingFaceH4/aime_2024 STYLE=think ATTEMPTS="${ATTEMPTS:-64}"
export SOLVE="--scorer qwen2.5-math-prm --scorer-model ${PRM:-Qwen/Qwen2.5-Math-PRM-7B} --split train --style think \
  --temperature 0.6 --top-p 0.95 --max-tokens 5048 --max-context 6144 --problem-concurrency 8 --tensor-parallel 4 --scorers 4"
exec "$here/experiments_on_gpus.sh" "$@" --data.max_samples $((128 * ${STEPS:-100}))
