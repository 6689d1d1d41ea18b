"""Converts a request into a call of the solver, and its solution into a response."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from openrlhf_math.data.chat_template import prepared
from openrlhf_math.data.prompts import chat_text, prompt_ids
from openrlhf_math.patches.remote_code import remote_code_trusted
from openrlhf_math.rerank.anytime import Attempt
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import RULES, Rule, needs_confidence, needs_scores
from openrlhf_math.rerank.early_stop import cannot_lose, confident
from openrlhf_math.rerank.prompts import check_size
from openrlhf_math.rerank.reranker import Solved, row
from openrlhf_math.rerank.roles import Messages
from openrlhf_math.rerank.solver import Method, Solution, Turns
from openrlhf_math.rerank.task import Turn, seed_of
from openrlhf_math.rewards.thinking import in_think_tags
from openrlhf_math.serving.errors import ApiError
from openrlhf_math.serving.protocol import (
    Answer,
    AttemptReport,
    ChatRequest,
    ChatResponse,
    Choice,
    Message,
    Report,
    Usage,
    Vote,
    now,
)


@dataclass(frozen=True, slots=True)
class Service:
    """What a server does where a request says nothing, and the most a request may ask for.

    name           of the model, as clients see it
    method         how problems are solved
    limits         of one problem, with seconds; of tokens and seconds no request gets more
    scored         whether there is a scorer
    most_attempts  a request may ask for
    most_requests  under way at once; more get status 429
    measured       whether the model's confidence in an attempt can be had
    context        tokens the model reads; a conversation with far more characters is refused unread
    """

    name: str
    method: Method
    limits: Limits
    scored: bool
    most_attempts: int = 256
    most_requests: int = 256
    context: int | None = None
    measured: bool = True

    def __post_init__(self) -> None:
        if self.limits.seconds is None:
            raise ValueError("limits have no seconds, and no request may wait for ever")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the solver is asked."""

    problem: str
    method: Method
    limits: Limits


def check_name(model: str | None, service: Service) -> None:
    """Raises ApiError for a model that is not served. None: the one that is."""
    if model not in (None, service.name):
        raise ApiError(404, f"there is no model {model!r:.200} here, only {service.name!r}", "model", "model_not_found")


def plan(request: ChatRequest, service: Service) -> Plan:
    """Raises ApiError naming the field that cannot be served."""
    check_name(request.model, service)
    *before, problem = request.messages
    if problem.role != "user" or not problem.text.strip():
        where = f"messages.{len(before)}"
        raise ApiError(400, f"{where}: the last message must be the user's, and hold the problem; it is "
                       f"{'empty' if problem.role == 'user' else 'of role ' + problem.role}", where)  # fmt: skip
    limits = _limits(request, service)
    if limits.attempts is not None and request.n > limits.attempts:
        raise ApiError(400, f"n: {request.n} answers cannot come from {limits.attempts} attempts", "n")
    if service.context:
        check_size([message.as_dict() for message in request.messages], service.context)
    method = _method(request, service)
    return Plan(problem.text, replace(method, turns=_turns(method.turns, request, before)), limits)


def _limits(request: ChatRequest, service: Service) -> Limits:
    options = request.options
    attempts = options.attempts or max(service.limits.attempts or 0, request.n)
    most: dict[str, tuple[float | None, float | None]] = {
        "attempts": (attempts, service.most_attempts),
        "seconds": (options.seconds, service.limits.seconds),
        "tokens": (options.tokens, service.limits.tokens),
    }
    for name, (wanted, limit) in most.items():
        if wanted is not None and limit is not None and wanted > limit:
            field = "n" if name == "attempts" and not options.attempts else f"openrlhf_math.{name}"
            raise ApiError(400, f"{field}: {wanted} is more than this server gives, {limit}", field)
    return Limits(
        attempts=attempts,
        seconds=options.seconds or service.limits.seconds,
        tokens=options.tokens or service.limits.tokens,
    )


def _method(request: ChatRequest, service: Service) -> Method:
    options, method = request.options, service.method
    if options.rule is not None:
        field = "openrlhf_math.rule"
        if options.rule not in RULES:  # no dotted path: what is imported is not for clients to say
            raise ApiError(400, f"{field}: there is no {options.rule!r}, only {', '.join(RULES)}", field)
        if needs_scores(RULES[options.rule]) and not service.scored:
            raise ApiError(400, f"{field}: {options.rule} needs scores, and this server has no scorer", field)
        if needs_confidence(RULES[options.rule]) and not service.measured:
            raise ApiError(400, f"{field}: {options.rule} needs the model's confidence, which this server cannot "
                           "measure", field)  # fmt: skip
        method = replace(method, rule=RULES[options.rule])
    if options.confidence is not None:
        method = replace(method, stop=cannot_lose if options.confidence == 1 else confident(options.confidence))
    return method


def _turns(turns: Turns, request: ChatRequest, before: Sequence[Message]) -> Turns:
    """The same turns, drawn as the request wants, with the messages that went before the problem."""
    history = [one.as_dict() for one in before]

    def of(problem: str) -> Callable[[int], Turn]:
        turn = turns(problem)

        def numbered(number: int) -> Turn:
            one = turn(number)
            seed = one.sampling.seed if request.seed is None else seed_of(request.seed, problem, number)
            *first, asked = one.messages
            messages = [*_one_system([*first, *history]), asked]
            return replace(one, messages=messages, sampling=replace(one.sampling, **request.drawn, seed=seed))

        return numbered

    return of


def _one_system(messages: Messages) -> list[dict[str, str]]:
    """What several systems say is one message, the first: chat templates know no other."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": system}, *rest] if system else rest


def response(
    solution: Solution, request: ChatRequest, service: Service, rule: Rule, prompt_tokens: int
) -> ChatResponse:
    """Raises ApiError if the time was up, or the server ends, before there was an answer."""
    decision = solution.decision
    if decision.attempt is None and decision.ended == "interrupted":
        raise ApiError(503, "the server is ending, and no attempt had an answer", code="unavailable")
    if decision.attempt is None and decision.ended == "seconds":
        raise ApiError(504, f"the time was up after {solution.seconds:.1f} s and {decision.attempts} attempts, and "
                       "none had an answer: give openrlhf_math.seconds more", code="timeout")  # fmt: skip
    chosen: Sequence[Attempt] = [solution.attempts[number] for number in best_answers(solution, rule, request.n)]
    if not chosen:  # no attempt has an answer: then the client sees what there is, and `answer` is null
        chosen = solution.attempts[:1] or [Attempt(None)]
    return ChatResponse(
        id=request.identity,
        created=now(),
        model=service.name,
        choices=[
            _choice(index, attempt, () if request.keep_stop else request.drawn.get("stop", ()))
            for index, attempt in enumerate(chosen)
        ],
        usage=Usage.of(prompt_tokens, decision.tokens),
        openrlhf_math=report(solution, rule, service.scored),
    )


def _choice(index: int, attempt: Attempt, stop: Sequence[str]) -> Choice:
    """OpenAI's texts end before what stopped them, a sampler's behind it."""
    text = attempt.text
    if attempt.finished == "stop":
        text = next((text.removesuffix(one) for one in sorted(stop, key=len, reverse=True) if text.endswith(one)), text)
    return Choice(
        index=index,
        message=Answer(content=in_think_tags(text)),
        finish_reason="length" if attempt.finished == "length" else "stop",
    )


def best_answers(solution: Solution, rule: Rule, n: int) -> list[int]:
    """Numbers of at most n attempts, each with another answer: the chosen one, then whom the rule chooses without the
    answers before."""
    clusters, chosen = list(solution.voting), []
    number = solution.decision.attempt
    while number is not None:
        chosen.append(number)
        if len(chosen) == n:
            break
        clusters = [None if name == solution.answer_clusters[number] else name for name in clusters]
        number = rule(clusters, solution.weights)
    return chosen


def report(solution: Solution, rule: Rule, scored: bool) -> Report:
    line = row(0, solution.problem, None, Solved(0, solution))
    votes = [
        Vote(
            answer=solution.attempts[members[0]].answer or "",
            votes=len(members),
            score=max(solution.scores[number] for number in members) if scored else None,
        )
        for members in _members(solution.answer_clusters)
    ]
    attempts = [
        AttemptReport(
            answer=attempt.answer,
            vote=solution.answer_clusters[number],
            score=solution.scores[number] if scored else None,
            scores=line["scores"][number] if line["scores"] else None,
            tokens=attempt.tokens,
            by=attempt.by,
            confidence=asdict(attempt.confidence) if attempt.confidence else None,
        )
        for number, attempt in enumerate(solution.attempts)
    ]
    decision = solution.decision
    return Report(
        answer=solution.answer,
        chosen=decision.attempt,
        rule=next((name for name, known in RULES.items() if known is rule), getattr(rule, "__name__", "")),
        votes=votes,
        attempts=attempts,
        unscored=decision.unscored if scored else 0,
        left_out=decision.left_out,
        unmeasured=decision.unmeasured,
        by_model=decision.by_model,
        ended=decision.ended,
        tokens=decision.tokens,
        tokens_saved=decision.tokens_saved,
        not_counted=decision.not_counted,
        seconds=solution.seconds,
    )


def _members(clusters: Sequence[int | None]) -> list[list[int]]:
    """Numbers of the attempts of each cluster, in the order of the clusters."""
    members: dict[int, list[int]] = {}
    for number, name in enumerate(clusters):
        if name is not None:
            members.setdefault(name, []).append(number)
    return [members[name] for name in sorted(members)]


def token_counter(model: str) -> Callable[[Turn], int]:
    """model: whose tokenizer and chat template count."""
    from transformers import AutoTokenizer

    tokenizer = prepared(AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code_trusted()))

    def count(turn: Turn) -> int:
        text = chat_text(tokenizer, turn.messages, turn.sampling.template_variables)
        (ids,) = prompt_ids(tokenizer, [text], chat_template=True)
        return len(ids)

    return count
