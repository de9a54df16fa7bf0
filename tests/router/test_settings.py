"""Where settings come from, in which order, and what is said of bad ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from icl_engine.inference_settings import InferenceSettings
from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Limits
from policies.wishes import Price, RegretLimit, SecondsBudget
from router.errors import exit_code
from router.router import Router
from router.settings import Settings, SettingsError, unknown_variables
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.presets import PRESETS

pytestmark = pytest.mark.usefixtures("folder")


def refused(**given: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        Settings(**given)  # type: ignore[arg-type]  # what a caller without types would do
    return caught.value


def test_without_anything_set_the_defaults_hold(tmp_path: Path) -> None:
    settings = Settings()

    assert settings.home == tmp_path / "data" / "ttt-router"
    assert settings.limits == Limits()
    assert settings.model is None


def test_each_source_goes_before_the_next(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ttt-router.toml").write_text("seed = 1\nn_views = 1\nttt_steps = 1\nttt_rank = 1\nepsilon = 0.5")
    (folder / "ttt-router.toml").write_text(f"seed = 2\nn_views = 2\nttt_steps = 2\nttt_rank = 2\nhome = '{home}'")
    (folder / ".env").write_text("TTT_ROUTER_SEED=3\nTTT_ROUTER_N_VIEWS=3\nTTT_ROUTER_TTT_STEPS=3\nOTHER=1")
    monkeypatch.setenv("TTT_ROUTER_SEED", "4")
    monkeypatch.setenv("TTT_ROUTER_N_VIEWS", "4")

    settings = Settings(seed=5)

    assert settings.seed == 5
    assert settings.n_views == 4
    assert settings.ttt_steps == 3
    assert settings.ttt_rank == 2
    assert settings.epsilon == 0.5


def test_how_views_are_written_and_chosen_from_can_be_set() -> None:
    settings = Settings(search_cut_off=0.2, vote_candidates=3, verify_views=True, ttt_max_norm=0.5)

    assert (settings.inference.cut_off, settings.inference.n_scored, settings.inference.verify) == (0.2, 3, True)
    assert settings.ttt(0).training.max_norm == 0.5
    assert Settings().inference == InferenceSettings()


def test_what_makes_a_training_and_its_views_cheaper_can_be_set() -> None:
    settings = Settings(ttt_softmax_over="answers", views_precision="bf16")

    assert settings.ttt(0).training.softmax_over == "answers"
    assert settings.inference.views_precision == "bf16"
    assert Settings().ttt(0).training.softmax_over == "vocabulary"


def test_the_home_folder_of_the_arguments_holds_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "ttt-router.toml").write_text("epsilon = 0.25")

    assert Settings(home=tmp_path).epsilon == 0.25


def test_arms_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_ARMS", "icl, icl_vote")

    assert Settings().arms == ("icl", "icl_vote")


def test_a_limit_is_set_by_itself_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_LIMITS__SIDE", "12")

    assert Settings().limits == Limits(side=12)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_MODEL", "")

    assert Settings().model is None


def test_home_is_absolute_and_without_tilde(folder: Path) -> None:
    assert Settings(home=Path("here")).home == folder / "here"
    assert Settings(home=Path("~/there")).home == Path.home() / "there"


def test_the_ledger_is_in_the_home_folder_unless_its_url_is_set(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).ledger_location == str(tmp_path)
    assert Settings(ledger_url="postgresql://db/x").ledger_location == "postgresql://db/x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EPSILON", "2"), ("EPSILON", "nan"), ("SEED", "-1"), ("SEED", "x"), ("N_VIEWS", "0"), ("DTYPE", "fp8"),
        ("DEVICE", "CUDA 0"), ("ARMS", "icl,icl"), ("ARMS", ","), ("DEADLINE_S", "0"), ("STORE_URL", "nonsense"),
        ("LIMITS", "{bad"), ("LIMITS__SIDE", "x"), ("LIMITS", '{"sides": 3}'), ("LIMITS", '{"side": 0}'),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TTT_ROUTER_{name}", value)

    error = refused()

    assert error.variable == f"TTT_ROUTER_{name}"
    assert error.remedy
    assert exit_code(error) == 2


def test_the_place_of_a_bad_value_is_named(folder: Path) -> None:
    (folder / "ttt-router.toml").write_text("epsilon = 3")
    in_toml = refused()
    (folder / ".env").write_text("TTT_ROUTER_EPSILON=3")
    in_dotenv = refused()
    in_arguments = refused(epsilon=3)

    assert in_toml.variable == "epsilon in ttt-router.toml"
    assert in_dotenv.variable == "TTT_ROUTER_EPSILON in .env"
    assert in_arguments.variable == "epsilon"


def test_a_slip_of_the_pen_is_answered_with_the_nearest_name(folder: Path) -> None:
    (folder / "ttt-router.toml").write_text("epsilonn = 0.1")

    assert "Did you mean epsilon?" in refused().remedy


@pytest.mark.parametrize("content", [b"x = [", b"\xff\xfe", b"limits = 3"])
def test_a_broken_settings_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "ttt-router.toml").write_bytes(content)

    assert "ttt-router.toml" in refused().variable


def test_a_dotenv_that_is_not_text_is_named(folder: Path) -> None:
    (folder / ".env").write_bytes(b"TTT_ROUTER_MODEL=\xff")

    assert refused().variable == ".env"


def test_a_password_in_a_url_is_never_shown() -> None:
    error = refused(store_url="secret without a scheme")

    assert "secret" not in str(error)
    assert "secret" not in repr(Settings(ledger_url="postgresql://me:secret@db/x"))


def test_variables_that_are_no_setting_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_EPSILONN", "1")
    monkeypatch.setenv("TTT_ROUTER_LIMITS__SIDE", "3")
    monkeypatch.setenv("TTT_ROUTER_LIMIT__SIDE", "3")
    monkeypatch.setenv("TTT_ROUTER_ZZZ", "3")
    monkeypatch.setenv("TTT_ROUTER_DATA", "/data")  # of the project's tests, which the README tells to set
    (folder / ".env").write_text("TTT_ROUTER_MODLE=x\nOTHER=1\n")

    assert unknown_variables() == {
        "TTT_ROUTER_EPSILONN": "TTT_ROUTER_EPSILON",
        "TTT_ROUTER_LIMIT__SIDE": "TTT_ROUTER_LIMITS",
        "TTT_ROUTER_ZZZ": None,
        "TTT_ROUTER_MODLE in .env": "TTT_ROUTER_MODEL",
    }


def test_a_router_that_reads_the_environment_warns_of_a_slip_of_the_pen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_HOME", str(folder))
    monkeypatch.setenv("TTT_ROUTER_ZZZ", "3")

    with pytest.warns(UserWarning, match="TTT_ROUTER_ZZZ is no setting and does nothing"):
        Router(model=ScriptedModel(lambda task: task.query)).close()


def test_what_kubernetes_tells_of_its_services_is_no_slip_of_the_pen_and_no_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "TTT_ROUTER_SERVICE_HOST": "10.0.0.1",
        "TTT_ROUTER_SERVICE_PORT": "8770",
        "TTT_ROUTER_SERVICE_PORT_HTTP": "8770",
        "TTT_ROUTER_PORT": "tcp://10.0.0.1:8770",
        "TTT_ROUTER_PORT_8770_TCP": "tcp://10.0.0.1:8770",
        "TTT_ROUTER_PORT_8770_TCP_ADDR": "10.0.0.1",
        "TTT_ROUTER_HEAD_SVC_SERVICE_HOST": "10.0.0.2",
        "TTT_ROUTER_HEAD_SVC_PORT_6379_TCP_PROTO": "tcp",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TTT_ROUTER_SERVE_PORT", "80")  # of no service

    assert Settings().model_fields_set == set()
    assert unknown_variables() == {"TTT_ROUTER_SERVE_PORT": "ttt-router serve --port"}


def test_an_address_of_kubernetes_is_let_be_though_nothing_else_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTT_ROUTER_PORT", "tcp://10.0.0.1:8770")
    assert unknown_variables() == {}

    monkeypatch.setenv("TTT_ROUTER_PORT", "8771")
    assert unknown_variables() == {"TTT_ROUTER_PORT": "ttt-router serve --port"}


def test_importing_the_settings_loads_no_torch() -> None:
    code = "import sys, router.settings; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


# How tasks are trained on


def test_without_anything_set_training_is_the_preset_for_small_models() -> None:
    assert Settings().ttt(2_000_000) == PRESETS["small"]


def test_products_are_in_bfloat16_where_that_is_quicker_unless_a_precision_is_set() -> None:
    assert Settings().ttt(1, bfloat16=True).training.precision == "bf16"
    assert Settings().ttt(1, bfloat16=False).training.precision == "full"
    assert Settings(ttt_precision="full").ttt(1, bfloat16=True).training.precision == "full"


def test_a_preset_gives_what_is_not_set() -> None:
    chosen = Settings(ttt_preset="paper_8b", ttt_steps=7, ttt_rank=4)
    expected = PRESETS["paper_8b"]

    assert chosen.ttt(1).training == replace(expected.training, steps=7)
    assert chosen.ttt(1).lora == replace(expected.lora, rank=4)


def test_what_is_set_holds_for_text_too() -> None:
    text, expected = Settings(ttt_steps=7).ttt(1).text, PRESETS["small"].text

    assert expected is not None
    assert text == replace(expected, steps=7)


@pytest.mark.parametrize(
    ("n_weights", "name"), [(2_000_000, "small"), (1_200_000_000, "paper_1b"), (8_000_000_000, "paper_8b")]
)
def test_by_size_the_model_s_weights_choose(n_weights: int, name: str) -> None:
    assert Settings(ttt_preset="by_size").ttt(n_weights) == PRESETS[name]


def test_layers_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTT_ROUTER_TTT_TARGETS", "q_proj, v_proj")

    assert Settings().ttt(1).lora.target_modules == ("q_proj", "v_proj")


def test_every_choice_of_training_can_be_set() -> None:
    settable = {name.removeprefix("ttt_") for name in Settings.model_fields if name.startswith("ttt_")}
    fixed = {"max_full_weights", "used_rank", "target_modules"}  # the last is ttt_targets

    assert {field.name for shape in (LoraSettings, TrainingSettings) for field in fields(shape)} - settable == fixed


@pytest.mark.parametrize("given", [{"ttt_method": "full"}, {"ttt_rank": 0, "ttt_task_token": True}])
def test_where_no_lora_is_trained_the_head_of_a_preset_has_none(given: dict[str, Any]) -> None:
    assert Settings(ttt_preset="paper_8b").ttt(0).lora.output_head
    assert not Settings(ttt_preset="paper_8b", **given).ttt(0).lora.output_head
    assert not Settings(ttt_preset="bbh", **given).ttt(0).lora.dropout


@pytest.mark.parametrize("given", [{"ttt_rank": 0}, {"ttt_method": "full", "ttt_frozen_a": True}])
def test_what_can_train_nothing_is_refused_as_a_setting(given: dict[str, object]) -> None:
    assert refused(**given).variable.startswith("TTT_ROUTER_TTT_")


def test_a_choice_that_is_not_known_is_refused() -> None:
    error = refused(ttt_data="leave_it")

    assert "ttt_data" in str(error)
    assert "leave_two_out" in str(error)


@pytest.mark.parametrize(
    ("given", "both"),
    [
        ({"price": 0.2, "budget": "ttt <= 30 %"}, "TTT_ROUTER_PRICE and TTT_ROUTER_BUDGET"),
        ({"price": 0.2, "max_regret_rate": 0.05}, "TTT_ROUTER_PRICE and TTT_ROUTER_MAX_REGRET_RATE"),
        ({"budget": "<= 20 s a task", "max_regret_rate": 0.05}, "TTT_ROUTER_BUDGET and TTT_ROUTER_MAX_REGRET_RATE"),
        ({"budget": "zero_shot <= 30 %"}, "TTT_ROUTER_BUDGET and TTT_ROUTER_ARMS"),
        ({"max_regret_rate": 0.05, "arms": ("icl", "icl_vote")}, "TTT_ROUTER_MAX_REGRET_RATE and TTT_ROUTER_ARMS"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused_with_both_names(
    folder: Path, given: dict[str, Any], both: str
) -> None:
    with pytest.raises(SettingsError, match=both):
        Settings(**given)


def test_a_wish_is_a_price_a_budget_or_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().wish is None
    assert Settings(price=0.3).wish == Price(0.3)
    assert Settings(max_regret_rate=0.05).wish == RegretLimit(0.05)
    monkeypatch.setenv("TTT_ROUTER_BUDGET", "<= 20 s a task")
    assert Settings().wish == SecondsBudget(20.0)
    monkeypatch.setenv("TTT_ROUTER_BUDGET", "little")
    with pytest.raises(SettingsError, match="TTT_ROUTER_BUDGET: got 'little'"):
        Settings()
    with pytest.raises(SettingsError, match="max_regret_rate"):
        Settings(budget="max_regret_rate = 0.05")


def test_a_request_may_have_no_more_tasks_than_there_is_room_for() -> None:
    assert Settings(serve_workers=2, serve_queue=3).most_serve_tasks == 5
    assert Settings(serve_tasks=4, serve_workers=2, serve_queue=3).most_serve_tasks == 4
    with pytest.raises(SettingsError, match="Take at most 5 tasks"):
        Settings(serve_tasks=6, serve_workers=2, serve_queue=3)
