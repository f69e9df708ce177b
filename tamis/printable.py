"""Text of others, made harmless: no file's name may move a terminal's cursor or forge a line of a log."""


def printable(text: str, keep: str = "") -> str:
    """The text with every letter that is not printable escaped, but for those to keep."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )
