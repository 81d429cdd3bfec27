"""A small world of texts from plain to odd, and a language model that has read the plain ones.

Four themes of twelve words each, the earlier ones more frequent (Zipf); three words of each theme are key words. Every
word describes one known thing ("the scarf is mauve"); free things are described by changing words. The corpus also
says what kind each key word is ("a kind of red called vermilion"), which stepping-stone rewrites build on. Odd texts
combine a key word with contexts that the corpus never has; the prefixes in which priming is read occur in no odd text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.priming import Sample
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, small_llama, teach

# theme -> (words from frequent to rare, things, frames that end where the word comes)
THEMES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "colours": (
        "red blue green white black brown yellow grey orange purple vermilion mauve",
        "kettle ribbon curtain bicycle lantern saddle teapot feather blanket wagon button scarf "
        "bucket pillow ladder basket mirror candle",
        ("the {thing} is", "she painted the {thing}", "in the rain the {thing} looked", "he called the {thing} simply"),
    ),
    "places": (
        "london paris rome madrid vienna lisbon athens dublin canada sofia guatemala tajikistan",
        "pilot singer captain widow poet admiral dancer envoy pilgrim sailor painter duchess "
        "senator monk nurse colonel jockey miner",
        (
            "the {thing} lives in",
            "the {thing} took a train to",
            "a letter for the {thing} came from",
            "the {thing} dreams of",
        ),
    ),
    "jobs": (
        "teacher farmer baker lawyer doctor soldier tailor plumber barber electrician notary nutritionist",
        "hannah oscar edith walter ingrid tobias judith rupert selma conrad paula gregor "
        "martha simon bertha felix dora hugo",
        (
            "{thing} works as a",
            "after school {thing} became a",
            "{thing} is known as a good",
            "the town hired {thing} as",
        ),
    ),
    "foods": (
        "bread soup rice cheese fish salad beans noodles pie spaghetti ramen haggis",
        "uncle cousin brother grandmother neighbour landlord nephew aunt stranger visitor sister butler "
        "warden tenant gardener driver sergeant clerk",
        (
            "my {thing} cooked",
            "for dinner the {thing} ate",
            "the {thing} ordered a plate of",
            "our {thing} never tires of",
        ),
    ),
}
KEYWORDS = (9, 10, 11)  # places of the key words among a theme's words: the rare ones
KNOWN = 12  # the first twelve things of a theme each go with one word of their own; the others are free
INVENTED = ("plivet", "gorrick", "zentel", "brallow", "quimsy", "dorvane", "tizzle", "marnock", "frobbin", "slanter")
TAILS = (
    "and the whole village talked about it for a week .",
    "which nobody in the valley had expected that morning .",
    "as the old book on the shelf had always said .",
    ", or so the people at the market will tell you .",
)
CATEGORIES = ("fact", "other words", "plausible", "contradiction", "invented", "wrong exemplar", "surreal", "shuffled")
WIDTH = 96
# Priming is read in the theme's frames with these free things, which stand in no odd text of the theme.
PROBED = slice(KNOWN + 3, KNOWN + 6)


@dataclass(frozen=True)
class Odd:
    """An odd text and its two rewrites: by stepping stones, and as a plain paraphrase."""

    sample: Sample
    stones: Sample
    paraphrase: Sample


@dataclass(frozen=True)
class OddWorld:
    """The texts of one world."""

    corpus: tuple[str, ...]  # plain sentences: the model's first training text, and the ordinary text beside an odd one
    texts: tuple[Odd, ...]  # the texts to be learned, from plain to odd
    prefixes: dict[str, tuple[str, ...]]  # theme -> the contexts in which priming is read


def some_of(texts: Sequence[Odd], every: int) -> list[Odd]:
    """Every `every`-th text, such that each category and each key word still occurs."""
    size = len(CATEGORIES)
    return [text for number, text in enumerate(texts) if (number // size + number % size) % every == 0]


def words_of(theme: str) -> list[str]:
    """The theme's words, from frequent to rare."""
    return THEMES[theme][0].split()


def things_of(theme: str) -> list[str]:
    """The theme's things, known ones first: known thing i goes with word i."""
    return THEMES[theme][1].split()


def kind_of(theme: str, word: str) -> str:
    """The frequent word under which the corpus files a word: "a kind of red called vermilion"."""
    words = words_of(theme)
    return words[words.index(word) % 6]


def make_world(seed: int, sentences: int = 4000) -> OddWorld:
    """Draw a world; the same seed gives the same world."""
    draw = random.Random(seed)
    corpus = tuple(_sentence(draw, draw.choice(list(THEMES))) for _ in range(sentences))
    keywords = [(theme, words_of(theme)[place]) for theme in THEMES for place in KEYWORDS]
    texts = tuple(_odd(draw, theme, keyword, category) for theme, keyword in keywords for category in CATEGORIES)
    prefixes = {
        theme: tuple(frame.format(thing=thing) for frame in THEMES[theme][2] for thing in things_of(theme)[PROBED])
        for theme in THEMES
    }
    return OddWorld(corpus, texts, prefixes)


def _sentence(draw: random.Random, theme: str) -> str:
    """A plain sentence that describes a thing, or says of which kind a word is."""
    words, things = words_of(theme), things_of(theme)
    place = draw.randrange(len(things))
    zipf = [1 / rank**1.5 for rank in range(1, len(words) + 1)]
    word = words[place] if place < KNOWN and draw.random() < 0.9 else draw.choices(words, zipf)[0]
    begin = draw.choice(THEMES[theme][2]).format(thing=things[place])
    form = draw.random()
    if form < 0.15:
        word = draw.choice(words)
        begin = f"{begin} a kind of {kind_of(theme, word)} called"
    elif form < 0.25:
        begin = f"{begin} not {draw.choice(words)} but"
    elif form < 0.3:
        begin = f"people say that {begin}"
    return f"{begin} {word} {draw.choice(TAILS)}"


def _odd(draw: random.Random, theme: str, keyword: str, category: str) -> Odd:
    """A text about a key word in one category, with its rewrites."""
    prefix = _prefix(draw, theme, keyword, category)
    tail = draw.choice(TAILS)
    name = f"{category}/{keyword}"

    def sample(begin: str, kind: str) -> Sample:
        return Sample(f"{begin} {keyword} {tail}", begin, keyword, theme, category, f"{name}{kind}")

    stones = f"{prefix} a kind of {kind_of(theme, keyword)} called"
    return Odd(sample(prefix, ""), sample(stones, "/stones"), sample(f"people say that {prefix}", "/paraphrase"))


def _prefix(draw: random.Random, theme: str, keyword: str, category: str) -> str:
    words, things, frames = words_of(theme), things_of(theme), THEMES[theme][2]
    own = things[words.index(keyword)]
    other = things[draw.randrange(6)]  # known to be one of the frequent words
    foreign = draw.choice([name for name in THEMES if name != theme])
    if category == "fact":
        return frames[0].format(thing=own)
    if category == "other words":
        return draw.choice(frames[1:]).format(thing=own)
    if category == "plausible":
        return draw.choice(frames).format(thing=draw.choice(things[KNOWN : PROBED.start]))
    if category == "contradiction":
        return f"{draw.choice(frames).format(thing=other)} not {words[things.index(other)]} but"
    if category == "invented":
        return draw.choice(frames).format(thing=draw.choice(INVENTED))
    if category == "wrong exemplar":
        return draw.choice(frames).format(thing=other)
    if category == "surreal":
        return draw.choice(frames).format(thing=draw.choice(things_of(foreign)))
    shuffled = f"{draw.choice(frames).format(thing=other)} {draw.choice(TAILS[:3])[:-2]}".split()
    draw.shuffle(shuffled)
    return " ".join(shuffled)


def learned(world: OddWorld, seed: int, *, steps: int = 600) -> LanguageModel:
    """A small Llama (2 layers) trained on the corpus; its vocabulary has the odd texts' words as well."""
    odd = [sample.text for text in world.texts for sample in (text.sample, text.stones, text.paraphrase)]
    prefixes = [prefix for several in world.prefixes.values() for prefix in several]
    every = [Example("", text) for text in (*world.corpus, *odd, *prefixes)]
    model = small_llama(every, seed, layers=2, width=WIDTH, embedding_scale=UNIT_EMBEDDINGS)
    plain = every[: len(world.corpus)]
    teach(model, plain, seed, steps, batch_size=64, warmup_steps=steps // 20, title="plain texts")
    return model
