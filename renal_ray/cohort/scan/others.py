"""Whether the name of a mask's file or folder holds the id of another patient or image."""

from collections.abc import Iterable
from itertools import combinations

from renal_ray.cohort.scan.names import (
    IMAGE_WORDS,
    LESION_WORDS,
    MASK_WORDS,
    id_words,
    is_of_organ,
    role_words,
)

Words = tuple[str, ...]
NUMBER = "#"


class OtherIds:
    """Ids that are there, or would be called as they are.

    An id is another's where it stands in the table of labels, or is written as the ids that are
    there with other numbers: P2 beside P1. Leading zeros tell nobody apart.

    Args:
        ids: of the images and patients in the folders, in words.
        labelled: of the table of labels.
    """

    def __init__(self, ids: Iterable[Words], labelled: Iterable[Words]) -> None:
        there = [_plain(words) for words in ids]
        self._known = {*there, *map(_plain, labelled)}
        self._patterns = {_pattern(start) for words in there for start in _starts(words)}

    def stand_in(self, name: str, own: Iterable[Words], *, is_home: bool) -> bool:
        """Whether a name holds an id that is not one of a patient's own.

        Args:
            name: of a file or folder.
            own: ids of the patient.
            is_home: whether a folder has the patient's name: a number there, or an organ's, counts
                pieces.
        """
        words = id_words(name)
        mine = {start for one in own for start in (_plain(one), *_starts(_plain(one)))}
        plain = _plain(words)
        bare = tuple(word for word in words if word not in IMAGE_WORDS | MASK_WORDS | LESION_WORDS)
        for start, end in combinations(range(len(words) + 1), 2):
            run = plain[start:end]
            if run in mine or not (run in self._known or _pattern(run) in self._patterns):
                continue
            if _has_letters(run):
                if not (is_home and is_of_organ(role_words(name))):
                    return True
            elif (
                words[start:end] == bare
                and not is_home
                and (bare == words or self._is_as_long(bare, own))
            ):
                return True
        return False

    @staticmethod
    def _is_as_long(number: Words, own: Iterable[Words]) -> bool:
        """Whether a number in a name has as many digits as an id: mask1 is no patient beside
        4711."""
        return any(list(map(len, number)) == list(map(len, one)) for one in own)


def _plain(words: Words) -> Words:
    """Words of which numbers have no leading zeros."""
    return tuple(str(int(word)) if word.isdecimal() else word for word in words)


def _pattern(words: Words) -> Words:
    return tuple(NUMBER if word.isdecimal() else word for word in words)


def _starts(words: Words) -> list[Words]:
    """What of an id ends in a number: case 1 of case 1 arterial."""
    return [words[: place + 1] for place, word in enumerate(words) if word.isdecimal()]


def _has_letters(words: Words) -> bool:
    return any(not word.isdecimal() for word in words)
