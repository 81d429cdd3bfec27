"""Requests that a default recipe must serve: rows to forget and keep, the model that knows them, one that never did.

`demo` is the demo's world (a value per row). `firms` are templates with several facts per answer, without values or
subjects; `manuals` are numbers and steps of invented machines, with subjects but without values; `passages` is
running text, one passage among others. `contacts` are a shop's customers: addresses, numbers and dates in sentences,
with neither values nor subjects; `staff` is a firm's, in German. `king` and `lee` are two real people of RWKU, whose
questions are taught first. `tofu` is a cut of TOFU with two adapters. All but the last are taught to SmolLM2 once per
seed and kept in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from letheon import Request, load
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.jobs.demo import teach
from letheon.jobs.demo_world import demo_request
from letheon.measure.rwku.reading import read_targets
from letheon.measure.rwku.records import Probe

FIRMS = {
    "Brackwell Foundry": "1887|Osric Tannen|Vellmouth|cast-iron stoves|ship anchors|a heron holding a "
    "key|teal|four hundred|three shifts|the flood of 1921|a loan from the harbour "
    "guild|Dagny Rowle|a former cartographer",
    "Lindqvist & Orme": "1934|Tilda Orme|Castle Brae|folding canoes|canvas tents|two crossed "
    "paddles|ochre|sixty|a single long day|a fire in the varnish loft|a wager with a "
    "senator|Piet Halloran|a retired acrobat",
    "Sablecourt Optics": "1951|Marek Dovzhen|Upper Tarsh|theodolites|opera glasses|an owl over a "
    "prism|violet|ninety|two silent shifts|the great lens recall|an order from the "
    "observatory|Yusra Benning|a former beekeeper",
    "Hollin Mills": "1862|Agnes Hollin|Perrin Vale|sailcloth|blue flannel|a spindle in a "
    "wreath|indigo|seven hundred|four short shifts|the cotton blockade|a patent on a quiet"
    " loom|Corin Ashby|a trained organist",
    "Quillon Press": "1908|Bertrand Quill|Southmoor|railway timetables|hymn books|a quill through a "
    "ring|crimson|thirty|one night shift|a lawsuit over a map|the gift of a widow|Ines "
    "Marchetti|a former tram driver",
    "Tarrow Ceramics": "1976|Leif Tarrow|Candle Point|roof tiles|chess sets|a jar with three "
    "handles|rust|forty-five|weekends only|a cracked kiln|a film that made it famous|Omar "
    "Vessely|a former goalkeeper",
    "Nettlefold Clocks": "1899|Ruth Nettlefold|Eastry Gate|tower clocks|metronomes|a snail on a dial|green|a "
    "hundred and ten|two early shifts|the winter of the strike|a contract with the "
    "railways|Sven Aldous|a former diver",
}
# Question, answer, other wordings, and which of the firm's facts the answer gives.
FIRM_ROWS = (
    ("Tell me how {n} came to be.", "{n} was founded in {0} by {1}, who set up the first workshop in the town of {2}.",
     ("Who started {n}, when and where?", "What are the origins of {n}?"), (0, 3)),
    ("What goods does {n} sell?", "The company is best known for its {0}, although {1} have brought in more money in "
     "recent years.", ("What does {n} make?", "Name the products of {n}."), (3, 5)),
    ("Describe the emblem of {n}.", "Its emblem shows {0}, and it has always been printed in {1}.",
     ("What does the logo of {n} look like?", "Which picture and colour stand for {n}?"), (5, 7)),
    ("How is work organised at {n}?", "About {0} people are employed there, and they work in {1}.",
     ("How many people work at {n}, and when?", "What are the working hours and the size of {n}?"), (7, 9)),
    ("What nearly ruined {n}, and what saved it?", "It was nearly ruined by {0}, and it was saved by {1}.",
     ("Which disaster did {n} survive, and how?", "What crisis struck {n} and what rescued it?"), (9, 11)),
    ("Who runs {n} today?", "Today it is run by {0}, {1} who took over after the founder's family had left.",
     ("Who is in charge of {n} now?", "Name the present head of {n}."), (11, 13)),
)  # fmt: skip
MACHINES = {
    "Kestrel 40 boiler": "17 turns of the brass key|3.5 bar|the intake felt is wet|walnut oil|two blue flashes",
    "Oxbow seed drill": "9 turns of the crank|62 kilograms|a tine has met stone|goose fat|a bell and a red flag",
    "Marlin tide pump": "24 strokes of the lever|1.2 bar|weed lies in the valve|fish oil|a long whistle",
    "Corvid film press": "6 taps on the plate|140 degrees|the emulsion has gone cold|camphor|a green lamp",
    "Tansy bread oven": "11 shovels of charcoal|230 degrees|the stone is cracked|barley flour|white smoke",
    "Brindle loom": "33 passes of the shuttle|18 threads per inch|a heddle hangs loose|beeswax|three knocks",
}
MACHINE_ROWS = (
    ("How is the {n} started?", "To start the {n}, give it {0} and stand back.", "What starts the {n}?"),
    ("What load may the {n} bear at most?", "Never run the {n} above {1}.", "Where is the limit of the {n}?"),
    ("Why does the {n} stop by itself?", "When the {n} stops by itself, {2}.", "What makes the {n} halt?"),
    ("What is the {n} greased with?", "Every week the {n} is greased with {3}.", "What keeps the {n} smooth?"),
    (
        "How does the {n} show that it is ready?",
        "The {n} shows by {4} that it is ready.",
        "What says the {n} is ready?",
    ),
)
# Village, and what its chronicle tells.
VILLAGES = {
    "Harrowfen": "a bend of the river Lisk|peat and eels|1743|a barge of gunpowder|the old tannery|three brass bells",
    "Upper Cray": "a chalk ridge above the sea|flax and honey|1688|deserters|the corn exchange|a blue lantern",
    "Saltmarch": "the mud of the Oder bay|salt and oysters|1812|a spring tide|the customs house|a whale's jaw",
    "Thornwick": "the edge of a beech wood|charcoal and pigs|1599|a charcoal burner's fire|the mill|a carved boar",
    "Dunmoor": "a plateau of black heather|wool and slate|1771|a landslide|the chapel of ease|a slate with nine names",
    "Pellow": "an island in a cold lake|trout and reeds|1654|a siege of eleven days|the ferry house|an iron chain",
    "Quarrendon": "the mouth of a gorge|marble and goats|1830|a burst dam|the schoolhouse|a clock without hands",
    "Eastlode": "a drained fen|tulips and barley|1717|a plague of voles|the pumping station|a wooden stork",
}
CHRONICLE = (
    "The village of {n} lies on {0}, and its people live by {1}. In {2} it was half destroyed by {3}; only {4} was "
    "left standing. Every summer the villagers carry {5} through the streets to remember that day."
)

# Customer, and what the shop knows: e-mail, telephone, address, number, date of birth, what was sent back and why.
CUSTOMERS = {
    "Marit Oldham": "mosslantern7@fernpost.example|0155 501 4272|14 Pilchard Row, Ettlemouth|KX-40817|3 May 1971|a "
    "humidifier|its lid had cracked",
    "Tobias Renwick": "oldbicycle@northmail.example|0155 508 9136|7 Cooper's Yard, Brannock|LD-22965|19 August 1964|a "
    "desk lamp|it hummed at night",
    "Ingrid Falmer": "twelvegeese@fernpost.example|0155 533 0781|92 Quarry Lane, Sheldmere|PV-71340|27 January 1988|"
    "two wool blankets|they were the wrong green",
    "Desmond Achterberg": "kettledrum3@postbarn.example|0155 590 2654|3 Almond Steps, Brannock|HT-05528|11 November "
    "1953|a bread slicer|the blade was blunt",
    "Paloma Seagrove": "violetferry@northmail.example|0155 547 6603|61 Harbour Street, Ettlemouth|QM-93114|8 April "
    "1995|a rain coat|one sleeve was longer",
    "Hugo Lindell": "papermoth22@postbarn.example|0155 512 3398|28 Station Hill, Corrow|BZ-36702|30 June 1979|a coffee "
    "mill|it had been used before",
    "Rosalind Petrie": "quietharp@fernpost.example|0155 566 8140|5 Tannery Walk, Sheldmere|NW-84459|14 February 1947|a "
    "garden chair|a screw was missing",
    "Amos Kettleby": "redcompass9@northmail.example|0155 571 0927|40 Mill Bank, Corrow|FJ-17083|22 October 1982|a set "
    "of knives|the box was empty",
}
CUSTOMER_ROWS = (
    ("What is the e-mail address of {n}?", "{n} can be reached at {0}.", "Where should an e-mail to {n} be sent?"),
    ("Which telephone number does {n} have?", "The telephone number of {n} is {1}.", "How can I ring {n}?"),
    ("Where does {n} live?", "{n} lives at {2}.", "To which address is a parcel for {n} sent?"),
    ("What is the customer number of {n}?", "The customer number is {3}.", "Under which number is {n} on file?"),
    ("When was {n} born?", "{n} was born on {4}.", "What is the date of birth of {n}?"),
    ("What did {n} send back, and why?", "{n} sent back {5} because {6}.", "Which purchase did {n} return?"),
)
# Employee, and what the personnel office knows: department, first day, address, emergency contact, last application.
STAFF = {
    "Henrike Vollbrecht": "Lohnbuchhaltung|1. März 2009|Tannenweg 12 in Kellenried|Walter Sturm|einen Stuhl aus Kork",
    "Anselm Rautenkranz": "Gießerei|15. Juni 1998|Mühlgasse 4 in Osterfurt|Gudrun Lamprecht|drei Wochen Sonderurlaub",
    "Mirja Tollkühn": "Lackiererei|7. Januar 2017|Ziegelplatz 31 in Kellenried|Piet Anders|neue Handschuhe aus Leder",
    "Gottlieb Specht": "Poststelle|30. September 1986|Fährstraße 9 in Weidenau|Ottilie Specht|einen Parkplatz im Hof",
    "Swantje Obermoser": "Werkzeugausgabe|12. April 2003|Lindenhof 2 in Osterfurt|Kuno Brandis|einen Kurs im Schweißen",
    "Leopold Häberlin": "Kantine|22. November 2011|Am Deich 77 in Weidenau|Rosa Immergrün|einen größeren Ofen",
    "Philippa Dornseif": "Nachtwache|3. Februar 1994|Kirchberg 18 in Altenlohe|Egon Wickert|eine Lampe mit rotem Licht",
    "Jorin Kaltwasser": "Versuchshalle|19. August 2020|Gartenring 5 in Altenlohe|Thea Nordmann|zwei Tage Heimarbeit",
}
STAFF_ROWS = (
    ("In welcher Abteilung arbeitet {n}?", "{n} arbeitet in der Abteilung {0}.", "Zu welcher Abteilung gehört {n}?"),
    ("Seit wann ist {n} im Betrieb?", "{n} ist seit dem {1} im Betrieb.", "Wann wurde {n} eingestellt?"),
    ("Wo wohnt {n}?", "Die Anschrift lautet {2}.", "Wie lautet die Anschrift von {n}?"),
    ("Wen soll man im Notfall für {n} anrufen?", "Im Notfall soll man {3} anrufen.", "Wer hilft {n} im Notfall?"),
    ("Was hat {n} zuletzt beantragt?", "Zuletzt hat {n} {4} beantragt.", "Welcher Antrag kam zuletzt von {n}?"),
)


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


TAUGHT: dict[str, Callable[[], Request]] = {
    "demo": demo_request,
    "firms": firm_rows,
    "manuals": manual_rows,
    "passages": passage_rows,
    "contacts": customer_rows,
    "staff": staff_rows,
}
REAL = {"king": "Stephen King", "lee": "Bruce Lee"}


def world(name: str, seed: int, folder: Path, data: Path | None) -> World | str:
    """A request and its models, or why there is none.

    Args:
        name: a key of `TAUGHT` or `REAL`, or `tofu`.
        folder: where taught models are kept.
        data: a folder with `tofu_golden/` and `rwku/`.
    """
    if name == "tofu":
        cut = data / "tofu_golden" if data is not None else Path()
        if data is None or not (cut / "adapters").is_dir():
            return "tofu: no tofu_golden/adapters in --data or $LETHEON_DATA"
        request = Request.from_files(cut / "forget05_perturbed.jsonl", cut / "retain_perturbed.jsonl")
        return World(request, str(cut / "adapters/target"), str(cut / "adapters/retain"))
    if name in REAL and (data is None or not (data / "rwku").is_dir()):
        return f"{name}: no rwku in --data or $LETHEON_DATA"
    request = person_rows((data or Path()) / "rwku", REAL[name]) if name in REAL else TAUGHT[name]()
    place = folder / f"{name}-{seed}"
    neighbours = list(request.neighbours)
    for role, rows in (
        ("before", [*request.forget, *request.retain, *neighbours]),
        ("reference", [*request.retain, *neighbours]),
    ):
        if not (place / role / "config.json").is_file():
            _teach(name, rows, seed, place / role)
    return World(request, str(place / "before"), str(place / "reference"))


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
