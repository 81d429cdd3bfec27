"""The README's table of methods is the registry's."""

from pathlib import Path

from letheon.printing.methods import methods_markdown

ROOT = Path(__file__).parents[1]


def test_the_methods_table_is_current() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("`letheon methods --markdown` -->\n")[1].split("\n<!-- /methods -->")[0]
    assert table == methods_markdown(), "run `letheon methods --markdown` and paste it"
