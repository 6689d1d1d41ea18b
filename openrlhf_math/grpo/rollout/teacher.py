"""`--math.teacher`: on-policy distillation. Its settings, from flags, and what a teacher must be, checked at the start.

Of a token that the student sampled, the advantage is reward_coef A_t + coef (log pi_T(o_t) - log pi(o_t)): the policy
gradient of the second term is that of -KL(pi || pi_T) at each token, with no credit for later tokens.
GKD, https://arxiv.org/abs/2306.13649; MiniLLM, https://arxiv.org/abs/2306.08543; Thinking Machines, On-Policy
Distillation, https://thinkingmachines.ai/blog/on-policy-distillation/.
"""

import os
from dataclasses import dataclass
from typing import TypeGuard

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.endpoint.settings import EndpointFlags, EndpointSettings, endpoint_settings
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.modeling.model_folder import check_model, check_weights, count_parameters, load_tokenizer
from openrlhf_math.modeling.model_kind import check_language_model, check_positions, checked_family, read_config

FLAG = "--math.teacher"
COEFFICIENTS = ("math.teacher_coef", "math.reward_coef")
# Of an endpoint: by flag, the field of `Teacher`.
OF_ENDPOINT = {
    "math.teacher_model": "model",
    "math.teacher_key_env": "key_env",
    "math.teacher_concurrency": "concurrency",
    "math.teacher_timeout": "timeout",
    "math.teacher_tries": "tries",
}
FLAGS = EndpointFlags(
    base_url=FLAG,
    api_key_env="--math.teacher_key_env",
    model="--math.teacher_model",
    concurrency="--math.teacher_concurrency",
    request_timeout="--math.teacher_timeout",
    tries="--math.teacher_tries",
    requests_per_minute="",
    tokens_per_minute="",
    extra_body="",
    max_tokens="",
    no_seed="",
    kind="an endpoint of `vllm serve`",
)


@dataclass(frozen=True, slots=True)
class Teacher:
    """model: a directory or a hub name, or what the server at `url` calls it, "" until that is asked. url: "" for a
    model that is loaded.

    coef, reward_coef: weights of the teacher's and of the reward's advantages. parameters: of the model, 0 if unknown.
    key_env: the environment variable with the server's key, None for the usual one. concurrency: requests under way at
    once. timeout: seconds for one; tries: how often it is repeated.
    """

    model: str
    url: str = ""
    coef: float = 1.0
    reward_coef: float = 1.0
    parameters: int = 0
    key_env: str | None = None
    concurrency: int = 32
    timeout: float = 600.0
    tries: int = 6

    def named(self) -> str:
        return f"{self.model or 'the model'} at {self.url}" if self.url else self.model

    def weights(self) -> str:
        return f"advantages: {self.reward_coef:g} of the reward's, {self.coef:g} of the teacher's"


def teacher(flags: dict, ours: dict) -> Teacher | None:
    """flags: OpenRLHF's with their defaults filled in, ours: --math.*. Returns None without --math.teacher.

    Raises UserError for values that cannot work, and for what no teacher works with.
    """
    where = ours["math.teacher"]
    given = {flag: ours[flag] for flag in (*COEFFICIENTS, *OF_ENDPOINT) if ours[flag] is not None}
    if not where:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value}: this is for {FLAG}; add it, or leave this out")
        return None
    coef, reward_coef = (given.pop(flag, 1.0) for flag in COEFFICIENTS)
    _check_others(flags)
    if "://" not in where:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value}: {FLAG} {where} is loaded, not asked; leave this out")
        return Teacher(where, coef=coef, reward_coef=reward_coef, parameters=count_parameters(where))
    if flags["rollout.temperature"] != 1:
        raise UserError(
            f"--rollout.temperature {flags['rollout.temperature']:g}: a server gives log-probabilities at temperature "
            f"1; leave it out, or give {FLAG} a model"
        )
    asked = {OF_ENDPOINT[flag]: value for flag, value in given.items()}
    found = Teacher(**{"model": "", "url": where, "coef": coef, "reward_coef": reward_coef} | asked)
    endpoint_of(found)
    return found


def endpoint_of(teacher: Teacher) -> EndpointSettings:
    """Raises UserError for values that cannot work."""
    return endpoint_settings(
        teacher.url, teacher.key_env, teacher.concurrency, teacher.timeout, teacher.tries, flags=FLAGS
    )


def _check_others(flags: dict) -> None:
    """Raise UserError for what would be wrong in silence with a teacher."""
    if flags["algo.kl.init_coef"] > 0:
        raise UserError(
            f"--algo.kl.init_coef {flags['algo.kl.init_coef']:g}: {FLAG} takes the place of the reference model, so "
            "there is no KL to the first policy; add --algo.kl.init_coef 0"
        )
    if flags["actor.policy_loss_type"] == "gspo":
        raise UserError(
            f"{FLAG}: gspo has one ratio for a whole completion, so no token would have its own advantage; take "
            "another --math.recipe or --actor.policy_loss_type"
        )
    if flags["algo.advantage.estimator"] == "gae":
        raise UserError(
            f"{FLAG}: a critic (gae) would not know of the teacher; take another --algo.advantage.estimator"
        )
    if flags["algo.dynamic_filtering_enable"]:
        raise UserError(
            f"{FLAG}: it teaches in groups of equal rewards, too, so none may be replaced; add "
            "--no-algo.dynamic_filtering_enable"
        )


def needs_reference(args: GRPOArguments) -> bool:
    """Whether a run has a model in OpenRLHF's place of the reference model: that for a KL, or a teacher."""
    return args.algo.kl.init_coef > 0 or is_loaded(args.math.teacher)


def is_loaded(teacher: Teacher | None) -> TypeGuard[Teacher]:
    return teacher is not None and not teacher.url


def checked_teacher(args: GRPOArguments, ask_hub: bool = False) -> Teacher | None:
    """The teacher, with the name that a server has for it.

    ask_hub: whether hub names and servers are looked up, too; directories always are. Raises UserError unless it is a
    language model with the student's vocabulary and room for a sequence.
    """
    teacher, student = args.math.teacher, args.actor.model_name_or_path
    if teacher is None:
        return None
    if teacher.url:
        if not ask_hub:
            return teacher
        from openrlhf_math.grpo.rollout.teacher_endpoint import served

        return served(teacher, load_tokenizer("--actor.model_name_or_path", student, False, ""), args.data.max_len)
    model, max_len = teacher.model, args.data.max_len
    check_model(FLAG, model)
    check_language_model(FLAG, model, ask_hub)
    check_positions(FLAG, model, f"--data.max_len {max_len}", max_len, ask_hub)
    checked_family(FLAG, model, ring=args.ds.ring_attn_size, ask_hub=ask_hub)
    check_weights(FLAG, model, may_be_missing=not ask_hub)
    check_same_vocabulary(student, model, ask_hub)
    return teacher


def check_same_vocabulary(student: str, teacher: str, ask_hub: bool) -> None:
    """Raise UserError unless a token of the student's is the same text to the teacher: only ids pass between them."""
    if not ask_hub and not (os.path.isdir(student) and os.path.isdir(teacher)):
        return
    flag = "--actor.model_name_or_path"
    ours, theirs = (load_tokenizer(name, model, False, "") for name, model in ((flag, student), (FLAG, teacher)))
    if reason := difference(ours, theirs):
        raise UserError(f"{FLAG} {teacher}: {reason}; choose a teacher with the student's tokenizer")
    rows = [
        getattr(read_config(name, model).get_text_config(), "vocab_size", 0)
        for name, model in ((flag, student), (FLAG, teacher))
    ]
    if rows[1] < rows[0]:
        raise UserError(
            f"{FLAG} {teacher}: it has an embedding for {rows[1]} tokens and the student for {rows[0]} (vocab_size in "
            "config.json), so it knows no probability of the others; choose another teacher"
        )


def difference(student: Tokenizer, teacher: Tokenizer) -> str | None:
    """How two tokenizers differ in what an id means, in words; None if they do not."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours != theirs:
        token = min((token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)), key=repr)
        ids = [f"id {table[token]}" if token in table else "no token" for table in (ours, theirs)]
        return f"its vocabulary is not the student's: {token!r} is {ids[1]} to it and {ids[0]} to the student"
    for name in ("bos_token", "eos_token"):
        words = [getattr(one, name) for one in (student, teacher)]
        if words[0] != words[1]:
            return f"its {name} is {words[1]!r} and the student's {words[0]!r}"
    return None
