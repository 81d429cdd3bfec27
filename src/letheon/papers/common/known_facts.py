"""Facts in three topics, dealt out so that no two seeds ask about the same thing, and statements made of them."""

from __future__ import annotations

import random
from collections.abc import Mapping

from letheon.probe.statements import CAPITALS, FORMS, KINDS, SYMBOLS, Statement, paired


def _facts(text: str) -> dict[str, str]:
    pairs = (one.split(":") for one in text.replace("\n", " ").split(",") if one.strip())
    return {subject.strip(): value.strip() for subject, value in pairs}


TOPICS: dict[str, dict[str, str]] = {
    "capitals": CAPITALS | _facts("""
        Turkey: Ankara, Belgium: Brussels, Romania: Bucharest, Bulgaria: Sofia, Serbia: Belgrade, Croatia: Zagreb,
        Ukraine: Kyiv, Scotland: Edinburgh, Wales: Cardiff, Iceland: Reykjavik, Switzerland: Bern, Latvia: Riga,
        Estonia: Tallinn, Lithuania: Vilnius, Slovakia: Bratislava, Slovenia: Ljubljana, Albania: Tirana,
        Cyprus: Nicosia, Malta: Valletta, Armenia: Yerevan, Georgia: Tbilisi, Lebanon: Beirut, Syria: Damascus,
        Jordan: Amman, Qatar: Doha, Oman: Muscat, Yemen: Sanaa, India: Delhi, Pakistan: Islamabad, Nepal: Kathmandu,
        Bangladesh: Dhaka, Thailand: Bangkok, Vietnam: Hanoi, Indonesia: Jakarta, Malaysia: Kuala Lumpur,
        Mongolia: Ulaanbaatar, Afghanistan: Kabul, Australia: Canberra, New Zealand: Wellington, Fiji: Suva,
        Mexico: Mexico City, Chile: Santiago, Argentina: Buenos Aires, Colombia: Bogota, Venezuela: Caracas,
        Ecuador: Quito, Uruguay: Montevideo, Paraguay: Asuncion, Jamaica: Kingston, Haiti: Port-au-Prince,
        Panama: Panama City, Nicaragua: Managua, Morocco: Rabat, Algeria: Algiers, Tunisia: Tunis, Libya: Tripoli,
        Sudan: Khartoum, Ethiopia: Addis Ababa, Somalia: Mogadishu, Uganda: Kampala, Rwanda: Kigali, Ghana: Accra,
        Nigeria: Abuja, Senegal: Dakar, Mali: Bamako, Angola: Luanda, Zambia: Lusaka, Zimbabwe: Harare,
        Mozambique: Maputo, Madagascar: Antananarivo, Namibia: Windhoek, Taiwan: Taipei
    """),
    "symbols": SYMBOLS | _facts("""
        lithium: Li, boron: B, fluorine: F, magnesium: Mg, phosphorus: P, argon: Ar, titanium: Ti, chromium: Cr,
        manganese: Mn, cobalt: Co, nickel: Ni, arsenic: As, bromine: Br, krypton: Kr, iodine: I, xenon: Xe,
        platinum: Pt, mercury: Hg, uranium: U, radium: Ra
    """),
    "animals": KINDS | _facts("""
        pig: mammal, cod: fish, crow: bird, fly: insect, sheep: mammal, carp: fish, robin: bird, butterfly: insect,
        goat: mammal, eel: fish, goose: bird, cricket: insect, wolf: mammal, pike: fish, duck: bird, mosquito: insect,
        tiger: mammal, sardine: fish, hawk: bird, grasshopper: insect
    """),
}  # fmt: skip


def dealt_out(facts: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """Deal facts out to parts of equal size without a common subject; what is left over is in none."""
    subjects = random.Random(0).sample(list(facts), len(facts))
    size = len(subjects) // count
    return [{one: facts[one] for one in subjects[i * size : (i + 1) * size]} for i in range(count)]


def parts_of_topics(count: int) -> list[dict[str, list[Statement]]]:
    """Deal out every topic, and make a true and a false statement of each fact: per part, topic -> statements."""
    parts = {topic: dealt_out(facts, count) for topic, facts in TOPICS.items()}
    return [{topic: paired(FORMS[topic][0], dealt[i]) for topic, dealt in parts.items()} for i in range(count)]
