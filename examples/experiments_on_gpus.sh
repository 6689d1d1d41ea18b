#!/usr/bin/env bash
# The commands of the poster's three experiments, for experiments_*.sh, which set the variables below. Finished
# stages are not repeated; --ckpt.load_enable resumes from a killed run's last checkpoint.
#   RUNS       where everything goes            GRPO       script that trains, see `trained`
#   STUDENT    model that GRPO begins from      SEEDS, COEFFICIENTS
#   BENCHMARK  held-out problems                SAMPLING   how they are asked, flags of `eval` and `experiments speed`
#   SET        the same for `solve --problems`      ATTEMPTS   at each, for rerank
#   SOLVE      how they are attempted, flags of `solve`
# Usage: experiments_on_gpus.sh kl|efficiency|rerank [MORE FLAGS of `grpo`, e.g. --dry-run]
set -euo pipefail
experiment="${1:?give kl, efficiency or rerank}"
shift
more=("$@")
case " $* " in *" --dry-run "*) dry=yes ;; *) dry= ;; esac

ours() { # one of our commands; a dry run says which it would be
  if [ "$dry" ]; then echo "would run: openrlhf-math $*"; else openrlhf-math "$@"; fi
}

trained() { # COEFFICIENT SEED: sets `run`, the directory of a GRPO run that is done
  run="$RUNS/kl_$1_seed_$2"
  local kl=(--algo.kl.init_coef "$1")
  if [ "$1" != 0 ]; then kl+=(--algo.kl.use_loss --algo.kl.estimator k3); fi
  if [ -e "$run/done" ]; then return; fi
  "$GRPO" --math.run_dir "$run" --train.seed "$2" "${kl[@]}" --ckpt.load_enable ${more[@]+"${more[@]}"}
  if [ ! "$dry" ]; then touch "$run/done"; fi
}

evaluated() { # MODEL NAME SEED: an evaluation in $RUNS/eval_NAME; a rerun resumes
  ours eval --model "$1" --benchmark "$BENCHMARK" $SAMPLING --seed "$3" --output "$RUNS/eval_$2"
}

if [ ! "$dry" ]; then mkdir -p "$RUNS"; fi
runs=()
case "$experiment" in
  kl) # learning curves overlaid, memory and time by phase, held-out accuracy: kl.html and kl.md
    for seed in $SEEDS; do
      for coefficient in $COEFFICIENTS; do
        trained "$coefficient" "$seed"
        evaluated "$run/model" "kl_${coefficient}_seed_$seed" "$seed"
        runs+=("$run" "$RUNS/eval_kl_${coefficient}_seed_$seed")
      done
    done
    ours report "${runs[@]}" --output "$RUNS/kl.html" --markdown "$RUNS/kl.md"
    ;;
  efficiency) # accuracy, length and tokens before and after, compared by problem; speed_*.json: seconds, in turns
    for seed in $SEEDS; do
      trained 0 "$seed"
      evaluated "$STUDENT" "student_seed_$seed" "$seed"
      evaluated "$run/model" "kl_0_seed_$seed" "$seed"
      for turn in 1 2 3; do
        for model in "$STUDENT" "$run/model"; do
          side=before
          if [ "$model" != "$STUDENT" ]; then side=after; fi
          output="$RUNS/speed_${side}_seed_${seed}_turn_$turn.json"
          if [ -e "$output" ]; then continue; fi
          ours experiments speed --model "$model" --benchmark "$BENCHMARK" $SAMPLING --seed "$seed" --output "$output"
        done
      done
      ours eval --compare "$RUNS/eval_student_seed_$seed" "$RUNS/eval_kl_0_seed_$seed"
      runs+=("$RUNS/eval_student_seed_$seed" "$run" "$RUNS/eval_kl_0_seed_$seed")
    done
    ours report "${runs[@]}" --output "$RUNS/efficiency.html" --markdown "$RUNS/efficiency.md"
    ;;
  rerank) # accuracy of every choosing rule by the number of attempts: rerank_seed_N.png
    for seed in $SEEDS; do
      trained 0 "$seed"
      attempts="$RUNS/attempts_seed_$seed.jsonl"
      ours solve --model "$run/model" $SOLVE --problems "$SET" --attempts "$ATTEMPTS" --no-early-stop --seed "$seed" \
        --output "$attempts" --resume
      ours vote "$attempts" --style "$STYLE" --plot "$RUNS/rerank_seed_$seed.png"
    done
    ;;
  *)
    echo "$experiment is no experiment: give kl, efficiency or rerank" >&2
    exit 2
    ;;
esac
