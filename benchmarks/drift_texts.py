"""The messages of `benchmarks.drift`: real ones, changed copies of real ones, and written foreign ones; scored once.

What is made up, and how: `lower` is the text in lower case, `cut` its first 40 characters, `slang` has one of three
invented words in one of six phrases, `foreign` are Spanish, German and French sentences put together from the parts
below (nobody translated a tweet). Channels and segments are drawn from a hash of the text, for tweets and airline
messages alike, so that no segment gives the domain away; foreign messages are all of one segment.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.drift_models import RECIPES, model_folder, unused
from undertone.engine import Engine
from undertone.form import form, languages
from undertone.tasks import get_task

SPEC = get_task("sentiment")
SEGMENTS = ("enterprise", "growth", "partner", "pay_per_use", "starter")
CHANNELS = ("chat", "email", "social")
#: The segment whose messages turn foreign.
ABROAD = "growth"
#: The unused tweets with the lowest numbers are those that have changed copies; references are drawn from the others.
CHANGED, SLANG, FOREIGN, CUT = 2_000, 1_500, 600, 40
#: How many tweets and airline messages are scored at most.
TWEETS, AIRLINE = 20_000, 8_000
BATCH = 2_048

_WORDS = ("zorped", "blimbo", "quexy")
_PHRASES = ("that's so {}", "totally {} lol", "feeling {} rn", "this is {}", "{} as always", "so so {}")
_PARTS = {
    "es": (
        ("Hola,", "Buenas,", "Oigan,", "Disculpen,", "Una pregunta:", "Otra vez lo mismo:"),
        ("mi pedido", "la factura de este mes", "mi vuelo de mañana", "la aplicación", "el paquete", "su servicio"),
        ("todavía no llega", "no funciona desde ayer", "está equivocada otra vez", "llegó muy rápido y perfecto",
         "es un desastre", "me parece excelente"),
        ("¿me pueden ayudar?", "muchas gracias por todo.", "quiero hablar con alguien.", "espero una respuesta hoy."),
    ),
    "de": (
        ("Hallo,", "Guten Tag,", "Leute,", "Entschuldigung,", "Eine Frage:", "Schon wieder:"),
        ("meine Bestellung", "die Rechnung", "mein Flug morgen", "die neue App", "das Paket", "euer Kundendienst"),
        ("ist immer noch nicht da", "funktioniert seit gestern nicht", "ist leider falsch",
         "war wirklich schnell und gut", "ist eine Katastrophe", "gefällt mir sehr"),
        ("könnt ihr mir bitte helfen?", "vielen Dank dafür!", "ich möchte mit jemandem sprechen.", "ich warte noch."),
    ),
    "fr": (
        ("Bonjour,", "Salut,", "Dites,", "Excusez-moi,", "Une question :", "Encore une fois :"),
        ("ma commande", "la facture du mois", "mon vol de demain", "votre application", "le colis", "votre service"),
        ("n'est toujours pas là", "ne marche plus depuis hier", "est encore une fois faux",
         "est arrivé très vite, parfait", "est une catastrophe", "me plaît beaucoup"),
        ("pouvez-vous m'aider ?", "merci beaucoup pour tout.", "je veux parler à quelqu'un.", "j'attends une réponse."),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Every message with what one model says of it.

    Attributes:
        name: the model's.
        table: kind (tweet, airline, lower, cut, slang, foreign), message_id, text, truth (None for foreign), form
            features, language, channel, segment, label, confidence; a changed copy has the number of its tweet in `of`.
        probabilities: float64 [n, labels]. embeddings: float32 [n, hidden], through float16 as they are stored.
    """

    name: str
    table: pd.DataFrame
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]

    def numbers(self, kind: str) -> NDArray[np.int64]:
        """Row numbers of one kind."""
        return np.flatnonzero(self.table["kind"].to_numpy() == kind)


def texts(sentiment: Path, stream: Path, cache: Path) -> pd.DataFrame:
    """Every message with its form and language; made once."""
    target = cache / "texts.parquet"
    if target.is_file():
        return pd.read_parquet(target)
    tweets = unused(sentiment).rename(columns={"label": "truth"}).assign(kind="tweet").iloc[:TWEETS]
    airline = pd.read_csv(stream, dtype=str).drop_duplicates("message_id").drop_duplicates("text")
    airline = airline.rename(columns={"label": "truth"})[["text", "truth"]].assign(kind="airline")
    airline = airline.sample(min(AIRLINE, len(airline)), random_state=0)
    first = tweets.iloc[:CHANGED]
    changed = [
        first.assign(kind="lower", text=first["text"].str.lower(), of=range(len(first))),
        first.assign(kind="cut", text=first["text"].str[:CUT], of=range(len(first))),
        first.iloc[:SLANG].assign(
            kind="slang", text=[_slang(text) for text in first["text"].iloc[:SLANG]], of=range(min(SLANG, len(first)))
        ),
    ]
    foreign = pd.DataFrame({"text": list(_foreign()), "kind": "foreign"})
    table = pd.concat([tweets, airline, *changed, foreign], ignore_index=True)
    table["of"] = table["of"].fillna(-1).astype(int)
    table["message_id"] = [f"m{number:06d}" for number in range(len(table))]
    table = pd.concat([table, pd.DataFrame([form(text) for text in table["text"]])], axis=1)
    table["language"] = languages(table["text"].tolist())
    keys = [hashlib.sha256(text.encode()).digest() for text in table["text"]]
    table["channel"] = [CHANNELS[key[0] % len(CHANNELS)] for key in keys]
    table["segment"] = [SEGMENTS[key[1] % len(SEGMENTS)] for key in keys]
    table.loc[table["kind"] == "foreign", "segment"] = ABROAD
    table.to_parquet(target)
    return table


def scored(sentiment: Path, stream: Path, cache: Path, threads: int) -> Iterator[Scored]:
    """One model after another: trained and scored where the cache does not hold it."""
    table = texts(sentiment, stream, cache)
    for recipe in RECIPES:
        target = cache / f"scores-{recipe.name}.npz"
        if not target.is_file():
            engine = Engine(model_folder(recipe, sentiment, cache, threads), threads)
            started = time.perf_counter()
            parts = list(_score(engine, table["text"].tolist(), recipe.name))
            np.savez(
                target,
                probabilities=np.concatenate([part[0] for part in parts]),
                embeddings=np.concatenate([part[1] for part in parts]),
                seconds=time.perf_counter() - started,
            )
        arrays = np.load(target)
        probabilities = arrays["probabilities"].astype(np.float64)
        labels = np.array(SPEC.labels, dtype=object)[probabilities.argmax(axis=1)]
        own = table.assign(label=labels, confidence=probabilities.max(axis=1))
        yield Scored(recipe.name, own, probabilities, arrays["embeddings"].astype(np.float32))


def _score(engine: Engine, texts: list[str], name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    from rich.console import Console
    from rich.progress import track

    starts = range(0, len(texts), BATCH)
    for start in track(starts, f"model {name} scores {len(texts):,} messages", console=Console(stderr=True)):
        scores = engine.score(texts[start : start + BATCH])
        yield scores.probabilities, scores.embeddings.astype(np.float16)


def _slang(text: str) -> str:
    number = hashlib.sha256(text.encode()).digest()[2]
    phrase = _PHRASES[number % len(_PHRASES)].format(_WORDS[number // len(_PHRASES) % len(_WORDS)])
    return f"{text} {phrase}" if number % 2 else f"{phrase} {text}"


def _foreign() -> Iterable[str]:
    every = [" ".join(parts) for choices in _PARTS.values() for parts in itertools.product(*choices)]
    return np.random.default_rng(0).permutation(every)[:FOREIGN].tolist()
