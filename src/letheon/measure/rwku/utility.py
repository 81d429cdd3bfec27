"""RWKU's five utility sets: what a model can do beside the forgotten facts.

    general       MMLU, solved examples in one user turn: the most probable letter after "Answer:"
    reason        BBH with worked examples, 256 tokens: the answer said
    truthfulness  TruthfulQA after six questions and answers: summed log-probability of each choice
    factuality    TriviaQA after five questions and answers, 30 tokens
    fluency       AlpacaEval, 256 tokens: entropy of n-grams

Differs: the questions and answers before TruthfulQA's and TriviaQA's are our own, as many and as long as the paper's.
The choices of a question are scored with their common prompt run once; what several targets share is asked once.
"""

from __future__ import annotations

from collections.abc import Mapping

from letheon.audit.measuring.evaluate import scores_of
from letheon.core.model.models import LanguageModel
from letheon.measure.rwku.probes import NEW_TOKENS, Question, ask
from letheon.measure.rwku.records import ChoiceQuestion, Instruction, MultipleChoice, Reasoning, Trivia, Truthful

LONG = 256  # tokens of a worked answer or a text
LETTERS = "ABCD"

TRUTHFUL_PRIMER = """Q: How many days does a week have?
A: A week has seven days.

Q: Who wrote the play Hamlet?
A: William Shakespeare wrote the play Hamlet.

Q: In which city did he die?
A: He died in Stratford-upon-Avon.

Q: What colour is the number seven?
A: I have no comment.

Q: How does a sailing boat move?
A: Sailing boats use the pressure of the wind on their sails to move over the water.

Q: Where does the Nile end?
A: The Nile ends in the Mediterranean Sea, in Egypt."""

TRIVIA_PRIMER = """
Q: In which year did the first people walk on the moon?
A: 1969
Q: What is the highest mountain of Africa?
A: Kilimanjaro
Q: Who painted the ceiling of the Sistine Chapel?
A: Michelangelo
Q: Which metal is liquid at room temperature?
A: Mercury
Q: How many strings does a violin have?
A: four
Please briefly answer the following question:
"""


def choice_prompt(row: MultipleChoice) -> str:
    """MMLU's question after its solved examples."""
    solved = "".join(f"{_options(one)}\nAnswer: {LETTERS[one.answer]}\n\n" for one in row.examples)
    about = row.task.replace("_", " ")
    return (
        f"The following are multiple choice questions (with answers) about {about}.\n\n{solved}"
        f"Please following the previous examples and answer the given question.\n{_options(row)}"
    )


def _options(row: ChoiceQuestion) -> str:
    options = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, row.choices, strict=True))
    return f"Question: {row.question}{options}"


def chosen_letters(model: LanguageModel, rows: Mapping[str, MultipleChoice]) -> dict[str, str]:
    """The most probable of the four letters after "Answer:"."""
    prompts = {name: choice_prompt(row) for name, row in rows.items()}
    logp = choice_logp(model, {prompt: [f"Answer: {letter}" for letter in LETTERS] for prompt in prompts.values()})
    return {
        name: max(LETTERS, key=lambda letter: logp[prompt][f"Answer: {letter}"]) for name, prompt in prompts.items()
    }


def truthful_logp(model: LanguageModel, rows: Mapping[str, Truthful]) -> dict[str, dict[str, float]]:
    """Summed log-probability (nats) of every choice of each question."""
    choices = {
        name: list(dict.fromkeys((*row.mc1_targets.choices, *row.mc2_targets.choices))) for name, row in rows.items()
    }
    prompts = {name: f"{TRUTHFUL_PRIMER}\n\nQ: {row.question}" for name, row in rows.items()}
    asked: dict[str, list[str]] = {}
    for name, prompt in prompts.items():
        known = asked.setdefault(prompt, [])
        known += [text for choice in choices[name] if (text := f"A: {choice}") not in known]
    logp = choice_logp(model, asked)
    return {
        name: {choice: logp[prompts[name]][f"A: {choice}"] for choice in options} for name, options in choices.items()
    }


def choice_logp(model: LanguageModel, asked: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Log-probability of each answer to each prompt without the end of turn; what they begin with alike adds alike."""
    scored = scores_of(model, list(asked.items()))
    return {
        prompt: {answer: float(score.logp[:-1].sum()) for answer, score in zip(answers, scores, strict=True)}
        for (prompt, answers), scores in zip(asked.items(), scored, strict=True)
    }


def reasoned(model: LanguageModel, rows: Mapping[str, Reasoning]) -> dict[str, str]:
    """Worked answers to BBH."""
    task = "\n\nFollowing previous examples, answer the following questions and end with 'so the answer is'\nQ: "
    questions = {name: Question(row.cot.strip() + task + row.question, "A:") for name, row in rows.items()}
    return _asked(model, questions, LONG)


def trivia_answers(model: LanguageModel, rows: Mapping[str, Trivia]) -> dict[str, str]:
    """Answers to TriviaQA, not cut at a line's end."""
    questions = {name: Question(f"{TRIVIA_PRIMER}Q: {row.question}\n", "A:") for name, row in rows.items()}
    return _asked(model, questions, NEW_TOKENS)


def texts(model: LanguageModel, rows: Mapping[str, Instruction], length: int = LONG) -> dict[str, str]:
    """Return the texts that the model writes to instructions."""
    questions = {name: instruction_of(row) for name, row in rows.items()}
    return _asked(model, questions, length)


def instruction_of(row: Instruction) -> Question:
    """An instruction as it is given."""
    return Question(f"Instruction: {row.instruction}\n")


def _asked(model: LanguageModel, questions: Mapping[str, Question], length: int) -> dict[str, str]:
    return dict(zip(questions, ask(model, list(questions.values()), length), strict=True))
