"""Names of files and classes as text that any terminal, table or database takes."""

_JOINERS = "\u200d\ufe0f"  # zero-width joiner and variation selector: parts of many emoji


def shown(name: str) -> str:
    """A name on one line in valid Unicode: undecodable bytes, newlines and other control characters as escapes."""
    return "".join(
        character if character.isprintable() or character in _JOINERS else _escape(character) for character in name
    )


def names_in(text: str | None) -> list[str]:
    """The names in a text with commas between, as params.yaml lists columns."""
    return [] if text is None else [name.strip() for name in text.split(",")]


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
