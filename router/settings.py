"""Settings: where they come from, what each means, and what is said of a bad one. Nothing else reads the environment.

The first that gives a value wins: arguments, `TTT_ROUTER_*` variables, `.env`, `ttt-router.toml` in the working folder,
`ttt-router.toml` in the home folder, the default. Reads two small files, and connects to nothing.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from icl_engine.errors import FewShotError, TaskRefused
from icl_engine.inference_settings import InferenceSettings, Precision
from icl_engine.task import Limits
from icl_engine.text_form import GridForm
from policies.decision import REMOTE, Arm, Policy
from policies.errors import PolicySettingRefused
from policies.loo_threshold import LooThreshold
from policies.wishes import Price, RegretLimit, ShareBudget, Wish, read_wish
from ttt_engine.config import AugmentationForm, DataForm, LoraSettings, LossOn, Method, Schedule, SoftmaxOver
from ttt_engine.presets import Preset, preset, preset_for
from ttt_engine.stores.tenants import TENANT_NAME

PREFIX = "TTT_ROUTER_"
FILE_NAME = "ttt-router.toml"
DOTENV = ".env"

_OPTIONS = {name: f"ttt-router serve --{name.replace('_', '-')}" for name in ("host", "port", "log_level")}
_ORIGINS = "-origins-"  # no keyword can have this name
# may hold a password
_NEVER_SHOWN = ("ledger_url", "store_url", "store_secrets", "remote_url", "remote_api_key", "serve_keys")
_SECRET = ("store_secrets", "remote_api_key", "serve_keys")  # are nothing else


class SettingsError(FewShotError):
    """A setting that cannot be used (exit code 2).

    Args:
        message: What was got.
        variable: Where it was given: `TTT_ROUTER_SEED`, `TTT_ROUTER_SEED in .env`, `seed in ttt-router.toml`, `seed`.
        remedy: What would do instead.
    """

    def __init__(self, message: str, *, variable: str, remedy: str) -> None:
        super().__init__(f"{variable}: {message.rstrip('.')}. {remedy}")
        self.message = message
        self.variable = variable
        self.remedy = remedy


def default_home() -> Path:
    """Return `$XDG_DATA_HOME/ttt-router`, or `~/.local/share/ttt-router` where that is not set."""
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():  # the specification says to take no notice of a relative one
        data_home = _expanded(Path("~/.local/share"))
    return data_home / "ttt-router"


class Settings(BaseSettings):
    """Everything that can be set; each field is also the variable `TTT_ROUTER_<FIELD>`.

    Raises:
        SettingsError: a value, a name or a file cannot be used; it names the variable and what would do.

    Example:
        >>> Settings(n_views=4).n_views
        4
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",  # TTT_ROUTER_LIMITS__SIDE=20
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    home: Path = Field(default_factory=default_home, description="folder of the ledger, the adapters and the traces")
    model: str | None = Field(
        None, min_length=1, description="folder or hub id of a causal language model; none: the embedded one"
    )
    device: str = Field("auto", pattern=r"^[a-z]+(:\d+)?$", description="auto, cpu, cuda, cuda:1 or mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "4bit"] = Field(
        "auto", description="precision of the weights; 4bit needs the extra [qlora] and CUDA"
    )
    grid_form: GridForm = Field(
        "spaced", description="how grids are written for a model with a tokenizer: spaced, packed, list or words"
    )
    arms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("icl", "icl_vote", "ttt_short", "ttt"), description="names of the arms to choose from, separated by commas"
    )
    remote_url: str | None = Field(
        None,
        pattern=r"^https?://",
        repr=False,
        description="OpenAI-compatible server of the arm `remote`, such as http://host:8000/v1",
    )
    remote_model: str | None = Field(None, min_length=1, description="name that the server has for its model")
    remote_api_key: str | None = Field(
        None, min_length=1, repr=False, description="sent to that server as a bearer token"
    )
    remote_timeout_s: float = Field(60.0, gt=0, description="seconds that a query may take there")
    cold_start: Literal["prior", "rule"] = Field(
        "prior",
        description="what decides until a policy is promoted: the prior that is shipped, or a rule on held-out answers",
    )
    loo_threshold: float = Field(
        1.0, ge=0, le=1, description="share of held-out demonstrations answered exactly that makes training needless"
    )
    probe_views: int = Field(
        0, ge=0, le=64, description="views asked with every prompt, to see whether they agree; 0: where the policy asks"
    )
    epsilon: float = Field(0.05, ge=0, le=1, description="probability spread evenly over the arms, for exploration")
    price: float = Field(0.1, ge=0, description="quality given up for what `ttt` takes on average; 0: time is free")
    budget: str | None = Field(
        None,
        min_length=1,
        description="a share of tasks or seconds to keep to: 'ttt + ttt_short <= 30 %' or '<= 20 s a task'",
    )
    max_regret_rate: float | None = Field(
        None, gt=0, lt=1, description="share of answers in context that `ttt` would have answered better, at most"
    )
    temperature: float = Field(
        0.05, ge=0, description="margin in quality within which a learned policy draws rather than decides"
    )
    learning: Literal["off", "follow", "on"] = Field(
        "follow",
        description="follow: the ledger's champion decides, if there is one; on: and a thread learns; off: neither",
    )
    audit_rate: float = Field(
        0.03, ge=0, le=1, description="share of solves in context that are trained on as well, while learning is on"
    )
    ledger_url: str | None = Field(
        None, min_length=1, repr=False, description="SQL URL of the ledger; none: a SQLite file in the home folder"
    )
    store_url: str = Field(
        "local:",
        pattern=r"^[a-z][a-z0-9+]*:",
        repr=False,
        description="store of the adapters; local: is a folder in the home folder; redis://, rediss://, unix://",
    )
    store_secrets: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="what adapters are signed with, separated by commas, the first signs; none: a file in home",
    )
    store_ttl_s: float = Field(
        7 * 24 * 3600, ge=60, description="seconds an adapter stays in Redis; a quarter to four times, by its cost"
    )
    store_memory_bytes: int = Field(256 * 2**20, ge=0, description="of loaded adapters kept in memory")
    store_local_bytes: int = Field(4 * 2**30, ge=2**20, description="of adapters kept in the local folder, a tenant")
    store_adapter_bytes: int = Field(2**30, ge=2**12, description="of one adapter; a larger one is not kept or read")
    executor: str = Field(
        "in-process",
        pattern=r"^(in-process|processes(\?.+)?|ray://.+)$",
        description="where tasks are solved: in-process; processes; ray://local, ray://auto or ray://host:10001",
    )
    tenant: str = Field(
        "default",
        pattern=f"^{TENANT_NAME}$",
        description="whose adapters are kept and found; no other tenant's ever are",
    )
    warm_start: float | None = Field(
        None,
        ge=0,
        le=1,
        description="likeness of tasks from which training begins with a relative's adapter; none: never",
    )
    n_views: int = Field(8, ge=1, le=1024, description="augmented prompts per query that vote on its answer")
    views: Literal["symmetries", "paper"] = Field(
        "symmetries", description="prompts turned, recoloured and reordered, or the paper's, with one left out"
    )
    vote: Literal["hierarchical", "flat", "scored"] = Field(
        "hierarchical", description="how candidates are chosen; scored: by their likelihood under all views"
    )
    decode: Literal["greedy", "search"] = Field(
        "greedy", description="one answer a view, or every answer that is likely enough"
    )
    search_cut_off: float = Field(0.09, ge=0.001, le=1, description="least probability of an answer that search finds")
    vote_candidates: int = Field(16, ge=1, le=1024, description="candidates that are scored, those with most votes")
    verify_views: bool = Field(
        False, description="write one view's answer and check it in the others; slower for a small model on a CPU"
    )
    views_precision: Precision = Field(
        "full",
        description="of products where views are read: the weights' own or, for a Llama in fp32 on a CPU, bfloat16",
    )
    ttt_preset: Literal["small", "small_narrow", "paper_1b", "paper_8b", "bbh", "by_size"] = Field(
        "small", description="where the ttt_ settings that are not given come from; by_size: by the model's weights"
    )
    ttt_method: Method = Field("lora", description="lora, or full: every weight, of a small model")
    ttt_rank: int = Field(16, ge=0, le=1024, description="rank of the LoRA matrices; 0 with a task token alone")
    ttt_alpha: float = Field(32.0, gt=0, description="LoRA scale; the update is multiplied by alpha / rank")
    ttt_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        ("all-linear",), description="names of the layers that are adapted; all-linear: all but the head"
    )
    ttt_top_layers: int | None = Field(None, ge=1, description="adapt the last so many layers alone; None: all")
    ttt_output_head: bool = Field(False, description="adapt the head that writes tokens, too")
    ttt_frozen_a: bool = Field(False, description="train the B matrices alone")
    ttt_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of a layer's inputs that its LoRA does not see in a training step"
    )
    ttt_task_token: bool = Field(False, description="train an embedding of the task, added to every token, too")
    ttt_learning_rate: float = Field(2e-3, gt=0, description="highest learning rate of test-time training")
    ttt_schedule: Schedule = Field("linear", description="how the learning rate falls to 0")
    ttt_warmup_share: float = Field(0.0, ge=0, le=1, description="of the steps, over which the learning rate rises")
    ttt_max_norm: float = Field(1.0, gt=0, description="what gradients are clipped to, in the norm")
    ttt_steps: int = Field(40, ge=0, le=100_000, description="optimiser steps of test-time training")
    ttt_batch_size: int = Field(4, ge=1, le=4096, description="leave-one-out tasks in one step")
    ttt_token_budget: int = Field(
        160_000, ge=1, description="tokens read in training; a long task gets as many steps as this allows"
    )
    ttt_precision: Literal["auto", Precision] = Field(
        "auto", description="of products in training: the weights' own, or bfloat16; auto: what is quicker here"
    )
    ttt_data: DataForm = Field("leave_one_out", description="what a training sequence shows and asks")
    ttt_augmentation: AugmentationForm = Field("invertible", description="what training sequences are drawn under")
    ttt_loss_on: LossOn = Field("after_first", description="which tokens of a sequence are learned")
    ttt_softmax_over: SoftmaxOver = Field(
        "vocabulary", description="what a learned token is told apart from: all tokens, or those that answers may have"
    )
    ttt_max_sequences: int | None = Field(
        None, ge=1, description="different training sequences that are drawn on; none: each is drawn anew"
    )
    ttt_check_every: int | None = Field(
        None, ge=1, description="steps between looks at a held-out demonstration, which may stop training; none: none"
    )
    ttt_auto: bool = Field(False, description="choose rate, rank and steps by the early curve of each task")
    deadline_s: float | None = Field(
        None, gt=0, description="seconds a solve may take before it stops training; none: as long as it needs"
    )
    trace_days: float = Field(30.0, gt=0, le=36_500, description="days that traces are kept; decisions stay for ever")
    trace_bytes: int = Field(2**30, ge=2**20, description="of traces kept; the oldest go first")
    trace_queue: int = Field(256, ge=1, le=100_000, description="traces that may wait to be written")
    seed: int = Field(0, ge=0, lt=2**32, description="of everything that is drawn")
    serve_keys: str | None = Field(
        None, min_length=1, repr=False, description="keys of the HTTP service: tenant=key, separated by commas"
    )
    serve_keys_file: Path | None = Field(None, description="file of such keys, one on a line; # begins a remark")
    serve_workers: int = Field(16, ge=1, le=1024, description="tasks that are solved at the same time")
    serve_queue: int = Field(64, ge=0, le=100_000, description="tasks that may wait; more are refused (503)")
    serve_decides: int = Field(32, ge=1, le=10_000, description="decisions that may be asked for at the same time")
    serve_tasks: int = Field(64, ge=1, le=10_000, description="tasks in one request")
    serve_body_bytes: int = Field(8 * 2**20, ge=2**10, description="of the body of one request")
    serve_body_s: float = Field(30.0, gt=0, description="seconds in which a request's body has to arrive")
    serve_rate: float = Field(50.0, gt=0, description="requests a second of one tenant; twice as many at once")
    serve_compute_s: float | None = Field(
        None, gt=0, description="seconds of compute that one tenant may use in an hour; none: no bound"
    )
    serve_job_s: float = Field(3600.0, gt=0, description="seconds that the result of a job is kept")
    serve_job_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        description="of memory for the results that are kept; then the oldest of who keeps most go",
    )
    serve_stop_s: float = Field(30.0, ge=0, description="seconds in which what runs may finish when the service stops")
    limits: Limits = Field(default_factory=Limits, description="how large a task may be")

    @property
    def most_serve_tasks(self) -> int:
        """Tasks that one request may have: no more than there is ever room for."""
        return min(self.serve_tasks, self.serve_workers + self.serve_queue)

    def origin(self, name: str) -> str:
        """Return where the value of a setting came from: `default`, `argument`, or the name of what gave it."""
        return self._origins.get(name) or ("argument" if name in self.model_fields_set else "default")

    def shown(self, name: str) -> str:
        """Return the value of a setting as it may be shown: secrets are masked, and the passwords in URLs."""
        from router.redaction import MASK, Redactor  # which needs these settings

        value = getattr(self, name)
        if value is not None and name in _SECRET:
            return MASK
        if isinstance(value, Limits):
            return ", ".join(f"{field} {limit}" for field, limit in asdict(value).items())
        text = ",".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)
        return Redactor.of(self)(text)

    @property
    def ledger_location(self) -> str:
        """The ledger's URL, or else the home folder, in which it is a SQLite file."""
        return self.ledger_url or str(self.home)

    @property
    def wish(self) -> Wish | None:
        """What is asked of whoever decides: a price, a budget or a bound; None: what it was trained for."""
        if self.budget is not None:
            return read_wish(self.budget)
        if self.max_regret_rate is not None:
            return RegretLimit(self.max_regret_rate)
        return Price(self.price) if "price" in self.model_fields_set else None

    @property
    def first_policy(self) -> Policy:
        """Who decides until something is learned; the rule where there are not both arms that the prior compares."""
        if self.cold_start == "rule" or not self.learns:
            return self.stated_rule
        from policies.cold_start import cold_start

        return cold_start(
            price=self.price,
            explore=self.explored_share,
            votes=self.probe_views > 0,
        )

    @property
    def stated_rule(self) -> LooThreshold:
        """Training where the demonstrations are not answered when they are held out."""
        return LooThreshold(threshold=self.loo_threshold, epsilon=self.epsilon)

    @property
    def learns(self) -> bool:
        """Whether both arms are there that a gain is counted between."""
        return {Arm.ICL.value, Arm.TTT.value} <= set(self.arms)

    @property
    def explored_share(self) -> float:
        """The probability that what is learned, or a bound, leaves to exploration: at most half."""
        return min(self.epsilon, 0.5)

    @property
    def learned_arms(self) -> tuple[str, ...]:
        """The arms that something is learned of: all but `zero_shot`."""
        return tuple(arm for arm in self.arms if arm != Arm.ZERO_SHOT)

    @property
    def inference(self) -> InferenceSettings:
        """How views are asked and chosen from."""
        return InferenceSettings(
            views=self.views,
            n_views=self.n_views,
            vote=self.vote,
            decode=self.decode,
            cut_off=self.search_cut_off,
            n_scored=self.vote_candidates,
            verify=self.verify_views,
            views_precision=self.views_precision,
        )

    def ttt(self, n_parameters: int, *, bfloat16: bool = False) -> Preset:
        """Return how a model of so many weights is trained: as the preset says, but for what is set.

        Args:
            bfloat16: whether products in it are quicker where the model is (`TransformersModel.prefers_bfloat16`).
        """
        name = preset_for(n_parameters) if self.ttt_preset == "by_size" else self.ttt_preset
        chosen = preset(name)
        given = {
            field.removeprefix("ttt_"): getattr(self, field)
            for field in self.model_fields_set
            if field.startswith("ttt_") and field != "ttt_preset"
        }
        if self.ttt_precision == "auto":
            given["precision"] = "bf16" if bfloat16 else "full"
        if (targets := given.pop("targets", None)) is not None:
            given["target_modules"] = "all-linear" if targets == ("all-linear",) else targets
        names = {field.name for field in fields(LoraSettings)}
        shape = {key: value for key, value in given.items() if key in names}
        loop = {key: value for key, value in given.items() if key not in names}
        if shape.get("method") == "full" or shape.get("rank") == 0:  # then the preset's has no part to be chosen
            shape = {"output_head": False, "dropout": 0.0} | shape
        return Preset(
            replace(chosen.lora, **shape),
            replace(chosen.training, **loop),
            None if chosen.text is None else replace(chosen.text, **loop),
        )

    @property
    def policy_folder(self) -> Path | None:
        """Where the files of the policies are if the ledger is a server; None: beside the ledger's own file."""
        is_file = "://" not in self.ledger_location or self.ledger_location.startswith("sqlite")
        return None if is_file else self.home / "policies"

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return _expanded(home).absolute()

    @field_validator("arms", "ttt_targets", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    @field_validator("arms")
    @classmethod
    def _named(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        known = [*map(str, Arm), REMOTE]
        unknown = [name for name in arms if name not in known]
        if unknown:
            from router.added_arms import installed  # which needs this module

            unknown = [name for name in unknown if not installed(name)]
        if not arms or len(set(arms)) < len(arms) or unknown:
            missed = f"Nothing here has {' or '.join(map(repr, unknown))}. " if unknown else ""
            there = f"{', '.join(known)} and those of installed packages"
            raise ValueError(f"{missed}Give one or more different names of arms among {there}")
        return arms

    @field_validator("budget")
    @classmethod
    def _is_budget(cls, budget: str | None) -> str | None:
        try:
            wish = None if budget is None else read_wish(budget)
        except PolicySettingRefused as error:
            raise ValueError(str(error)) from None
        if isinstance(wish, Price | RegretLimit):
            raise ValueError("A price is set by `price`, a bound by `max_regret_rate`")
        return budget

    @field_validator("limits", mode="before")
    @classmethod
    def _known_limits(cls, limits: object) -> object:
        if isinstance(limits, dict):
            known = [field.name for field in fields(Limits)]
            unknown = next((str(name) for name in limits if name not in known), None)
            if unknown is not None:
                raise ValueError(f"There is no limit {unknown[:40]!r}; the limits are {', '.join(known)}")
        return limits

    @field_validator("limits")
    @classmethod
    def _positive_limits(cls, limits: Limits) -> Limits:
        wrong = next((name for name, value in asdict(limits).items() if value < 1), None)
        if wrong is not None:
            raise ValueError(f"{wrong} should be at least 1")
        return limits

    @model_validator(mode="after")
    def _has_room_for_what_it_takes(self) -> Self:
        if self.serve_tasks > self.most_serve_tasks and "serve_tasks" in self._asked:
            raise SettingsError(
                f"{self.serve_tasks} tasks would never find room",
                variable=_together(["serve_tasks", "serve_workers", "serve_queue"]),
                remedy=f"Take at most {self.most_serve_tasks} tasks in one request, or let more of them wait.",
            )
        return self

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> Self:
        asked = [name for name in ("price", "budget", "max_regret_rate") if name in self._asked]
        if len(asked) > 1:
            remedy = "Each says how much may be spent, and they may disagree: set one of them."
            raise SettingsError("both are set", variable=_together(asked[:2]), remedy=remedy)
        wish = self.wish
        needed = set(wish.arms) if isinstance(wish, ShareBudget) else {str(Arm.ICL), str(Arm.TTT)} if asked else set()
        if asked and asked != ["price"] and not needed <= set(self.arms):
            missing = ", ".join(sorted(needed - set(self.arms)))
            remedy = f"Let the arms be chosen from hold {missing}, or ask for something else."
            raise SettingsError(
                f"{missing} is not among the arms", variable=_together([asked[0], "arms"]), remedy=remedy
            )
        return self

    @property
    def _asked(self) -> set[str]:
        return {name for name in self.model_fields_set if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _remote_is_known(self) -> Self:
        if REMOTE in self.arms and (self.remote_url is None or self.remote_model is None):
            missing = "REMOTE_URL" if self.remote_url is None else "REMOTE_MODEL"
            remedy = f"The arm {REMOTE} needs it; set it, or take the arm out of TTT_ROUTER_ARMS."
            raise SettingsError("not set", variable=f"{PREFIX}{missing}", remedy=remedy)
        return self

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        for n_parameters in (0, 10**10):  # whatever preset the model's size chooses
            try:
                self.ttt(n_parameters)
            except TaskRefused as error:
                variable = f"{PREFIX}TTT_{error.field.upper()}"
                raise SettingsError(error.message, variable=variable, remedy=error.remedy) from None
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _named_when_bad(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        origins = data.pop(_ORIGINS, {}) if isinstance(data, dict) else {}
        try:
            settings = handler(data)
        except ValidationError as error:
            raise _settings_error(error, origins) from None
        settings._origins = origins
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the sources in their order, each able to name the variable that a value came from."""
        sources = (_Environment(cls), _DotEnv(cls), _TomlHere(cls), _TomlAtHome(cls))
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        return (init_settings, *sources, _Origins(cls, tuple(given), sources))


def _together(names: Sequence[str]) -> str:
    return " and ".join(f"{PREFIX}{name.upper()}" for name in names)


_OF_THE_TESTS = f"{PREFIX}DATA"  # where they look for public data, see the README


def unknown_variables() -> dict[str, str | None]:
    """Return the `TTT_ROUTER_*` variables of the environment and of `.env` that are no setting, which likely are slips
    of the pen, each with the one, or the option of a command, that may be meant.

    Those by which Kubernetes tells every pod of its services are let be: one that is named `ttt-router` makes
    `TTT_ROUTER_SERVICE_HOST`, `TTT_ROUTER_PORT=tcp://...`, `TTT_ROUTER_PORT_8770_TCP` and more. So is what the
    project's own tests read.
    """
    here = {name: name.upper() for name, value in os.environ.items() if not _is_of_kubernetes(name.upper(), value)}
    here.pop(_OF_THE_TESTS, None)
    dotenv = DotEnvSettingsSource(Settings, env_file=DOTENV, env_file_encoding="utf-8").env_vars
    here |= {f"{name.upper()} in {DOTENV}": name.upper() for name in dotenv}
    unknown: dict[str, str | None] = {}
    for shown, name in sorted(here.items()):
        setting, _, part = name.removeprefix(PREFIX).lower().partition("__")
        is_known = setting in Settings.model_fields and (not part or setting == "limits")
        if name.startswith(PREFIX) and not is_known:
            close = difflib.get_close_matches(setting, Settings.model_fields, n=1)
            meant = f"{PREFIX}{close[0].upper()}" if close else None
            unknown[shown] = _OPTIONS.get(setting.removeprefix("serve_"), meant)
    return unknown


def told_of_unknown_variables() -> list[str]:
    """Return a sentence for each variable that is no setting."""
    return [
        f"{name} is no setting and does nothing" + (f"; did you mean {meant}?" if meant else "")
        for name, meant in unknown_variables().items()
    ]


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Tell a variable of a service from a setting: by its value, or because the service's host is there too."""
    if value.startswith(("tcp://", "udp://", "sctp://")):
        return True
    service = re.sub(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$", "", name)
    return service != name and f"{service}_SERVICE_HOST" in os.environ


def _settings_error(error: ValidationError, origins: dict[str, str]) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    variable = origins.get(name, name)
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, Settings.model_fields, n=1)
        names = f"Did you mean {close[0]}?" if close else f"The settings are {', '.join(Settings.model_fields)}."
        return SettingsError("no such setting", variable=variable, remedy=names)
    inner = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int))
    if inner:
        variable += f"__{inner.upper()}" if variable == f"{PREFIX}{name.upper()}" else f", {inner}"
    got = "a value that cannot be used" if name in _NEVER_SHOWN else f"got {_shortened(first['input'])}"
    wanted = re.sub("^Value error, ", "", first["msg"])
    about = Settings.model_fields[name].description if name in Settings.model_fields else None
    return SettingsError(got, variable=variable, remedy=f"{wanted} ({name}: {about})." if about else f"{wanted}.")


def _shortened(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}..."


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        remedy = "Set TTT_ROUTER_HOME to a folder."
        raise SettingsError(f"no home folder known for {path}", variable="home", remedy=remedy) from None


class _Source(Protocol):
    found: dict[str, Any]

    def name_of(self, field: str) -> str: ...


class _Environment(EnvSettingsSource):
    """The environment; `found` is what it gave."""

    place = ""

    def __call__(self) -> dict[str, Any]:
        self.found: dict[str, Any] = super().__call__()
        return self.found

    def name_of(self, field: str) -> str:
        return f"{PREFIX}{field.upper()}{self.place}"

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            remedy = f'Give a JSON object, such as {{"side": 20}}, or set {self.name_of(field_name)}__SIDE.'
            got = f"got {_shortened(value)}"
            raise SettingsError(got, variable=self.name_of(field_name), remedy=remedy) from None


class _DotEnv(DotEnvSettingsSource, _Environment):
    """The `.env` of the working folder; what is not ours in it is let be."""

    place = f" in {DOTENV}"

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        try:
            super().__init__(settings_cls, env_file=DOTENV, env_file_encoding="utf-8", dotenv_filtering="only_existing")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                _problem(error), variable=DOTENV, remedy="Make it readable UTF-8, or remove it."
            ) from None


class _TomlHere(PydanticBaseSettingsSource):
    """The settings file of the working folder."""

    def path(self) -> Path:
        return Path(FILE_NAME)

    def __call__(self) -> dict[str, Any]:
        self.found: dict[str, Any] = _read_toml(self.path())
        return self.found

    def name_of(self, field: str) -> str:
        return f"{field} in {self.path()}"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # the base class wants it; `__call__` gives everything at once


class _TomlAtHome(_TomlHere):
    """The settings file of the home folder, wherever the sources before have put that."""

    def path(self) -> Path:
        home = self.current_state.get("home")
        return (_expanded(Path(home)) if isinstance(home, str | Path) else default_home()) / FILE_NAME


class _Origins(PydanticBaseSettingsSource):
    """Gives no setting, but says under which name each was given."""

    def __init__(self, settings_cls: type[BaseSettings], given: Sequence[str], sources: Sequence[_Source]) -> None:
        super().__init__(settings_cls)
        self._given = given
        self._sources = sources

    def __call__(self) -> dict[str, Any]:
        origins: dict[str, str] = {}
        for source in self._sources:
            for name in source.found:
                if name not in self._given:
                    origins.setdefault(name, source.name_of(name))
        return {_ORIGINS: origins}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            _problem(error), variable=str(path), remedy="Make it readable TOML, or remove it."
        ) from None


def _problem(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
