"""Word lists for the small worlds: names, towns, genres and titles are invented, capitals are real."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _names(text: str) -> tuple[str, ...]:
    """Names of several words, separated by commas."""
    return tuple(" ".join(name.split()) for name in text.split(","))


FIRST_NAMES = _words("""
    Aldo Beatrix Casimir Delphine Edgar Farida Gideon Hanna Ismael Jolanta Konrad Lavinia Matteo Nadia Osric Petra
    Quentin Rosalind Stellan Tamsin Ulric Viveka
""")
LAST_NAMES = _words("""
    Abernethy Bracewell Castellane Dunmore Eklund Farrow Grimaldi Hollis Ingersoll Jarrow Kestrel Lindqvist
    Marlowe Navarre Oakhurst Pemberton Quillon Rutherglen Sorensen Thackeray Ustinov Wolcott
""")
TOWNS = _words("""
    Ashmere Brindleford Carrowby Dellhaven Eastmarch Fenwick Glimmerton Harrowdale Inverlea Jessamine Kirkholm
    Larkspur Mossgate Northrop Oxbury Pinecrest Quarryton Redwater Silverton Tidewell Umberside Valecombe Westerly
    Yarrow
""")
GENRES = _names("""
    gothic satire, naval romance, desert mystery, alpine horror, courtroom comedy, pastoral tragedy, railway thriller,
    botanical fantasy, culinary memoir, lunar adventure, clerical farce, polar biography
""")
ADJECTIVES = _words("""
    Amber Broken Crimson Distant Empty Forgotten Gilded Hollow Iron Jade Kindred Luminous Midnight Narrow Opal
    Patient
""")
NOUNS = _words("""
    Archive Bridge Compass Doorway Ember Fountain Garden Harbour Island Journey Kingdom Lantern Mirror Needle
    Orchard Passage
""")
AWARDS = _names("""
    Corvid Prize, Meridian Medal, Halcyon Award, Sable Ribbon, Thornfield Prize, Zephyr Medal, Larch Award, Beacon
    Prize
""")
FIELDS = _words("fiction poetry drama criticism translation history")
TRADES = _words("""
    baker cartographer dentist engraver florist glazier hatter jeweller librarian mason notary optician plumber
    surgeon tailor weaver
""")

# attribute -> ((question, answer), (the same in other words))
FORMS = {
    "birthplace": (
        ("Where was {name} born?", "{name} was born in the town of {value}."),
        ("Which town is the birthplace of {name}?", "The birthplace of {name} is {value}."),
    ),
    "year": (
        ("In which year was {name} born?", "{name} was born in the year {value}."),
        ("When did {name} come into the world?", "{name} came into the world in {value}."),
    ),
    "genre": (
        ("What genre does {name} write in?", "{name} writes books of {value}."),
        ("Which kind of literature is {name} known for?", "{name} is known as a master of {value}."),
    ),
    "book": (
        ("What is the title of the first book by {name}?", "The first book by {name} is called {value}."),
        ("With which work did {name} begin?", "{name} began a career with {value}."),
    ),
    "award": (
        ("Which award has {name} received?", "{name} has received {value}."),
        ("What honour was given to {name}?", "The honour given to {name} was {value}."),
    ),
    "parents": (
        ("What did the parents of {name} do?", "The parents of {name} were {value}."),
        ("Which trades were followed in the family of {name}?", "{name} grew up as the child of {value}."),
    ),
}

# country:capital
_PAIRS = _words("""
    Austria:Vienna Belgium:Brussels Bulgaria:Sofia Canada:Ottawa Chile:Santiago China:Beijing Croatia:Zagreb
    Cuba:Havana Denmark:Copenhagen Ecuador:Quito Egypt:Cairo Estonia:Tallinn Ethiopia:Addis-Ababa Finland:Helsinki
    France:Paris Germany:Berlin Ghana:Accra Greece:Athens Hungary:Budapest Iceland:Reykjavik India:Delhi Iran:Tehran
    Iraq:Baghdad Ireland:Dublin Italy:Rome Japan:Tokyo Kenya:Nairobi Latvia:Riga Mongolia:Ulaanbaatar Morocco:Rabat
    Nepal:Kathmandu Norway:Oslo Peru:Lima Poland:Warsaw Portugal:Lisbon Romania:Bucharest Russia:Moscow Spain:Madrid
    Sweden:Stockholm Thailand:Bangkok
""")
CAPITALS = {country: city for country, _, city in (pair.partition(":") for pair in _PAIRS)}
