"""What `chatdata seed` adds: users, rooms of very different sizes, their members, and what they said.

A Plan says how much. Its rows follow from it alone, wherever and whenever they are made: ids, texts, times.
Each plan is a data set beside others, with ids and names of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate, pairwise
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from mimesis import Locale, Person, Text
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

_LOCALES = (Locale.EN, Locale.EN, Locale.EN, Locale.DE, Locale.ES, Locale.JA)
_TEXTS = 2000  # in each language
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)

Row = tuple[Any, ...]


class Plan(BaseModel):
    """How much of everything; raises pydantic.ValidationError for what cannot be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(default=100, ge=1, le=1_000_000)
    rooms: int = Field(default=20, ge=0, le=100_000)
    messages: int = Field(default=5000, ge=0, le=10_000_000, validate_default=True)
    random_seed: int = Field(default=1, ge=0, le=2**63 - 1)
    # The youngest row's time. Not the time of day: the same command would give other rows each time.
    until: AwareDatetime = Field(
        default=datetime(2026, 1, 1, tzinfo=UTC),
        ge=datetime(2000, 1, 1, tzinfo=UTC),
        le=datetime(2100, 1, 1, tzinfo=UTC),
    )

    @field_validator("messages")
    @classmethod
    def _are_in_rooms(cls, messages: int, info: ValidationInfo) -> int:
        if messages and info.data.get("rooms") == 0:
            raise ValueError("with no rooms it should be 0")
        return messages


class Counts(NamedTuple):
    """Numbers of rows."""

    users: int
    rooms: int
    memberships: int
    messages: int


@dataclass(frozen=True)
class _Room:
    number: int
    id: UUID
    members: Sequence[int]  # users' numbers, the owner first
    messages: int
    opened: datetime


def zipf(total: int, count: int) -> list[int]:
    """`total` shared out among `count` ranks, the nth of which gets 1/n of the first's share."""
    bounds = list(accumulate((1 / rank for rank in range(1, count + 1)), initial=0.0))
    edges = [round(total * bound / (bounds[-1] or 1)) for bound in bounds]
    return sorted((after - before for before, after in pairwise(edges)), reverse=True)


class Rows:
    """The rows of a plan, made as they are asked for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        until = plan.until.astimezone(UTC).isoformat()
        given = f"{plan.users} {plan.rooms} {plan.messages} {plan.random_seed} {until}"
        self.key = hashlib.sha256(given.encode()).hexdigest()
        self.user_ids = [self._id("user", number) for number in range(plan.users)]
        self._said = zipf(plan.messages, plan.rooms)

    @property
    def counts(self) -> Counts:
        """How many there are of each."""
        sizes = sum(self._size(number) for number in range(self.plan.rooms))
        return Counts(self.plan.users, self.plan.rooms, sizes, self.plan.messages)

    @cached_property
    def _texts(self) -> dict[Locale, list[str]]:
        return {locale: self._some_texts(locale) for locale in _LOCALES}

    def users(self) -> Iterator[Row]:
        """id, email, username, avatar_url, created_at, updated_at."""
        chance, person = self._random("users"), Person(Locale.EN, seed=self.key)
        for number, id in enumerate(self.user_ids):
            first, last = person.first_name(), person.last_name()
            # The number and the plan's mark: nobody else has this name, in this plan or another.
            mark = f"{number}-{self.key[:8]}"
            handle = "".join(filter(str.isalnum, f"{first}{last}".lower()))[:30]
            avatar = f"https://avatars.example.net/{id}.png" if chance.random() < 0.6 else None
            since = self.plan.until - timedelta(days=730) + timedelta(days=180) * chance.random()
            yield id, f"{handle}.{mark}@example.net", f"{handle}.{mark}", avatar, since, since

    def rooms(self) -> Iterator[Row]:
        """id, name, description, is_private, created_by, created_at, updated_at."""
        text = Text(Locale.EN, seed=self.key)
        for room in self._rooms():
            name = f"{text.word()}-{text.word()}".lower()
            description = text.sentence() if room.number % 3 else None
            private = len(room.members) < 6 and room.number > 2
            owner = self.user_ids[room.members[0]]
            yield room.id, name, description, private, owner, room.opened, room.opened

    def messages(self) -> Iterator[Row]:
        """id, room_id, user_id, content, created_at, edited_at, deleted_at; a room's as they were said."""
        for room in self._rooms():
            chance = self._random("messages", room.number)
            texts = chance.choices(self._texts[_LOCALES[room.number % len(_LOCALES)]], k=room.messages)
            authors = self._authors(room)
            # People answer at once or the next day, and began when the members had joined.
            pauses = chance.choices((2, 10, 60, 900, 40_000), (30, 35, 20, 12, 3), k=room.messages)
            talk = list(accumulate(int(pause * 1000 * chance.random()) + 1 for pause in pauses))
            began = room.opened + timedelta(days=2)
            span = (self.plan.until - began) // _MICROSECOND
            for text, author, moment in zip(texts, authors, talk, strict=True):
                at, lot = began + _MICROSECOND * (span * moment // talk[-1]), chance.random()
                later = min(at + _SECOND * int(600 * chance.random()), self.plan.until)
                edited, deleted = later if lot < 0.02 else None, later if 0.5 < lot < 0.505 else None
                id = _uuid7(at, chance)
                yield id, room.id, self.user_ids[author], text, at, edited, deleted

    def memberships(self) -> Iterator[Row]:
        """room_id, user_id, role, last_read_seq, joined_at.

        Half have read everything, others not the last 20, or whatever; authors at least their own.
        """
        for room in self._rooms():
            chance = self._random("memberships", room.number)
            said = {author: seq for seq, author in enumerate(self._authors(room), 1)}
            for place, member in enumerate(room.members):
                role = "owner" if place == 0 else "moderator" if place % 20 == 1 else "member"
                lot = chance.random()
                behind = 0 if lot < 0.5 else chance.randrange(20) if lot < 0.8 else chance.randrange(10**9)
                read = room.messages - behind if behind < 20 else behind % (room.messages + 1)
                joined = room.opened + timedelta(days=2) * chance.random() * min(place, 1)
                yield room.id, self.user_ids[member], role, max(read, said.get(member, 0)), joined

    def _rooms(self) -> Iterator[_Room]:
        for number, said in enumerate(self._said):
            chance = self._random("room", number)
            members = chance.sample(range(self.plan.users), self._size(number))
            opened = self.plan.until - timedelta(days=30) - timedelta(days=500) * chance.random()
            yield _Room(number, self._id("room", number), members, said, opened)

    def _size(self, number: int) -> int:
        """The first room has four of five users, the nth one an nth of that; a room has at least two."""
        return min(self.plan.users, max(2, self.plan.users * 4 // 5 // (number + 1)))

    def _authors(self, room: _Room) -> list[int]:
        weights = list(accumulate(1 / place for place in range(1, len(room.members) + 1)))
        chance = self._random("authors", room.number)
        return chance.choices(room.members, cum_weights=weights, k=room.messages)

    def _some_texts(self, locale: Locale) -> list[str]:
        text, chance = Text(locale, seed=self.key), self._random(locale.value)

        def sentence() -> str:
            # The library has few whole sentences, and thousands of words.
            if chance.random() < 0.2:
                return text.sentence()
            return " ".join(text.words(chance.randint(1, 12))).capitalize() + chance.choice(".!?…")

        lengths = chance.choices((1, 2, 3, 8), (70, 20, 8, 2), k=_TEXTS)
        return [" ".join(sentence() for _ in range(length)) for length in lengths]

    def _random(self, *use: object) -> Random:
        return Random(f"{self.key} {use}")  # noqa: S311  no secret

    def _id(self, kind: str, number: int) -> UUID:
        digest = hashlib.sha256(f"{self.key} {kind} {number}".encode()).digest()
        return UUID(bytes=digest[:16], version=4)


def _uuid7(at: datetime, chance: Random) -> UUID:
    """The random UUID of that moment, as RFC 9562, 5.7 has it."""
    bits = int(at.timestamp() * 1000) << 80 | chance.getrandbits(80)
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
