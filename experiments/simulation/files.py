"""Files that a reader sees whole or not at all."""

import tempfile
from os import fdopen
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes beside `path` and renames: a reader sees the old file or the new one.

    Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
