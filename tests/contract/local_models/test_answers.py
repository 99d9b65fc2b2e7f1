"""The chat model really reads what it is given: nothing here can be passed by text that was written beforehand."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.contract.local_models.support import CHAT, Server, says

TOWER = (
    "The Eiffel Tower stands in Paris. The tower was completed in 1889. It is 330 metres tall. "
    "Gustave Eiffel's company designed it. Bananas are yellow. Visitors climb it because the view is famous."
)
FERRY = "The ferry leaves at seven. Bicycles travel free of charge. Dogs need a lead."
MUSEUM = "The museum opens at nine. Admission is twelve euros. The cafe serves lunch until three."
SOLAR = [
    "Solar panels turn sunlight into electricity.",
    "Their price fell by ninety percent in a decade.",
    "Many countries now build solar farms in deserts.",
    "Batteries store the power for the night.",
    "My aunt bought a red bicycle last week.",
    "Experts expect solar power to be the largest source of electricity by 2040.",
]


def answer(server: Server, messages: list[Any]) -> str:
    content = server.openai().chat.completions.create(model=CHAT, messages=messages).choices[0].message.content
    assert content is not None
    return content


@pytest.mark.parametrize(
    ("context", "question", "right"),
    [
        (TOWER, "Where is the Eiffel Tower?", "The Eiffel Tower stands in Paris."),
        (TOWER, "When was it completed?", "The tower was completed in 1889."),
        (TOWER, "How tall is the tower?", "It is 330 metres tall."),
        (TOWER, "Who designed the tower?", "Gustave Eiffel's company designed it."),
        (TOWER, "What colour are bananas?", "Bananas are yellow."),
        (TOWER, "Why do people visit?", "Visitors climb it because the view is famous."),
        (FERRY, "When does the ferry leave?", "The ferry leaves at seven."),
        (FERRY, "Can I bring my bike?", "Bicycles travel free of charge."),
        (FERRY, "Are pets allowed?", "Dogs need a lead."),
        (MUSEUM, "What does admission cost?", "Admission is twelve euros."),
        (MUSEUM, "Where can I get food?", "The cafe serves lunch until three."),
    ],
)
def test_a_question_is_answered_by_the_right_sentence(server: Server, context: str, question: str, right: str) -> None:
    system = f"You are a helpful assistant. Answer briefly. {context}"
    assert answer(server, says(question, system)) == right
    assert answer(server, says(f"Context:\n{context}\n\nQuestion: {question}")) == right


def test_another_context_gives_another_answer(server: Server) -> None:
    for _ in range(5):
        code, city = secrets.token_hex(4), secrets.choice(["Oslo", "Lima", "Cairo"])
        facts = [f"The access code of the vault is {code}.", f"The vault is in {city}.", "The guard sleeps at noon."]
        secrets.SystemRandom().shuffle(facts)
        context = " ".join(facts)
        assert code in answer(server, says("What is the vault's access code?", context))
        assert city in answer(server, says("Where is the vault?", context))


def test_earlier_turns_are_context(server: Server) -> None:
    turns = [
        {"role": "user", "content": "My sister Ana works as a vet in Porto."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "The train to Madrid takes five hours."},
        {"role": "assistant", "content": "Thanks."},
    ]
    assert answer(server, [*turns, {"role": "user", "content": "Where does my sister work?"}]) == turns[0]["content"]
    assert answer(server, [*turns, {"role": "user", "content": "How long does the train take?"}]) == turns[2]["content"]


@pytest.mark.parametrize(
    "prompt",
    [
        "Summarise this text in two sentences:\n\n{}",
        "Summarize: {}",
        "{}\n\nGive the gist in 2 sentences.",
        "TL;DR\n{}",
    ],
)
def test_a_summary_is_made_of_the_texts_own_central_sentences(server: Server, prompt: str) -> None:
    made = answer(server, says(prompt.format(" ".join(SOLAR))))
    used = [sentence for sentence in SOLAR if sentence in made]
    assert " ".join(used) == made, "only whole sentences of the text, in its order"
    assert len(used) == 2
    assert "bicycle" not in made


def test_a_summary_may_be_asked_for_by_the_system_or_of_an_earlier_turn(server: Server) -> None:
    text = " ".join(SOLAR)
    by_system = answer(server, says(text, "Summarise what the user sends in one sentence."))
    earlier = [{"role": "user", "content": text}, *says("Summarise the above in one sentence.")]
    assert by_system in SOLAR
    assert answer(server, earlier) in SOLAR


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The striker scored two goals and the team won the match.", "sports"),
        ("The parliament voted on the new election law.", "politics"),
        ("The new processor doubles the speed of laptop computers.", "technology"),
        ("The chef roasted the vegetables with garlic and olive oil.", "cooking"),
    ],
)
@pytest.mark.parametrize(
    "prompt",
    [
        "Classify the following text as sports, politics, technology or cooking: {}",
        "Classify the text into one of these categories: sports, politics, technology, cooking.\nText: {}",
        "{}\n\nWhich category fits: sports, politics, technology or cooking?",
        'Labels: ["sports", "politics", "technology", "cooking"]\n{}',
    ],
)
def test_a_text_gets_the_label_nearest_in_meaning(server: Server, prompt: str, text: str, label: str) -> None:
    assert answer(server, says(prompt.format(text))) == label


@pytest.mark.parametrize(
    ("review", "label"),
    [
        ("I love this phone, the screen is wonderful and the battery is great.", "positive"),
        ("Terrible service, the food was cold and disgusting.", "negative"),
    ],
)
def test_labels_may_come_from_the_system(server: Server, review: str, label: str) -> None:
    assert answer(server, says(review, "Classify the sentiment of the review as positive or negative.")) == label


def test_without_a_question_the_most_central_sentence_answers(server: Server) -> None:
    assert answer(server, says(" ".join(SOLAR))) in SOLAR[:4] + SOLAR[5:]


@pytest.mark.parametrize(
    "text", ["?", "...", "!!!", "42", "日本語のテキスト", "🙂", " \n ", "a" * 5_000, "\x00", "a?b?c?"]
)
def test_any_text_at_all_gets_some_answer(server: Server, text: str) -> None:
    assert isinstance(answer(server, says(text)), str)
    assert isinstance(answer(server, says(text, text)), str)
    assert isinstance(answer(server, says(f"Classify as a or b: {text}")), str)
    assert isinstance(answer(server, says(f"Summarise: {text}")), str)


def test_a_long_context_is_read_to_its_end(server: Server) -> None:
    filler = " ".join(f"Shelf number {i} holds old newspapers of that year." for i in range(1, 1_500))
    context = f"{filler} The key to the attic hangs behind the clock."
    assert answer(server, says("Where is the attic key?", context)) == "The key to the attic hangs behind the clock."
