"""Hours of GRPO with random kills: memory, open files, shared memory of every process, and whether a step is lost.

Every few minutes one of the run's processes is killed: the controller (by SIGKILL or SIGTERM; the same command then
goes on), vLLM's engine, its Ray actor, or a grading worker. From the model and the problems of `make demo`:

    python tests/benchmarks/soak.py --model runs/demo/sft/model --problems runs/demo/world/train.jsonl --minutes 120

Prints what it found and leaves soak.json, soak.png and samples.jsonl in --output, beside the run.
"""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import psutil

MIB, HOUR = 2**20, 3600
WARM = 90  # seconds in which a process still fills its caches
SHORT = 120  # seconds after that: no slope is reported for less
SHARED = Path("/dev/shm")
# What it is, by the words in its name and command line: the first that fits.
ROLES = {
    "engine": ["ray::RolloutRayActor"],  # forked from its actor; the title is from before the actor has ours
    "policy": ["PolicyModelActor", "MathPolicyA"],
    "rollout actor": ["MathRollou"],
    "Ray's GCS": ["gcs_server"],
    "raylet": ["raylet/raylet"],
    "Ray's agents": ["dashboard/agent.py", "runtime_env/agent", "dashboard.py", "monitor.py", "log_monitor"],
    "other Ray worker": ["ray::"],
    "controller": ["openrlhf_math grpo"],
}
KILLS = ("controller by SIGKILL", "controller by SIGTERM", "engine", "rollout actor", "grading worker")


def main() -> None:
    args = parse()
    args.output.mkdir(parents=True, exist_ok=True)
    soak = Soak(args)
    try:
        soak.run()
    finally:
        soak.stop()
    result = report(args, soak)
    (args.output / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(args, soak)
    print(json.dumps(result, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--problems", required=True, type=Path)
    parser.add_argument("--output", default=Path("runs/soak"), type=Path)
    parser.add_argument("--minutes", default=120.0, type=float)
    parser.add_argument("--between", default=(90.0, 270.0), nargs=2, type=float, help="seconds from kill to kill")
    parser.add_argument("--every", default=10.0, type=float, help="seconds between two looks at the processes")
    parser.add_argument("--seed", default=0, type=int)
    return parser.parse_args()


def command(args: argparse.Namespace) -> list[str]:
    return [
        sys.executable, "-m", "openrlhf_math", "grpo", "--actor.model_name_or_path", str(args.model),
        "--data.prompt_dataset", str(args.problems), "--math.run_dir", str(args.output / "run"),
        "--math.instruction", "", "--math.answer_style", "think", "--rollout.batch_size", "16",
        "--rollout.n_samples_per_prompt", "8", "--data.max_len", "256", "--rollout.max_new_tokens", "128",
        "--train.num_episodes", "1000", "--actor.adam.lr", "1e-5", "--actor.lr_scheduler", "constant",
        "--ckpt.save_steps", "5", "--ckpt.max_num", "2", "--math.engine_restarts", "1000", "--ckpt.load_enable",
    ]  # fmt: skip


class Soak:
    """samples: of all processes, over time. kills, ends: seconds since the start, and what; ends are of controllers."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.chance = args, random.Random(args.seed)
        self.began = time.time()
        self.shared_before = shared_memory()
        self.samples: list[dict] = []
        self.kills: list[tuple[float, str]] = []
        self.ends: list[tuple[float, int]] = []
        self.family: dict[int, psutil.Process] = {}
        self.process: subprocess.Popen | None = None
        self.left: list[str] = []
        self.terminal = (args.output / "terminal.txt").open("a")
        self.samples_file = (args.output / "samples.jsonl").open("w")

    def run(self) -> None:
        next_kill = self.seconds() + self.chance.uniform(*self.args.between)
        while self.seconds() < 60 * self.args.minutes:
            if self.process is None or self.process.poll() is not None:
                self.ended()
                self.process = subprocess.Popen(command(self.args), stdout=self.terminal, stderr=self.terminal)
            self.sample()
            if self.seconds() > next_kill and self.kill():
                next_kill = self.seconds() + self.chance.uniform(*self.args.between)
            time.sleep(self.args.every)

    def stop(self) -> None:
        """The last of all ends is one by SIGTERM, so that nothing is in flight."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(300)
        self.ended()

    def seconds(self) -> float:
        return time.time() - self.began

    def ended(self) -> None:
        """Take down how the controller ended, and what of its processes lives on after a minute and a half."""
        if self.process is None:
            return
        self.ends.append((round(self.seconds(), 1), self.process.returncode))
        _, alive = psutil.wait_procs(list(self.family.values()), timeout=90)
        for process in alive:
            self.left.append(words(process))
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.family.clear()
        self.process = None

    def sample(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            controller = psutil.Process(self.process.pid)
            for process in [controller, *controller.children(recursive=True)]:
                self.family[process.pid] = process
        step = len(steps_of(self.args))
        found = {"seconds": round(self.seconds(), 1), "step": step, "shared": shared_memory(), "processes": []}
        for pid, process in list(self.family.items()):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                one = {"pid": pid, "age": time.time() - process.create_time(), "role": role(process)}
                one |= {"unshared": process.memory_full_info().uss, "files": process.num_fds()}
                found["processes"].append(one)
        self.samples.append(found)
        self.samples_file.write(json.dumps(found) + "\n")
        self.samples_file.flush()

    def kill(self) -> bool:
        """One of KILLS, where the run is far enough for it to be there."""
        if len(steps_of(self.args)) < 2:
            return False
        what = self.chance.choice(KILLS)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = self.victim(what)
            if victim is None:
                return False
            victim.send_signal(signal.SIGTERM if what.endswith("SIGTERM") else signal.SIGKILL)
            self.kills.append((round(self.seconds(), 1), what))
            return True
        return False

    def victim(self, what: str) -> psutil.Process | None:
        if what.startswith("controller"):
            return psutil.Process(self.process.pid)
        actors = [one for one in self.family.values() if role(one) == "rollout actor" and one.is_running()]
        if what == "rollout actor" or not actors:
            return actors[0] if actors else None
        children = [child for actor in actors for child in actor.children()]
        if what == "engine":
            return max(children, key=lambda one: one.memory_info().rss, default=None)
        graders = [child for child in children if "spawn_main" in words(child)]
        return self.chance.choice(graders) if graders else None


def words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return f"{process.name()} {' '.join(process.cmdline())}"
    return ""


def role(process: psutil.Process) -> str:
    said = words(process)
    return next((name for name, parts in ROLES.items() if any(part in said for part in parts)), "helper")


def shared_memory() -> dict[str, int]:
    files = [path for path in SHARED.iterdir() if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def steps_of(args: argparse.Namespace, name: str = "metrics") -> list[dict]:
    with contextlib.suppress(FileNotFoundError):
        lines = (args.output / "run" / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]
    return []


def slopes(samples: list[dict], value: str) -> dict[str, dict]:
    """By role: growth an hour of the processes that lived long enough, one slope for all of them, and how many.

    Least squares over age, with a separate level for each process.
    """
    lives = defaultdict(list)
    for sample in samples:
        for one in sample["processes"]:
            if one["age"] > WARM:
                lives[one["role"], one["pid"]].append((one["age"], one[value]))
    found = defaultdict(lambda: [0.0, 0.0, 0, 0.0, 0.0])
    for (name, _), life in lives.items():
        age, amount = np.array(life).T
        if age[-1] - age[0] < SHORT:
            continue
        away = age - age.mean()
        sums = found[name]
        sums[0] += float((away * (amount - amount.mean())).sum())
        sums[1] += float((away**2).sum())
        sums[2] += 1
        sums[3] += float(age[-1] - age[0])
        sums[4] = max(sums[4], float(amount.max()))
    return {
        name: {"an_hour": up / down * HOUR, "processes": count, "hours": seconds / HOUR, "most": most}
        for name, (up, down, count, seconds, most) in found.items()
    }


def report(args: argparse.Namespace, soak: Soak) -> dict:
    steps = [record["step"] for record in steps_of(args)]
    drawn = Counter(number for record in steps_of(args, "problems") for number in record["problems"])
    memory = slopes(soak.samples, "unshared")
    files = slopes(soak.samples, "files")
    return {
        "minutes": round(soak.seconds() / 60, 1),
        "steps": len(steps),
        "each_step_once": steps == list(range(1, len(steps) + 1)),
        "times_a_problem_was_drawn": [min(drawn.values(), default=0), max(drawn.values(), default=0)],
        "kills": dict(Counter(what for _, what in soak.kills)),
        "controllers": dict(Counter(str(code) for _, code in soak.ends)),
        "engine_restarts": sum(record["engine_restarts"] for record in steps_of(args)),
        "left_alive": soak.left,
        "shared_memory": {"before": soak.shared_before, "after": shared_memory()},
        "memory_MiB": {name: {k: round(v / MIB if k in ("an_hour", "most") else v, 2) for k, v in one.items()}
                       for name, one in memory.items()},
        "open_files": {name: {k: round(v, 2) for k, v in one.items()} for name, one in files.items()},
    }  # fmt: skip


def draw(args: argparse.Namespace, soak: Soak) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (memory, files, steps) = pyplot.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    minutes = [sample["seconds"] / 60 for sample in soak.samples]
    names = [
        name for name in [*ROLES, "helper"] if any(p["role"] == name for s in soak.samples for p in s["processes"])
    ]
    for axes, value, unit in ((memory, "unshared", MIB), (files, "files", 1)):
        for name in names:
            sums = [sum(p[value] for p in s["processes"] if p["role"] == name) / unit for s in soak.samples]
            axes.plot(minutes, sums, label=name, linewidth=1)
    memory.set(title="Unshared memory, by what the processes are", ylabel="MiB")
    memory.legend(fontsize=8, ncols=3)
    files.set(title="Open files", ylabel="descriptors")
    steps.plot(minutes, [sample["step"] for sample in soak.samples], color="black")
    steps.set(title="Steps recorded", ylabel="step", xlabel="minutes")
    for axes in (memory, files, steps):
        for seconds, what in soak.kills:
            axes.axvline(
                seconds / 60, color="firebrick" if "controller" in what else "orange", alpha=0.5, linewidth=0.7
            )
    figure.suptitle("GRPO with kills: of the controller (red), of an engine, its actor or a grading worker (orange)")
    figure.savefig(args.output / "soak.png", dpi=120)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its run is ended, too
    main()
