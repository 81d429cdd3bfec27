"""Streams of a user's own images: folders of classes and .npz files, split into tasks; faults are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from letheon.core.errors import InputError
from letheon.jobs.learn import LearnJob, Source
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Stream
from letheon.retain.streams import read_stream

COLOURS = {"black": 0, "dark": 60, "light": 180, "white": 255}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with ten files of each of four greys, and a stream file beside it."""
    for name, grey in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (20, 10), (grey, grey, grey)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path


def stream_of(folder: Path, text: str) -> Stream:
    (folder / "stream.toml").write_text(text)
    return read_stream(folder / "stream.toml")


def rows_of(stream: Stream, number: int) -> TaskRows:
    found = stream.tasks[number].train
    assert isinstance(found, TaskRows)
    return found


def test_the_classes_of_a_folder_are_split_over_tasks(photos: Path) -> None:
    stream = stream_of(photos, 'images = "photos"\nsize = 8\n')
    assert [task.name for task in stream] == ["black dark", "light white"]
    assert [task.classes for task in stream] == [(0, 1), (2, 3)]
    rows = rows_of(stream, 1)
    assert rows.inputs.shape[1:] == (3, 8, 8)
    assert len(rows_of(stream, 0)) + len(rows) == 32  # a fifth is held out
    greys = torch.tensor(list(COLOURS.values()))[rows.targets] / 255
    assert torch.equal(rows.inputs.amin((1, 2, 3)), rows.inputs.amax((1, 2, 3)))
    assert torch.allclose(rows.inputs.mean((1, 2, 3)), greys)


def test_a_file_of_arrays_is_read_alike_and_learned(tmp_path: Path) -> None:
    images = np.stack([np.full((4, 4), 60 * (i % 4), np.uint8) for i in range(40)])
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(40) % 4)
    stream = stream_of(tmp_path, 'name = "greys"\nimages = "a.npz"\ntasks = 4\nscenario = "task"\n')
    assert (stream.name, stream.scenario, len(stream)) == ("greys", "task", 4)
    assert rows_of(stream, 3).inputs.shape[1:] == (1, 4, 4)
    source = Source("mlp=8", str(tmp_path / "stream.toml"), {"learning_rate": 0.1})
    learned = LearnJob(source, "naive", tmp_path / "run").work()
    assert learned.matrix.shape == (5, 4)
    assert (tmp_path / "run" / "learn.html").is_file()


def test_tests_of_their_own_are_taken_whole(photos: Path) -> None:
    stream = stream_of(photos, 'images = "photos"\ntest = "photos"\ntasks = 1\n')
    assert (len(stream.tasks[0].train), len(stream.tasks[0].test)) == (40, 40)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('images = "none"', "none does not exist"),
        ('images = "photos"\ntasks = 3', "4 classes in 3 tasks"),
        ('images = "photos"\nsise = 3', "unknown field 'sise'"),
        ('images = "photos"\nscenario = "tasks"', "scenario 'tasks'"),
        ('images = "photos"\ntasks = "two"', "tasks 'two' is not a number"),
        ('images = "photos/dark"', "has no folder"),
        ('images = "broken"', "cannot be read as an image"),
    ],
)
def test_a_fault_is_named(photos: Path, text: str, message: str) -> None:
    (photos / "broken" / "one").mkdir(parents=True)
    (photos / "broken" / "one" / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=message):
        stream_of(photos, text)
