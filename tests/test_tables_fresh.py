"""The tables of figures in docs/ are those of benchmarks/results."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = tables()


@pytest.mark.parametrize("page", TABLES.PAGES)
def test_a_pages_tables_are_fresh(page):
    text = (ROOT / page).read_text("utf-8")
    assert TABLES.MARKED.search(text)
    assert TABLES.fresh(text) == text


def test_every_table_is_shown_once():
    text = "".join((ROOT / page).read_text("utf-8") for page in TABLES.PAGES)
    assert sorted(found[2] for found in TABLES.MARKED.finditer(text)) == sorted(TABLES.TABLES)


def test_a_changed_figure_makes_a_table_stale():
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    figure = next(TABLES.MARKED.finditer(text))[0]
    assert TABLES.fresh(text.replace(figure, figure.replace("1", "2"))) == text
