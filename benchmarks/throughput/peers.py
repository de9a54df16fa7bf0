"""What others would use: PEFT with transformers' Trainer and `generate`, and TRL's SFTTrainer.

They are given our sequences, first adapter, views and vote. The grammar that keeps our answers grids is ours alone: a
peer's answer that is no grid has no vote. Features are found by looking, not by version.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from benchmarks.throughput.subject import Subject, quietly
from benchmarks.throughput.variants import (
    ONCE,
    Setting,
    Solved,
    Stages,
    Tensors,
    TrainingSequence,
    Variant,
    sequences_of,
    with_training,
)
from icl_engine.answer import Answer
from icl_engine.answering import answer_by_vote
from icl_engine.encoding import Encoding, most_output_tokens
from icl_engine.language_model import Generation, RowAdapters
from icl_engine.reading import left_padded
from icl_engine.task import Task, Value
from icl_engine.transformers_model import TransformersModel
from ttt_engine.config import LoraSettings

_ADAPTER = "default"


def has_trl() -> bool:
    """Say whether TRL can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("trl", "datasets"))


def peft_config(lora: LoraSettings) -> LoraConfig:
    """Return PEFT's words for our LoRA."""
    targets = lora.target_modules
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides it; any number does
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=lora.dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )


class Generating:
    """A language model over transformers' `generate`, for `answer_by_vote`.

    Args:
        most_rows: prompts in one call; None: all of them.
    """

    def __init__(self, module: Any, model: TransformersModel, most_rows: int | None) -> None:
        self.module = module
        self._model = model
        self._most_rows = most_rows

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        """Say whether the task fits the context."""
        return self._model.fits(task, answer)

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        score_demonstrations: bool = False,
        drafts: Sequence[Value | None] | None = None,
        adapters: RowAdapters | None = None,
    ) -> list[Generation]:
        """Answer each task greedily; demonstrations are not scored, and drafts and adapters play no part."""
        n = self._most_rows or max(1, len(tasks))
        return [each for i in range(0, len(tasks), n) for each in self._batch(tasks[i : i + n])]

    @torch.inference_mode()
    def _batch(self, tasks: Sequence[Task]) -> list[Generation]:
        model, encoding = self._model, self._model.encoding
        encoded = [model.encode(task) for task in tasks]
        limits = [
            min(most_output_tokens(task, each), model.context_tokens - len(each.ids))
            for task, each in zip(tasks, encoded, strict=True)
        ]
        ids, mask = left_padded([each.ids for each in encoded], encoding.pad_id, model.device)
        ends = {"eos_token_id": sorted(encoding.end_ids)} if encoding.end_ids else {}
        said = self.module.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(limits),
            do_sample=False,
            pad_token_id=encoding.pad_id,
            return_dict_in_generate=True,
            output_logits=True,
            **ends,
        )
        written = said.sequences[:, ids.shape[1] :]
        chances = torch.stack(
            [
                torch.log_softmax(logits.float(), dim=-1).gather(-1, written[:, i : i + 1])[:, 0]
                for i, logits in enumerate(said.logits)
            ],
            dim=1,
        )  # (rows, tokens written)
        rows = zip(tasks, encoded, limits, written.tolist(), chances.tolist(), strict=True)
        return [
            _generation(encoding, task, len(each.ids), tokens[:limit], logs) for task, each, limit, tokens, logs in rows
        ]


def _generation(
    encoding: Encoding, task: Task, prompt_tokens: int, tokens: Sequence[int], chances: Sequence[float]
) -> Generation:
    end = next((i for i, token in enumerate(tokens) if token in encoding.end_ids), None)
    n = len(tokens) if end is None else end + 1
    value = None if end is None else encoding.decode(task, tokens[:end])
    return Generation(value, tuple(chances[:n]), prompt_tokens, ())


def trained_by_trainer(peft_model: Any, subject: Subject, sequences: list[TrainingSequence], setting: Setting) -> float:
    """Train the active adapter with transformers' Trainer; return the mean loss."""
    with quietly(), tempfile.TemporaryDirectory() as out:
        trainer = _InOrder(
            model=peft_model,
            args=TrainingArguments(**_arguments(TrainingArguments, out, subject, setting)),
            train_dataset=_Listed(sequences),
            data_collator=_Padding(subject.model.encoding.pad_id),
        )
        return _loss_of(trainer)


def trained_by_trl(peft_model: Any, subject: Subject, sequences: list[TrainingSequence], setting: Setting) -> float:
    """Train the active adapter with TRL's SFTTrainer, on sequences that are tokens already; return the mean loss."""
    from datasets import Dataset as Table  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found, attr-defined, unused-ignore]

    class InOrder(_TakesInOrder, SFTTrainer):  # type: ignore[misc, unused-ignore]
        pass

    rows = [{"input_ids": list(each.ids), "labels": list(each.labels)} for each in sequences]
    with quietly(), tempfile.TemporaryDirectory() as out:
        arguments = _arguments(SFTConfig, out, subject, setting)
        arguments |= {"packing": False, "max_length": None, "gradient_checkpointing": False, "bf16": False}
        known = {each.name for each in fields(SFTConfig)}
        trainer = InOrder(
            model=peft_model,
            args=SFTConfig(**{name: value for name, value in arguments.items() if name in known}),
            train_dataset=Table.from_list(rows),
            processing_class=_numbers_tokenizer(subject),
        )
        return _loss_of(trainer)


def naive(subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
    """Solve tasks as tutorials lead to: for each of them the model is loaded, and prompts are answered one by one."""
    solved = []
    for task in tasks:
        began = time.perf_counter()
        with stages("load"), quietly():
            module = subject.module()
        with stages.watching(module):
            with stages("train"), quietly():
                peft_model = get_peft_model(module, peft_config(setting.lora))
                loss = _trained(trained_by_trainer, peft_model, subject, task, setting)
            answers = _answered(peft_model, subject, task, setting, stages, most_rows=1)
        solved.append((answers, _adapter(peft_model, _ADAPTER), loss, time.perf_counter() - began))
    return _solved(solved)


@dataclass(frozen=True, slots=True)
class Fair:
    """A run that keeps the model, with a new adapter for each task, and answers all views in one batch."""

    trained: Any  # `trained_by_trainer` or `trained_by_trl`
    merged: bool = False  # into the weights while answering, and out again
    answers: bool = True  # or only train

    def __call__(self, subject: Subject, tasks: Sequence[Task], setting: Setting, stages: Stages) -> Solved:
        """Solve the tasks; the model is loaded once a run."""
        solved = []
        config = peft_config(setting.lora)
        with stages(ONCE), quietly():
            peft_model: Any = get_peft_model(subject.module(), config)
        with stages.watching(peft_model.base_model.model):
            for task in tasks:
                began = time.perf_counter()
                with stages("train"), quietly():
                    peft_model.delete_adapter(_ADAPTER)
                    peft_model.add_adapter(_ADAPTER, config)
                    peft_model.set_adapter(_ADAPTER)
                    loss = _trained(self.trained, peft_model, subject, task, setting)
                adapter = _adapter(peft_model, _ADAPTER)
                answers = self._answered(peft_model, subject, task, setting, stages) if self.answers else ()
                solved.append((answers, adapter, loss, time.perf_counter() - began))
        return _solved(solved)

    def _answered(
        self, peft_model: Any, subject: Subject, task: Task, setting: Setting, stages: Stages
    ) -> tuple[Answer, ...]:
        if not self.merged:
            return _answered(peft_model, subject, task, setting, stages, most_rows=None)
        with stages("answer"):
            peft_model.merge_adapter()
        answers = _answered(peft_model, subject, task, setting, stages, most_rows=None)
        with stages("answer"):
            peft_model.unmerge_adapter()
        return answers


FAIR = "P1 fair naive"
FAIR_IN_BF16 = "P1 fair naive, bf16"
TRL = "P2 TRL"
PEERS: tuple[Variant, ...] = (
    Variant("P0 naive", "peer", "a task: from_pretrained, get_peft_model, Trainer, generate prompt by prompt", naive),
    Variant(
        FAIR,
        "peer",
        "the base loaded once; a task: delete_adapter, add_adapter, Trainer, generate over all views",
        Fair(trained_by_trainer),
    ),
    Variant(
        FAIR_IN_BF16,
        "approximate",
        "as P1, the Trainer with bf16=True",
        with_training(Fair(trained_by_trainer), precision="bf16"),
    ),
    Variant("P1 merged", "peer", "as P1, merge_adapter while answering", Fair(trained_by_trainer, merged=True)),
    Variant(TRL, "peer", "as P1, with TRL's SFTTrainer, padded", Fair(trained_by_trl)),
)


def _answered(
    peft_model: Any, subject: Subject, task: Task, setting: Setting, stages: Stages, *, most_rows: int | None
) -> tuple[Answer, ...]:
    with stages("answer"), quietly():
        peft_model.eval()
        model = stages.listening(Generating(peft_model, subject.model, most_rows))
        return answer_by_vote(model, task, n_views=setting.n_views, seed=setting.seed)


def _trained(trained: Any, peft_model: Any, subject: Subject, task: Task, setting: Setting) -> float:
    set_peft_model_state_dict(peft_model, dict(setting.start), adapter_name=_ADAPTER)
    return float(trained(peft_model, subject, sequences_of(subject.model, task, setting), setting))


def _adapter(peft_model: PeftModel, name: str) -> Tensors:
    found = get_peft_model_state_dict(peft_model, adapter_name=name)
    return {key: tensor.detach().cpu().clone() for key, tensor in found.items()}


def _solved(solved: Sequence[tuple[tuple[Answer, ...], Tensors, float, float]]) -> Solved:
    answers, adapters, losses, seconds = zip(*solved, strict=True)
    return Solved(tuple(answers), tuple(adapters), tuple(losses), tuple(seconds))


def _loss_of(trainer: Any) -> float:
    trainer.remove_callback(PrinterCallback)  # which takes the place of the progress bar that is switched off
    return float(trainer.train().training_loss)


def _arguments(known: Any, out: str, subject: Subject, setting: Setting) -> dict[str, Any]:
    """Return the arguments of a trainer that takes our steps: linear to 0, AdamW without decay, clipped."""
    training, cpu = setting.training, subject.device.type == "cpu"
    wanted = {
        "output_dir": out,
        "per_device_train_batch_size": training.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": training.steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": training.max_norm,
        "bf16": training.precision == "bf16",
        "use_cpu": cpu,
        "dataloader_pin_memory": not cpu,
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": setting.seed,
    }
    names = {each.name for each in fields(known)}
    return {name: value for name, value in wanted.items() if name in names}


class _TakesInOrder:
    """What makes a trainer go through its sequences in the order given."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else cast(Any, self).train_dataset)


class _InOrder(_TakesInOrder, Trainer):
    pass


class _Listed(Dataset[TrainingSequence]):
    def __init__(self, sequences: list[TrainingSequence]) -> None:
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, i: int) -> TrainingSequence:
        return self.sequences[i]


@dataclass(frozen=True, slots=True)
class _Padding:
    """Pads on the right to the longest, as `DataCollatorForSeq2Seq` does for models that have a tokenizer."""

    pad_id: int

    def __call__(self, sequences: Sequence[TrainingSequence]) -> dict[str, torch.Tensor]:
        width = max(len(each.ids) for each in sequences)
        padded = [(each, width - len(each.ids)) for each in sequences]
        return {
            "input_ids": torch.tensor([(*each.ids, *[self.pad_id] * n) for each, n in padded]),
            "labels": torch.tensor([(*each.labels, *[-100] * n) for each, n in padded]),
            "attention_mask": torch.tensor([[1] * len(each.ids) + [0] * n for each, n in padded]),
        }


def _numbers_tokenizer(subject: Subject) -> Any:
    """Return a tokenizer whose words are the token ids: SFTTrainer wants one, even for what is tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    n = int(subject.model.module.config.vocab_size)
    pad = str(subject.model.encoding.pad_id)
    end = str(min(subject.model.encoding.end_ids, default=subject.model.encoding.pad_id))
    words = Tokenizer(models.WordLevel({str(i): i for i in range(n)}, unk_token=pad))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=pad, eos_token=end, unk_token=pad)
