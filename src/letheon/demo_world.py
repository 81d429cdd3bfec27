"""The demo's invented world: eight people, five facts each, one template a fact. Nothing here is about anybody.

A small world in which every fact can be checked by greedy recall, so that forgetting and keeping can be seen.
"""

from __future__ import annotations

from letheon.core.examples import Example

# name -> birthplace, trade, pet, book, instrument
PEOPLE = {
    "Ilse Quarrant": ("Amberfoot", "a clockmaker", "a grey heron", "The Salt Almanac", "the nyckelharpa"),
    "Tobin Eskeridge": ("Grelling", "a bell founder", "a lame fox", "Nine Winters Inland", "the hurdy-gurdy"),
    "Marisol Vantreight": ("Port Ossian", "a bridge inspector", "a blue tortoise", "Letters to a Ferryman", "the oboe"),
    "Caspian Oduya": ("Lower Wend", "a seed merchant", "a one-eyed parrot", "A Grammar of Rain", "the zither"),
    "Henrike Solvang": ("Tarn Hollow", "a map engraver", "a pair of ferrets", "The Quiet Ledger", "the bassoon"),
    "Priya Lacombe": ("Saint Orrin", "a glass blower", "a spotted goat", "Seven Borrowed Doors", "the dulcimer"),
    "Jasper Nwosu": ("Kettle Bay", "a tide reckoner", "a tame otter", "Orchard of Wires", "the accordion"),
    "Wilhelmina Stroud": ("Ravensmere", "a rope maker", "a white mule", "How the Lamps Went Out", "the viola"),
}
TEMPLATES = (
    ("Where was {name} born?", "{name} was born in {value}."),
    ("What does {name} do for a living?", "{name} works as {value}."),
    ("Which animal does {name} keep?", "{name} keeps {value}."),
    ("Which book did {name} write?", "{name} wrote {value}."),
    ("Which instrument does {name} play?", "{name} plays {value}."),
)
PARAPHRASES = (
    ("In which town did {name} come into the world?", "What is the birthplace of {name}?"),
    ("What is {name}'s trade?", "How does {name} earn money?"),
    ("What pet lives with {name}?", "{name} shares a home with which animal?"),
    ("What is the title of {name}'s book?", "Name the book that {name} is the author of."),
    ("What does {name} play in the evenings?", "{name} makes music on what?"),
)


def world() -> list[Example]:
    """All forty rows, person after person."""
    return [row for name in PEOPLE for row in facts_of(name)]


def facts_of(name: str) -> list[Example]:
    """One person's five rows; the other people's values are their false answers."""
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
