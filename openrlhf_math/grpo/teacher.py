"""`--math.teacher`: on-policy distillation. Its settings, from flags, and what a teacher must be, checked at the start.

Of a token that the student sampled, the advantage is reward_coef A_t + coef (log pi_T(o_t) - log pi(o_t)): the policy
gradient of the second term is that of -KL(pi || pi_T) at each token, with no credit for later tokens.
GKD, https://arxiv.org/abs/2306.13649; MiniLLM, https://arxiv.org/abs/2306.08543; Thinking Machines, On-Policy
Distillation, https://thinkingmachines.ai/blog/on-policy-distillation/.
"""

import os
from dataclasses import dataclass
from types import SimpleNamespace

from openrlhf_math.errors import UserError
from openrlhf_math.modeling.model_folder import check_model, count_parameters, load_tokenizer
from openrlhf_math.modeling.model_kind import check_language_model, check_positions, checked_family, read_config

FLAG = "--math.teacher"
# They say nothing without --math.teacher.
OTHERS = ("math.teacher_coef", "math.reward_coef")


@dataclass(frozen=True, slots=True)
class Teacher:
    """model: a directory or a hub name. coef, reward_coef: weights of the teacher's and of the reward's advantages.

    parameters: of the model, 0 if unknown.
    """

    model: str
    coef: float = 1.0
    reward_coef: float = 1.0
    parameters: int = 0

    def weights(self) -> str:
        return f"advantages: {self.reward_coef:g} of the reward's, {self.coef:g} of the teacher's"


def teacher(flags: dict, ours: dict) -> Teacher | None:
    """flags: OpenRLHF's with their defaults filled in, ours: --math.*. Returns None without --math.teacher.

    Raises UserError for values that cannot work, and for what no teacher works with.
    """
    model, given = ours["math.teacher"], {flag: ours[flag] for flag in OTHERS if ours[flag] is not None}
    if not model:
        if given:
            flag, value = next(iter(given.items()))
            raise UserError(f"--{flag} {value:g}: this is for {FLAG}; add it, or leave this out")
        return None
    coef, reward_coef = (given.get(flag, 1.0) for flag in OTHERS)
    _check_others(flags)
    return Teacher(model, coef, reward_coef, count_parameters(model))


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
    if flags["train.async_enable"]:
        raise UserError(f"--train.async_enable: OpenRLHF's asynchronous trainer knows no {FLAG}; leave one out")


def needs_reference(args: SimpleNamespace) -> bool:
    """Whether a run has a model in OpenRLHF's place of the reference model: that for a KL, or the teacher."""
    return args.algo.kl.init_coef > 0 or args.math.teacher is not None


def check_teacher(args: SimpleNamespace, ask_hub: bool = False) -> None:
    """Raise UserError unless the teacher is a language model with the student's vocabulary and room for a sequence.

    ask_hub: whether hub names are looked up, too; directories always are.
    """
    from openrlhf_math.modeling.whole_weights import check_weights  # imports torch

    if args.math.teacher is None:
        return
    model, max_len = args.math.teacher.model, args.data.max_len
    check_model(FLAG, model)
    check_language_model(FLAG, model, ask_hub)
    check_positions(FLAG, model, f"--data.max_len {max_len}", max_len, ask_hub)
    checked_family(FLAG, model, ring=args.ds.ring_attn_size, ask_hub=ask_hub)
    check_weights(FLAG, model, may_be_missing=not ask_hub)
    check_same_vocabulary(args.actor.model_name_or_path, model, ask_hub)


def check_same_vocabulary(student: str, teacher: str, ask_hub: bool) -> None:
    """Raise UserError unless a token of the student's is the same text to the teacher: only ids pass between them."""
    if not ask_hub and not (os.path.isdir(student) and os.path.isdir(teacher)):
        return
    flag = "--actor.model_name_or_path"
    own, other = (load_tokenizer(name, model, False, "") for name, model in ((flag, student), (FLAG, teacher)))
    if reason := difference(own, other):
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


def difference(student, teacher) -> str | None:
    """How two tokenizers differ in what an id means, in words; None if they do not."""
    own, other = student.get_vocab(), teacher.get_vocab()
    if own != other:
        token = min((token for token in own.keys() | other.keys() if own.get(token) != other.get(token)), key=repr)
        ids = [f"id {table[token]}" if token in table else "no token" for table in (own, other)]
        return f"its vocabulary is not the student's: {token!r} is {ids[1]} to it and {ids[0]} to the student"
    for name in ("bos_token", "eos_token"):
        words = [getattr(one, name) for one in (student, teacher)]
        if words[0] != words[1]:
            return f"its {name} is {words[1]!r} and the student's {words[0]!r}"
    return None
