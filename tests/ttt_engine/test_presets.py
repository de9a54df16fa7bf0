"""Presets are the paper's numbers where they are the paper's, and fit the size of the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from icl_engine.errors import TaskRefused
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.presets import PRESETS, preset, preset_for


def test_small_is_the_default() -> None:
    assert PRESETS["small"].lora == LoraSettings()
    assert PRESETS["small"].training == TrainingSettings()


def test_small_narrow_reads_half_as_much_of_grids_and_as_much_of_text() -> None:
    small, narrow = PRESETS["small"], PRESETS["small_narrow"]

    assert narrow.training == replace(small.training, batch_size=2, learning_rate=3e-3, token_budget=80_000)
    assert 2 * narrow.training.batch_size == small.training.batch_size
    assert 2 * narrow.training.token_budget == small.training.token_budget
    assert (narrow.lora, narrow.text) == (small.lora, small.text)


def test_text_is_trained_on_as_grids_are_where_a_preset_says_nothing_else() -> None:
    small, bbh = PRESETS["small"], PRESETS["bbh"]

    assert small.training_for("grid") == small.training != small.training_for("text") == small.text
    assert bbh.training_for("text") == bbh.training_for("grid") == bbh.training


MLP = ("gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize(("name", "rate", "head"), [("paper_1b", 5e-5, False), ("paper_8b", 1e-4, True)])
def test_the_paper_s_presets_have_its_table_6(name: str, rate: float, head: bool) -> None:
    chosen = PRESETS[name]

    assert chosen.lora == LoraSettings(128, 16.0, ("q_proj", "v_proj", *MLP), output_head=head)
    assert chosen.training == TrainingSettings(
        steps=250, batch_size=2, learning_rate=rate, schedule="cosine", warmup_share=0.1, token_budget=4_000_000,
        data="leave_two_out", augmentation="paper", loss_on="after_first", max_sequences=250,
    )  # fmt: skip
    assert chosen.training.steps * chosen.training.batch_size == 2 * 250  # two epochs


def test_the_text_preset_is_forty_shuffles_in_one_epoch() -> None:
    chosen = PRESETS["bbh"]

    assert chosen.lora == LoraSettings(64, 64.0, ("q_proj", "v_proj", "o_proj", *MLP), dropout=0.05)
    assert chosen.training == TrainingSettings(
        steps=8, batch_size=5, learning_rate=1e-4, schedule="cosine", warmup_share=0.0, token_budget=1_000_000,
        data="shuffles", augmentation="order", loss_on="outputs",
    )  # fmt: skip
    assert chosen.training.steps * chosen.training.batch_size == 40


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(TaskRefused, match="paper_8b"):
        preset("paper_70b")


@pytest.mark.parametrize(
    ("n_parameters", "name"), [(2_300_000, "small"), (1_200_000_000, "paper_1b"), (8_000_000_000, "paper_8b")]
)
def test_a_preset_goes_by_size(n_parameters: int, name: str) -> None:
    assert preset_for(n_parameters) == name


@pytest.mark.parametrize("name", ["paper_1b", "paper_8b"])
def test_the_paper_s_presets_train_on_text_as_its_text_half_does(name: str) -> None:
    assert PRESETS[name].training_for("text") == PRESETS["bbh"].training


# How the rate goes


def test_the_rate_rises_to_its_highest_and_falls_to_nearly_nothing() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_share=0.1, schedule="cosine")
    rates = [settings.rate_at(step, 100) for step in range(100)]

    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(later < earlier for earlier, later in pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_without_warm_up_a_linear_rate_starts_at_its_highest(steps: int) -> None:
    settings = TrainingSettings(learning_rate=2.0)

    assert [settings.rate_at(step, steps) for step in range(steps)] == pytest.approx(
        [2.0 * (1 - step / steps) for step in range(steps)]
    )


def test_a_constant_rate_stays() -> None:
    assert {TrainingSettings(schedule="constant").rate_at(step, 7) for step in range(7)} == {2e-3}
