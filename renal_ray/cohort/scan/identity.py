"""Whether two files are of two persons: by digests of sex, birth date and name, in memory alone."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

SEXES = {"M": "male", "F": "female"}
NO_NAME = re.compile(  # what de-identification and phantoms write in place of a name
    r"anon\w*|deid\w*|deident\w*|unknown|unnamed|none|null|nobody|noname|nomen|na|no|name|patient|subject|case|person|removed|redacted|test|phantom|study|"
    r"volunteer|hidden|withheld|dummy|default|x+|male|female"
)
PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "a", "œ": "o", "ı": "i"}
)
SPELLINGS = (
    ("ph", "f"),
    ("th", "t"),
    ("ck", "k"),
    ("c", "k"),
    ("y", "i"),
    ("j", "i"),
)  # one sound: Stephan and Stefan
OLDEST = "19010101"  # birth dates before it stand for none

Element = TypeVar("Element")


@dataclass(frozen=True)
class Identity:
    """What a header says of the person. Empty where it says nothing.

    Args:
        names: digests of the components of the name, and of components written as one word.
        initials: digests of the first letters of the components.
        given: digests of given and middle name as they sound, and with one letter left out.
        alike: the same with their beginnings, and of the family name.
        scripts: whether the name is written in Latin letters, in others, or in both.
        born: digests of the birth date and of its year.
        vague: whether the birth date is a first of January, as where only the year was kept.
        sex: male or female.
        digest: of name and birth date; equal for what is written equally.
    """

    names: frozenset[bytes] = frozenset()
    initials: frozenset[bytes] = frozenset()
    given: frozenset[bytes] = frozenset()
    alike: frozenset[bytes] = frozenset()
    scripts: frozenset[bool] = frozenset()
    born: tuple[bytes, bytes] = (b"", b"")
    vague: bool = False
    sex: str = ""
    digest: bytes = b""

    def contradicts(self, other: "Identity") -> bool:
        """Whether sex or birth date differ, the names have nothing in common, or the family name
        alone.

        One birth date goes before given names, which may be short forms of one: Hans, Johannes.
        """
        if self.sex and other.sex and self.sex != other.sex:
            return True
        if self.born[0] and other.born[0] and self.born[0] != other.born[0]:
            same_year = self.born[1] == other.born[1]
            if not (same_year and (self.vague or other.vague)):
                return True
        if not self.initials or not other.initials or not self.scripts & other.scripts:
            return False
        if self.names and other.names:
            return not self.names & other.names or (
                not self._born_with(other) and self._is_sibling_of(other)
            )
        return not (self.initials <= other.initials or other.initials <= self.initials)

    def _born_with(self, other: "Identity") -> bool:
        return bool(self.born[0]) and self.born[0] == other.born[0] and not self.vague

    def _is_sibling_of(self, other: "Identity") -> bool:
        """Whether both have given names, of which none is like one of the other's."""
        return (
            bool(self.given and other.given)
            and not self.given & other.alike
            and not other.given & self.alike
        )


NOBODY = Identity()


@lru_cache(maxsize=1 << 14)
def identity(name: str, born: str, sex: str, patient: str) -> Identity:
    """Reads what a header says of the person.

    Args:
        name: PatientName; what stands in place of a name says nothing: words such as ANONYMOUS,
            words with digits, the PatientID.
        born: PatientBirthDate.
        sex: PatientSex.
        patient: PatientID.
    """
    groups = [_components(group, patient) for group in name.split("=")]
    words = [word for group in groups for word in group]
    long = [word for word in words if len(word) > 1 or not word.isascii()]
    given = [word for group in name.split("=") for word in _given(group, patient)]
    joined = (
        {"".join(group[:count]) for group in groups for count in range(2, len(group) + 1)}
        if long
        else set()
    )
    date = born if len(born) == 8 and born.isdecimal() and born >= OLDEST else ""
    return Identity(
        frozenset(map(_digest, {*long, *joined})),
        frozenset(_digest(word[0]) for word in words),
        frozenset(_digest(form) for word in given for form in _forms(word)),
        frozenset(
            map(
                _digest,
                {
                    *map(_sound, long),
                    *(form for word in given for form in (*_forms(word), *_beginnings(word))),
                },
            )
        ),
        frozenset(word.isascii() for word in words),
        (_digest(date), _digest(date[:4])) if date else (b"", b""),
        date.endswith("0101"),
        SEXES.get(sex.upper(), ""),
        _digest(f"{name.upper()}|{date}")
        if date and any(_components(group, "") for group in name.split("="))
        else b"",
    )


def persons(found: Iterable[tuple[Identity, Element]]) -> list[list[Element]]:
    """Parts what lies under one PatientID by person.

    Args:
        found: elements, each with what its header says.

    Returns:
        Elements of each person, in the order they were met; one list where nothing contradicts.
    """
    parts: list[tuple[list[Identity], list[Element]]] = []
    for who, element in found:
        fits = (part for part in parts if not any(who.contradicts(other) for other in part[0]))
        marks, elements = next(fits, ([], []))
        if not marks:
            parts.append((marks, elements))
        if who not in marks:
            marks.append(who)
        elements.append(element)
    return [elements for _, elements in parts]


def _components(group: str, patient: str) -> Sequence[str]:
    """The words of family, given and middle name; prefix and suffix (PS3.5, 6.2.1) name nobody."""
    words = re.split(r"[\W_]+", _folded(" ".join(group.split("^")[:3])))
    own = set(re.split(r"[\W\d_]+", _folded(patient)))
    if "".join(words) == re.sub(r"[\W_]+", "", _folded(patient)):
        return []
    return [
        word
        for word in words
        if word
        and not any(letter.isdigit() for letter in word)
        and not NO_NAME.fullmatch(word)
        and word not in own
    ]


def _given(group: str, patient: str) -> list[str]:
    """Given and middle name; none where the given name is an initial or is not told apart."""
    _, *rest = group.split("^")[:3]
    parts = [
        [word for word in _components(part, patient) if len(word) > 1 or not word.isascii()]
        for part in rest
    ]
    return [word for part in parts for word in part] if parts and parts[0] else []


def _forms(word: str) -> set[str]:
    """A name as it sounds; a long one also with any one letter left out, as a slip would."""
    sound = _sound(word)
    return {sound} | (
        {sound[:place] + sound[place + 1 :] for place in range(len(sound))}
        if len(sound) > 4
        else set()
    )


def _beginnings(word: str) -> set[str]:
    sound = _sound(word)
    return {sound[:count] for count in range(3, len(sound))}


def _sound(word: str) -> str:
    for written, spoken in SPELLINGS:
        word = word.replace(written, spoken)
    return re.sub(r"(.)\1+", r"\1", word)


def _folded(text: str) -> str:
    """Small letters without accents; umlauts written out are as those with dots."""
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(letter)
    )
    return re.sub(r"([aou])e", r"\1", plain.translate(PLAIN))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
