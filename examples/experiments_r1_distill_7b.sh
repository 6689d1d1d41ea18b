#!/usr/bin/env bash
# The poster's experiments with DeepSeek-R1-Distill-Qwen-7B on OpenR1-Math, on one node with 8 GPUs of 80 GiB. GRPO is
# grpo_r1_distill_7b.sh: 64 problems and 1,024 completions of up to 8,192 tokens a step, learning rate 1e-6; STEPS of them
# (200) are 12,800 problems. Held-out: AIME'24 under 5,048 tokens, as on the poster. Qwen's PRM reads 4,096 tokens: a
# longer attempt has no score, and `vote` reports how many there are.
# Usage: examples/experiments_r1_distill_7b.sh kl|efficiency|rerank [MORE FLAGS of `grpo`, e.g. --dry-run]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

export RUNS="${RUNS:-runs/experiments-r1-distill-7b}" SEEDS="${SEEDS:-0 1}"
export COEFFICIENTS="${COEFFICIENTS:-0 0.001 0.01 0.1}"
export GRPO="$here/grpo_r1_distill_7b.sh" STUDENT=deepseek-ai/DeepSeek-R1-Distill-Qwen-7B
export BENCHMARK=aime24 SAMPLING="--prompt r1 --samples 64 --temperature 0.6 --top-p 0.95 --max-tokens 5048"
export SET=HuggingFaceH4/aime_2024 STYLE=think ATTEMPTS="${ATTEMPTS:-64}"
export SOLVE="--scorer qwen2.5-math-prm --scorer-model ${PRM:-Qwen/Qwen2.5-Math-PRM-7B} --split train --style think \
  --temperature 0.6 --top-p 0.95 --max-tokens 5048 --max-context 6144 --problem-concurrency 8 --samplers 4 --scorers 4"
exec "$here/experiments_on_gpus.sh" "$@" --data.max_samples $((64 * ${STEPS:-200}))
