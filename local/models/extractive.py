"""``extractive-v1``: a chat model that answers in the words of the conversation it is given.

What it is asked for decides how it answers:

* to classify: the offered label whose meaning is nearest to the text;
* to summarise: the sentences nearest to the middle of the text, without repeating themselves;
* anything else: the sentence of the context (system text, earlier turns, the rest of the
  question's own message) that fits the question best;
* nothing fits: the most central sentence of what it was given.

Every answer is computed from embeddings, so another context gives another answer, and the same
request always gives the same one. There is nothing to sample: a temperature has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from local.models import prompts
from local.models.embeddings import Embedder, FloatArray, unit
from local.models.text import content_words, sentences
from local.models.tools import ToolCall, facts

Role = Literal["system", "user", "assistant", "tool"]

# Weights of the question score, and the least score that still counts as an answer. Words count
# most, because the mean vector of a sentence blurs its details.
_WORD_WEIGHT = 0.65
_SENTENCE_WEIGHT = 0.35
_KIND_BONUS = 0.3
_LEAST_SCORE = 0.2
# From this likeness on, two words are taken for the same ("bike", "bikes").
_SAME_WORD = 0.8
# "It is 330 metres tall" speaks of what the sentence before it named.
_PRONOUN = re.compile(r"\b(?:it|its|they|them|their|he|him|his|she|her)\b", re.IGNORECASE)
_INHERITED = 0.8
# How much a summary gives up of closeness to the middle to say something new.
_NOVELTY = 0.35
# A label is judged by the few words nearest to it, since these say more than the mean of a long text.
_NEAR_WORDS = 3


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, as plain text.

    ``calls`` are what an assistant had called; ``call_id`` says which of them a turn of the role ``tool`` answers.
    """

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


class ExtractiveModel:
    """Answers conversations from their own text; deterministic and safe to share between threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def answer(self, turns: Sequence[Turn]) -> str:
        """The answer to the last user turn; empty only when the conversation holds no text at all."""
        if not turns:
            return ""
        asked = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
        message = turns[asked].text
        others = [turn.text for i, turn in enumerate(turns) if i != asked]
        system = "\n".join(turn.text for turn in turns if turn.role == "system")
        return (
            self._classified(message, system, others)
            or self._summarised(message, system, others)
            or self._answered(message, others)
        )

    def report(self, turns: Sequence[Turn]) -> str:
        """What the tools that answered last have to say to the question; empty when none has."""
        question, results = asked(turns), answered(turns)
        calls = {call.id: call for turn in turns for call in turn.calls}
        told = (self._told(question, result.text, calls.get(result.call_id or "")) for result in results)
        return " ".join(part for part in told if part)

    def _told(self, question: str, result: str, call: ToolCall | None) -> str:
        said = facts(result, call)
        if said != [result]:
            return " ".join(said)
        pool = sentences(result)
        return self.best_sentence(question, pool) or " ".join(self.summarise(pool, 1))

    def classify(self, text: str, labels: Sequence[str]) -> str:
        """The label nearest in meaning to ``text``."""
        subject = content_words(text)
        whole = self._sentence_vectors([text])[0]
        names = self._sentence_vectors(labels)
        near = np.sort(names @ self._embedder.embed(subject).T, axis=1)[:, -_NEAR_WORDS:].mean(axis=1)
        return labels[int(np.argmax(near + names @ whole))]

    def summarise(self, text: Sequence[str], count: int) -> list[str]:
        """``count`` sentences of ``text`` in their order: near the middle, far from each other."""
        if not text:
            return []
        vectors = self._sentence_vectors(text)
        central = vectors @ unit(vectors.mean(axis=0, keepdims=True))[0]
        repeats = np.zeros(len(text), dtype=np.float32)
        chosen: list[int] = []
        while len(chosen) < min(count, len(text)):
            gain = (1 - _NOVELTY) * central - _NOVELTY * repeats
            gain[chosen] = -np.inf
            chosen.append(int(np.argmax(gain)))
            repeats = np.maximum(repeats, vectors @ vectors[chosen[-1]])
        return [text[i] for i in sorted(chosen)]

    def best_sentence(self, question: str, candidates: Sequence[str]) -> str | None:
        """The candidate that answers ``question`` best; ``None`` when none comes near it."""
        if not candidates:
            return None
        whole = self._sentence_vectors(candidates) @ self._sentence_vectors([question])[0]
        score = _WORD_WEIGHT * self._word_fit(question, candidates) + _SENTENCE_WEIGHT * whole
        fits = np.array([prompts.fits_kind(question, candidate) for candidate in candidates])
        best = int(np.argmax(score + _KIND_BONUS * fits))
        return candidates[best] if score[best] >= _LEAST_SCORE else None

    def _classified(self, message: str, system: str, others: Sequence[str]) -> str | None:
        if task := prompts.classification(message):
            return self.classify(task.rest or " ".join(others) or message, task.labels)
        if task := prompts.classification(system):
            return self.classify(message, task.labels)
        return None

    def _summarised(self, message: str, system: str, others: Sequence[str]) -> str | None:
        if task := prompts.summary(message):
            text = task.text or prompts.statements([s for other in others for s in sentences(other)])
        elif (task := prompts.summary(system)) and not message.rstrip().endswith("?"):
            text = sentences(message)
        else:
            return None
        count = task.count or max(1, min(3, (len(text) + 2) // 3))
        return " ".join(self.summarise(text, count)) or None

    def _answered(self, message: str, others: Sequence[str]) -> str:
        own = sentences(message)
        question = prompts.question(own)
        around = [s for other in others for s in sentences(other)]
        candidates = prompts.statements([*around, *own], besides=question)
        if question and (best := self.best_sentence(question, candidates)):
            return best
        pool = candidates or own or around
        return self.summarise(pool, 1)[0] if pool else message

    def _word_fit(self, question: str, candidates: Sequence[str]) -> FloatArray:
        """How well each candidate covers the question's words, rare words counting more; (n,)."""
        asked = list(dict.fromkeys(content_words(question)))
        bags = [content_words(candidate) for candidate in candidates]
        vocabulary = sorted({word for bag in bags for word in bag})
        column = {word: i for i, word in enumerate(vocabulary)}
        likeness = self._embedder.embed(asked) @ self._embedder.embed(vocabulary).T
        cover = np.stack([likeness[:, [column[word] for word in bag]].max(axis=1, initial=0) for bag in bags])
        holding = (cover >= _SAME_WORD).sum(axis=0)
        for i in range(1, len(candidates)):
            if _PRONOUN.search(candidates[i]):
                cover[i] = np.maximum(cover[i], _INHERITED * cover[i - 1])
        rarity = np.log1p(len(bags) / (0.5 + holding)).astype(np.float32)
        fit: FloatArray = cover @ rarity / max(float(rarity.sum()), 1e-6)
        return fit

    def _sentence_vectors(self, texts: Sequence[str]) -> FloatArray:
        return self._embedder.embed([" ".join(content_words(text)) for text in texts])


def asked(turns: Sequence[Turn]) -> str:
    """What the user said last; empty when the user said nothing."""
    return next((turn.text for turn in reversed(turns) if turn.role == "user"), "")


def answered(turns: Sequence[Turn]) -> list[Turn]:
    """The answers of tools since the user spoke last."""
    last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=-1)
    return [turn for turn in turns[last + 1 :] if turn.role == "tool"]
