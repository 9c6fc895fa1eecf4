"""Kinesis by boto3: shards are shared out among workers by leases in the store, which keeps the positions too.

A shard that was split or merged ends; its children are read when their parents are done
(https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html). Records that the Kinesis
Producer Library aggregated are not taken apart.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import select

from serving.streams.address import Address
from serving.streams.base import Lag, Record, Row, StreamError
from serving.streams.positions import Positions
from undertone import lease
from undertone.errors import ConfigError, DecisionError, StoreError
from undertone.schema import leases
from undertone.store import Store

log = logging.getLogger("undertone.serving")

#: Position of a shard that ended and was read to its end.
END = "END"
#: Seconds between two looks at shards and readers.
SHARE_S = 5.0
#: Seconds after which a reader that is gone loses its shards; on one machine at once.
LEASE_S = 30.0
#: Seconds between two reads of one shard: five a second are allowed, for all groups together.
READ_S = 0.25
#: What one call may write: records, and bytes with their keys.
WRITE_ROWS, WRITE_BYTES = 500, 4_000_000
#: Tries to write rows that a full shard refused.
TRIES = 5

_NEXT = "check region, endpoint, network and what the credentials allow"


@dataclass(eq=False)
class _Shard:
    """A shard in this reader's hands.

    Attributes:
        release: gives the lease back.
        position: sequence number of the last record that was read; empty: none yet.
        behind_s: seconds between the last read and the newest record.
        ended: there is nothing behind the last record that was read.
    """

    id: str
    holder: str
    release: ExitStack
    position: str = ""
    iterator: str | None = None
    next_read: float = 0.0
    behind_s: float = 0.0
    ended: bool = False


@dataclass
class KinesisBatch:
    """Records, and the position of each shard behind them."""

    records: Sequence[Record]
    source: KinesisSource = field(repr=False)
    positions: dict[str, str] = field(default_factory=dict)

    def ack(self) -> None:
        """See `Batch.ack`."""
        self.source.done(self.positions)


class KinesisSource:
    """One of the workers that read a stream for a group, from the first poll on.

    Raises:
        ConfigError: there is no such stream, or no region or credentials.
        StreamError: the stream does not answer.
    """

    def __init__(self, address: Address, store: Store) -> None:
        self._address = address
        self._store = store
        self._client = _client(address)
        with _translated(address):
            self._client.describe_stream_summary(StreamName=address.name)
        self._lease = f"stream/{address.group}/{address.name}/"
        self._positions = Positions(store, address.group, f"{address}@{self._client.meta.region_name}")
        self._shards: dict[str, _Shard] = {}
        self._next_share = 0.0
        self._member: ExitStack | None = None

    def poll(self, limit: int, timeout_s: float) -> KinesisBatch:
        """See `Source.poll`. A stream has no end."""
        until = time.monotonic() + timeout_s
        while True:
            if time.monotonic() >= self._next_share:
                self._share()
                self._next_share = time.monotonic() + SHARE_S
            batch = KinesisBatch([], self)
            records: list[Record] = []
            for shard in sorted(self._shards.values(), key=lambda shard: shard.next_read):
                if len(records) == limit or time.monotonic() < shard.next_read:
                    continue
                try:
                    found = self._read(shard, limit - len(records))
                except StreamError:
                    if records:
                        break  # these first; it will tell again
                    raise
                records += found
                if found or shard.ended:
                    batch.positions[shard.id] = END if shard.ended else shard.position
            batch.records = records
            if not records and batch.positions:
                batch.ack()  # shards that ended without another record
            soonest = min((shard.next_read for shard in self._shards.values()), default=self._next_share)
            pause = min(until, soonest, self._next_share) - time.monotonic()
            if records or time.monotonic() >= until:
                return batch
            time.sleep(max(0.0, pause))

    def _read(self, shard: _Shard, limit: int) -> list[Record]:
        shard.next_read = time.monotonic() + READ_S
        try:
            with _translated(self._address):
                shard.iterator = shard.iterator or self._iterator(shard)
                answer = self._client.get_records(ShardIterator=shard.iterator, Limit=limit)
        except StreamError as error:
            shard.iterator = None  # it may have expired
            log.debug("shard %s: %s", shard.id, error)
            if _code(error) in ("ExpiredIteratorException", "ProvisionedThroughputExceededException"):
                return []
            raise
        shard.iterator = answer.get("NextShardIterator")
        shard.ended = shard.iterator is None
        shard.behind_s = answer.get("MillisBehindLatest", 0) / 1_000
        found = answer["Records"]
        if found:
            shard.position = found[-1]["SequenceNumber"]
        return [self._record(shard, item) for item in found]

    def _iterator(self, shard: _Shard) -> str:
        if shard.position:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": shard.position}
        else:
            where = {"ShardIteratorType": "TRIM_HORIZON" if self._address.earliest else "LATEST"}
        answer = self._client.get_shard_iterator(StreamName=self._address.name, ShardId=shard.id, **where)
        return str(answer["ShardIterator"])

    def _record(self, shard: _Shard, item: dict[str, Any]) -> Record:
        place = f"{self._address.name}/{shard.id}/{item['SequenceNumber']}"
        return Record(item["Data"], place, place[-200:])

    def done(self, positions: dict[str, str]) -> None:
        """Remember positions of shards that are still this reader's; give back those that ended."""
        mine = {
            id: value
            for id, value in positions.items()
            if id in self._shards and self._store.holder(self._lease + id) == self._shards[id].holder
        }
        self._positions.write(mine)
        for id in positions:
            if id not in mine and id in self._shards:
                log.warning("%s: shard %s moved on; its messages come again", self._address, id)
            if id not in mine or mine[id] == END:
                self._give_back(id)
                self._next_share = 0.0

    def _share(self) -> None:
        """Hold a fair share of the shards that can be read now. Nothing is under way here: all was acknowledged."""
        if self._member is None:
            member = ExitStack()
            member.enter_context(lease.hold(self._store, f"{self._lease}reader/{uuid.uuid4().hex}", LEASE_S))
            self._member = member
        positions = self._positions.read()
        with _translated(self._address):
            listed = self._listed()
        open_now = [id for id, parents in listed.items() if _readable(id, parents, listed, positions)]
        fair = math.ceil(len(open_now) / max(1, self._readers()))
        for id in [id for id in self._shards if id not in open_now]:
            self._give_back(id)
        while len(self._shards) > fair:
            self._give_back(next(iter(self._shards)))
        for id in open_now:
            if id not in self._shards and len(self._shards) < fair:
                self._take(id)

    def _take(self, id: str) -> None:
        release = ExitStack()
        try:
            holder = release.enter_context(lease.hold(self._store, self._lease + id, LEASE_S))
        except DecisionError:
            return  # another reader has it
        # read behind the lease: its last holder may have gone on until a moment ago
        position = self._positions.read().get(id, "")
        if position == END:
            release.close()
            return
        self._shards[id] = _Shard(id, holder, release, position)
        log.info("%s: this reader has %d shards now", self._address, len(self._shards))

    def _give_back(self, id: str) -> None:
        shard = self._shards.pop(id, None)
        if shard is not None:
            with suppress(StoreError):  # the lease runs out by itself
                shard.release.close()

    def _readers(self) -> int:
        now = datetime.now(UTC)
        prefix = f"{self._lease}reader/"
        with self._store.reading() as connection:
            names = connection.execute(select(leases.c.name).where(leases.c.name.startswith(prefix, autoescape=True)))
            found = names.scalars().all()
        return sum(lease.live(self._store, name, now) for name in found)

    def _listed(self) -> dict[str, tuple[str, ...]]:
        """Every shard with its parents."""
        asked: dict[str, Any] = {"StreamName": self._address.name}
        found: dict[str, tuple[str, ...]] = {}
        while asked:
            answer = self._client.list_shards(**asked)
            for shard in answer["Shards"]:
                parents = shard.get("ParentShardId"), shard.get("AdjacentParentShardId")
                found[shard["ShardId"]] = tuple(parent for parent in parents if parent)
            asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        return found

    def hold(self) -> None:
        """See `Source.hold`: leases are renewed in threads of their own."""

    def lag(self) -> Lag:
        """See `Source.lag`: seconds of the shard that is furthest behind, as of its last read."""
        return Lag(seconds=max((shard.behind_s for shard in self._shards.values()), default=0.0))

    def progress(self) -> None:
        """See `Source.progress`."""

    def close(self) -> None:
        """See `Source.close`."""
        for id in list(self._shards):
            self._give_back(id)
        with suppress(StoreError):
            if self._member is not None:
                self._member.close()
        self._client.close()


class KinesisSink:
    """Puts rows into a stream. The message's id is the partition key.

    Raises:
        ConfigError: there is no such stream, or no region or credentials.
        StreamError: the stream does not answer.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client = _client(address)
        with _translated(address):
            self._client.describe_stream_summary(StreamName=address.name)

    def write(self, rows: Sequence[Row]) -> None:
        """See `Sink.write`."""
        records = [{"Data": row.value, "PartitionKey": row.id} for row in rows]
        for part in _parts(records):
            self._put(part)

    def _put(self, records: list[dict[str, Any]]) -> None:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(0.1 * 2**attempt)
            with _translated(self._address):
                answer = self._client.put_records(StreamName=self._address.name, Records=records)
            refused = [(record, told) for record, told in zip(records, answer["Records"], strict=True)
                       if told.get("ErrorCode")]  # fmt: skip
            if not refused:
                return
            records = [record for record, _ in refused]
        told = refused[0][1]
        raise StreamError(
            f"rows taken by {self._address}",
            f"{told['ErrorCode']}: {told.get('ErrorMessage', '')} for {len(records)}",
            "add shards, or wait",
        )

    def close(self) -> None:
        """See `Sink.close`."""
        self._client.close()


def _readable(id: str, parents: Sequence[str], listed: dict[str, Any], positions: dict[str, str]) -> bool:
    """Whether a shard is not done, and all its parents are done, or so old that they are gone."""
    return positions.get(id) != END and all(positions.get(parent) == END for parent in parents if parent in listed)


def _parts(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for record in records:
        more = len(record["Data"]) + len(record["PartitionKey"].encode())
        if part and (len(part) == WRITE_ROWS or size + more > WRITE_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += more
    if part:
        yield part


def _client(address: Address) -> Any:
    try:
        return boto3.client(
            "kinesis",
            region_name=address.options.get("region"),
            endpoint_url=address.options.get("endpoint"),
            config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 3}),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"a region for {address}", str(error), "add ?region=NAME, or set AWS_REGION; credentials come from boto3"
        ) from error


@contextmanager
def _translated(address: Address) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        if told.get("Code") == "ResourceNotFoundException":
            raise ConfigError(
                f"a stream {address.name}", str(told.get("Message")), "make it, or check region"
            ) from error
        raise StreamError(f"an answer from {address}", f"{told.get('Code')}: {told.get('Message')}", _NEXT) from error
    except BotoCoreError as error:
        raise StreamError(f"an answer from {address}", f"{type(error).__name__}: {error}", _NEXT) from error


def _code(error: StreamError) -> str:
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
