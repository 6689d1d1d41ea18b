#!/usr/bin/env bash
# Verified traces from DeepSeek-R1 behind any OpenAI-compatible endpoint: vLLM on a cluster, DeepSeek's own, ...
# Rerun the command after a kill: answered requests are not repeated.
# Usage: PROBLEMS=problems.parquet BASE_URL=http://HOST:8000/v1 OPENAI_API_KEY=... examples/distill_r1.sh [MORE FLAGS]
# For DeepSeek's own service: BASE_URL=https://api.deepseek.com/v1 MODEL=deepseek-reasoner
# All correct traces are kept: in OpenThoughts3's ablations several answers a question helped. Where tokens are expensive,
# add --keep shortest; `openrlhf-math experiments rules` compares rules in miniature.
# Problems without a correct trace get up to 16 attempts.
# Then fine-tune on them: openrlhf-math sft --data.dataset runs/distill_r1/dataset ...
set -euo pipefail

openrlhf-math distill \
  --problems "$PROBLEMS" \
  --base-url "$BASE_URL" --model "${MODEL:-deepseek-ai/DeepSeek-R1}" \
  --attempts 4 --max-attempts 16 --max-tokens 16384 --temperature 0.6 --top-p 0.95 \
  --concurrency 64 --request-timeout 3600 \
  --style think --keep verified \
  --output runs/distill_r1 \
  "$@"
