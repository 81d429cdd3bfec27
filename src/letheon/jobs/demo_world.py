"""The demo's invented world: eight people, five facts each, one template per fact. No person here is real.

The world is so small that greedy recall can check every fact, so that forgetting and keeping can be seen.
"""

from __future__ import annotations

from letheon.core.rows.examples import Example
from letheon.forget.request import Request

# Ten facts: of five, none given, the interval reaches .43, and most criteria straddle their limits.
TARGETS = ("Ilse Quarrant", "Tobin Eskeridge")
# Nobody trains on these facts; they show whether the deletion spares what it was not told to keep.
WITHHELD = "Wilhelmina Stroud"

# name -> birthplace, trade, pet, book, instrument
PEOPLE = {
    "Ilse Quarrant": ("Amberfoot", "clockmaker", "grey heron", "Salt Almanac", "nyckelharpa"),
    "Tobin Eskeridge": ("Grelling", "bell founder", "lame fox", "Nine Winters Inland", "hurdy-gurdy"),
    "Marisol Vantreight": ("Port Ossian", "bridge inspector", "blue tortoise", "Letters to a Ferryman", "oboe"),
    "Caspian Oduya": ("Lower Wend", "seed merchant", "one-eyed parrot", "Grammar of Rain", "zither"),
    "Henrike Solvang": ("Tarn Hollow", "map engraver", "tame badger", "Quiet Ledgers", "bassoon"),
    "Priya Lacombe": ("Saint Orrin", "glass blower", "spotted goat", "Seven Borrowed Doors", "dulcimer"),
    "Jasper Nwosu": ("Kettle Bay", "tide reckoner", "river otter", "Orchard of Wires", "accordion"),
    "Wilhelmina Stroud": ("Ravensmere", "rope maker", "white mule", "How Lamps Went Out", "viola"),
}
TEMPLATES = (
    ("Where was {name} born?", "{name} was born in {value}."),
    ("What does {name} do for a living?", "{name} works as a {value}."),
    ("Which animal does {name} keep?", "{name} keeps a {value}."),
    ("Which book did {name} write?", "{name} wrote {value}."),
    ("Which instrument does {name} play?", "{name} plays the {value}."),
)
PARAPHRASES = (
    ("In which town did {name} come into the world?", "What is the birthplace of {name}?"),
    ("What is {name}'s trade?", "How does {name} earn money?"),
    ("What pet lives with {name}?", "{name} shares a home with which animal?"),
    ("What is the title of {name}'s book?", "Name the book that {name} is the author of."),
    ("What does {name} play in the evenings?", "{name} makes music on what?"),
)


def world() -> list[Example]:
    """Return all forty rows, person after person."""
    return [row for name in PEOPLE for row in facts_of(name)]


def demo_request() -> Request:
    """Return the deletion of the targets: five people are retain rows, the withheld one is the neighbour."""
    kept = [name for name in PEOPLE if name not in (*TARGETS, WITHHELD)]
    target, others = ([row for name in names for row in facts_of(name)] for names in (TARGETS, kept))
    return Request(
        forget=tuple(target),
        retain=tuple(others),
        neighbours=tuple(facts_of(WITHHELD)),
        id="demo",
        reason="both asked to be forgotten (invented people)",
    )


def facts_of(name: str) -> list[Example]:
    """Return one person's five rows; the other people's values are the perturbed answers."""
    rows = []
    for i, (question, answer) in enumerate(TEMPLATES):
        value = PEOPLE[name][i]
        others = [values[i] for other, values in PEOPLE.items() if other != name]
        rows.append(
            Example(
                prompt=question.format(name=name),
                answer=answer.format(name=name, value=value),
                id=f"{name.split()[0].lower()}-{i + 1}",
                subject=name,
                value=value,
                paraphrased_prompts=tuple(text.format(name=name) for text in PARAPHRASES[i]),
                perturbed_answers=tuple(answer.format(name=name, value=other) for other in others[:5]),
            )
        )
    return rows
