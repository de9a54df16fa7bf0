"""An adapter's key stands for everything that makes it what it is, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from icl_engine.task import Task
from tests.models import ROW_TASK, TEXT_TASK
from ttt_engine.adapter import Adapter, AdapterSpec, adapter_key
from ttt_engine.config import LoraSettings, TrainingSettings

LORA, TRAINING = LoraSettings(), TrainingSettings()


def key(
    task: Task = ROW_TASK,
    base: str = "base",
    lora: LoraSettings = LORA,
    training: TrainingSettings = TRAINING,
    *,
    seed: int = 0,
    tenant: str = "default",
) -> str:
    return adapter_key(task, base, lora, training, seed=seed, tenant=tenant)


OTHERS = {
    "base": key(base="another"),
    "rank": key(lora=LoraSettings(rank=8)),
    "alpha": key(lora=LoraSettings(alpha=16.0)),
    "dropout": key(lora=LoraSettings(dropout=0.05)),
    "top layers": key(lora=LoraSettings(top_layers=2)),
    "modules": key(lora=LoraSettings(target_modules=("q_proj",))),
    "steps": key(training=TrainingSettings(steps=41)),
    "batch size": key(training=TrainingSettings(batch_size=9)),
    "learning rate": key(training=TrainingSettings(learning_rate=1e-3)),
    "budget": key(training=TrainingSettings(token_budget=9)),
    "clip": key(training=TrainingSettings(max_norm=2.0)),
    "form of data": key(training=TrainingSettings(data="direct")),
    "augmentation": key(training=TrainingSettings(augmentation="paper")),
    "loss": key(training=TrainingSettings(loss_on="all")),
    "softmax": key(training=TrainingSettings(softmax_over="answers")),
    "different sequences": key(training=TrainingSettings(max_sequences=250)),
    "shortened": key(training=TRAINING.shortened()),
    "seed": key(seed=1),
    "tenant": key(tenant="another"),
    "task": key(TEXT_TASK),
    "instruction": key(ROW_TASK.model_copy(update={"instruction": "Mirror."})),
    "one demonstration less": key(ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[:2])),
    "another order": key(ROW_TASK.replace(demonstrations=ROW_TASK.demonstrations[::-1])),
}


@pytest.mark.parametrize("what", sorted(OTHERS))
def test_each_ingredient_changes_the_key(what: str) -> None:
    assert OTHERS[what] != key()
    assert list(OTHERS.values()).count(OTHERS[what]) == 1


@pytest.mark.parametrize(
    ("name", "lora", "training"),
    [
        ("dropout", LoraSettings(dropout=0.1), TRAINING),
        ("top_layers", LoraSettings(top_layers=2), TRAINING),
        ("softmax_over", LoraSettings(), TrainingSettings(softmax_over="answers")),
    ],
)
def test_a_later_choice_is_not_said_unless_it_is_made_so_that_older_adapters_are_found(
    name: str, lora: LoraSettings, training: TrainingSettings
) -> None:
    assert name not in AdapterSpec("task", "base", LoraSettings(), TRAINING, 0).document
    assert name in AdapterSpec("task", "base", lora, training, 0).document


def test_the_key_of_an_adapter_is_what_it_was() -> None:
    """If this fails, every adapter that is kept anywhere is trained anew."""
    key_of_before = "092acfe625e5ce664cd379f8814487bb7d04c23ebb37117f904aa540cfb9ef31"

    assert AdapterSpec("task", "base", LoraSettings(), TrainingSettings(), 0).key == key_of_before


def test_queries_and_id_do_not_change_the_key() -> None:
    assert key(ROW_TASK.model_copy(update={"queries": (((9,),),), "id": "another"})) == key()


@pytest.mark.parametrize("task", [ROW_TASK, TEXT_TASK], ids=["grid", "text"])
def test_a_key_is_the_same_under_another_hash_seed(task: Task) -> None:
    script = (
        "import sys\n"
        "from icl_engine.task import Task\n"
        "from ttt_engine import LoraSettings, TrainingSettings, adapter_key\n"
        "print(adapter_key(Task.parse_json(sys.argv[1]), 'base', LoraSettings(), TrainingSettings(), seed=0))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, task.model_dump_json()],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.strip() == key(task)


def test_the_short_loop_takes_a_quarter_of_the_steps_and_at_least_one() -> None:
    whole = TrainingSettings(steps=40, batch_size=3, learning_rate=0.5, max_norm=2.0, token_budget=1000)

    assert whole.shortened() == replace(whole, steps=10, token_budget=250)
    assert TrainingSettings(steps=1).shortened().steps == 1


def test_the_budget_of_tokens_cuts_the_steps_of_long_tasks_and_leaves_at_least_one() -> None:
    training = TrainingSettings(steps=40, batch_size=4, token_budget=16_000)

    assert training.steps_for(100) == 40
    assert training.steps_for(200) == 20
    assert training.steps_for(9_000) == 1
    assert TrainingSettings(steps=0).steps_for(200) == 0


def test_the_checksum_is_of_the_weights() -> None:
    some, same, other = (Adapter("k", weights, "{}", "b", "t", (), 0.0, 0) for weights in (b"1", b"1", b"2"))

    assert some.sha256 == same.sha256 != other.sha256
