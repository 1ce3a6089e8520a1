"""Names of ROIs and segments, as they are compared."""

import unicodedata


def plain_name(text: str) -> str:
    """A name in one form: composed letters (Unicode NFC), and one blank for each run of them.

    Args:
        text: as it stands.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def folded_name(text: str) -> str:
    """The same without regard to case.

    Args:
        text: as it stands.
    """
    return unicodedata.normalize("NFC", plain_name(text).casefold())
