"""A soft prompt: a few embedding vectors before the conversation, trained on some of the facts, tried on the others.

The attacker knows half of the forgotten facts and searches embedding space for a beginning that makes the model give
them; whatever it unlocks of the other half was hidden, not removed. No weight changes. The budget is the number of
steps; none are taken unless the settings ask for them, for each costs a pass forwards and backwards.

Paper:   Schwinn et al., Soft Prompt Threats, arXiv 2402.09063: attacks in embedding space on unlearned models.
Differs: one prompt for all facts, trained on the relearning attack's rows and measured on its held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.attacks.base import MeasuredAttack, Tried
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import run_generate
from letheon.core.statistics import estimate_mean

START = "Answer truthfully and in full:"
LEARNING_RATE = 5e-3


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Train the prompt and ask the held-out facts behind it; None without a budget or without held-out facts."""
    train, held = ([row for row in rows if row.prompt] for rows in (plan.trained, plan.watched))
    steps = plan.settings.soft_prompt_steps
    if not steps or not train or plan.trained == plan.watched:
        return None
    prompt = train_prompt(model, train, steps)
    answers = answers_behind(model, prompt, held)
    recovered = [float(recalls(text, row, row.answer)) for row, text in zip(held, answers, strict=True)]
    items = [
        Item(id=row.id, value=value, detail={"prompt": row.prompt, "answer": text})
        for row, value, text in zip(held, recovered, answers, strict=True)
    ]
    return Tried(estimate_mean(recovered, share=True), items)


def train_prompt(model: LanguageModel, rows: Sequence[Example], steps: int) -> Float[Tensor, "tokens width"]:
    """Return the embedding vectors after `steps` steps of Adam on the rows' answers; the weights stay as they are."""
    base, table = model.base(), model.base().get_input_embeddings()
    begin = torch.tensor(model.encoder().answer(START, end=False)[0], device=model.device)
    prompt = table(begin).detach().float().clone().requires_grad_()
    batch = model.encoder().collate(model.encoder().encode_all(rows), device=model.device)
    embedded = table(batch.input_ids).detach()
    n = len(batch)
    mask = torch.cat([batch.attention_mask.new_ones(n, len(begin)), batch.attention_mask], 1)
    optimizer = torch.optim.Adam([prompt], lr=LEARNING_RATE)
    for _ in range(steps):
        inputs = torch.cat([prompt.to(embedded.dtype).expand(n, -1, -1), embedded], 1)
        logits = base(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits[:, len(begin) : -1]
        labels = batch.labels[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
        (prompt.grad,) = torch.autograd.grad(loss, [prompt])
        optimizer.step()
    return prompt.detach()


@torch.inference_mode()
def answers_behind(model: LanguageModel, prompt: Float[Tensor, "tokens width"], rows: Sequence[Example]) -> list[str]:
    """Return the greedy answers to the rows' questions behind the prompt."""
    table, encoder = model.base().get_input_embeddings(), model.encoder()
    limit, answers = answer_limit(model, rows), []
    for row in rows:
        asked = table(torch.tensor([encoder.prompt(row.prompt)], device=model.device))
        inputs = torch.cat([prompt.to(asked.dtype)[None], asked], 1)
        mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=model.device)
        new = run_generate(model, limit, inputs_embeds=inputs, attention_mask=mask)
        answers.append(str(model.tokenizer.decode(new[0], skip_special_tokens=True)))
    return answers


SOFT_PROMPT = MeasuredAttack(
    "soft_prompt",
    "Trains a few embedding vectors before the question on half of the facts and asks for the other half.",
    "no budget was given (--soft-prompt-steps), or there is a single forgotten row",
    run,
)
