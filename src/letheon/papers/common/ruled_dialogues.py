"""Generated dialogues with standing rules, facts, contradictions and noise, and the questions that are asked of them.

Two of the three rules given in the first four exchanges are contradicted later. Of four facts of the user two are
corrected by the user and one is misstated by the assistant; two more facts were told by the assistant. The rest is
noise: long replies, facts of other people, and other people's rules. Rules have two sets of wordings, so that what
recognises rules can be made on one and measured on the other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

EXCHANGES, EARLY = 32, 8  # exchanges of a dialogue; those after which it is first asked
SENTENCES = (3, 6)  # fewest and most sentences of a long reply


@dataclass(frozen=True, eq=False)
class RuleKind:
    """A matter that rules settle.

    Attributes:
        stated: sentences that make the rule in the first wording; `{}` is the value.
        unseen: those of the second wording.
        foreign: sentences about somebody else's rule, one per wording.
        question: asked where the rule applies.
        answers: value -> the answer that follows the rule.
    """

    stated: tuple[str, ...]
    unseen: tuple[str, ...]
    foreign: tuple[str, str]
    question: str
    answers: dict[str, str]


@dataclass(frozen=True, eq=False)
class FactKind:
    """A fact; `{}` is the value in all sentences but the user's question for advice.

    Attributes:
        before: the user's question before the assistant's advice; empty for the user's own facts.
    """

    told: str
    corrected: str
    misstated: str
    foreign: str
    asked: tuple[str, str]
    answer: str
    values: tuple[str, ...]
    before: str = ""


RULES = (
    RuleKind(
        ("From now on, answer in {}.", "Please reply in {} throughout.", "I want all your answers to be in {}."),
        ("For the rest of our talk, write only in {}.", "Your replies must be in {} until I say otherwise.",
         "I need you to answer in {} each time."),
        ("At my school the pupils always had to answer in {}.",
         "In that hotel the staff must reply in {} to every guest."),
        "Shall we go on?",
        {"French": "Oui, continuons.", "German": "Ja, machen wir weiter.", "Spanish": "Sí, sigamos adelante."},
    ),
    RuleKind(
        ("Always end your replies with the word {}.", "Finish every message with {}, please.",
         "Each answer of yours should end with {}."),
        ("Close each of your messages with {}.", "I'd like every reply to finish with the word {}.",
         "Whenever you answer, end with {}."),
        ("On the radio they end every message with {}.", "Her letters never end without {}."),
        "Is it a good day for a walk?",
        {word: f"Yes, it is a good day for a walk, {word}." for word in ("over", "amen", "cheers")},
    ),
    RuleKind(
        ("Begin every answer with {}.", "From here on, start each reply with the word {}.",
         "I would like your answers to start with {}."),
        ("Open all your replies with the word {}.", "The first word of your answers must be {}.",
         "Never answer without starting with {}."),
        ("The guard begins every report with {}.", "The choir starts each song with {}."),
        "Do you like tea?",
        {word: f"{word}, tea is nice." for word in ("Indeed", "Ahoy", "Listen")},
    ),
    RuleKind(
        ("Call me {}.", "Please address me as {} in every reply.", "You should always call me {}."),
        ("My name for this chat is {}, use it in every answer.", "I want you to address me as {}.",
         "Use {} when you speak to me, always."),
        ("His friends always call him {}.", "My nephew wants to be called {} all the time."),
        "Good morning!",
        {name: f"Good morning, {name}." for name in ("Captain", "Doctor", "Maestro")},
    ),
    RuleKind(
        ("From now on, write lists as {}.", "Always use {} when you list things.",
         "In this chat every list should come as {}."),
        ("Put every list into {} for me.", "Lists must be {} in all your answers.",
         "I prefer lists as {}, please keep to that."),
        ("Our office always wants lists as {}.", "The printer needs every list as {}."),
        "Name two colours.",
        {"bullet points": "- red\n- blue", "a numbered list": "1. red\n2. blue", "JSON": '["red", "blue"]'},
    ),
)  # fmt: skip
FACTS = (
    FactKind("My locker code is {}.", "They changed my locker code to {}.", "Your locker code is {}.",
             "Tom has the locker code {}.", ("What is the code of my locker?", "Which digits open my locker?"),
             "The code is {}.", ("7391", "2086", "5514", "9427")),
    FactKind("My sister lives in {}.", "My sister has moved to {}.", "Your sister lives in {}.",
             "A colleague's sister lives in {}.", ("Where does my sister live?", "In which city is my sister's home?"),
             "She lives in {}.", ("Lisbon", "Oslo", "Prague", "Turin")),
    FactKind("My dentist is called {}.", "I have a new dentist, called {}.", "Your dentist is called {}.",
             "Tom goes to a dentist called {}.", ("What is my dentist's name?", "Who looks after my teeth?"),
             "The dentist is {}.", ("Dr. Moss", "Dr. Reed", "Dr. Lane", "Dr. Ford")),
    FactKind("The meeting with my bank is on {}.", "The meeting with my bank was moved to {}.",
             "The meeting with your bank is on {}.", "Tom meets his bank on {}.",
             ("On which day do I meet my bank?", "When is my appointment about the loan?"), "It is on {}.",
             ("Monday", "Tuesday", "Thursday", "Friday")),
    FactKind("Our dog is called {}.", "We gave our dog another name, {}.", "Your dog is called {}.",
             "The neighbours' dog is called {}.", ("What do we call our dog?", "How is the animal in our house named?"),
             "The dog is called {}.", ("Biscuit", "Pepper", "Shadow", "Clover")),
    FactKind("My train to work leaves at {}.", "My train to work now leaves at {}.", "Your train to work leaves at {}.",
             "The night train leaves at {}.", ("When does my train to work leave?",
             "At what time must I be at the station?"),
             "It leaves at {}.", ("six thirty", "seven fifteen", "eight ten", "nine forty")),
    FactKind("I keep the spare key {}.", "I now keep the spare key {}.", "You keep the spare key {}.",
             "Tom keeps his spare key {}.", ("Where is my spare key?", "I am locked out: where do I look?"),
             "It is {}.", ("under the pot", "in the shed", "behind the bench", "above the door")),
    FactKind("I am allergic to {}.", "The test says that I am allergic to {}, nothing else.", "You are allergic to {}.",
             "Tom is allergic to {}.", ("What am I allergic to?", "Which food makes me ill?"),
             "You are allergic to {}.", ("walnuts", "shrimps", "celery", "mustard")),
)  # fmt: skip
ADVISED = (
    FactKind("I recommend {}.", "", "", "", ("Which book did you recommend?", "What was I to read?"),
             "The book is {}.", ("The Salt Road", "Winter Bees", "A Map of Rain", "The Ninth Bell"),
             "Which book should I read?"),
    FactKind("You could eat at the {}.", "", "", "",
             ("Which place did you suggest for Sunday?", "Where did you tell us to eat?"), "The place is the {}.",
             ("Blue Heron", "Old Mill", "Red Lantern", "Corner Table"), "Where should we eat on Sunday?"),
    FactKind("I would paint it {}.", "", "", "",
             ("Which colour did you choose for my kitchen?", "How was I to paint the kitchen?"),
             "The colour is {}.", ("sage green", "warm grey", "pale yellow", "deep blue"),
             "What colour suits my kitchen?"),
    FactKind("A {} would please him.", "", "", "",
             ("Which present did you think of for my uncle?", "What was I to give my uncle?"),
             "The present is a {}.", ("chess set", "wool scarf", "pocket knife", "fountain pen"),
             "What present is good for my uncle?"),
)  # fmt: skip
CHATTER = (
    "How do bees find their way home?", "What should I see in a museum?", "Tell me how bread rises.",
    "Why is the sea salty?", "How do I learn to draw?", "Which trains are the fastest?", "How are locks made?",
    "What do dogs dream of?", "How do banks earn money?", "Why do teeth hurt in the cold?", "What makes a good key?",
    "How do cities grow?", "Tell me about old bridges.", "What is a good book for winter?",
    "How does a garden get through a dry summer?", "Why do people collect stamps?",
)  # fmt: skip
ADVICE = (
    "There are many ways to look at this.", "It helps to begin with something small.",
    "Most people find this hard at first.",
    "Experts do not agree on every point.", "A long time ago this was done by hand.",
    "You can read about it in a library.",
    "In some countries the custom is different.", "It depends on the weather and the season.",
    "Practice makes it easier after a few weeks.", "A friend can be of great help here.",
    "Some of the oldest records come from the coast.", "It is a good idea to write things down.",
    "The cost is lower than one might think.", "Older methods are still in use today.",
    "A simple plan is often better than a clever one.", "The first results are seen after some days.",
    "Children often understand it faster than adults.", "There is a short history of it in every handbook.",
    "The material matters less than the care.", "Take a break when it becomes too much.",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question, its possible answers with the right one first, and the sentences that decide about it.

    Attributes:
        told: the sentence that makes the first answer right.
        wrong: sentences of the dialogue that another answer would follow: contradicted, corrected or misstated ones.
        misstated: whether the assistant said one of them against the user's word.
    """

    text: str
    answers: tuple[str, ...]
    told: str
    wrong: tuple[str, ...]
    misstated: bool = False


@dataclass
class Dialogue:
    """A dialogue: exchanges of the user's words and the reply, and questions asked after `EARLY` and after all."""

    exchanges: list[tuple[str, str]] = field(default_factory=list)
    rules: dict[int, list[Question]] = field(default_factory=dict)
    facts: dict[int, list[Question]] = field(default_factory=dict)
    stated: list[str] = field(default_factory=list)  # all sentences that are standing rules


@dataclass(frozen=True)
class _Said:
    """A sentence about a matter: who says it in which exchange, the value that it gives, and whether it is true."""

    at: int
    text: str
    value: str = ""
    by: str = "user"
    true: bool = True


def make_dialogue(seed: int, unseen: bool = False) -> Dialogue:
    """Draw a dialogue.

    Args:
        unseen: whether rules, the user's and other people's, have the second wording.
    """
    draw = random.Random(seed)
    rules = {kind: _rule(draw, kind, unseen, n < 2) for n, kind in enumerate(draw.sample(RULES, 3))}
    treated = ("corrected", "corrected", "misstated", "")
    own, advised = draw.sample(FACTS, 4), draw.sample(ADVISED, 2)
    facts = {kind: _fact(draw, kind, how) for kind, how in zip(own, treated, strict=True)}
    facts |= {kind: [_advised(draw, kind)] for kind in advised}
    said = [one for history in (*rules.values(), *facts.values()) for one in history]
    other = draw.choice(RULES)
    foreign = [other.foreign[unseen].format(draw.choice(list(other.answers)))]
    foreign += [kind.foreign.format(draw.choice(kind.values)) for kind in draw.sample(FACTS, 3)]
    said += [_Said(draw.randrange(4, EXCHANGES), text) for text in foreign]
    asking: dict[int, list[str]] = {}
    for kind in advised:
        asking.setdefault(facts[kind][0].at, []).append(kind.before)
    made = Dialogue(stated=[one.text for history in rules.values() for one in history])
    for number in range(EXCHANGES):
        here = [one for one in said if one.at == number]
        users = [one.text for one in here if one.by == "user"] + asking.get(number, [])
        reply = draw.sample(ADVICE, draw.randint(*SENTENCES))
        for one in here:
            if one.by == "assistant":
                reply.insert(draw.randrange(len(reply) + 1), one.text)
        made.exchanges.append((" ".join(users) or draw.choice(CHATTER), " ".join(reply)))
    for time in (EARLY, EXCHANGES):
        made.rules[time] = [_asked(kind.question, kind.answers, h, time) for kind, h in rules.items()]
        made.facts[time] = [
            _asked(draw.choice(kind.asked), {v: kind.answer.format(v) for v in kind.values}, history, time)
            for kind, history in facts.items()
            if history[0].at < time
        ]
    return made


def _rule(draw: random.Random, kind: RuleKind, unseen: bool, contradicted: bool) -> list[_Said]:
    """Draw a rule of the first four exchanges and, later, the one that contradicts it."""
    values = draw.sample(list(kind.answers), 2)
    times = (draw.randrange(4), draw.randrange(EARLY, EXCHANGES - 4))
    forms = kind.unseen if unseen else kind.stated
    history = [_Said(at, draw.choice(forms).format(v), v) for at, v in zip(times, values, strict=True)]
    return history if contradicted else history[:1]


def _fact(draw: random.Random, kind: FactKind, how: str) -> list[_Said]:
    """Draw a fact of the first half and, later, what the user corrects or the assistant misstates."""
    first, second = draw.sample(kind.values, 2)
    history = [_Said(draw.randrange(1, EXCHANGES // 2), kind.told.format(first), first)]
    later = draw.randrange(EXCHANGES // 2, EXCHANGES - 1)
    if how == "corrected":
        history.append(_Said(later, kind.corrected.format(second), second))
    elif how == "misstated":
        history.append(_Said(later, kind.misstated.format(second), second, "assistant", true=False))
    return history


def _advised(draw: random.Random, kind: FactKind) -> _Said:
    """Draw what the assistant answers, in the first half, to a question of the user."""
    value = draw.choice(kind.values)
    return _Said(draw.randrange(1, EXCHANGES // 2), kind.told.format(value), value, "assistant")


def _asked(question: str, answers: dict[str, str], history: list[_Said], time: int) -> Question:
    """Return the question about a matter after `time` exchanges: the last true word on it is right."""
    known = [one for one in history if one.at < time]
    true = [one for one in known if one.true][-1]
    others = [answer for value, answer in answers.items() if value != true.value]
    wrong = tuple(one.text for one in known if one is not true)
    misstated = not all(one.true for one in known)
    return Question(question, (answers[true.value], *others), true.text, wrong, misstated)
