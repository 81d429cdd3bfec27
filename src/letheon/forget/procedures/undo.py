"""UNDO: shrink a suppressed model's weights, add noise, and teach the result the model's own outputs.

Paper:   Lee et al., Distillation Robustifies Unlearning, arXiv 2506.06278: unlearn, noise, distil on outputs.
         student = (1 - α) teacher + α β N; then minimise KL(teacher || student) over all tokens, until the student's
         loss is within 5 % of the teacher's. What was only suppressed is not in the outputs, so it is not taught again.
         N as the authors' code draws it: Xavier-uniform for matrices (embeddings too), zero for vectors, so that norms
         and biases only shrink; buffers stay; a tied weight is noised once; weights of other shapes are refused.
Differs: the authors distil on their whole training corpus (up to 3000 steps of 110 rows of 1024 tokens for a pretrained
         model). We have no such corpus: the texts are the retain rows, the forget questions with the teacher's own
         answers, and answers that the teacher samples to general questions. Teacher and student are compared by the
         cross-entropy on the teacher's outputs over the last 20 steps, not on the tokens of a validation set. The
         learning rate falls linearly, not by a cosine.
Ours:    steps, batch and learning rate, for small models and few rows; and 1 instead of 5 %, because the means here
         hold the tokens of questions too, beside which a row's fact weighs little. α is .05: at the authors' .25 (for a
         pretrained model) SmolLM2 begins 6.0 nats per token from its teacher, too far for the few texts there are, and
         at .1 (one nat) what no text asks for was lost. β is their code's default and that of their small models (on
         the pretrained one they took 0).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.formats import base_of
from letheon.core.model.models import LanguageModel
from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example, read_examples
from letheon.core.rows.sampling import epochs_of, stream_seed
from letheon.core.scoring.likelihood import score
from letheon.core.training.finetuning import prepare_batches
from letheon.core.training.gradients import backward
from letheon.core.training.loop import Loop, TrainingOutcome
from letheon.core.training.reinforcement import rollouts
from letheon.forget.auto_retain import GENERAL_QUESTIONS
from letheon.forget.procedure import Procedure, ProcedureContext
from letheon.forget.recipe import StandaloneMethod
from letheon.forget.request import Request

OWN, NONE = "own", "none"
WINDOW = 20  # steps over which the student's loss is compared with the teacher's


@dataclass(frozen=True)
class Settings(
    Checked,
    positive=("answers", "max_new_tokens"),
    not_negative=("beta", "steps", "rate", "near"),
    shares=("alpha",),
):
    alpha: float = 0.05  # share of the weights that is given up: 0 copies the teacher, 1 begins from noise
    beta: float = 0.1  # scale of the noise that takes its place
    steps: int = 0  # optimizer steps; 0 takes the run's (--steps)
    rate: float = 0.0  # learning rate; 0 takes the run's
    near: float = 0.01  # end when the student's loss exceeds the teacher's by less than this share; 0 takes all steps
    retain: bool = True  # whether the retain rows are among the texts
    forget: str = (
        "asked"  # the forget questions with the teacher's answers (asked), the rows as they are (rows), or none
    )
    general: str = OWN  # texts beside the request's: the teacher's answers to general questions (own), none, or a file
    answers: int = 4  # answers sampled per question
    max_new_tokens: int = 64  # of a sampled answer

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget not in ("asked", "rows", NONE):
            raise InputError(f"forget: found {self.forget!r}", "one of asked, rows, none")


def noise_like(weight: Tensor, seed: int) -> Tensor:
    """N: uniform in ±sqrt(6 / (rows + columns)) for a matrix, zero for a vector; drawn on the processor in float32."""
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    bound = math.sqrt(6 / sum(weight.shape))
    drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    return drawn.to(weight)


def noised(weight: Tensor, noise: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 - α) w + α β N."""
    return (1 - alpha) * weight + alpha * beta * noise


def distillation_loss(
    teacher: Float[Tensor, "n vocabulary"], student: Float[Tensor, "n vocabulary"]
) -> Float[Tensor, " n"]:
    """KL(teacher || student) = Σ p (t - s) + lse(s) - lse(t) per token, in nats, of logits t and s; p = softmax(t).

    Written so, loss and gradient of equal logits are zero to the last bit, where Adam makes full steps of any rounding.
    """
    normaliser = teacher.logsumexp(-1)
    probability = (teacher - normaliser[:, None]).exp()
    return (probability * (teacher - student)).sum(-1) + student.logsumexp(-1) - normaliser


def entropy(logits: Float[Tensor, "n vocabulary"]) -> Float[Tensor, " n"]:
    """−Σ p log p per token, in nats: a teacher's cross-entropy on its own outputs, which no student can undercut."""
    normaliser = logits.logsumexp(-1)
    return normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(-1)


@torch.no_grad()
def add_noise(model: LanguageModel, alpha: float, beta: float, seed: int) -> None:
    """Make the student: noise every parameter in place, each from a random stream of its own name."""
    for name, parameter in model.model.named_parameters():
        noise = noise_like(parameter, stream_seed(seed, f"undo noise {name}"))
        parameter.copy_(noised(parameter, noise, alpha, beta))


@method(
    "procedure",
    "undo",
    Settings,
    paper="2506.06278",
    wants={"retain"},
    recommended={
        "steps": 400,
        "learning_rate": 1e-4,
        "batch_size": 16,
        "micro_batch_size": 4,
        "schedule": "linear",
        "warmup_steps": 20,
    },
    tiny={"answers": 1, "max_new_tokens": 4},
    turns=False,  # it copies what the model says of either kind of row
)
class Undo(Procedure):
    settings: Settings

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        general = self.settings.general
        self.texts: list[Example] = [] if general in (OWN, NONE) else read_examples(general)

    @staticmethod
    def check_recipe(recipe: StandaloneMethod, request: Request | None) -> None:
        """Refuse a run without any text to distil on."""
        settings: Settings = recipe.part.settings
        if request is None or settings.general != NONE or (settings.retain and request.retain):
            return
        if not (
            settings.forget == "rows" or (settings.forget == "asked" and any(row.prompt for row in request.forget))
        ):
            raise InputError("undo has no text to distil on", "give --retain, or leave general=none out")

    @staticmethod
    def check_model(recipe: StandaloneMethod, model: nn.Module) -> None:
        """Refuse weights that are neither matrices nor vectors."""
        refuse_shapes(model)

    def check(self, work: ProcedureContext) -> None:
        model = work.model
        if model.has_adapter:
            raise InputError(
                f"{model.name} has an adapter, and undo noises all weights", "merge it first: merge_adapter()"
            )
        if (base := base_of(model.base())) != "float32":
            raise InputError(
                f"{model.name} is in {base}, and undo noises and trains float32 weights", "use base=float32"
            )
        refuse_shapes(model.base())

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        """Copy the teacher, noise the model, and train it on the teacher's outputs; a killed run continues."""
        settings, student = self.settings, work.model
        teacher = LanguageModel(copy.deepcopy(student.model), student.tokenizer, student.name, stops=student.stops)
        teacher.model.requires_grad_(False)
        rows = self.rows(work, teacher)
        add_noise(student, settings.alpha, settings.beta, work.training.seed)
        training = replace(work.training, learning_rate=settings.rate or work.training.learning_rate)
        steps = settings.steps or work.settings.steps
        steps = steps or work.settings.epochs * math.ceil(len(rows) / training.batch_size)
        plan = epochs_of(len(rows), training.batch_size, steps, stream_seed(training.seed, "undo rows"))
        parameters = dict(student.model.named_parameters())
        loop = Loop(student, parameters, training, steps, run=work.run, title="distilling (undo)")
        loop.resume()

        def step(number: int) -> dict[str, float]:
            parts = prepare_batches(student, rows, plan[number], training, loop.accelerator.num_processes)
            sums = {"loss": 0.0, "student": 0.0, "teacher": 0.0}
            for batch in loop.shard(parts):
                with loop.autocast():
                    with torch.no_grad():
                        target = score(teacher, batch, "all")
                        least = batch.mean(entropy(target.logits), "positions").item()
                    current = score(student, batch, "all")
                    loss = batch.mean(distillation_loss(target.logits, current.logits), "positions")
                backward(loss)
                excess = loss.item()
                for name, nats in (("student", least + excess), ("teacher", least), ("loss", excess)):
                    sums[name] += nats
            metrics = loop.reduce_metrics(sums)
            loop.sum_gradients()
            loop.clip()
            loop.optimizer.step()
            return metrics

        return loop.run(step, lambda history: near_teacher(history, settings.near))

    def rows(self, work: ProcedureContext, teacher: LanguageModel) -> list[Encoded]:
        """Gather the texts: retain rows, forget questions, general texts; answers are sampled from the teacher."""
        settings, encoder, request = self.settings, teacher.encoder(), work.request
        texts = list(request.retain) if settings.retain else []
        texts += request.forget if settings.forget == "rows" else []
        found = encoder.encode_all([*texts, *self.texts])
        asked = [row.prompt for row in request.forget if row.prompt] if settings.forget == "asked" else []
        asked += GENERAL_QUESTIONS if settings.general == OWN else ()
        if asked:
            seed, most = stream_seed(work.training.seed, "undo answers"), settings.max_new_tokens
            found += [one.encoded for one in rollouts(teacher, asked, settings.answers, max_new_tokens=most, seed=seed)]
        return found


def refuse_shapes(model: nn.Module) -> None:
    """Refuse a model with weights that are neither matrices nor vectors (`InputError`)."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 2:
            short = ".".join(name.split(".")[-2:])
            problem = f"{short} has {parameter.ndim} dimensions, and undo has noise for matrices and vectors only"
            raise InputError(problem, "use another method, or depth=shallow")


def near_teacher(history: Sequence[Mapping[str, float]], near: float) -> str | None:
    """Say that the student's cross-entropy over the last steps exceeds the teacher's by less than a share, or None.

    Both are on the teacher's outputs. On the texts' own tokens a student that knows less can be below a teacher that is
    sure of itself and wrong, as a model that was taught answers is about the words of questions.
    """
    if not near or len(history) < WINDOW:
        return None
    student, teacher = (sum(metrics[name] for metrics in history[-WINDOW:]) for name in ("student", "teacher"))
    return f"the student's loss is within {near:.0%} of the teacher's" if student <= (1 + near) * teacher else None
