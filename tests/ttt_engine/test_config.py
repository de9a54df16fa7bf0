"""Choices that are not known are refused where they are made, and the error names the field and what would do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, TypedDict, get_args

import pytest

from icl_engine.errors import TaskRefused
from ttt_engine.config import AugmentationForm, DataForm, LoraSettings, LossOn, Method, TrainingSettings


class LoraChoice(TypedDict, total=False):
    """Some of `LoraSettings`, as a user may write them."""

    rank: int
    method: Any
    output_head: bool
    frozen_a: bool
    dropout: float
    top_layers: int
    task_token: bool


def test_inputs_are_not_learned_among_the_tokens_of_answers() -> None:
    with pytest.raises(TaskRefused, match="inputs are learned") as refused:
        TrainingSettings(softmax_over="answers", loss_on="all")

    assert refused.value.field == "softmax_over"
    with pytest.raises(TaskRefused, match="vocabulary, answers"):
        TrainingSettings(softmax_over="grids")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", get_args(DataForm))
@pytest.mark.parametrize("augmentation", get_args(AugmentationForm))
@pytest.mark.parametrize("loss_on", get_args(LossOn))
def test_every_form_of_data_goes_with_every_augmentation_and_every_loss(
    form: DataForm, augmentation: AugmentationForm, loss_on: LossOn
) -> None:
    settings = TrainingSettings(data=form, augmentation=augmentation, loss_on=loss_on, max_sequences=1)

    assert asdict(settings.shortened()).items() >= {
        "data": form, "augmentation": augmentation, "loss_on": loss_on, "max_sequences": 1
    }.items()  # fmt: skip


def test_an_unknown_choice_is_refused_with_those_known() -> None:
    with pytest.raises(TaskRefused, match=r"leave_one_out, leave_two_out, shuffles, direct") as data:
        TrainingSettings(data="leave_three_out")  # type: ignore[arg-type]
    with pytest.raises(TaskRefused, match=r"invertible, order, none, paper, visual") as augmentation:
        TrainingSettings(augmentation="spin")  # type: ignore[arg-type]
    with pytest.raises(TaskRefused, match=r"after_first, last, outputs, all") as loss_on:
        TrainingSettings(loss_on="inputs")  # type: ignore[arg-type]

    assert [caught.value.field for caught in (data, augmentation, loss_on)] == ["data", "augmentation", "loss_on"]


@pytest.mark.parametrize("n", [0, -3])
def test_no_sequences_at_all_are_refused(n: int) -> None:
    with pytest.raises(TaskRefused, match="at least 1") as caught:
        TrainingSettings(max_sequences=n)

    assert caught.value.field == "max_sequences"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (LoraChoice(rank=-1), "rank"),
        (LoraChoice(rank=0), "rank"),
        (LoraChoice(method="half"), "method"),
        (LoraChoice(method="full", output_head=True), "output_head"),
        (LoraChoice(method="full", frozen_a=True), "frozen_a"),
        (LoraChoice(rank=0, task_token=True, frozen_a=True), "frozen_a"),
        (LoraChoice(method="full", dropout=0.1), "dropout"),
        (LoraChoice(output_head=True, dropout=0.1), "dropout"),
        (LoraChoice(method="full", top_layers=1), "top_layers"),
        (LoraChoice(top_layers=0), "top_layers"),
        (LoraChoice(dropout=-0.1), "dropout"),
        (LoraChoice(dropout=1.0), "dropout"),
    ],
)
def test_what_cannot_be_trained_is_refused(given: LoraChoice, field: str) -> None:
    with pytest.raises(TaskRefused) as caught:
        LoraSettings(**given)

    assert caught.value.field == field


def test_what_can_be_chosen_since_moves_no_choice_that_is_given_by_its_place() -> None:
    assert LoraSettings(16, 32.0, "all-linear", True) == LoraSettings(output_head=True)


def test_a_lora_of_attention_and_mlp_is_what_is_trained_unless_something_else_is_asked_for() -> None:
    settings = LoraSettings()

    assert (settings.method, settings.output_head, settings.frozen_a, settings.task_token) == ("lora", *[False] * 3)
    assert get_args(Method) == ("lora", "full")
