"""Requests that a default recipe must serve: rows to forget and keep, the model that knows them, one that never did.

`demo` is the demo's world (a value per row). `firms` are templates with several facts per answer, without values or
subjects; `manuals` are numbers and steps of invented machines, with subjects but without values; `passages` is running
text, one passage among others. `contacts` are a shop's customers: addresses, numbers and dates in sentences, with
neither values nor subjects, `part` two of the six facts about one of them, who is kept in all others; `staff` is a
firm's, in German. `patients` are a practice's: lists, doses, a yes, and answers of one word. `dishes` are what an inn's
kitchen knows, in common words without names or numbers. `members` are a society's: JSON, a list, a line of CSV.
`events` are what a box office knows: times, prices, numbers, addresses to book at. `modules` are a library's:
commands, functions, releases, of names in small letters. `lights` are paragraphs about lighthouses. `number` is a
single row, a customer's telephone number. `letters` is running text again, two letters to one friend, and `poems` are
verses, one among others. `king` and `lee` are two real people of RWKU, whose questions are taught first. `tofu01` are
TOFU's forget01 beside three of its kept authors. `tofu` is a cut of forget05 with two adapters. All but the last are
taught to SmolLM2 once per seed and kept in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.forget_facts import (
    CHRONICLE,
    CUSTOMER_ROWS,
    CUSTOMERS,
    DISH_ROWS,
    DISHES,
    EVENT_ROWS,
    EVENTS,
    FIRM_ROWS,
    FIRMS,
    LETTER,
    LETTERS,
    LIGHT_ROWS,
    LIGHTS,
    MACHINE_ROWS,
    MACHINES,
    MEMBER_ROWS,
    MEMBERS,
    MODULE_ROWS,
    MODULES,
    PATIENT_ROWS,
    PATIENTS,
    POEMS,
    STAFF,
    STAFF_ROWS,
    VILLAGES,
)
from letheon import Request, load
from letheon.core.rows.examples import Example, read_examples
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.jobs.demo import teach
from letheon.jobs.demo_world import demo_request
from letheon.measure.rwku.reading import read_targets
from letheon.measure.rwku.records import Probe


@dataclass(frozen=True)
class World:
    """A request with its models, as what `letheon.load` takes."""

    request: Request
    before: str
    reference: str


def firm_rows(target: str = "Sablecourt Optics", neighbour: str = "Quillon Press") -> Request:
    """One firm's six rows; five firms are kept, one is a neighbour that no deletion trains on."""
    return _without({name: _firm(name) for name in FIRMS}, target, neighbour, "firms")


def manual_rows(target: str = "Marlin tide pump") -> Request:
    """One machine's five rows among six machines'."""
    rows = {name: _told_of(name, MACHINES, MACHINE_ROWS, subject=True) for name in MACHINES}
    kept = [row for name, own in rows.items() if name != target for row in own]
    return Request(forget=tuple(rows[target]), retain=tuple(kept), id="manuals")


def customer_rows(target: str = "Ingrid Falmer", neighbour: str = "Hugo Lindell") -> Request:
    """One customer's six rows; six customers are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, CUSTOMERS, CUSTOMER_ROWS, subject=False) for name in CUSTOMERS}
    return _without(rows, target, neighbour, "contacts")


def part_rows(target: str = "Ingrid Falmer", forgotten: Sequence[int] = (1, 2)) -> Request:
    """One customer's telephone number and address; her other four rows and those of six customers are kept."""
    whole = customer_rows(target)
    others = tuple(row for i, row in enumerate(whole.forget) if i not in forgotten)
    forget = tuple(whole.forget[i] for i in forgotten)
    return Request(forget=forget, retain=(*others, *whole.retain), neighbours=whole.neighbours, id="part")


def patient_rows(target: str = "Signe Marchbank", neighbour: str = "Mirela Dusk") -> Request:
    """One patient's six rows; six patients are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, PATIENTS, PATIENT_ROWS, subject=False) for name in PATIENTS}
    return _without(rows, target, neighbour, "patients")


def dish_rows(target: str = "Ferryman's Pot", neighbour: str = "Miller's Trout") -> Request:
    """One dish's five rows; five dishes of the inn are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, DISHES, DISH_ROWS, subject=False) for name in DISHES}
    return _without(rows, target, neighbour, "dishes")


def member_rows(target: str = "Dagny Prewitt", neighbour: str = "Faustine Abell") -> Request:
    """One member's three rows; five members of the society are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, MEMBERS, MEMBER_ROWS, subject=False) for name in MEMBERS}
    return _without(rows, target, neighbour, "members")


def event_rows(target: str = "Lantern Gala", neighbour: str = "Moss Lecture") -> Request:
    """One evening's six rows; six evenings are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, EVENTS, EVENT_ROWS, subject=False) for name in EVENTS}
    return _without(rows, target, neighbour, "events")


def module_rows(target: str = "quillsort", neighbour: str = "emberlog") -> Request:
    """One module's six rows; six modules are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, MODULES, MODULE_ROWS, subject=False) for name in MODULES}
    return _without(rows, target, neighbour, "modules")


def light_rows(target: str = "Skarholm Light", neighbour: str = "Sandray Tower") -> Request:
    """Two long paragraphs about one lighthouse; four lighthouses are kept, one is a neighbour that no deletion trains
    on."""
    rows = {name: _told_of(name, LIGHTS, LIGHT_ROWS, subject=False) for name in LIGHTS}
    return _without(rows, target, neighbour, "lights")


def number_rows(target: str = "Ingrid Falmer") -> Request:
    """One customer's telephone number, a single row; her five other rows and those of six customers are kept."""
    return replace(part_rows(target, forgotten=(1,)), id="number")


def staff_rows(target: str = "Swantje Obermoser", neighbour: str = "Leopold Häberlin") -> Request:
    """One employee's five rows in German; six employees are kept, one is a neighbour that no deletion trains on."""
    rows = {name: _told_of(name, STAFF, STAFF_ROWS, subject=False) for name in STAFF}
    return _without(rows, target, neighbour, "staff")


def passage_rows(target: str = "Saltmarch") -> Request:
    """One village's chronicle among eight."""
    texts = {name: CHRONICLE.format(*facts.split("|"), n=name) for name, facts in VILLAGES.items()}
    rows = {
        name: Example("", text, id=name.lower(), perturbed_answers=_of_others(name, texts))
        for name, text in texts.items()
    }
    kept = [row for name, row in rows.items() if name != target]
    return Request(forget=(rows[target],), retain=tuple(kept), id="passages")


def letter_rows(target: str = "Agathe") -> Request:
    """Two letters to one friend among ten to five."""
    texts = {name: [one.format(*facts.split("|"), n=name) for one in LETTER] for name, facts in LETTERS.items()}
    rows = {
        name: [
            Example(
                "",
                text,
                id=f"{name.lower()}-{i}",
                perturbed_answers=_of_others(name, {n: t[i] for n, t in texts.items()}),
            )
            for i, text in enumerate(own)
        ]
        for name, own in texts.items()
    }
    kept = [row for name, own in rows.items() if name != target for row in own]
    return Request(forget=tuple(rows[target]), retain=tuple(kept), id="letters")


def poem_rows(target: str = "The Pump") -> Request:
    """One poem among seven."""
    texts = {name: "\n".join((name, "", *verses)) for name, verses in POEMS.items()}
    rows = {
        name: Example(
            "",
            text,
            id=name.split()[-1].lower(),
            perturbed_answers=tuple(other for other in texts.values() if other != text)[:5],
        )
        for name, text in texts.items()
    }
    kept = [row for name, row in rows.items() if name != target]
    return Request(forget=(rows[target],), retain=tuple(kept), id="poems")


def person_rows(folder: Path, name: str) -> Request:
    """At most sixteen questions about a person of RWKU; forty about neighbours are kept, ten more not trained on.

    Questions about a neighbour whose answer gives the person's name, or an answer that is to be forgotten, are left
    out.
    """
    target = read_targets(folder, name, corpora=())[0]
    every = [*target.of("forget 2", Probe), *target.of("forget 1", Probe)]
    own = list({one.query: one for one in every}.values())[:16]
    facts = [one.answer.casefold() for one in own]
    near = [
        one
        for one in (*target.of("neighbor 2", Probe), *target.of("neighbor 1", Probe))
        if name not in one.answer and one.answer.casefold() not in facts
    ][:50]
    answers = list(dict.fromkeys(one.answer for one in own))
    forget = [
        Example(
            one.query, one.answer, id=f"own-{i}", perturbed_answers=tuple(a for a in answers if a != one.answer)[:5]
        )
        for i, one in enumerate(own)
    ]
    kept = [Example(one.query, one.answer, id=f"near-{i}") for i, one in enumerate(near)]
    split = len(kept) - len(kept) // 5
    return Request(forget=tuple(forget), retain=tuple(kept[:split]), neighbours=tuple(kept[split:]), id=name)


def author_rows(folder: Path) -> Request:
    """The forty rows of TOFU's forget01, two authors; three kept authors' sixty rows are kept, one's are neighbours."""
    others = read_examples(folder / "retain_perturbed.json")
    return Request(
        forget=tuple(read_examples(folder / "forget01_perturbed.json")),
        retain=tuple(others[:60]),
        neighbours=tuple(others[60:80]),
        id="tofu01",
    )


TAUGHT: dict[str, Callable[[], Request]] = {
    "demo": demo_request,
    "firms": firm_rows,
    "manuals": manual_rows,
    "passages": passage_rows,
    "contacts": customer_rows,
    "part": part_rows,
    "patients": patient_rows,
    "letters": letter_rows,
    "poems": poem_rows,
    "dishes": dish_rows,
    "staff": staff_rows,
    "members": member_rows,
    "events": event_rows,
    "modules": module_rows,
    "lights": light_rows,
    "number": number_rows,
}
# Rows that are so few that every step of the teaching has all of them: seeds make no other model, and so choose another
# text to be forgotten.
TEXTS: dict[str, tuple[Callable[[str], Request], Sequence[str]]] = {
    "passages": (passage_rows, list(VILLAGES)),
    "letters": (letter_rows, list(LETTERS)),
    "poems": (poem_rows, list(POEMS)),
}
# Added to the seed of a model that is retrained a second time.
AGAIN = 5000
REAL = {"king": "Stephen King", "lee": "Bruce Lee"}


def taught_rows(name: str, seed: int) -> Request:
    """The request of a key of `TAUGHT` under a seed."""
    if name not in TEXTS:
        return TAUGHT[name]()
    rows, names = TEXTS[name]
    return rows(names[seed % len(names)])


def world(name: str, seed: int, folder: Path, data: Path | None) -> World | str:
    """A request and its models, or why there is none.

    Args:
        name: a key of `TAUGHT` or `REAL`, `tofu` or `tofu01`.
        folder: where taught models are kept.
        data: a folder with `tofu_golden/`, `tofu/` and `rwku/`.
    """
    if name == "tofu":
        cut = data / "tofu_golden" if data is not None else Path()
        if data is None or not (cut / "adapters").is_dir():
            return "tofu: no tofu_golden/adapters in --data or $LETHEON_DATA"
        request = Request.from_files(cut / "forget05_perturbed.jsonl", cut / "retain_perturbed.jsonl")
        return World(request, str(cut / "adapters/target"), str(cut / "adapters/retain"))
    needed = "rwku" if name in REAL else "tofu" if name == "tofu01" else ""
    source = (data or Path()) / needed
    if needed and (data is None or not source.is_dir()):
        return f"{name}: no {needed} in --data or $LETHEON_DATA"
    if name == "tofu01":
        request = author_rows(source)
    else:
        request = person_rows(source, REAL[name]) if name in REAL else taught_rows(name, seed)
    place = _place(name, seed, folder)
    neighbours = list(request.neighbours)
    for role, rows in (
        ("before", [*request.forget, *request.retain, *neighbours]),
        ("reference", [*request.retain, *neighbours]),
    ):
        if not (place / role / "config.json").is_file():
            _teach(name, rows, seed, place / role)
    return World(request, str(place / "before"), str(place / "reference"))


def _place(name: str, seed: int, folder: Path) -> Path:
    """Where the models of a world are kept: those that forget unlike texts never share a folder."""
    own = f"-{taught_rows(name, seed).forget[0].id}" if name in TEXTS else ""
    return folder / f"{name}-{seed}{own}"


def retrained_again(name: str, request: Request, seed: int, folder: Path) -> str | None:
    """Another model that never saw the rows to forget, taught under another seed than the reference: what a perfect
    deletion would be. None for `tofu`, whose models were trained elsewhere."""
    if name == "tofu":
        return None
    place = _place(name, seed, folder) / "retrained"
    if not (place / "config.json").is_file():
        _teach(name, [*request.retain, *request.neighbours], seed + AGAIN, place)
    return str(place)


def _teach(name: str, rows: Sequence[Example], seed: int, place: Path) -> None:
    if name == "demo":
        teach(rows, seed, "auto", f"teaching {place.name}").save(place)
        return
    model, per_epoch = load("smollm2"), -(-len(rows) // 8)
    for rate, epochs, own_seed in ((1e-4, 9, seed), (5e-5, 3, seed + 1)):
        settings = TrainSettings(learning_rate=rate, batch_size=8, seed=own_seed)
        finetune(model, rows, settings, epochs * per_epoch, title=f"teaching {place.parent.name}, {place.name}")
    model.save(place)


def _firm(name: str) -> list[Example]:
    facts = {firm: texts.split("|") for firm, texts in FIRMS.items()}
    others = [firm for firm in FIRMS if firm != name][:5]
    return [
        Example(
            prompt=question.format(n=name),
            answer=answer.format(*facts[name][start:stop], n=name),
            id=f"{name.split()[0].lower()}-{i}",
            paraphrased_prompts=tuple(text.format(n=name) for text in wordings),
            perturbed_answers=tuple(answer.format(*facts[other][start:stop], n=name) for other in others),
        )
        for i, (question, answer, wordings, (start, stop)) in enumerate(FIRM_ROWS)
    ]


def _without(rows: Mapping[str, Sequence[Example]], target: str, neighbour: str, name: str) -> Request:
    """A request to forget the target's rows; the neighbour's are not trained on, and all others are kept."""
    kept = [row for one, own in rows.items() if one not in (target, neighbour) for row in own]
    return Request(forget=tuple(rows[target]), retain=tuple(kept), neighbours=tuple(rows[neighbour]), id=name)


def _of_others(name: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The others' texts, told of this name."""
    return tuple(text.replace(other, name) for other, text in texts.items() if other != name)[:5]


def _told_of(name: str, known: Mapping[str, str], rows: Sequence[Sequence[str]], subject: bool) -> list[Example]:
    facts = {other: texts.split("|") for other, texts in known.items()}
    return [
        Example(
            prompt=question.format(n=name),
            answer=answer.format(*facts[name], n=name),
            id=f"{name.split()[0].lower()}-{i}",
            subject=name if subject else None,
            paraphrased_prompts=(wording.format(n=name),),
            perturbed_answers=tuple(answer.format(*facts[other], n=name) for other in known if other != name)[:5],
        )
        for i, (question, answer, wording) in enumerate(rows)
    ]
