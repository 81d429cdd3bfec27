"""A simulated user of a memory: facts in eight topics, updates, paraphrased questions by Zipf's law, unknowns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

DAY = 86_400.0
OWNERS = "Marla Odo Ilse Bruno Petra Tarek Wanda Yuri Selma Anton Greta Milo".split()  # noqa: SIM905
STRANGERS = "Quentin Hanneke Lorcan Zelda Piotr Amara Fergus Noor Ottilie Ravi".split()  # noqa: SIM905
FEELINGS = ("I love that.", "That made me so happy!", "I was furious about it!", "It makes me sad.", "", "", "", "")
CHATTER = (
    "The tea is ready.",
    "It rained a little this morning.",
    "The bus was late again.",
    "I am reading the paper.",
    "There is dust on the shelf.",
    "The neighbours are at home.",
)

PEOPLE = ["Ulla", "Ossip", "Bertil", "Carmela", "Dagny", "Edo", "Fiona", "Gerrit", "Hilma", "Ivo"]
JOBS = ["dentist", "plumber", "neighbour", "teacher", "cousin", "lawyer", "gardener", "baker", "pilot", "nurse"]
EVENTS = [
    "Yesterday I had a horrible quarrel with {} in the tram!",
    "It was wonderful to dance with {} at the wedding!",
    "I am so angry that {} broke my favourite cup!",
    "What a happy surprise: {} gave me a puppy!",
    "I was afraid when {} drove through the storm!",
    "I love the violin concert that {} played on Sunday!",
    "It is terrible that {} lost the keys to the cellar!",
    "I was so glad to see {} win the chess match!",
    "I hate how {} shouted at the waiter last night!",
    "It was great to climb the tower with {} this morning!",
]
# What is said of a day that was good and of one that was not, and what somebody in that mood says.
DAYS = {
    "good": ("it was wonderful", "we laughed from morning to night", "I had a lovely time", "it cheered me up",
             "I felt calm and rested", "it could not have been better", "everybody was kind", "I was delighted"),
    "bad": ("it was horrible", "we quarrelled from morning to night", "I had an awful time", "it brought me to tears",
            "I felt tense and tired", "it could not have been worse", "everybody was rude", "I was annoyed"),
}  # fmt: skip
MOODS = {
    "good": ("I am so happy and glad!", "What a beautiful morning!", "Everything works out for me.",
             "I could hug the whole world.", "I am in high spirits."),
    "bad": ("I am so sad and angry!", "What a miserable morning!", "Nothing works out for me.", "I could cry.",
            "I am down in the dumps."),
}  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """A topic with its sentences; `{owner}`, `{thing}`, `{other}` (a synonym) and `{value}` are filled in."""

    name: str
    about: str
    told: str
    changed: str
    asked: tuple[str, str, str]
    things: tuple[tuple[str, str], ...]
    values: tuple[str, ...]


TOPICS = (
    Topic(
        "boats", "boats and the lake",
        "{owner} keeps the {thing} at the lake in the {value}.",
        "{owner} now keeps the {thing} at the lake in the {value}.",
        ("Where at the lake does {owner} keep the {thing}?", "In which place by the water is the {thing} of {owner}?",
         "I am looking for the {other} that belongs to {owner}: where is it?"),
        (("kayak", "small paddle boat"), ("anchor", "mooring iron"), ("sail", "canvas for the mast")),
        ("blue boathouse", "harbour locker", "green shed", "old crane hut"),
    ),
    Topic(
        "food", "cooking and meals",
        "{owner} cooks {thing} for dinner every {value}.",
        "{owner} now cooks {thing} for dinner every {value}.",
        ("When does {owner} cook {thing} for dinner?", "On which day is there {thing} at the table of {owner}?",
         "Which weekday brings {other} from the kitchen of {owner}?"),
        (("lentil soup", "the bean broth"), ("pizza", "the flat Italian pie"), ("pancakes", "the thin fried cakes")),
        ("Monday", "Tuesday", "Thursday", "Saturday"),
    ),
    Topic(
        "health", "doctors and illness",
        "{owner} sees the doctor for the {thing} at {value}.",
        "{owner} now sees the doctor for the {thing} at {value}.",
        ("At what time does {owner} see the doctor for the {thing}?",
         "When is the appointment of {owner} for the {thing}?",
         "What hour was set for the treatment of the {other} of {owner}?"),
        (("knee", "leg joint"), ("tooth", "molar"), ("cough", "chest trouble")),
        ("eight o'clock", "half past nine", "noon", "four o'clock"),
    ),
    Topic(
        "music", "music and concerts",
        "{owner} plays the {thing} in the {value}.",
        "{owner} now plays the {thing} in the {value}.",
        ("Where does {owner} play the {thing}?", "In which band or orchestra is the {thing} of {owner} heard?",
         "With whom does {owner} perform on the {other}?"),
        (("violin", "small string instrument"), ("trumpet", "brass horn"), ("drums", "percussion")),
        ("city orchestra", "jazz quartet", "school band", "church ensemble"),
    ),
    Topic(
        "travel", "travel and holidays",
        "{owner} will spend the {thing} in {value}.",
        "{owner} changed the plan and will spend the {thing} in {value}.",
        ("Where will {owner} spend the {thing}?", "To which country does {owner} travel for the {thing}?",
         "What is the destination of {owner} in the {other}?"),
        (("summer holiday", "weeks of July"), ("honeymoon", "days after the wedding"), ("winter break", "cold season")),
        ("Portugal", "Norway", "Japan", "Peru"),
    ),
    Topic(
        "money", "money and banks",
        "{owner} pays {value} a month for the {thing}.",
        "{owner} now pays {value} a month for the {thing}.",
        ("How much does {owner} pay for the {thing}?", "What does the {thing} cost {owner} each month?",
         "What is the monthly price of the {other} for {owner}?"),
        (("flat", "rented rooms"), ("car loan", "credit on the vehicle"), ("phone", "mobile contract")),
        ("nine hundred euros", "two hundred euros", "forty euros", "seventy euros"),
    ),
    Topic(
        "pets", "pets and animals",
        "{owner} calls the {thing} at home {value}.",
        "{owner} now calls the {thing} at home {value}.",
        ("What does {owner} call the {thing} at home?", "Which name has the {thing} of {owner}?",
         "How is the {other} in the house of {owner} named?"),
        (("cat", "purring animal"), ("dog", "barking animal"), ("parrot", "talking bird")),
        ("Biscuit", "Pepper", "Shadow", "Clover"),
    ),
    Topic(
        "work", "work and the office",
        "{owner} hands in the {thing} at the office to {value}.",
        "{owner} now hands in the {thing} at the office to {value}.",
        ("To whom at the office does {owner} hand in the {thing}?", "Who receives the {thing} from {owner}?",
         "Who gets the {other} that {owner} writes for the company?"),
        (("report", "written summary"), ("invoice", "bill"), ("timesheet", "list of hours")),
        ("the director", "the secretary", "the accountant", "the lawyer"),
    ),
)  # fmt: skip


@dataclass
class Fact:
    """A fact with the number of the memory that now holds it."""

    topic: Topic
    owner: str
    thing: tuple[str, str]
    value: str
    number: int | None = None

    def said(self, changed: bool = False) -> str:
        """The statement of the fact, or of its change."""
        form = self.topic.changed if changed else self.topic.told
        return form.format(owner=self.owner, thing=self.thing[0], value=self.value)

    def question(self, form: int) -> str:
        """A question about the fact: 0 in its own words, 1 paraphrased, 2 with a synonym."""
        return self.topic.asked[form].format(owner=self.owner, thing=self.thing[0], other=self.thing[1])


@dataclass(frozen=True)
class Asked:
    """A question and the fact that answers it; None where it was never told."""

    text: str
    fact: Fact | None


@dataclass
class World:
    """The facts and the questions of one simulated user.

    Attributes:
        told: sentences of the first session, each with its fact or None for chatter.
        updates: facts that change, with their new value.
        sessions: questions by session.
    """

    told: list[tuple[str, Fact | None]]
    updates: list[tuple[Fact, str]]
    sessions: list[list[Asked]]
    facts: list[Fact] = field(default_factory=list)


def make_world(seed: int, facts: int = 60, sessions: int = 8, questions: int = 40, updates: int = 15) -> World:
    """Draw a world; the questions' frequencies fall with the fact's rank by Zipf's law, an eighth ask the unknown."""
    draw = random.Random(seed)
    every = [(topic, owner, thing) for topic in TOPICS for owner in OWNERS for thing in topic.things]
    draw.shuffle(every)
    known = [Fact(topic, owner, thing, draw.choice(topic.values)) for topic, owner, thing in every[:facts]]
    never = [Fact(topic, owner, thing, "") for topic, owner, thing in every[facts : facts + 10]]
    never += [Fact(topic, name, thing, "") for name, (topic, _, thing) in zip(STRANGERS, every[-10:], strict=True)]
    told: list[tuple[str, Fact | None]] = [(" ".join([f.said(), draw.choice(FEELINGS)]).strip(), f) for f in known]
    told += [(text, None) for text in CHATTER]
    draw.shuffle(told)
    weights = [1 / rank for rank in range(1, facts + 1)]
    drawn = list(_questions(draw, known, never, weights, sessions, questions))
    changed = draw.sample(known, updates)
    return World(told, [(f, draw.choice([v for v in f.topic.values if v != f.value])) for f in changed], drawn, known)


def _questions(
    draw: random.Random, known: list[Fact], never: list[Fact], weights: list[float], sessions: int, questions: int
) -> Iterator[list[Asked]]:
    for _ in range(sessions):
        rows = []
        for number in range(questions):
            if number % 8 == 7:
                rows.append(Asked(draw.choice(never).question(draw.randrange(3)), None))
                continue
            fact = draw.choices(known, weights)[0]
            rows.append(Asked(fact.question(draw.randrange(3)), fact))
        yield rows
