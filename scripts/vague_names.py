"""Counts bindings whose whole name is a word that says nothing of what is bound.

    python scripts/vague_names.py [--list] [FOLDER ...]

A binding is a variable, a parameter, a loop or `with` target, a field, a function or a class.
Exit code 1 where the share is over the limit.
"""

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_WORDS = """
found each place places part parts number numbers left wanted kind kinds words word own given known
kept made here rest taken thing things other others one ones some whole piece pieces what said moved
asked again end now then first last same likely way ways
"""
VAGUE = frozenset(_WORDS.split())
"""Names that need their surroundings to be understood."""
ROOMS = ("shared", "device_client", "cloud_service", "experiments")
LIMIT = 0.02
"""Share of bindings that may have such a name."""


def bindings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module binds, without leading underscores, and its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name.strip("_"), node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name.strip("_"), node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name.strip("_"), node.lineno
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name.strip("_"), node.lineno


def main() -> int:
    """Prints each folder's share; gives 1 where all folders together are over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", default=ROOMS)
    parser.add_argument("--list", action="store_true", help="every vague name with file and line")
    options = parser.parse_args()
    total, vague = 0, Counter[str]()
    for folder in options.folders:
        bound, here = 0, Counter[str]()
        for path in sorted(Path(folder).rglob("*.py")):
            for name, line in bindings(ast.parse(path.read_text("utf-8"))):
                bound += 1
                if name in VAGUE:
                    here[name] += 1
                    if options.list:
                        print(f"{path}:{line}: {name}")
        if bound:
            print(
                f"{folder:32} {here.total():5} of {bound:6,} bindings, {here.total() / bound:.1%}"
            )
        total, vague = total + bound, vague + here
    share = vague.total() / max(total, 1)
    print(f"{'all':32} {vague.total():5} of {total:6,} bindings, {share:.1%} (at most {LIMIT:.0%})")
    print(", ".join(f"{name} {count}" for name, count in vague.most_common(12)))
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
