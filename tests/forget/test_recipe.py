"""Recipes are read, written back, and refused with the nearest name or the reason."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.core.errors import InputError
from letheon.core.registry import methods, named_recipes
from letheon.forget.recipe import Recipe, read_method

TEXTS = [
    "npo",
    "simnpo+geometric@lora%cyclic",
    "rmu:layer=2@layers=1-2:parameters=down_proj",
    "dpo:alternates=perturbed,beta=0.3",
    "npo+geometric:mode=realized,rank=4",
    "undial:positions=all",
    "grad_diff:retain_loss=kl,kl_positions=labels",
    "npo:tokens=value,keep=0.5@layers=20-",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_recipe_written_out_reads_back_as_itself(text: str) -> None:
    recipe = Recipe.parse(text)
    assert Recipe.parse(str(recipe)) == recipe
    assert recipe.text == text


def test_what_is_left_out_is_joint_everything_paired() -> None:
    recipe = Recipe.parse("npo")
    assert (recipe.update.method.name, recipe.scope.method.name, recipe.sampler.method.name) == (
        "joint",
        "everything",
        "paired",
    )
    assert str(recipe) == "npo"


def test_defaults_that_are_spelled_out_are_not_written() -> None:
    assert str(Recipe.parse("npo:beta=0.1+joint@everything%paired")) == "npo"


@pytest.mark.parametrize("name", named_recipes())
def test_named_recipes_are_their_combination(name: str) -> None:
    assert read_method(name) == read_method(named_recipes()[name].recipes[name])


def test_a_name_brings_its_training_settings_and_the_plain_objective_does_not() -> None:
    assert read_method("fact_spans").recommended == {"epochs": 6, "learning_rate": 2e-5}
    assert read_method("kuda:alpha=0@lora").recommended["steps"] == 100
    assert read_method("rule").recommended == read_method("reinforce").recommended != {}
    assert read_method("ce_u").recommended == read_method("npo%modular").recommended == {}


def test_options_of_a_named_recipe_go_to_its_objective() -> None:
    assert str(Recipe.parse("gu:beta=3@lora")) == "simnpo:beta=3.0+geometric@lora"
    assert str(Recipe.parse("kl_min:gamma=2")) == "grad_diff:gamma=2.0,retain_loss=kl"


def test_a_bare_value_is_the_first_option() -> None:
    assert Recipe.parse("npo@layers=5-7").scope.settings.layers == "5-7"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("nppo", "no method is called 'nppo'", "did you mean 'npo'?"),
        ("npo+geometrc", "no update is called", "did you mean 'geometric'?"),
        ("npo@geometric", "'geometric' is of the kind update, not scope", "letheon methods"),
        ("lora", "'lora' is of the kind scope, not objective", "letheon methods"),
        ("npo:bta=1", "npo has no option 'bta'", "did you mean 'beta'?"),
        ("npo:beta=much", "option 'beta' of npo: found 'much'", "type float"),
        ("npo:beta", "option 'beta' has no value", "OPTION=VALUE"),
        ("dpo:alternates=mine", "found 'mine'", "idk, perturbed"),
        ("npo+joint+geometric", "two updates", "leave one"),
        ("npo@everything=3", "everything takes no value", "alone"),
        ("npo@layers=five", "layers: found 'five'", "range"),
        ("npo++joint", "cannot be read", "OBJECTIVE"),
        ("", "cannot be read", "OBJECTIVE"),
        ("undial:positions=all,tokens=value", "exclude each other", "choose one"),
        ("rmu:layer=2@layers=3-", "rmu reads layer 2, which layers 3 and above cannot change", "rmu:layer=3"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason_and_a_remedy(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as found:
        Recipe.parse(text)
    assert problem in found.value.problem
    assert remedy in found.value.remedy


@given(st.text(alphabet="abnpo+@%:=,. 0123-", max_size=30))
def test_any_text_is_a_recipe_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        recipe = Recipe.parse(text)
        assert Recipe.parse(str(recipe)) == recipe


def test_an_option_can_be_changed_and_the_configuration_names_every_part() -> None:
    recipe = Recipe.parse("npo+geometric").with_option("beta", 0.5)
    assert recipe.objective.settings.beta == 0.5
    config = recipe.config()
    assert config["objective"]["name"] == "npo"
    assert config["update"]["mode"] == "realized"
    assert set(config) == {"objective", "update", "scope", "sampler"}


def test_needs_are_those_of_all_parts() -> None:
    assert Recipe.parse("gradient_ascent+geometric").needs() == {"retain"}


def test_every_registered_part_says_what_it_is() -> None:
    for record in methods():
        assert record.summary.endswith("."), record.name
        assert record.settings() == record.settings()
