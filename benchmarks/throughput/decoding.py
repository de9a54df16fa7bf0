"""Answering with many adapters in one batch: PEFT's `adapter_names` beside our stacked rows.

Each row writes the same number of tokens in every way. Two comparisons: the same loop of `generate` around both ways to
compute the adapters, and our own loop around ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import get_peft_model, set_peft_model_state_dict

from benchmarks.throughput.comparing import Rates
from benchmarks.throughput.floor import answering_floor_s, shape_of
from benchmarks.throughput.peers import peft_config
from benchmarks.throughput.records import WARM_UP, Record
from benchmarks.throughput.rounds import Schedule, interleaved, timed
from benchmarks.throughput.subject import Subject, endless, quietly, task_of_tokens
from benchmarks.throughput.variants import Setting, Tensors
from icl_engine.encoding import most_output_tokens
from icl_engine.reading import left_padded
from icl_engine.task import Task
from icl_engine.transformers_model import TransformersModel
from ttt_engine.lora import LoraStack

PEFT, SAME_LOOP, OWN_LOOP = "PEFT, adapter_names", "stacked rows, generate", "stacked rows, our loop"
_B_DEVIATION = 0.01  # of the random B: adapters that change what is written


def decode_mixed(
    subject: Subject,
    setting: Setting,
    schedule: Schedule,
    *,
    adapters: Sequence[int],
    rows_each: int,
    prompt_tokens: int,
    repeats: int,
) -> Iterator[Record]:
    """Write with as many adapters at once as `adapters` says, `rows_each` rows of each."""
    names = (PEFT, SAME_LOOP, OWN_LOOP)
    adapters = [n for n in adapters if schedule.is_left(("decode", subject.name, str(n)), names)]
    if not adapters:
        return
    rates = Rates.measured(subject, repeats=repeats)
    drawn = [_adapter(setting.start, seed) for seed in range(max(adapters))]
    with quietly():
        peft_model: Any = get_peft_model(subject.module(), peft_config(setting.lora), adapter_name="0")
        for i, adapter in enumerate(drawn):
            if i > 0:
                peft_model.add_adapter(str(i), peft_config(setting.lora))
            set_peft_model_state_dict(peft_model, dict(adapter), adapter_name=str(i))
        peft_model.eval()
    peft_model.generation_config.eos_token_id = None
    model = endless(subject)
    for n in adapters:
        place = "decode", subject.name, str(n)
        stack = LoraStack(model, setting.lora, n)
        for i, adapter in enumerate(drawn[:n]):
            stack.fill(adapter, i)
        tasks = [task_of_tokens(prompt_tokens, seed) for seed in range(n * rows_each)]
        slots = [i for i in range(n) for _ in range(rows_each)]
        stack.use(slots)
        new_tokens = most_output_tokens(tasks[0], model.encode(tasks[0]))
        calls: Mapping[str, Callable[[], list[list[int]]]] = {
            PEFT: _generating(peft_model, model, tasks, new_tokens, adapter_names=[str(slot) for slot in slots]),
            SAME_LOOP: _generating(model.module, model, tasks, new_tokens, on=stack.active),
            OWN_LOOP: _own_loop(model, tasks, stack.active),
        }
        for name, call in calls.items():
            seconds, noise, _ = timed(call, device=subject.device)
            yield Record(*place, name, WARM_UP, seconds, noise)
        prompt = len(model.encode(tasks[0]).ids)
        floor_s = sum(
            answering_floor_s(
                shape_of(model.module),
                [(prompt, new_tokens)] * len(tasks),
                flops_per_s=rates.flops_per_s,
                bytes_per_s=rates.bytes_per_s,
            )
        )
        theirs = calls[PEFT]()
        for each in interleaved(calls, schedule, place, device=subject.device):
            figures = {"adapters": float(n), "rows": float(len(tasks)), "new_tokens": float(new_tokens)}
            figures["floor_s"] = floor_s
            if each.name != OWN_LOOP:  # which writes colours alone
                same = sum(row == known for row, known in zip(each.given, theirs, strict=True))
                figures["same_rows"] = same / len(tasks)
            yield Record(*place, each.name, each.round, each.seconds, each.noise, figures)


def _adapter(start: Tensors, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * _B_DEVIATION if ".lora_B." in name else tensor
        for name, tensor in start.items()
    }


def _generating(
    module: Any,
    model: TransformersModel,
    tasks: Sequence[Task],
    new_tokens: int,
    *,
    on: Callable[[], AbstractContextManager[None]] = nullcontext,
    **options: list[str],
) -> Callable[[], list[list[int]]]:
    ids, mask = left_padded([model.encode(task).ids for task in tasks], model.encoding.pad_id, model.device)

    def call() -> list[list[int]]:
        with torch.inference_mode(), on(), quietly():
            said = module.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=model.encoding.pad_id,
                **options,
            )
        written: list[list[int]] = said[:, ids.shape[1] :].tolist()
        assert all(len(row) == new_tokens for row in written), "an answer ended early"
        return written

    return call


def _own_loop(
    model: TransformersModel, tasks: Sequence[Task], on: Callable[[], AbstractContextManager[None]]
) -> Callable[[], list[list[int]]]:
    """Rows of one length, none of which ends: they stay in the order that the stack was told of."""

    def call() -> list[list[int]]:
        with on():
            model.generate(tasks)
        return []

    return call
