"""Load and save language models: a causal language model, its tokenizer and its name.

`load` takes the embedded `smollm2` and `tiny`, a Hugging Face id, a local folder, or a PEFT adapter's folder.
Weights are read from safetensors only, and remote code is never run. Unknown private keys of a configuration are
dropped first, because a `config.json` can use them to name code to load.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from letheon.core.atomic import atomic_folder, canonical_hash, read_json, sha256_of
from letheon.core.devices import check_device
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.attention import ON_SDPA, check_sdpa, provide
from letheon.core.model.embedded import smollm2, tiny
from letheon.core.model.formats import Base, cast_weights, check_base, check_tensors, held_in
from letheon.core.rows.encoding import Batch, Encoded, Encoder
from letheon.core.rows.sampling import by_length

if TYPE_CHECKING:
    import torch

    from letheon.core.model.passes import FrozenLayers

logger = logging.getLogger("letheon")

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
# Private keys that transformers itself writes; every other key that begins with an underscore is dropped.
KNOWN_PRIVATE_KEYS = {"_name_or_path", "_model_name_or_path", "_commit_hash"}
# Names of architectures that predict the next token contain one of these.
CAUSAL = ("CausalLM", "LMHead", "ConditionalGeneration")


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer and name.

    Attributes:
        model: a transformers causal LM, possibly wrapped by PEFT.
        tokenizer: its tokenizer.
        name: the path, id or embedded name that it was loaded by.
        notes: remarks for reports (no chat template, dropped keys).
        frozen: cached outputs of frozen layers, while only the layers above are trained.
        recomputes: whether blocks are run again in the backward pass (`passes.recomputed`), so that no cache may grow.
        sharded: whether the weights lie in shards over processes, which must then all make the same passes.
        stops: the tokens that end an answer; None takes those that the model's own files name (`stop_tokens`).
    """

    model: Any
    tokenizer: Any
    name: str
    notes: list[str] = field(default_factory=list)
    frozen: FrozenLayers | None = None
    recomputes: bool = False
    sharded: bool = False
    stops: tuple[int, ...] | None = None
    _encoder: Encoder | None = None

    def encoder(self) -> Encoder:
        """Return the encoder that turns examples into this model's tokens."""
        if self._encoder is None:
            self._encoder = Encoder(self.tokenizer, self.pad_id, self.context_length)
        return self._encoder

    def batches(self, rows: Sequence[Encoded], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield rows in batches of like length on the model's device, longest first, each with its rows' numbers."""
        for chosen in by_length([len(row.ids) for row in rows], size):
            yield chosen, self.encoder().collate([rows[i] for i in chosen], device=self.device)

    @property
    def device(self) -> torch.device:
        """The device of the input embeddings."""
        return next(self.model.parameters()).device

    @property
    def pad_id(self) -> int:
        """The id that pads short rows; padding is always masked, so its value does not matter."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @property
    def context_length(self) -> int:
        """The largest number of tokens per row; 2^20 if the configuration does not say."""
        config = self.model.config
        text = getattr(config, "text_config", config)
        return int(getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 1 << 20)

    @property
    def width(self) -> int:
        """The length of a hidden state."""
        return int(self.base().get_input_embeddings().weight.shape[1])

    @property
    def vocabulary(self) -> int:
        """The number of logits per position; it may exceed the number of the tokenizer's tokens."""
        return int(self.base().get_output_embeddings().weight.shape[0])

    @property
    def has_adapter(self) -> bool:
        """Whether PEFT adapters are attached."""
        return hasattr(self.model, "peft_config")

    def base(self) -> Any:
        """Return the transformers model without its PEFT wrapper (adapter layers stay in place)."""
        return self.model.get_base_model() if self.has_adapter else self.model

    def merge_adapter(self) -> None:
        """Merge the adapter, if there is one, into the weights in place."""
        if self.has_adapter:
            self.model = self.model.merge_and_unload()

    def parameters_hash(self) -> str:
        """Compute the SHA-256 of names, shapes and bytes of all parameters, sorted by name."""
        import torch

        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(dtype=torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path, what: Literal["auto", "full", "adapter"] = "auto", card: str = "") -> Path:
        """Save atomically as transformers weights or as a PEFT adapter.

        Args:
            folder: the folder to write; an older one is replaced once the new one is complete.
            what: `auto` saves the adapter if there is one; `full` merges it into the weights first.
            card: text of the model card (README.md).
        """
        adapter = what == "adapter" or (what == "auto" and self.has_adapter)
        if adapter and not self.has_adapter:
            raise LetheonError(f"{self.name} has no adapter to save", "save it with what='full'")
        model = self.model
        if not adapter and self.has_adapter:
            model = copy.deepcopy(self.model).merge_and_unload()
        parameters = (p for p in model.parameters() if p.requires_grad) if adapter else model.parameters()
        size = sum(p.numel() * p.element_size() for p in parameters)
        with atomic_folder(folder, needed_bytes=int(size * 1.05)) as temporary:
            # PEFT would look the base model up on the hub to see whether its vocabulary grew
            model.save_pretrained(temporary, **({"save_embedding_layers": False} if adapter else {}))
            self.tokenizer.save_pretrained(temporary)
            if card:
                (temporary / "README.md").write_text(card, encoding="utf-8")
        return folder


def load(
    name: str | Path | LanguageModel,
    *,
    device: str = "auto",
    adapter: str | Path | None = None,
    attention: str | None = None,
    base: Base = "float32",
) -> LanguageModel:
    """Load a causal language model, in float32 unless told otherwise, in evaluation mode.

    Args:
        name: `smollm2` or `tiny` (embedded), a Hugging Face id, a folder of transformers weights, or a PEFT adapter.
        device: `auto` takes a GPU when there is one; or any torch device.
        adapter: a PEFT adapter to put on top.
        attention: transformers' `attn_implementation` (`sdpa`, `eager`, ...), or `hyper` or `far`: approximate
            attention for long texts (`letheon.attend.use_hyper` and `use_far` choose layers and settings).
        base: number format of the weights. In `bfloat16` and `4bit` (bitsandbytes) only adapters can be trained.

    Raises:
        InputError: no such model, not a causal LM, weights in a format that can run code, or a model that does not
            take the attention.
    """
    if isinstance(name, LanguageModel):
        return name

    from letheon.core.hardware import suit

    text = str(name)
    provide(attention)
    with quiet():
        if text == "tiny":
            check_base(base)
            loaded = LanguageModel(*tiny(attention), "tiny")
            cast_weights(loaded.model, base)
        elif (Path(text) / "adapter_config.json").is_file():
            below = adapter_base(Path(text))
            loaded = load(below, device="cpu", attention=attention, base=base)
            loaded.name, adapter = text, text
        else:
            source = smollm2(cache_folder()) if text == "smollm2" else text
            loaded = _from_pretrained(source, text, attention, base)
        if adapter is not None:
            loaded = _with_adapter(loaded, Path(adapter))
    if attention in ON_SDPA:
        check_sdpa(loaded.base(), attention)
    loaded.model.to(check_device(device)).eval()
    suit(loaded.model)
    if not loaded.tokenizer.chat_template:
        note = f"{text} has no chat template: questions are asked as plain text"
        loaded.notes.append(note)
        logger.warning(note)
    if thoughts := loaded.encoder().thoughts:
        loaded.notes.append(f"{text}: {thoughts}")
    return loaded


def check_loadable(name: str | Path) -> None:
    """Raise the errors of `load` without reading weights: path, adapter, architecture, format."""
    text = str(name)
    folder = Path(text)
    if text in ("tiny", "smollm2"):
        return
    if (folder / "adapter_config.json").is_file():
        check_loadable(adapter_base(folder))
        return
    if folder.exists() or text.startswith((".", "/", "~")):
        _check_folder(folder)
        read_config(text)


def adapter_base(folder: Path) -> str:
    """Read the name of an adapter's base model."""
    path = folder / "adapter_config.json"
    content = read_json(path)
    base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if not isinstance(base, str) or not base or Path(base).resolve() == folder.resolve():
        raise InputError(f"{path} names no base model (found {base!r})", "write the base model's id or folder there")
    return base


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers and PEFT while the block runs."""
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            hf_logging.set_verbosity(before)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "give a folder of transformers weights or a Hugging Face id")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json", "give a folder written by save_pretrained")
    if any((folder / name).is_file() for name in WEIGHT_FILES):
        return
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt")) or list(folder.glob("*.pth")):
        raise InputError(
            f"{folder} holds only pickled weights, a format that can run code",
            "convert them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(..., safe_serialization=True)",
        )
    raise InputError(f"{folder} has no model.safetensors", "give a folder written by save_pretrained")


def read_config(source: str) -> tuple[Any, list[str]]:
    """Read a model's configuration without unknown private keys; return it with the names of the dropped keys."""
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        raw, _ = PreTrainedConfig.get_config_dict(source)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source} could not be found: {str(error).splitlines()[0]}",
            "give smollm2, tiny, a local folder, or a Hugging Face id that is cached or reachable",
        ) from None
    dropped = sorted(key for key in raw if key.startswith("_") and key not in KNOWN_PRIVATE_KEYS)
    clean = {key: value for key, value in raw.items() if key not in dropped}
    kind = clean.pop("model_type", None)
    names = clean.get("architectures") or []
    causal = not names or any(mark in name for name in names for mark in CAUSAL)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not causal:
        raise InputError(
            f"{source} is not a causal language model (type {kind!r}, architecture {', '.join(names) or 'unknown'})",
            "give a model that AutoModelForCausalLM can load",
        )
    return AutoConfig.for_model(kind, **clean), dropped


def _from_pretrained(source: str | Path, name: str, attention: str | None, base: Base) -> LanguageModel:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(source)
    if Path(source).exists() or source.startswith((".", "/", "~")):
        _check_folder(Path(source))
    config, dropped = read_config(source)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            use_safetensors=True,
            attn_implementation=attention,
            output_loading_info=True,
            **held_in(base),
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise InputError(
            f"{name} could not be loaded: {str(error).splitlines()[0]}",
            "the folder needs config.json, safetensors weights and a tokenizer",
        ) from None
    unread = check_tensors(name, loading["missing_keys"], loading["unexpected_keys"])
    notes = [f"{name}: dropped unknown private configuration keys: {', '.join(dropped)}"] if dropped else []
    return LanguageModel(model, tokenizer, name, [*notes, *unread])


def _with_adapter(base: LanguageModel, folder: Path) -> LanguageModel:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"{folder} has no adapter_model.safetensors", "give a PEFT adapter saved as safetensors")
    base.model = PeftModel.from_pretrained(base.model, str(folder), use_safetensors=True)
    return base


def save_hash(folder: Path) -> str:
    """Compute one hash for a saved model from the names and SHA-256 of its weight files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no safetensors file", "give a folder written by save_pretrained")
    return canonical_hash({file.name: sha256_of(file) for file in files})


def cache_folder() -> Path:
    """Return the cache folder of embedded models: `$LETHEON_CACHE`, else `letheon` in the user's cache folder."""
    if "LETHEON_CACHE" in os.environ:
        return Path(os.environ["LETHEON_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "letheon"
