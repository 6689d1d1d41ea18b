"""What a reference model costs: GRPO with KL coefficient 0 against a coefficient above 0, alternating whole runs.

    python tests/benchmarks/reference_free.py --model MODEL --problems FILE.jsonl [--kl 0.01 --groups 8 ...]

Prints, for each: seconds a step and its phases (median over all steps but a run's first), and the peak memory of all
processes of the run (proportional set size). Flags are grpo_step.py's.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from grpo_step import Side, observe, ours_command, read_problems, run_flags

PHASES = ("generation", "make_experience", "ppo_train", "broadcast", "step_total")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run_flags(parser)
    parser.add_argument("--kl", type=float, default=0.01, help="coefficient of the other side")
    args = parser.parse_args()
    problems = read_problems(args.problems, args.steps * args.groups)
    sides = {0.0: Side("KL 0, no reference"), args.kl: Side(f"KL {args.kl}")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.jsonl"
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        for number in range(args.rounds):
            for kl, side in sides.items():
                run_dir = Path(folder) / f"{kl}_{number}"
                observe([*ours_command(args, path, run_dir), "--algo.kl.init_coef", kl], side)
                for line in (run_dir / "metrics.jsonl").read_text().splitlines()[1:]:
                    record = json.loads(line)
                    for name in PHASES:
                        side.phases.setdefault(name, []).append(record[f"timing/{name}"])
    print(f"{'':<20}" + "".join(f"{name:>16}" for name in PHASES) + f"{'peak GiB':>10}", file=sys.stdout)
    for side in sides.values():
        figures = "".join(f"{statistics.median(side.phases[name]):>14.2f} s" for name in PHASES)
        print(f"{side.name:<20}{figures}{side.peak_bytes / 2**30:>10.2f}")


if __name__ == "__main__":
    main()
