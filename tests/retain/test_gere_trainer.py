"""GeReTrainer: a micro-batch's loss by hand, what is recorded of which model, how texts are mixed in, resumed runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import DataCollatorForSeq2Seq, TrainingArguments

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.retain.gere_trainer import GeReTrainer, tokens_of
from letheon.retain.mixing import MixingSampler
from letheon.retain.strategies.gere import Old, Settings, margin_loss, states_of, thresholds_of

TEXTS = ["Rain falls on the hills and runs to the sea.", "A mill grinds corn.", "Bees fly far over the heath."]
ROWS = [("Who mends the bell?", " Orla."), ("What is grown?", " Flax."), ("Where is the ford?", " By the mill.")] * 2


def rows_of(tokenizer: Any) -> Dataset:
    made = []
    for question, answer in ROWS:
        asked = tokenizer(question)["input_ids"]
        told = tokenizer(answer, add_special_tokens=False)["input_ids"]
        made.append({"input_ids": asked + told, "labels": [-100] * len(asked) + told, "number": len(made)})
    return Dataset.from_list(made)


def trainer_of(folder: Path, settings: Settings | None = None, **options: Any) -> GeReTrainer:
    model = load("tiny", device="cpu")
    network = options.pop("network", None) or model.model
    old, evaluated, texts = options.pop("old", None), options.pop("evaluated", False), options.pop("texts", TEXTS)
    arguments = TrainingArguments(
        output_dir=str(folder),
        **{
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "num_train_epochs": 2,
            "report_to": "none",
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            **options,
        },
    )
    rows = rows_of(model.tokenizer)
    return GeReTrainer(
        network,
        arguments,
        general=texts,
        settings=settings,
        old=old,
        train_dataset=rows,
        eval_dataset=rows if evaluated else None,
        data_collator=DataCollatorForSeq2Seq(model.tokenizer),
        processing_class=model.tokenizer,
    )


def hidden_of(network: Any, ids: list[int]) -> torch.Tensor:
    return network(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]


def cross_entropy(network: Any, ids: list[int]) -> tuple[torch.Tensor, int]:
    logits = network(torch.tensor([ids])).logits[0, :-1]
    return functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"), len(ids) - 1


def shaken(trainer: GeReTrainer) -> GeReTrainer:
    """The trainer after its recording, with weights that have moved since."""
    trainer.old = trainer._recorded()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw))
    trainer.model.eval()
    return trainer


def micro_batch(trainer: GeReTrainer, rows: list[int], texts: list[int]) -> dict[str, Any]:
    loader = trainer.get_train_dataloader()
    dataset = loader.dataset
    numbers = [*rows, *(len(ROWS) + place for place in texts)]
    return dict(loader.collate_fn([dataset[number] for number in numbers]))


@pytest.mark.parametrize("weight", [100.0, None])
@pytest.mark.parametrize("rows", [[0, 2], []])
def test_the_loss_of_a_micro_batch_by_hand(tmp_path: Path, weight: float | None, rows: list[int]) -> None:
    """Cross-entropies are means over tokens, half each where both are there; the margin counts violations only."""
    trainer = shaken(trainer_of(tmp_path, Settings(weight=weight)))
    first = load("tiny", device="cpu").model.eval()
    with torch.no_grad():
        before = [hidden_of(first, ids) for ids in trainer.texts]
        at = thresholds_of(torch.cat(before))
        texts = [2, 0]
        loss = trainer.compute_loss(trainer.model, micro_batch(trainer, rows, texts))
        now = torch.cat([hidden_of(trainer.model, trainer.texts[place]) for place in texts])
        margin = margin_loss(now, torch.cat([states_of(before[place], at) for place in texts]), at)
        sums, counts = zip(*(cross_entropy(trainer.model, trainer.texts[place]) for place in texts), strict=True)
        plain = sum(sums) / sum(counts)
        if rows:
            batch = trainer.data_collator(
                [{k: v for k, v in trainer.train_dataset[n].items() if k != "number"} for n in rows]
            )
            plain = (trainer.model(**batch).loss + plain) / 2
    expected = plain + 100 * margin if weight else 2 * plain
    assert float(margin) > 1e-3
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_the_balanced_weight_has_no_gradient(tmp_path: Path) -> None:
    """The gradient is the one at a weight that is given and has the balanced one's value."""
    balanced = shaken(trainer_of(tmp_path, Settings(weight=None)))
    weights = list(balanced.model.parameters())
    found = torch.autograd.grad(balanced.compute_loss(balanced.model, micro_batch(balanced, [0], [1])), weights)
    terms = {name: float(values[0]) for name, values in balanced._terms.items()}
    fixed = trainer_of(tmp_path, Settings(weight=terms["total_ce_loss"] / terms["gere_margin_loss"]))
    fixed.old = balanced.old
    expected = torch.autograd.grad(fixed.compute_loss(balanced.model, micro_batch(fixed, [0], [1])), weights)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("imitation", ["margin", "kl", "l1", "l2"])
def test_before_the_first_step_nothing_is_to_be_imitated(tmp_path: Path, imitation: Any) -> None:
    """Neither padding nor the order of texts in a batch moves a stored activation to another token."""
    trainer = trainer_of(tmp_path, Settings(imitation=imitation))
    trainer.old = trainer._recorded()
    trainer.model.eval()
    with torch.no_grad():
        trainer.compute_loss(trainer.model, micro_batch(trainer, [1], [1, 2, 0]))
    assert float(trainer._terms["gere_margin_loss"][0]) == pytest.approx(0, abs=1e-5)


def test_an_adapter_is_switched_off_while_states_are_recorded(tmp_path: Path) -> None:
    plain = trainer_of(tmp_path)
    adapted = get_peft_model(load("tiny", device="cpu").model, LoraConfig(target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    trainer = trainer_of(tmp_path, network=adapted)
    mine, theirs = trainer._recorded(), plain._recorded()
    assert all(torch.equal(one, other) for one, other in zip(mine.states, theirs.states, strict=True))
    trainer.train()
    assert all("lora" in name for name, weight in adapted.named_parameters() if weight.requires_grad)


def test_training_logs_the_authors_names_and_the_margin_holds_states(tmp_path: Path) -> None:
    """Beside cross-entropy alone, fewer units have left the state that they had."""
    flipped = {}
    for imitation in ("margin", "none"):
        trainer = trainer_of(tmp_path, Settings(imitation=imitation), learning_rate=3e-3, num_train_epochs=6)
        first = trainer.old = trainer_of(tmp_path)._recorded()
        trainer.train()
        logged = [line for line in trainer.state.log_history if "loss" in line]
        assert {"ori_loss", "gere_ce_loss", "total_ce_loss", "total_loss"} <= set().union(*logged)
        assert any("gere_margin_loss" in line for line in logged) == (imitation == "margin")
        assert first.at is not None
        with torch.no_grad():
            now = [states_of(hidden_of(trainer.model.eval(), ids), first.at) for ids in trainer.texts]
        flipped[imitation] = float((torch.cat(now) != torch.cat(list(first.states))).double().mean())
    assert flipped["margin"] < flipped["none"]


def test_the_loss_of_an_effective_batch_is_the_mean_of_its_micro_batches(tmp_path: Path) -> None:
    """What is logged as the loss (scaled for accumulation by the trainer) equals the mean of the logged terms."""
    trainer = trainer_of(tmp_path)
    trainer.train()
    for line in trainer.state.log_history:
        if "loss" in line:
            assert line["loss"] == pytest.approx(line["total_loss"], rel=1e-3)


def test_without_a_number_per_step_each_text_comes_once_per_epoch() -> None:
    sampler = MixingSampler(rows=6, texts=3, per_batch=0, batch=4, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(9)) == sorted(range(len(sampler)))
    assert first != second


def test_batch_interpolation_puts_texts_into_every_batch() -> None:
    sampler = MixingSampler(rows=7, texts=5, per_batch=2, batch=4, seed=3)
    texts: list[int] = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(order) == len(sampler) == 15
        assert sorted(number for number in order if number < 7) == list(range(7))
        batches = [order[start : start + 4] for start in range(0, 15, 4)]
        assert [sum(number >= 7 for number in batch) for batch in batches] == [2, 2, 2, 2]
        texts += [number for number in order if number >= 7]
    counts = Counter(texts)
    assert set(counts) == set(range(7, 12))
    assert max(counts.values()) == min(counts.values()) == 8, "all texts come before one comes again"


def test_old_activations_of_the_first_task_are_kept(tmp_path: Path) -> None:
    first = trainer_of(tmp_path)
    first.train()
    second = trainer_of(tmp_path, network=first.model, old=first.old)
    second.train()
    assert second.old is first.old
    assert isinstance(first.old, Old)


def test_old_activations_of_other_texts_or_another_imitation_are_refused(tmp_path: Path) -> None:
    first = trainer_of(tmp_path)
    old = first._recorded()
    with pytest.raises(InputError, match="of other texts, or those of another imitation"):
        trainer_of(tmp_path, texts=TEXTS[::-1], old=old)
    with pytest.raises(InputError, match="of other texts, or those of another imitation"):
        trainer_of(tmp_path, Settings(imitation="l2"), old=old)
    trainer_of(tmp_path, Settings(imitation="none"), old=old)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_logits_to_imitate_are_in_the_models_number_format(tmp_path: Path, precision: str) -> None:
    network = load("tiny", device="cpu").model.to(getattr(torch, precision))
    trainer = trainer_of(tmp_path, Settings(imitation="kl"), network=network)
    trainer.old = trainer._recorded()
    trainer.model.eval()
    with torch.no_grad():
        trainer.compute_loss(trainer.model, micro_batch(trainer, [], [1, 2, 0]))
    assert float(trainer._terms["gere_margin_loss"][0]) == pytest.approx(0, abs=1e-4)
    assert trainer.old.head.dtype is network.dtype


def test_logits_that_are_not_the_heads_cannot_be_imitated(tmp_path: Path) -> None:
    class Capped(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return 0.1 * super().forward(hidden).div(0.1).tanh()

    network = load("tiny", device="cpu").model
    network.lm_head.__class__ = Capped
    with pytest.raises(InputError, match="caps, scales or shifts"):
        trainer_of(tmp_path, Settings(imitation="kl"), network=network)._recorded()


def test_rows_without_a_label_leave_the_texts_a_loss(tmp_path: Path) -> None:
    """Their mean is no number, and the balanced weight would hand that on to every weight of the model."""
    trainer = shaken(trainer_of(tmp_path))
    batch = micro_batch(trainer, [0], [1])
    batch["task"]["labels"][:] = -100
    loss = trainer.compute_loss(trainer.model, batch)
    alone = trainer.compute_loss(trainer.model, micro_batch(trainer, [], [1]))
    assert float(loss.detach()) == pytest.approx(float(alone.detach()))


def test_tokens_of_rows_and_texts_are_counted(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, include_num_input_tokens_seen="non_padding", num_train_epochs=1)
    trainer.train()
    expected = sum(len(row["input_ids"]) for row in trainer.train_dataset) + sum(map(len, trainer.texts))
    assert trainer.state.num_input_tokens_seen == expected


def test_evaluation_is_the_trainers_own(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, evaluated=True, eval_strategy="epoch")
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("per_step", [0, 1])
def test_a_resumed_run_ends_at_the_same_weights(tmp_path: Path, per_step: int) -> None:
    settings = Settings(per_step=per_step)
    whole = trainer_of(tmp_path / "whole", settings, save_strategy="steps", save_steps=1)
    whole.train()
    last = whole.state.global_step
    for step in (1, last - 1):  # in the middle of the first and of the second epoch
        resumed = trainer_of(tmp_path / "resumed", settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert resumed.state.global_step == last > 2
        for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


SCRIPT = """
import json, sys
from pathlib import Path
from tests.retain.test_gere_trainer import trainer_of
folder, resumed = Path(sys.argv[1]), sys.argv[2:]
trainer = trainer_of(folder, save_strategy="steps", save_steps=1, ddp_timeout=60)
seen, step = [], trainer.compute_loss
def watched(model, inputs, *args, **options):
    rows = inputs["task"]["labels"].tolist() if "task" in inputs else []
    seen.append([rows, inputs["places"].tolist() if "places" in inputs else []])
    return step(model, inputs, *args, **options)
trainer.compute_loss = watched
trainer.train(resume_from_checkpoint=resumed[0] if resumed else None)
lines = [line for line in trainer.state.log_history if "loss" in line]
record = {"seen": seen, "lines": lines, "weights": sum(float(w.double().sum()) for w in trainer.model.parameters())}
(folder / f"{trainer.args.process_index}{len(resumed)}.json").write_text(json.dumps(record))
"""


@pytest.mark.slow
def test_two_processes_share_rows_and_texts(tmp_path: Path) -> None:
    """Their micro-batches pass through the model unequally often; log and resumed runs are those of all processes."""
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    for checkpoint in ([], [str(tmp_path / "checkpoint-3")]):
        command = [*words, str(tmp_path / "script.py"), str(tmp_path), *checkpoint]
        subprocess.run(command, env=environment, check=True, timeout=180, cwd=root, capture_output=True)
    first, second, *resumed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("00", "10", "01", "11"))
    assert first["weights"] == second["weights"] == resumed[0]["weights"] == resumed[1]["weights"]
    assert any(
        (bool(one[0]) + bool(one[1])) != (bool(two[0]) + bool(two[1]))
        for one, two in zip(first["seen"], second["seen"], strict=True)
    ), "unequal numbers of passes were tried"
    epoch = first["seen"][:3] + second["seen"][:3]  # nine rows and texts, two a micro-batch
    assert {place for _, places in epoch for place in places} == {0, 1, 2}
    for whole, again in zip((first, second), resumed, strict=True):
        assert again["seen"] == whole["seen"][-len(again["seen"]) :]
    for line in first["lines"]:
        assert line["loss"] == pytest.approx(line["total_loss"], rel=1e-3)


def test_texts_are_counted_per_effective_batch(tmp_path: Path) -> None:
    loader = trainer_of(tmp_path, Settings(per_step=1)).get_train_dataloader()  # two micro-batches of two
    micro = [sum(number >= len(ROWS) for number in batch) for batch in loader.batch_sampler]
    assert [sum(micro[start : start + 2]) for start in range(0, len(micro), 2)] == [1, 1]


def test_texts_are_the_first_ones_cut_and_without_special_tokens() -> None:
    def tokenizer(text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}

    assert tokens_of(tokenizer, ["abcd", "ef", "gh"], Settings(count=2, tokens=3)) == [[97, 98, 99], [101, 102]]


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 texts leave no space in a batch of 2"):
        trainer_of(tmp_path, Settings(per_step=3), gradient_accumulation_steps=1).get_train_dataloader()
    tokenizer = load("tiny", device="cpu").tokenizer
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    network = load("tiny", device="cpu").model
    with pytest.raises(InputError, match="no tokenizer"):
        GeReTrainer(network, arguments, general=TEXTS)
    with pytest.raises(InputError, match="no general texts"):
        GeReTrainer(network, arguments, general=[], processing_class=tokenizer)
    with pytest.raises(InputError, match="general text 2 has fewer than two tokens"):
        GeReTrainer(network, arguments, general=["A mill grinds.", ""], processing_class=tokenizer)
    ordered = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", train_sampling_strategy="sequential")
    with pytest.raises(InputError, match="sequential would mix no texts in"):
        GeReTrainer(network, ordered, general=TEXTS, processing_class=tokenizer)
    with pytest.raises(InputError, match="nothing to predict"):
        Settings(tokens=1)
    without = GeReTrainer(network, arguments, general=TEXTS, processing_class=tokenizer)
    with pytest.raises(InputError, match="train_dataset"):
        without.get_train_dataloader()
