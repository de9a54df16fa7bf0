"""`solve`, and the `Router` behind it: engines and stores put together once, then the same steps for every task."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from icl_engine.errors import TaskRefused
from icl_engine.task import HOW_TO_MAKE_A_TASK, Task, Value
from policies.decision import REMOTE, Arm, Decision, Policy
from policies.errors import ArmUnavailable, RecordRefused
from policies.records import OutcomeRow
from router.added_arms import AddedArm
from router.parts import Parts
from router.redaction import Redactor
from router.settings import Settings, SettingsError, told_of_unknown_variables
from router.solution import Solution
from router.workers import Asked, Here, RouterWorker, check_reach
from ttt_engine.errors import Cancelled, DeadlinePassed
from ttt_engine.executors import Batch, Executor, batches_of, open_executor

if TYPE_CHECKING:
    from icl_engine.language_model import LanguageModel
    from icl_engine.probe import ProbeResult
    from policies.ledger import Ledger
    from router.feedback import Audits, RightAnswer
    from router.graph import CompiledStateGraph, StreamMode
    from router.lanes import Lanes
    from router.solve_state import Progress, SolveState
    from router.steps import Steps
    from router.traces.stored import StoredTrace
    from ttt_engine.stores import AdapterStore

_TOGETHER = 64  # tasks that are solved together at most
# what a solution is made of: LangGraph would read all else, too, after every step
_ANSWERED = ["task", "answers", "decision", "answered_by", "cost", "degraded", "trace_id"]
_ToProbe = tuple[Task, int, bool]  # with the seed, and whether demonstrations are held out


class Router:
    """Answers few-shot tasks, deciding for each whether to prompt or to train.

    Model and ledger are loaded with the first task. One router may be used from several threads; they take turns
    on the model. Use it as a context manager, or `close` it.

    Args:
        settings: from the environment and the settings files where none are given; a `TTT_ROUTER_*` variable that is no
            setting is warned of.
        model: instead of the one the settings name.
        policy: instead of the ledger's champion and the shipped prior.
        ledger: instead of the one the settings name.
        store: of adapters, instead of the one the settings name.
        arms: ways to answer that are not built in, by name, beside the arms that the settings name (`AddedArm`). They
            are called from several threads at once; who hands them in closes them.
        executor: that has tasks solved, instead of the one the settings name. On another machine or in another process
            each worker makes model, ledger and store from the settings; none can be handed in then.

    Raises:
        SettingsError: workers elsewhere cannot have what was handed in, or cannot share what the settings name.

    Example:
        >>> from icl_engine.scripted_model import ScriptedModel
        >>> from icl_engine.task import Task
        >>> import tempfile
        >>> task = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d")
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with Router(Settings(home=home), model=ScriptedModel(lambda task: task.query.upper())) as router:
        ...         solution = router.solve(task)
        >>> solution.answer
        'D'
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        model: LanguageModel | None = None,
        policy: Policy | None = None,
        ledger: Ledger | None = None,
        store: AdapterStore | None = None,
        arms: Mapping[str, AddedArm] | None = None,
        executor: Executor[Asked, Solution | Decision] | None = None,
    ) -> None:
        if settings is None:
            for told in told_of_unknown_variables():
                warnings.warn(told, stacklevel=2)
        self.settings = _with_arms(settings or Settings(), arms or {})
        self._redact = Redactor.of(self.settings)
        self._owns_executor = executor is None
        self._executor = executor or open_executor(self.settings.executor)
        for name, given in (("model", model), ("ledger", ledger), ("store", store), ("arms", arms or None)):
            if given is not None and self._is_remote:
                remedy = "Name it in the settings: the executor's workers make their own."
                raise SettingsError("an object of this process", variable=name, remedy=remedy)
        check_reach(self.settings, self._executor)
        self._parts = Parts(
            self.settings, self._redact, model=model, policy=policy, ledger=ledger, store=store, arms=arms
        )
        self._executor.start(
            functools.partial(RouterWorker, self.settings, policy) if self._is_remote else lambda name: Here(self)
        )
        self._compiled: Any = None
        self._lock = threading.Lock()

    def solve(
        self,
        task: Task,
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Answer every query of a task.

        Args:
            arm: answer with this arm, whatever the policy would do.
            seed: of all that is drawn; the same seed and task give the same decision and answer where the same
                adapters are at hand and the policy goes by no clock, as the shipped prior.
            deadline_s: seconds after which training stops and the answer in context is given.
            progress: told of each step's name, and of training steps done and to do, where this process solves it.

        Raises:
            TaskRefused: the task does not fit the limits or the model's context.
            ExecutorUnavailable: it should be solved elsewhere, and no worker does.
            ArmUnavailable: the task cannot be answered with `arm`.
            SettingsError: `deadline_s` is not above zero.
            ModelUnavailable: the model cannot be loaded.
        """
        return self._solved(task, Asked(arm, seed, progress=None if self._is_remote else progress), deadline_s)

    def _solved(self, task: Task, asked: Asked, deadline_s: float | None) -> Solution:
        # a mistake is told of before the model loads
        initial = self._initial(task, asked.arm, asked.seed, deadline_s, asked.progress)
        return cast("Solution", self._executor.run([Batch((task,), asked, initial["deadline"])])[0][0])

    def solve_elsewhere(
        self,
        task: Task,
        *,
        tenant: str,
        arm: str | None = None,
        seed: int | None = None,
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> Solution:
        """As `solve_among`, by a worker of the executor, among what else it is asked at the time.

        Args:
            tenant: whose task it is; all share the workers, adapters and traces are each one's own.
            deadline: on the clock of `time.monotonic`; waiting for a worker counts.
            cancelled: looked at while it waits and while the worker has it, which is told of it.
            spent: told, once the worker has let go of it, of the seconds that its lanes were at work on this task; of
                a worker that died nothing is known.

        Raises:
            ExecutorUnavailable: no worker does it.
            Cancelled, DeadlinePassed, TaskRefused, ArmUnavailable, SettingsError, ModelUnavailable: see `solve_among`.
        """
        self._initial(task, arm, seed, None, None)  # a mistake is told of before anything is sent
        asked = Asked(arm, seed, tenant=tenant, among=True)
        batch = Batch((task,), asked, deadline, cancelled, beside_others=True, spent=spent)
        return cast("Solution", self._executor.run([batch])[0][0])

    def for_tenant(self, tenant: str) -> Router:
        """Return a router of another tenant on this one's model, ledger and policy; adapters and traces are its own.

        Raises:
            ModelUnavailable: the model cannot be loaded.
        """
        own: dict[str, object] = {"tenant": tenant, "learning": "off"}
        own |= {"budget": None, "max_regret_rate": None}  # the policy keeps to them already
        steps, settings = self.steps, self.settings.model_copy(update=own)
        added = {name: arm for name, arm in steps.added.items() if name != REMOTE}
        arms = cast("Mapping[str, AddedArm]", added)  # as this router has read them
        return Router(settings, model=self.model, policy=steps.policy, ledger=steps.ledger, arms=arms)

    def solved_here(
        self,
        tasks: Sequence[Task],
        asked: Asked,
        deadline_s: float | None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Sequence[Solution | Decision]:
        """Solve the tasks of one batch, or decide for each, in this process: what the workers of an executor do.

        Raises:
            TaskRefused, ArmUnavailable, ModelUnavailable: as for `solve`.
        """
        initial = [self._initial(task, asked.arm, asked.seed, deadline_s, asked.progress) for task in tasks]
        for state in initial:
            state.update({"cancelled": cancelled, "sharing": asked.family})
        if asked.decide_only:
            return [self._decided(state) for state in initial]
        if len(tasks) == 1:
            return [self._answered(initial[0])]
        solutions: dict[int, Solution] = {}
        for places in _waves(tasks):
            solutions.update(zip(places, self._solve_together([initial[i] for i in places]), strict=True))
        return [solutions[i] for i in range(len(tasks))]

    def _answered(self, initial: SolveState) -> Solution:
        state = self._graph().invoke(initial, output_keys=_ANSWERED)
        degraded = tuple(map(self._redact, (*state.get("degraded", ()), *self.faults)))
        decision: Decision = state["decision"]
        return Solution(
            task=state["task"],
            answers=state["answers"],
            arm=str(decision.arm),
            answered_by=str(state["answered_by"]),
            propensity=decision.propensity,
            reason=self._redact(decision.reason),
            cost=state["cost"],
            degraded=degraded,
            trace_id=state["trace_id"],
        )

    async def asolve(
        self,
        task: Task,
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """As `solve`, in a worker thread: the event loop goes on."""
        return await asyncio.to_thread(self.solve, task, arm=arm, seed=seed, deadline_s=deadline_s, progress=progress)

    def solve_many(
        self,
        tasks: Iterable[Task],
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
        share_adapter: bool = False,
    ) -> list[Solution]:
        """Answer several tasks together: probes, training and, on a GPU, trained answers are done at once. See `solve`.

        A deadline is for each task: where there is one they are answered one after another or, by workers elsewhere,
        each by itself, and then waiting for a worker counts. A task that is refused ends it, once those that are
        answered together with it are done.

        Args:
            share_adapter: those that are answered by `ttt` have one adapter, and so have those by `ttt_short`, grids
                apart from text: for tasks that are alike. It is trained on the demonstrations of all, answered by
                training or not, in as many steps as for one task (one for each at least), and with no looks at what is
                held out. Where that fails, all are answered in context. What is fed back counts for the arm as any
                other. With longer trainings, Akyürek et al. 2024 solve a quarter fewer of ARC's unlike tasks so than
                with an adapter each, and a few more of BIG-Bench Hard's.
        """
        tasks = list(tasks)
        initial = [self._initial(task, arm, seed, deadline_s, None) for task in tasks]  # a mistake is told of first
        asked = Asked(arm, seed, family=tuple(tasks) if share_adapter else ())
        if any(state["deadline"] is not None for state in initial):
            if not self._is_remote:
                return [self._solved(task, asked, deadline_s) for task in tasks]
            batches = [[i] for i in range(len(tasks))]
        else:
            batches = batches_of(tasks, self._executor.adapters_together)
        found = self._executor.run(
            [Batch(tuple(tasks[i] for i in places), asked, initial[places[0]]["deadline"]) for places in batches]
        )
        solutions = {
            i: cast("Solution", each)
            for places, of_batch in zip(batches, found, strict=True)
            for i, each in zip(places, of_batch, strict=True)
        }
        return [solutions[i] for i in range(len(tasks))]

    def _solve_together(self, states: Sequence[SolveState]) -> list[Solution]:
        from ttt_engine.cohort import Cohort, Seat

        steps = self.steps
        for state in states:
            steps.admit(state)  # before anything is read: the first that is refused ends it
        probed = steps.prober.probe_together(
            [state["task"] for state in states],
            seed=states[0]["seed"],
            held_out=steps.holds_out_at_once(states[0]["forced_arm"]),
        )
        cohort = Cohort(len(states))

        def run(state: SolveState, found: ProbeResult | None, seat: Seat) -> Solution:
            try:
                return self._answered({**state, "probed": found, "seat": seat})
            finally:
                seat.leave()

        with ThreadPoolExecutor(len(states)) as pool:  # all of them at once: they wait for each other
            try:
                return list(pool.map(run, states, probed, cohort.seats))
            except BaseException:  # not to be waited for: who has not begun, and who stays away
                for seat in cohort.seats:
                    seat.leave()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def solve_among(
        self,
        task: Task,
        lanes: Lanes,
        *,
        arm: str | None = None,
        seed: int | None = None,
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Progress | None = None,
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> Solution:
        """As `solve`, in one of several threads: what waits for the model at the same time is done at once.

        Args:
            lanes: where those wait who share the model; the same for all of them.
            deadline: on the clock of `time.monotonic`; also of waiting.
            cancelled: looked at before each step and each step of training, and while waiting.
            progress: must not raise, since others are trained beside this task.
            spent: told of the seconds that the lanes were at work on this task, also after it was given up.

        Raises:
            Cancelled: it was; nothing is recorded.
            DeadlinePassed: time ran out before there was an answer in context.
            TaskRefused, ArmUnavailable, SettingsError, ModelUnavailable: as for `solve`.
        """
        initial = self._initial(task, arm, seed, None, progress)
        initial.update({"deadline": deadline, "cancelled": cancelled})
        self.steps.admit(initial)  # before anything is read

        def check() -> None:
            if cancelled():
                raise Cancelled(task_id=task.id)
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlinePassed("waiting for the model", task_id=task.id)

        check()
        with lanes.probing.seat(check, spent) as probing:
            probed = probing.ask(self._probe_all, (task, initial["seed"], self.steps.holds_out_at_once(arm)))
        with lanes.probing.seat(check, spent) as prompting, lanes.training.seat(check, spent) as seat:
            prompting.n_served = probing.n_served  # it has come further than whoever waits for a probe
            return self._answered({**initial, "probed": probed, "prompting": prompting, "seat": seat})

    def _probe_all(self, asked: Sequence[_ToProbe]) -> list[ProbeResult | Exception]:
        """Probe what waits for it, at once all that are probed alike."""
        found: dict[int, ProbeResult | None] = {}
        for seed, held_out in dict.fromkeys((seed, held_out) for _, seed, held_out in asked):
            places = [i for i, (_, *alike) in enumerate(asked) if alike == [seed, held_out]]
            try:
                tasks = [asked[i][0] for i in places]
                probed = self.steps.prober.probe_together(tasks, seed=seed, held_out=held_out)
            except Exception:
                probed = [None] * len(places)  # each by itself, then: what is wrong with one must not cost the others
            found.update(zip(places, probed, strict=True))
        return [found[i] or self._probe_alone(*each) for i, each in enumerate(asked)]

    def _probe_alone(self, task: Task, seed: int, held_out: bool) -> ProbeResult | Exception:
        try:
            return self.steps.prober.probe(task, seed=seed, held_out=held_out)
        except Exception as error:  # of the one who asked for this
            return error

    def decide(self, task: Task, *, seed: int | None = None) -> Decision:
        """Say which arm `solve` would answer this task with, and why, without answering or recording.

        Raises:
            TaskRefused: as for `solve`.
        """
        self._initial(task, None, seed, None, None)  # a mistake is told of first
        batch = Batch((task,), Asked(seed=seed, decide_only=True))
        return cast("Decision", self._executor.run([batch])[0][0])

    def decide_unless(self, cancelled: Callable[[], bool], task: Task, *, seed: int | None = None) -> Decision:
        """As `decide`, in this process, as long as somebody wants to know.

        Args:
            cancelled: looked at before each step and each step of training.

        Raises:
            Cancelled: it was.
            TaskRefused, ModelUnavailable: as for `decide`.
        """
        return self._decided({**self._initial(task, None, seed, None, None), "cancelled": cancelled})

    def _decided(self, initial: SolveState) -> Decision:
        from router.solve_state import check_wanted

        steps, state = self.steps, cast("dict[str, Any]", dict(initial))
        for step in (steps.admit, steps.probe, steps.lookup, steps.look_closer, steps.decide):
            check_wanted(initial)
            state.update(step(state))  # type: ignore[arg-type]
        decision: Decision = state["decision"]
        return replace(decision, reason=self._redact(decision.reason))

    def feedback(
        self,
        trace_id: str,
        correct: bool | float | None = None,
        *,
        answer: RightAnswer | None = None,
        reward: float | None = None,
        source: str = "user",
        reason: str | None = None,
        kind: str = "exact",
    ) -> None:
        """Say what came of a solve, at once or days later; one of `correct`, `answer` and `reward`.

        Args:
            correct: whether its answer was right.
            answer: what would have been right; for several queries one for each, None where it is not known. It teaches
                most: the answer in context is scored as well, whichever arm answered.
            reward: how good the answer was, 0 to 1.
            source: who says so; the first report of a source counts, until it is corrected.
            reason: why what this source may have said before is corrected; kept with the correction. What an answer has
                said of the one in context, where that is another than was given, is corrected by an answer alone.

        Raises:
            UnknownTrace: no such solve is recorded.
            TraceNotKept: it is, but `answer` cannot be compared: its trace was pruned or never written.
            OutcomeConflict: the same source has already said otherwise, and no reason is given.
            RecordRefused: not one of the three, a value that is not in [0, 1], an answer of another kind or that
                knows of no query, or a reason beside a `kind` of one's own.
            LedgerUnavailable: the ledger cannot be written.
        """
        given = [each for each in (correct, answer, reward) if each is not None]
        if len(given) != 1:
            remedy = "Give one of correct, answer and reward."
            raise RecordRefused("feedback", f"got {len(given)} of the three", remedy=remedy)
        if answer is not None:
            self._feedback_of_answer(trace_id, answer, source, reason)
            return
        value = correct if correct is not None else reward
        if not isinstance(value, bool | int | float):
            raise RecordRefused("value", f"got {value!r}", remedy="Give True, False or a number from 0 to 1.")
        ledger = self._parts.ledger
        if kind != "exact":
            if reason is not None:
                raise RecordRefused("reason", f"got one beside kind {kind!r}", remedy="Use `Ledger.correct_outcome`.")
            ledger.add_outcome(OutcomeRow(trace_id, source, kind, float(value)))
            return
        from router.feedback import record_verdict, say_verdict

        self.flush()
        if reason is None:
            record_verdict(ledger, trace_id, float(value), source=source)
        else:
            say_verdict(ledger, trace_id, float(value), source=source, reason=reason)

    def _feedback_of_answer(self, trace_id: str, answer: RightAnswer, source: str, reason: str | None) -> None:
        from router.feedback import say_answer, solutions_of

        ledger, audits, trace = self._parts.ledger, self.audits, self._stored(trace_id).trace
        solutions = solutions_of(trace, answer)
        say_answer(ledger, trace, solutions, source=source, audits=audits, reason=reason)
        offered = Arm.TTT in trace.decision.propensities
        if audits is not None and offered and trace.decision.arm == Arm.ICL and audits.drawn(trace_id):
            corrects = None if reason is None else f"what would have been right was corrected: {reason}"
            audits.later(lambda: self.audit(trace_id, solutions, reason=corrects))

    def audit(self, trace_id: str, solutions: Sequence[Value | None], *, reason: str | None = None) -> None:
        """Answer a recorded task again by training, and record for the first solve whether that is right.

        Args:
            reason: why that corrects what an earlier audit has recorded; None: what is recorded stands.

        Raises:
            UnknownTrace: no such solve is recorded.
        """
        from router.feedback import say_audited
        from router.values_shown import verdict

        ledger, trace = self._parts.ledger, self._stored(trace_id).trace
        solution = self.solve(trace.task, arm=Arm.TTT, seed=trace.seed)
        judged = verdict(solution.answers, solutions)
        if judged is not None:  # with what went wrong on the way, as in any solve that draws the arm
            say_audited(ledger, trace_id, float(judged.right), reason=reason)

    def explain(self, trace_id: str) -> str:
        """Say in words why a solve went as it did.

        Raises:
            UnknownTrace: no such solve is recorded.
            TraceNotKept: it is, but its trace was pruned or never written.
            LedgerUnavailable: the ledger cannot be read.
        """
        stored = self._stored(trace_id)
        return stored.trace.explain(stored.outcomes)

    def _stored(self, trace_id: str) -> StoredTrace:
        from router.traces.stored import read_trace

        self.flush()
        return read_trace(self._parts.ledger, trace_id)

    def flush(self) -> None:
        """Wait until the traces of what has been solved are in the ledger, where they follow their decisions."""
        self._parts.flush()

    @property
    def graph(self) -> CompiledStateGraph[SolveState, None, SolveState, SolveState]:
        """The compiled LangGraph graph of a solve, also to be a node of another graph: `task` is all it needs.

        Raises:
            ModelUnavailable: the model cannot be loaded.
        """
        compiled: CompiledStateGraph[SolveState, None, SolveState, SolveState] = self._graph()
        return compiled

    def stream(
        self,
        task: Task,
        *,
        stream_mode: StreamMode | Sequence[StreamMode] = "updates",
        arm: str | None = None,
        seed: int | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[object]:
        """Solve a task, and yield what LangGraph's `stream_mode` says: `updates` of each step, `values`, `debug`, ...

        Raises:
            TaskRefused, ArmUnavailable, SettingsError, ModelUnavailable: as for `solve`.
        """
        initial = self._initial(task, arm, seed, deadline_s, None)
        modes = stream_mode if isinstance(stream_mode, str) else list(stream_mode)
        return iter(self._graph().stream(initial, stream_mode=modes))

    def close(self) -> None:
        """End learning and write the traces that wait; close executor, ledger and store, unless they were handed in.
        The model goes with the router.
        """
        if self._owns_executor:
            self._executor.close()
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _is_remote(self) -> bool:
        return self._executor.reach != "process"

    @property
    def steps(self) -> Steps:
        """The steps of a solve, on the engines of this router.

        Raises:
            ModelUnavailable: the model cannot be loaded.
        """
        return self._parts.steps

    @property
    def model(self) -> LanguageModel:
        """The language model, loaded if it was not yet.

        Raises:
            ModelUnavailable: it cannot be loaded.
        """
        return self._parts.model

    @property
    def faults(self) -> tuple[str, ...]:
        """What does not go as it should whatever is solved, as far as it is known by now."""
        return self._parts.faults

    @property
    def audits(self) -> Audits | None:
        """A share of the solves in context that is also trained on; None: none."""
        return self._parts.audits

    @audits.setter
    def audits(self, audits: Audits | None) -> None:
        self._parts.audits = audits

    def _initial(
        self, task: Task, arm: str | None, seed: int | None, deadline_s: float | None, progress: Progress | None
    ) -> SolveState:
        if not isinstance(task, Task):
            raise TaskRefused(f"got {type(task).__name__}", field="task", remedy=HOW_TO_MAKE_A_TASK)
        if arm is not None and arm not in (*Arm, REMOTE, *self.settings.arms):
            raise ArmUnavailable(arm, self.settings.arms, task_id=task.id)
        limit = self.settings.deadline_s if deadline_s is None else deadline_s
        if limit is not None and not limit > 0:
            raise SettingsError(f"got {limit}", variable="deadline_s", remedy="Give seconds above zero, or None.")
        return {
            "task": task,
            "forced_arm": arm,
            "seed": self.settings.seed if seed is None else seed,
            "deadline": None if limit is None else time.monotonic() + limit,
            "progress": progress or (lambda name, done, of: None),
            "cancelled": lambda: False,
            "seat": None,
            "sharing": (),
            "prompting": None,
            "probed": None,
        }

    def _graph(self) -> Any:
        with self._lock:
            if self._compiled is None:
                from router.graph import build_graph

                self._compiled = build_graph(self.steps, self._unasked)
            return self._compiled

    def _unasked(self, task: Task) -> SolveState:
        """What a solve begins with where nobody says more than the task."""
        return self._initial(task, None, None, None, None)


def _with_arms(settings: Settings, added: Mapping[str, AddedArm]) -> Settings:
    """Return the settings with the added arms among theirs."""
    names = [name for name in added if name not in settings.arms]
    return settings.model_copy(update={"arms": (*settings.arms, *names)}) if names else settings


def _waves(tasks: Sequence[Task]) -> list[list[int]]:
    """Return which tasks are answered together, and in what order: of those that share their demonstrations, and so one
    adapter, the first comes before the others, which then find it.
    """
    first = {task.demonstrations_fingerprint: i for i, task in reversed(list(enumerate(tasks)))}
    leaders = set(first.values())
    ordered = [sorted(leaders), [i for i in range(len(tasks)) if i not in leaders]]
    return [places[start : start + _TOGETHER] for places in ordered for start in range(0, len(places), _TOGETHER)]


@functools.cache
def _default_router() -> Router:
    return Router()


def solve(
    task: Task,
    *,
    arm: str | None = None,
    seed: int | None = None,
    deadline_s: float | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Answer a task with the default router, made from the settings at the first call; see `Router.solve`."""
    return _default_router().solve(task, arm=arm, seed=seed, deadline_s=deadline_s, progress=progress)
