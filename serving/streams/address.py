"""Addresses of streams, and what is there: ``kafka://``, ``kinesis://``, ``file://``, a path, ``-``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

from serving.streams.base import Sink, Source
from undertone.errors import ConfigError

if TYPE_CHECKING:
    from undertone.store import Store

Scheme = Literal["kafka", "kinesis", "file"]

#: What each scheme understands after the question mark. Kafka's names with a dot go to librdkafka as they are.
OPTIONS: dict[str, tuple[str, ...]] = {
    "kafka": ("group", "start", "config"),
    "kinesis": ("group", "start", "region", "endpoint"),
    "file": ("group",),
}
FORMS = "kafka://HOST[:PORT][,…]/TOPIC?group=NAME, kinesis://STREAM?region=NAME, file://PATH, a path, or -"
GROUP = "undertone"
GROUP_CHARS = 40
STANDARD = "-"


@dataclass(frozen=True, slots=True)
class Address:
    """One stream.

    Attributes:
        hosts: of Kafka's brokers, separated by commas.
        name: topic, stream or path.
    """

    scheme: Scheme
    name: str
    hosts: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address that `url` is.

        Raises:
            ConfigError: it is none.
        """
        scheme, colon, rest = url.partition("://")
        if not colon:
            scheme, rest = "file", url
        if scheme == "file":
            path, _, query = rest.partition("?") if colon else (rest, "", "")
            made = cls("file", path, options=_options(url, "file", query))
        elif scheme == "kafka":
            parts = urlsplit(url)
            if "@" in parts.netloc:
                raise ConfigError(
                    "an address without a password: everybody sees it in the list of processes",
                    f"one before {parts.netloc.rpartition('@')[2]}",
                    "write sasl.username and sasl.password into a file, and name it: ?config=FILE",
                )
            made = cls("kafka", parts.path.strip("/"), parts.netloc, _options(url, "kafka", parts.query))
            if not re.fullmatch(r"[^,/\s]+(,[^,/\s]+)*", made.hosts):
                raise ConfigError(
                    "kafka://HOST:PORT/TOPIC", url, "name at least one broker; the port is 9092 unless told"
                )
        elif scheme == "kinesis":
            parts = urlsplit(url)
            made = cls("kinesis", parts.netloc or parts.path.strip("/"), "", _options(url, "kinesis", parts.query))
        else:
            raise ConfigError(FORMS, url, "check the address")
        if not made.name or (scheme != "file" and "/" in made.name):
            raise ConfigError(FORMS, url, "name one topic, stream or file")
        return made

    @property
    def group(self) -> str:
        """Readers of one group share the messages among them."""
        return self.options.get("group", GROUP)

    @property
    def earliest(self) -> bool:
        """Whether a group without a position begins with the oldest message."""
        return self.options.get("start", "earliest") == "earliest"

    def __str__(self) -> str:
        """Without options: safe to show."""
        return f"{self.scheme}://{self.hosts}{'/' if self.hosts else ''}{self.name}"

    def dead_letters(self) -> Address:
        """Where this source's dead letters go unless told otherwise; standard input's: ``-``, standard error."""
        if self.scheme != "file":
            return replace(self, name=f"{self.name}-dead-letters")
        if self.name == STANDARD:
            return Address("file", STANDARD)
        path = Path(self.name)
        return Address("file", str(path.with_name(f"{path.name}-dead-letters.jsonl")))


def _options(url: str, scheme: str, query: str) -> dict[str, str]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in found.items():
        if name not in OPTIONS[scheme] and not (scheme == "kafka" and "." in name):
            raise ConfigError(f"one of {', '.join(OPTIONS[scheme])} in {url}", name, "check the address")
        if not value:
            raise ConfigError(f"a value for {name} in {url}", "none", f"write {name}=VALUE, or leave it out")
    if found.get("start", "earliest") not in ("earliest", "latest"):
        raise ConfigError("start=earliest or start=latest", found["start"], f"check {url}")
    if len(found.get("group", "")) > GROUP_CHARS:
        raise ConfigError(f"a group's name of at most {GROUP_CHARS} characters", found["group"], f"check {url}")
    return found


def open_source(address: Address, store: Store, max_bytes: int) -> Source:
    """The source at `address`; positions of files and Kinesis are kept in `store`.

    Args:
        max_bytes: of one message; what is longer is cut, and refused later.

    Raises:
        ConfigError: there is no such topic, stream or file.
        StreamError: it does not answer.
    """
    match address.scheme:
        case "kafka":
            from serving.streams.kafka import KafkaSource

            return KafkaSource(address)
        case "kinesis":
            from serving.streams.kinesis import KinesisSource

            return KinesisSource(address, store)
        case "file":
            from serving.streams.files import FileSource

            return FileSource(address, store, max_bytes)


def open_sink(address: Address) -> Sink:
    """The sink at `address`.

    Raises:
        ConfigError: there is no such topic or stream, or no folder for the file.
        StreamError: it does not answer.
    """
    match address.scheme:
        case "kafka":
            from serving.streams.kafka import KafkaSink

            return KafkaSink(address)
        case "kinesis":
            from serving.streams.kinesis import KinesisSink

            return KinesisSink(address)
        case "file":
            from serving.streams.files import FileSink

            return FileSink(address.name)
