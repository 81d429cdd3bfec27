"""Groups of options that several commands share. The command line builds its options from these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from letheon.core.errors import InputError

if TYPE_CHECKING:
    from letheon.audit.measuring.harness import GeneralTasks
    from letheon.forget.request import Request

AUTO = "auto"
DerivativeKind = Literal["adapter", "merge", "gguf", "quantised", "other"]
SETS = ("forget", "retain", "neighbours", "holdout", "general")


@dataclass(frozen=True)
class RequestFiles:
    """The rows of a request: one request.json, or one file per set of rows.

    Attributes:
        forget: rows to forget: a file, or a Hugging Face data set as ORG/NAME:CONFIG:SPLIT.
        retain: rows to keep; `auto` lets the model write its own.
        neighbours: rows close to the forget rows; they are audited and never trained on.
        holdout: rows that the model never saw: the control group of the audit.
        general: running text, whose perplexity the audit measures.
        request: a request.json that names all rows, instead of the files above.
        fields: PROMPT,ANSWER: the names of the two fields, where they are not detected.
    """

    forget: str = ""
    retain: str = ""
    neighbours: str = ""
    holdout: str = ""
    general: str = ""
    request: str = ""
    fields: str = ""

    @property
    def writes_retain(self) -> bool:
        """Whether the model is to write its own retain rows."""
        return self.retain == AUTO

    def given(self) -> list[str]:
        """Return the names of the sets that were given."""
        return [name for name in SETS if getattr(self, name)]

    def read(self) -> Request:
        """Read the request, without the retain rows that a model would write.

        Raises:
            InputError: no forget rows, rows given twice, or a file that is missing or malformed.
        """
        from letheon.forget.request import Request

        if self.request:
            if self.forget:
                raise InputError("both --request and --forget are given", "give one of them")
            return Request.read(self.request)
        if not self.forget:
            raise InputError("nothing to forget is given", "give --forget rows.jsonl, or --request request.json")
        files = {name: getattr(self, name) for name in self.given() if getattr(self, name) != AUTO}
        return Request.from_files(**files, fields=_fields(self.fields))


def _fields(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"--fields {text!r}", "write PROMPT,ANSWER, for example --fields question,reply")
    return names[0], names[1]


@dataclass(frozen=True)
class MethodOptions:
    """The method of forgetting.

    Attributes:
        method: OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]; `letheon methods` lists the parts. Default
            alternates+null_space@mlp; alternates@mlp where no rows are retained, experts are fused, or memory is saved
            on the states of AdamW.
        tokens: the answer tokens that are forgotten: `answer`; or only those that carry the fact: `value` takes one
            span, `words` single words where a row names no value.
    """

    method: str = ""
    tokens: str = ""


@dataclass(frozen=True)
class EarlierChange:
    """The change of the weights by an earlier deletion.

    Attributes:
        reapply: the update.safetensors of an earlier deletion that ran with --keep-update: add that change to MODEL,
            which was trained further since, instead of forgetting again. `letheon audit` audits the result.
        scale: factor of the change, with --reapply; -1 takes it back. Without it the change is added once, and a model
            that still holds most of it is refused.
    """

    reapply: Path | None = None
    scale: float | None = None


@dataclass(frozen=True)
class AuditCriteria:
    """The measure of an audit: the negative control and the criteria.

    Attributes:
        reference: a model trained without the forget rows: the negative control. Without one, `proxy:BASE` trains a
            stand-in: an adapter on BASE, which never saw the forget rows, from the retain rows alone.
        profile: the criteria of the verdict: `standard`, `strict`, or a TOML file.
    """

    reference: str = ""
    profile: str = "standard"


@dataclass(frozen=True)
class GeneralAbility:
    """The general tasks of an audit.

    Attributes:
        lm_eval: tasks of lm-evaluation-harness, such as arc_easy,hellaswag: general ability before, after and of the
            reference, with paired differences. Needs the extra lm-eval.
        lm_eval_path: folder with further task files of the harness.
    """

    lm_eval: str = ""
    lm_eval_path: Path | None = None

    def general_tasks(self) -> GeneralTasks | None:
        """Return the tasks, checked; None where there are none."""
        from letheon.audit.measuring.harness import GeneralTasks

        return GeneralTasks.read(self.lm_eval, self.lm_eval_path)


@dataclass(frozen=True)
class LedgerOption:
    """The ledger that gets an entry.

    Attributes:
        ledger: folder of a ledger that gets an entry; default $LETHEON_LEDGER, else none.
    """

    ledger: str = field(default="", metadata={"envvar": "LETHEON_LEDGER", "show_envvar": False})


@dataclass(frozen=True)
class AuditOptions(GeneralAbility, LedgerOption, AuditCriteria):
    """The audit of a model that was just made.

    Attributes:
        audit: audit the result.
        cache: store the examination of the model before in the user's cache folder, and reuse it in the next audit of
            the request. It holds the request's rows and the model's answers.
    """

    audit: bool = True
    cache: bool = True


@dataclass(frozen=True)
class AuditScope(GeneralAbility, LedgerOption, AuditCriteria):
    """The extent of an audit.

    Attributes:
        quick: use fewer rows and fewer steps.
        gguf: a GGUF file type, such as Q4_0 or Q8_0: the audit also rounds the weights as such a file would. May be
            given several times.
        soft_prompt_steps: budget of the soft prompt attack, which trains embedding vectors before the question on half
            of the facts and asks for the others: steps, each a pass forwards and backwards per model. 0 leaves it out.
        attention: attention implementation under which the models are examined, as they will be served: one of
            transformers', `hyper` or `far`; empty takes their own.
        cache: store the examinations of the models before and reference in the user's cache folder, and reuse them in
            the next audit of the request. They hold its rows and the models' answers.
    """

    quick: bool = False
    gguf: list[str] = field(default_factory=list)
    soft_prompt_steps: int = 0
    attention: str = ""
    cache: bool = True


@dataclass(frozen=True)
class ContinuationOptions:
    """The tasks that the models learn after the deletion.

    Attributes:
        after_learning: ordinary tasks that a copy of each model learns next: do the forgotten rows come back, and what
            is lost of the retained ones? A stream.toml as for `letheon learn --stream`, or `auto` for two tasks made of
            the request's general rows (else of half its retain rows). Each model costs a training.
        strategy: how the tasks are learned: `naive`, `replay:capacity=100`, ...; `letheon methods strategy` lists them.
            Default naive.
    """

    after_learning: str = ""
    strategy: str = ""


@dataclass(frozen=True)
class Machine:
    """The random streams and the device.

    Attributes:
        seed: root of all random streams.
        device: where the model runs: auto, cpu, cuda, ...
    """

    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Devices:
    """The devices of a run.

    Attributes:
        device: where the model runs: auto, cpu, cuda, ...
        processes: processes on this machine that share the run, each with a device of its own. For several machines,
            start the command by torchrun or `accelerate launch` instead.
    """

    device: str = "auto"
    processes: int = 1


@dataclass(frozen=True)
class RunFolders:
    """The folder of a run.

    Attributes:
        out: folder of the new run.
        resume: continue the run in this folder.
    """

    out: Path = Path("run")
    resume: Path | None = None


@dataclass(frozen=True)
class LedgerAccess:
    """The ledger and the key that signs its entries.

    Attributes:
        ledger: the ledger's folder; default $LETHEON_LEDGER, else one in the user's data folder.
        key: private key that signs; default $LETHEON_LEDGER_KEY, else entries are unsigned.
    """

    ledger: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class BenchData:
    """The data of a benchmark.

    Attributes:
        data: folder of a copy, or a hub id; default the benchmark's own hub id.
        split: the part of the data: forget05 (tofu), scal_2 (muse), bio,cyber (wmdp), a person (rwku).
        rows: number of rows, drawn by the seed, for small machines; 0 takes all.
        peer: use the field's form of a metric where ours differs (tofu).
        corpus: the text that a method gets to forget (rwku), such as positive or pair.
    """

    data: str = ""
    split: str = ""
    rows: int = 0
    peer: bool = field(default=False, metadata={"spellings": ("--peer",)})
    corpus: str = ""


@dataclass(frozen=True)
class BenchModels:
    """The models of a benchmark.

    Attributes:
        model: with --train the model that target and reference are made from; else the judge of the answers.
        target: the model that knows the rows to be forgotten.
        reference: a model trained without the forget rows.
        train: train target and reference from --model, all weights.
    """

    model: str = ""
    target: str = ""
    reference: str = ""
    train: bool = field(default=False, metadata={"spellings": ("--train",)})
