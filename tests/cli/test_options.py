"""Options are built from dataclasses: a new field of a settings class is an option without further work."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import letheon
from letheon.cli.options import Given, Group, attribute_docs, expanded
from letheon.cli.shared import verb
from letheon.cli.verbs import VERBS, help_of, load_verb
from letheon.core.training.settings import TrainSettings
from letheon.forget.settings import ForgetSettings
from letheon.retain.settings import LearnSettings


@dataclass(frozen=True)
class Brewing:
    """Settings that only this test knows.

    Attributes:
        minutes: how long the tea
            draws; see [@clock].
        water: `soft` or `hard` water.
        sugar: lumps of sugar; none asks the guest.
        lemon, milk: what goes in.
        guests: names of the guests.
    """

    minutes: int = 3
    water: Literal["soft", "hard"] = "soft"
    sugar: float | None = 1.0
    lemon: bool = False
    milk: bool = True
    guests: tuple[str, ...] = ()
    learning_rate: float = 0.1


@dataclass(frozen=True)
class Cup:
    """A group.

    Attributes:
        size: size of the cup.
        saucer: where the saucer lies.
    """

    size: int = 2
    saucer: Path = field(default=Path("table"), metadata={"spellings": ("--saucer", "-s")})


taken: dict[str, Any] = {}


@verb("Make tea.")
def tea(
    leaf: Annotated[str, typer.Argument(help="The leaf.")],
    *,
    brewing: Annotated[dict[str, Any], Given(Brewing, panel="The tea", without=("water",))],
    second: Annotated[dict[str, Any], Given(Brewing, panel="The second tea", prefix="second_")],
    cup: Annotated[Cup, Group("The cup")],
) -> None:
    taken.update(leaf=leaf, brewing=brewing, second=second, cup=cup)


def make(*words: str) -> dict[str, Any]:
    taken.clear()
    done = CliRunner().invoke(tea, ["oolong", *words])
    assert done.exit_code == 0, done.output
    return dict(taken)


def test_every_field_is_an_option_and_only_given_ones_are_handed_over() -> None:
    assert make() == {"leaf": "oolong", "brewing": {}, "second": {}, "cup": Cup()}
    made = make("--minutes", "3", "--lr", "0.5", "--no-milk", "--second-minutes", "0", "-s", "floor", "--size", "4")
    assert made["brewing"] == {"minutes": 3, "learning_rate": 0.5, "milk": False}, "a default that is given is given"
    assert made["second"] == {"minutes": 0}
    assert made["cup"] == Cup(4, Path("floor"))
    assert make("--guests", "Ann", "--guests", "Bob")["brewing"] == {"guests": ("Ann", "Bob")}
    assert make("--second-water", "hard")["second"] == {"water": "hard"}


def test_none_is_a_value_that_can_be_given() -> None:
    assert make("--sugar", "none")["brewing"] == {"sugar": None}
    assert make("--sugar", "2")["brewing"] == {"sugar": 2.0}
    assert CliRunner().invoke(tea, ["oolong", "--sugar", "much"]).exit_code == 2


def test_choices_and_left_out_fields_are_refused() -> None:
    assert CliRunner().invoke(tea, ["oolong", "--water", "hard"]).exit_code == 2
    assert CliRunner().invoke(tea, ["oolong", "--second-water", "sparkling"]).exit_code == 2


def test_the_help_is_the_docstring() -> None:
    shown = " ".join(CliRunner().invoke(tea, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "How long the tea draws; see [@clock]. Default: 3." in shown, "brackets are text, not markup"
    assert "What goes in. Default: on." in shown
    for panel in ("The tea", "The second tea", "The cup", "The output"):
        assert panel in shown


def test_two_options_of_one_name_are_refused() -> None:
    def twice(size: int, cup: Annotated[Cup, Group("The cup")]) -> None: ...

    with pytest.raises(TypeError, match="same name: size"):
        expanded(twice)


@pytest.mark.parametrize(
    ("name", "kinds", "without"),
    [
        ("forget", (ForgetSettings, TrainSettings), ()),
        ("compare", (ForgetSettings, TrainSettings), ("seed", "depth")),
        ("bench", (ForgetSettings, TrainSettings), ("seed", "depth")),
        ("learn", (LearnSettings,), ()),
    ],
)
def test_a_verb_has_an_option_for_each_setting_and_each_has_a_help(
    name: str, kinds: tuple[type, ...], without: tuple[str, ...]
) -> None:
    options = {parameter.name: parameter for parameter in load_verb(name).params}
    for kind in kinds:
        docs = attribute_docs(kind)
        for item in fields(kind):
            assert item.name in without or options[item.name].default is None
            assert item.name in docs, f"{kind.__name__} says nothing of {item.name}"


def test_every_verb_has_its_command_and_its_help() -> None:
    for verbs in VERBS.values():
        for name in verbs:
            command = load_verb(name)
            assert command.help, name
            assert command.help.splitlines()[0] == help_of(name).splitlines()[0]


def test_no_function_has_more_than_ten_written_parameters() -> None:
    source = Path(letheon.__file__).parent
    for file in [file for room in ("cli", "jobs", "printing") for file in (source / room).glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert len(node.args.args) + len(node.args.kwonlyargs) <= 10, f"{file.name}: {node.name}"
