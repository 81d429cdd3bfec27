"""Streams from files: text tasks in TOML, MNIST's layouts, data sets; what is wrong is named with its place."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.retain.streams import read_stream
from letheon.retain.streams.datasets import split_by_class, split_by_domain, split_tensors
from letheon.retain.streams.mnist import IDX, split_mnist

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def write_rows(path: Path, n: int) -> None:
    path.write_text(
        "".join(json.dumps({"question": f"q {i}?", "answer": f"a {i}."}) + "\n" for i in range(n)), encoding="utf-8"
    )


def stream_file(folder: Path, text: str) -> Path:
    path = folder / "stream.toml"
    path.write_text(text)
    return path


def test_a_stream_of_texts_is_read_beside_its_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 10)
    write_rows(tmp_path / "b.jsonl", 4)
    write_rows(tmp_path / "b-test.jsonl", 2)
    text = '[[task]]\nname = "a"\ntrain = "a.jsonl"\n[[task]]\nname = "b"\ntrain = "b.jsonl"\ntest = "b-test.jsonl"\n'
    stream = read_stream(stream_file(tmp_path, text))
    assert [(len(task.train), len(task.test)) for task in stream] == [(8, 2), (4, 2)]
    assert stream.is_text
    assert not set(stream.tasks[0].train) & set(stream.tasks[0].test)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", r"no \[\[task\]\]"),
        ('[[task]]\nname = "a"\n', "task 1: `train` is missing"),
        ('[[task]]\ntrain = "gone.jsonl"\n', r"task 1 \(task 1\), train: .*gone.jsonl does not exist"),
        ('[[task]]\ntrain = "a.jsonl"\ntrian = 3\n', "did you mean 'train'"),
        ('[[task]]\nname = "a"\ntrain = "a.jsonl"\nfields = "q"\n', "task 1: fields"),
        ('[[task]]\ntrain = "one.jsonl"\n', "one row, and no test"),
        ('[[task]]\ntrain = "bad.jsonl"\n', "task 1.*row 1, field 'answer'"),
        ("[[task]\n", "is no TOML"),
        ('[[task]]\nname = "x"\ntrain = "a.jsonl"\n[[task]]\nname = "x"\ntrain = "a.jsonl"\n', "two tasks are called"),
    ],
)
def test_a_fault_in_a_stream_file_is_named_with_its_place(text: str, found: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 6)
    write_rows(tmp_path / "one.jsonl", 1)
    (tmp_path / "bad.jsonl").write_text('{"question": "q", "answer": 3}\n')
    with pytest.raises(InputError, match=found):
        read_stream(stream_file(tmp_path, text))


@pytest.mark.parametrize("name", ["split-digit", "split-digits/tasks", "split-mnist", "rotated-digits/class"])
def test_unknown_streams_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        read_stream(name)


def test_mnist_is_read_from_both_layouts(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.arange(60, dtype=np.uint8) % 10
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    stream = split_mnist(tmp_path / "some.npz")
    assert [task.classes for task in stream][-1] == (8, 9)
    assert stream.tasks[0].train.inputs.shape[1:] == (784,)
    for name, array in zip(IDX, (images, labels, images[:20], labels[:20]), strict=True):
        shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (tmp_path / f"{name}.gz").write_bytes(
            gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes())
        )
    from_idx = split_mnist(tmp_path, flat=False, scenario="task")
    assert sum(len(task.train) for task in from_idx) == 60
    assert torch.equal(from_idx.tasks[0].train.inputs[0, 0], torch.tensor(images[0]).float() / 255)
    (tmp_path / f"{IDX[0]}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(InputError, match="not an idx file"):
        split_mnist(tmp_path)


def test_real_mnist_when_it_is_there() -> None:
    path = DATA / "mnist_10k" / "mnist_10k.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set LETHEON_DATA")
    stream = read_stream(f"split-mnist={path}")
    assert sum(len(task.train) + len(task.test) for task in stream) == 10_000


class Images:
    """Items as torchvision's data sets give them."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.full((4, 4, 3), i, dtype=np.uint8), i % 4


def test_any_data_set_is_split_by_class_or_taken_as_a_domain() -> None:
    stream = split_by_class(Images(), tasks=2)
    assert stream.tasks[0].train.inputs.shape[1:] == (3, 4, 4)
    assert float(stream.tasks[0].train.inputs.max()) <= 1.0
    domains = split_by_domain({"plain": Images(), "again": Images()})
    assert domains.scenario == "domain"
    assert domains.tasks[1].classes == (0, 1, 2, 3)


def test_classes_that_cannot_be_split_are_refused() -> None:
    pair = (torch.zeros(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]))
    with pytest.raises(InputError, match="3 classes in 2 tasks"):
        split_tensors("x", pair, pair, 2)
    with pytest.raises(InputError, match="an order of the classes"):
        split_tensors("x", pair, pair, 3, order=[0, 1, 1])
    assert split_tensors("x", pair, pair, 3, order=[2, 0, 1]).tasks[0].classes == (2,)
