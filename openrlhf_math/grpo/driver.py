"""Running GRPO: start Ray, let OpenRLHF's driver build its actors from our subclasses, watch the steps.

The controller is not a separate process: `InProcess` replaces a Ray actor and runs in the driver's process.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from openrlhf_math.arguments import Devices, with_values
from openrlhf_math.checkpoints.folder import CheckpointError
from openrlhf_math.colocation.cluster import check_one_machine, lost_connection, shut_down, start_or_join
from openrlhf_math.colocation.layout import cores, enter_environment
from openrlhf_math.errors import UserError, brief
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.faults.stopping import LastWords, stop_signals
from openrlhf_math.grpo.faults.watchdog import Watchdog
from openrlhf_math.grpo.metrics import Watcher, step_display, step_gauges
from openrlhf_math.grpo.rollout.teacher import needs_reference
from openrlhf_math.patches.patch import substituted
from openrlhf_math.runs.progress import printed_to

if TYPE_CHECKING:
    import ray

# Ray ends a process in the middle of a call when the raylet of its machine is gone.
ENDED = (
    "the run was killed, or ended by Ray (Ray on this machine, its raylet, may be gone); the last lines of "
    "{run_dir}/grpo.log and Ray's own logs may tell"
)


def train(args: GRPOArguments, *watchers: Watcher, go_on: str = "") -> None:
    """Train until the problems are used up; the model is saved in `args.ckpt.output_dir`. watchers: see every step.

    go_on: the terminal's last line, should this process end without coming back.
    Raises UserError if the Ray cluster is too small, RuntimeError with the cause if an actor fails.
    """
    import ray

    try:
        with (
            LastWords(ENDED.format(run_dir=args.math.run_dir), go_on) as last_words,
            Watchdog(args.math.faults.phase_seconds, args.math.run_dir, lost_connection, last_words.say) as watchdog,
        ):
            watchdog.begin("start", "Ray, the vLLM engines and the policy's workers to start")
            start_ray(args, enter_environment(args.math.device, args.math.parameters))
            watchers += (step_gauges(args.math.run_dir.name),)
            # Ray has its own handlers, which do not wait.
            with stop_signals() as stop, step_display(sys.stdout, *watchers) as show:
                import deepspeed  # noqa: F401  (tries the compiler, and mutes it only where stderr is the real one)

                with _quiet(args):
                    _train(args, show=show, stop=stop, watchdog=watchdog)
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise failure(error) from error
    finally:
        shut_down()


def failure(error: Exception) -> Exception:
    """Why a run failed, in words, from what Ray or this process raised."""
    import ray

    from openrlhf_math.colocation.engine_life import take_cause

    if isinstance(raised := getattr(error, "cause", error), CheckpointError | UserError):
        return raised
    if gone := lost_connection():
        return RuntimeError(f"{gone} ({type(error).__name__})")
    if isinstance(error, ray.exceptions.RayActorError) and error.actor_id and (cause := take_cause(error.actor_id)):
        return RuntimeError(cause)
    if isinstance(error, ray.exceptions.RayTaskError):
        return RuntimeError(f"an actor failed: {raised!r}\n{error}")
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        used = re.search(r"was ([\d.]+ ?[A-Za-z]+ / [\d.]+ ?[A-Za-z]+)", str(error))
        return RuntimeError(
            f"a machine ran out of memory{f' ({used[1]})' if used else ''}, so Ray ended a worker of the run; end "
            "other programs there, or lower --rollout.batch_size, --data.max_len or --train.max_tokens_per_gpu"
        )
    if isinstance(error, ray.exceptions.RayError):  # an actor died
        return RuntimeError(f"{type(error).__name__}: {brief(error)}")
    return RuntimeError(str(error))


def _train(args: GRPOArguments, **watching: Any) -> None:
    """watching: what the trainer takes besides upstream's arguments."""
    import openrlhf.utils.deepspeed
    import ray
    from openrlhf.cli import train_ppo_ray
    from openrlhf.trainer import ppo_trainer
    from openrlhf.trainer.ray import vllm_engine
    from openrlhf.utils import get_strategy

    from openrlhf_math.colocation.strategy import MathStrategy
    from openrlhf_math.grpo.rollout.rollout_actor import MathRolloutActor
    from openrlhf_math.grpo.trainer import MathTrainer
    from openrlhf_math.grpo.update.policy_actor import MathPolicyActor, MathReferenceActor

    engine = ActorFactory(
        ray.remote(max_restarts=args.math.faults.engine_restarts, max_task_retries=0)(MathRolloutActor),
        device=args.math.device,
        colocated=args.train.colocate_all,
        sequences=args.rollout.batch_size * args.rollout.n_samples_per_prompt // max(1, args.vllm.num_engines),
        rewards=args.math.rewards,
        chat_template=args.data.apply_chat_template,
        tool=args.math.tool,
        parts=args.math.reward_parts,
        majority=args.math.majority_labels,
        judge=args.math.judge,
        generation=args.math.generation,
        engines_a_node=-(-args.vllm.num_engines // args.actor.num_nodes),
    )
    args.data.apply_chat_template, args.data.input_template = False, None  # the run directory's prompts are rendered
    with (
        substituted(openrlhf.utils.deepspeed, DeepspeedStrategy=MathStrategy),
        substituted(
            train_ppo_ray,
            get_strategy=lambda _: get_strategy(args),
            PolicyModelActor=ray.remote(num_gpus=1)(MathPolicyActor),
            ReferenceModelActor=ray.remote(num_gpus=1)(MathReferenceActor),
        ),
        substituted(vllm_engine, RolloutRayActor=engine),
        substituted(ppo_trainer, PPOTrainer=InProcess(MathTrainer, **watching)),
    ):
        train_ppo_ray.train(with_reference(args) if needs_reference(args) else args)


def with_reference(args: GRPOArguments) -> GRPOArguments:
    """A copy in which OpenRLHF's driver sees a KL coefficient above 0, the only thing that has it make a group of
    reference models. All its actors go by the strategy's settings, in which a teacher has no such coefficient."""
    return with_values(args, {"algo.kl.init_coef": 1.0})


@contextlib.contextmanager
def _quiet(args: GRPOArguments) -> Iterator[None]:
    """What OpenRLHF prints in this process goes to grpo.log, unless the user wants to see it."""
    if args.math.verbose:
        yield
        return
    with printed_to(args.math.run_dir / "grpo.log"):
        yield


class ActorFactory:
    """A Ray actor class with arguments of ours added to those upstream gives it."""

    def __init__(self, actor_class: Any, **arguments: Any) -> None:
        self._actor_class, self._arguments = actor_class, arguments

    def options(self, **options: Any) -> "ActorFactory":
        return ActorFactory(self._actor_class.options(**options), **self._arguments)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self._actor_class.remote(*args, **kwargs, **self._arguments)


def start_ray(args: GRPOArguments, environment: dict[str, str]) -> None:
    """Join the cluster in RAY_ADDRESS (set by `ray job submit`), or start one for this run alone.

    Raises UserError if the cluster has too few devices: Ray itself would wait for more forever.
    """
    import ray

    runtime_env = {
        "env_vars": environment,
        # Reaches actors of upstream that we do not subclass, too.
        "worker_process_setup_hook": "openrlhf_math.patches.install",
    }
    wanted = devices_wanted(args)
    common = {"runtime_env": runtime_env, "log_to_driver": args.math.verbose, "logging_level": "warning"}
    # On a CPU a "GPU" is one logical device, so that upstream's placement groups work as they are.
    start_or_join(
        {"num_gpus": wanted, "num_cpus": max(cores(), wanted + 2)} if args.math.device == "cpu" else {}, **common
    )
    there = ray.cluster_resources().get("GPU", 0)
    if there < wanted:
        raise UserError(
            f"the Ray cluster has {there:g} devices, the run wants {wanted}; start Ray with --num-gpus={wanted} "
            "(on a CPU these are logical devices)"
            + (", or lower --actor.num_gpus_per_node and --vllm.num_engines" if there else "")
        )
    check_one_machine(args.math.device, wanted, ray.nodes())


def devices_wanted(args: GRPOArguments) -> int:
    """Devices of the whole run: the policy's, and those of engines and other models unless they share them."""
    engines = args.vllm.num_engines * args.vllm.tensor_parallel_size
    if args.train.colocate_all:
        return max(devices_of(args.actor), engines)
    wanted, critic = devices_of(args.actor) + engines, bool(args.critic.model_name_or_path)
    if needs_reference(args) and not args.train.colocate_actor_ref:
        wanted += devices_of(args.ref)
    if critic:
        wanted += devices_of(args.critic)
    if not args.reward.remote_url and not (critic and args.train.colocate_critic_reward):
        wanted += devices_of(args.reward)
    return wanted


def devices_of(model: Devices) -> int:
    """Of the flags of a model: `actor`, `ref`, `critic` or `reward`."""
    return model.num_nodes * model.num_gpus_per_node


class InProcess:
    """Takes the place of a Ray actor class whose one instance is a controller: it waits, it does not compute.

    A separate process would only import everything once more. `remote(...)` builds the object here, and a method's
    `remote(...)` runs to its end and returns a Ray reference to the result, so that callers need not know.
    """

    def __init__(self, cls: type, **arguments: Any) -> None:
        self._cls, self._arguments = cls, arguments

    def remote(self, *args: Any, **kwargs: Any) -> "Handle":
        return Handle(self._cls(*args, **kwargs, **self._arguments))


class Handle:
    def __init__(self, instance: object) -> None:
        self._instance = instance

    def __getattr__(self, name: str) -> "Method":
        return Method(getattr(self._instance, name))


class Method:
    def __init__(self, function: Callable) -> None:
        self._function = function

    def remote(self, *args: Any, **kwargs: Any) -> "ray.ObjectRef":
        import ray

        return ray.put(self._function(*args, **kwargs))
