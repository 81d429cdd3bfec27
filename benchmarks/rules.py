"""How well standing rules are told from other sentences, on turns that nothing was made on.

    python -m benchmarks.rules [--json] [--model smollm2] [--errors] [--turns FILE] [--train]

`benchmarks/standing_rules/held_out.jsonl` holds user turns in varied registers: half of them hold a rule for all
later answers, half do not (facts, requests for one answer, questions, other people's rules, stories). They were
written before the recogniser, whose cues and weights come from `development.jsonl`. A rule counts as found if it is
stored verbatim. `cues` sees the wording alone, `both` also the sentence's embedding (all-MiniLM-L6-v2); `--model`
asks a language model instead, once per sentence. `--train` fits the head anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from letheon.recall import instructions
from letheon.recall.embedders import Embedder, load_embedder
from letheon.recall.instructions import Recogniser, RuleHead, asking_model, head_inputs, spoken, standing_rules
from letheon.recall.rule_cues import CUES

FOLDER = Path(__file__).parent / "standing_rules"
STRENGTH = 0.3  # of the fit: the inverse of the L2 penalty, chosen by cross-validation on the development list


def read_turns(path: Path) -> list[tuple[str, list[str]]]:
    """Read turns with the rules that they hold, verbatim: JSON Lines of `text` and `rules`."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [(row["text"], row["rules"]) for row in rows]


def score(turns: Sequence[tuple[str, Sequence[str]]], recognise: Recogniser) -> dict[str, float | list[str]]:
    """Return precision and recall over rules, with those that were missed and those that are none."""
    right, missed, wrong = 0, list[str](), list[str]()
    for text, rules in turns:
        found = standing_rules(text, recognise)
        right += len(set(found) & set(rules))
        missed += [rule for rule in rules if rule not in found]
        wrong += [rule for rule in found if rule not in rules]
    precision, recall = right / max(right + len(wrong), 1), right / max(right + len(missed), 1)
    return {"precision": precision, "recall": recall, "missed": missed, "wrong": wrong}


def fit(turns: Sequence[tuple[str, Sequence[str]]], embedder: Embedder | None) -> NDArray[np.float32]:
    """Fit the head by logistic regression and return its weights, the bias last."""
    from sklearn.linear_model import LogisticRegression

    said = [(sentence, any(sentence in rule for rule in rules)) for text, rules in turns for sentence in spoken(text)]
    head = LogisticRegression(C=STRENGTH, max_iter=5000)
    head.fit(head_inputs([sentence for sentence, _ in said], embedder), [rule for _, rule in said])
    return np.append(head.coef_[0], head.intercept_).astype(np.float32)


def train(embedder: Embedder) -> None:
    """Fit both heads to the development list and write their weights into the package."""
    from safetensors.numpy import save_file

    turns = read_turns(FOLDER / "development.jsonl")
    weights = {"cues": fit(turns, None), "both": fit(turns, embedder)}
    path = Path(instructions.__file__).parent / instructions.WEIGHTS
    save_file(weights, path, metadata={"cues": " ".join(CUES)})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument("--turns", type=Path, default=FOLDER / "held_out.jsonl", help="JSON Lines of text and rules")
    options.add_argument("--model", help="also ask a language model")
    options.add_argument(
        "--errors", action="store_true", help="name the rules that were missed, and those that are none"
    )
    options.add_argument("--train", action="store_true", help="fit the head anew and write its weights")
    chosen = options.parse_args()
    embedder = load_embedder("minilm")
    if chosen.train:
        train(embedder)
    recognisers: dict[str, Recogniser] = {"cues": RuleHead(), "both": RuleHead(embedder)}
    if chosen.model:
        from letheon.core.model.models import load
        from letheon.recall.conversation import model_answers

        recognisers[chosen.model] = asking_model(model_answers(load(chosen.model), 3))
    turns = read_turns(chosen.turns)
    figures = {name: score(turns, recognise) for name, recognise in recognisers.items()}
    if not chosen.errors:
        figures = {name: {key: one[key] for key in ("precision", "recall")} for name, one in figures.items()}
    print(json.dumps(figures, ensure_ascii=False, indent=None if chosen.json else 1))


if __name__ == "__main__":
    main()
