"""Names of data sets and models: given ones are checked, others are made from paths."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_MARKS: Final = frozenset("._+()= -")
_LONGEST_NAME: Final = 64
_ENDINGS = re.compile(r"(\.(csv|tsv|txt|inter|item|gz|parquet))+$")


def _named(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    name = unicodedata.normalize("NFC", name)
    if name != _as_name(name):
        raise ValueError(
            f"the name {name!r} is not one: begin with a letter or a digit, go on with those, "
            "blanks and . _ + - ( ) =, and take 64 at most"
        )
    return name


Name = Annotated[str, BeforeValidator(_named)]


def names_of(data: Sequence[str]) -> list[str]:
    """A name for each log: its file's, with as many of its folders as tell it from the others.

    Where no folder does, the ending stays or a count follows; one file has one name.
    """
    depths = dict.fromkeys(data, 1)
    while True:
        names = {path: _name_of(path, depth) for path, depth in depths.items()}
        shared = Counter(names.values())
        same_name = [
            path
            for path, depth in depths.items()
            if shared[names[path]] > 1
            and is_path(path)  # a named set keeps its name
            and depth < len(Path(path).absolute().parts)
        ]
        if not same_name:
            break
        for path in same_name:
            depths[path] += 1
    files = {name: [path for path in names if names[path] == name] for name in shared}
    for name, paths in files.items():
        matches = [_ENDINGS.search(path.lower()) for path in paths]
        endings = [match[0] if match else "" for match in matches]
        short = name if len(paths) == 1 else _name_of(paths[0], 1)
        for count, (path, ending) in enumerate(zip(paths, endings, strict=True), 1):
            if len(paths) > 1:
                suffix = ending if len(set(endings)) == len(endings) else f"-{count}"
                names[path] = short[: _LONGEST_NAME - len(suffix)] + suffix
    return [names[path] for path in data]


def _name_of(data: str, depth: int) -> str:
    path = Path(data) if depth == 1 else Path(data).absolute()
    text = _ENDINGS.sub("", "-".join(path.parts[-depth:]).replace("/", ""))
    return _as_name(text[-_LONGEST_NAME:]) or "log"


def _as_name(text: str) -> str:
    """`text` as a name: any script's letters and digits, and some marks, but none to begin with."""
    letters = "".join(
        letter if letter in _MARKS or unicodedata.category(letter)[0] in "LMN" else "-"
        for letter in unicodedata.normalize("NFC", text)
    )
    while letters and unicodedata.category(letters[0])[0] not in "LN":
        letters = letters[1:]
    return letters[:_LONGEST_NAME]


def is_path(data: str) -> bool:
    """Whether `data` is a file's path and not the name of a set."""
    return len(Path(data).parts) > 1 or bool(_ENDINGS.search(data.lower()))
