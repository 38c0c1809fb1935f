"""What becomes of the publishers' archives: which lines count, at what time, under what title."""

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from cloud_service.recommender.data.catalog import fetch
from cloud_service.recommender.data.log import read_titles
from cloud_service.recommender.data.named_sets import titles_path
from cloud_service.recommender.data.sources import SOURCES
from cloud_service.recommender.data.workbook import sheet_rows
from shared.errors import DataError


def zipped(**members: bytes | str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_the_larger_movielens_has_another_form(tmp_path: Path) -> None:
    archive = zipped(
        **{
            "ml-1m/ratings.dat": "1::10::5::200\n1::20::5::100\n2::10::3::7\n",
            "ml-1m/movies.dat": "10::Ten: A Film::Drama\n20::Twenty::Comedy\n",
        }
    )
    (tmp_path / "ml-1m.zip").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    source = replace(SOURCES["movielens-1m"], sha256=digest, counts=(3, 2, 2))
    path = fetch("movielens-1m", tmp_path, sources={source.name: source})
    assert pl.read_csv(path).rows() == [(1, 20, 100), (1, 10, 200), (2, 10, 7)]
    items = pl.read_csv(titles_path("movielens-1m", tmp_path)).rows()
    assert items == [(10, "Ten: A Film"), (20, "Twenty")]


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
HEADER = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]


def workbook(rows: list[list[str | float | None]]) -> bytes:
    """An .xlsx of one sheet: strings are shared, numbers plain, None is no cell at all."""
    strings: dict[str, int] = {}
    lines = []
    for number, row in enumerate(rows, 1):
        cells = ""
        for letter, value in zip("ABCDEFGH", row, strict=True):
            if isinstance(value, str):
                index = strings.setdefault(value, len(strings))
                cells += f'<c r="{letter}{number}" s="1" t="s"><v>{index}</v></c>'
            elif value is not None:
                cells += f'<c r="{letter}{number}"><v>{value!r}</v></c>'
        lines.append(f'<row r="{number}">{cells}</row>')
    # Excel splits a string with more than one style into runs.
    shared = "".join(
        f"<si><r><t>{s[:2]}</t></r><r><t>{s[2:]}</t></r></si>".replace("&", "&amp;")
        for s in strings
    )
    return zipped(
        **{
            "xl/worksheets/sheet1.xml": f"<worksheet {MAIN}><cols/><sheetData>{''.join(lines)}"
            "</sheetData></worksheet>",
            "xl/sharedStrings.xml": f"<sst {MAIN}>{shared}</sst>",
        }
    )


def retail(folder: Path, book: bytes, counts: tuple[int, int, int]) -> Path:
    archive = zipped(**{"Online Retail.xlsx": book})
    (folder / "online-retail.zip").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    source = replace(SOURCES["online-retail"], sha256=digest, counts=counts)
    return fetch("online-retail", folder, sources={source.name: source})


def test_the_workbook_is_cleaned_as_documented(tmp_path: Path) -> None:
    # Day 40,513 is 2010-12-01: 40,513 - 25,569 = 14,944 days, 1,291,161,600 s. 8:26 is 30,360 s on.
    day = 40_513.351388888892
    book = workbook(
        [
            [*HEADER],
            [536366, 22633, "HAND WARMER", 6, 40_513.5, 1.85, 17850, "United Kingdom"],
            [536365, "85123A", " T-LIGHT & HOLDER ", 6, day, 2.55, 17850, "United Kingdom"],
            [536365, 22633, "HAND WARMER", 6, day, 1.85, 17850, "United Kingdom"],
            [536367, 22633, "hand warmer?", 1, day, 1.85, 13047, "France"],
            [536368, 22633, "no customer", 1, day, 1.85, None, "France"],
            ["C536369", 22633, "cancelled", 1, day, 1.85, 13047, "France"],
            [536370, 22633, "brought back", -1, day, 1.85, 13047, "France"],
            [536371, 22633, "a gift", 1, day, 0, 13047, "France"],
            [536372, "POST", "POSTAGE", 1, day, 18.0, 13047, "France"],
            [536373, "C2", "CARRIAGE", 1, day, 50.0, 13047, "France"],
            [536374, "10002", None, 1, day, 0.85, 13047, None],
        ]
    )
    path = retail(tmp_path, book, (5, 2, 3))
    eight, noon = 1_291_161_600 + 30_360, 1_291_161_600 + 43_200
    rows = pl.read_csv(path, schema_overrides={"item_id": pl.String}).rows()
    assert rows == [
        (13047, "22633", eight),
        (13047, "10002", eight),
        (17850, "85123A", eight),
        (17850, "22633", eight),
        (17850, "22633", noon),
    ]
    items = pl.read_csv(titles_path("online-retail", tmp_path), infer_schema=False).rows()
    assert items == [("22633", "HAND WARMER"), ("85123A", "T-LIGHT & HOLDER")]


def test_a_workbook_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column CustomerID"):
        retail(tmp_path, workbook([[*HEADER[:6], "Customer", "Country"]]), (5, 2, 3))
    with pytest.raises(DataError, match="workbook cannot be read"):
        retail(tmp_path, b"not a zip", (5, 2, 3))
    with pytest.raises(DataError, match=r"no member 'xl/worksheets/sheet1.xml'"):
        retail(tmp_path, zipped(a="b"), (5, 2, 3))


@pytest.mark.parametrize(
    "sheet",
    [
        f'<worksheet {MAIN}><sheetData><row><c r="A1" t="s"><v>7</v></c></row></sheetData>',
        f'<worksheet {MAIN}><sheetData><row><c r="A1" t="s"><v>x</v></c></row></sheetData>',
        f'<worksheet {MAIN}><sheetData><row><c r="ZZZZ1"><v>1</v></c></row></sheetData>',
        f"<worksheet {MAIN}><sheetData><row>",
    ],
)
def test_a_damaged_sheet_is_an_error(sheet: str) -> None:
    with pytest.raises(DataError, match="workbook cannot be read"):
        list(sheet_rows(io.BytesIO(zipped(**{"xl/worksheets/sheet1.xml": sheet}))))


def test_inline_strings_and_missing_references_are_read() -> None:
    cells = (
        '<c t="inlineStr"><is><t>a</t></is></c><c><v>1.5</v></c><c r="E1"/><c t="str"><v>q</v></c>'
    )
    sheet = f"<worksheet {MAIN}><sheetData><row>{cells}</row></sheetData></worksheet>"
    rows = list(sheet_rows(io.BytesIO(zipped(**{"xl/worksheets/sheet1.xml": sheet}))))
    assert rows == [["a", "1.5", None, None, None, "q"]]


def test_a_title_may_hold_quotes_and_the_letters_at_which_texts_are_split(tmp_path: Path) -> None:
    films = '1|"Great" One (1994)|x\r\n2|Two\x85 Three\x1c|x\r\n\r\n'
    archive = zipped(
        **{
            "ml-100k/u.data": "1\t1\t5\t9\n1\t2\t5\t8\n2\t1\t5\t7",
            "ml-100k/u.item": films.encode("latin-1"),
        }
    )
    (tmp_path / "ml-100k.zip").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    source = replace(SOURCES["movielens-100k"], sha256=digest, counts=(3, 2, 2))
    fetch("movielens-100k", tmp_path, sources={source.name: source})
    items = read_titles(titles_path("movielens-100k", tmp_path)).titles
    assert items == {"1": '"Great" One (1994)', "2": "Two Three"}


@pytest.mark.parametrize(
    ("ratings", "films", "message"),
    [
        ("1\t1\t5\t9\n\n2\t1\t5\t7\n", "1|One\n", "lines that are no ratings"),
        ("1\t1\t5\t9\n2\t1\n", "1|One\n", "lines that are no ratings"),
        ("1\t1\t5\t9\n2\t1\t5\t7\n", "1|One\nTwo\n", "lines that are no titles"),
    ],
)
def test_lines_of_an_archive_that_are_none_are_refused(
    tmp_path: Path, ratings: str, films: str, message: str
) -> None:
    archive = zipped(**{"ml-100k/u.data": ratings, "ml-100k/u.item": films})
    (tmp_path / "ml-100k.zip").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    source = replace(SOURCES["movielens-100k"], sha256=digest, counts=(2, 2, 1))
    with pytest.raises(DataError, match=message):
        fetch("movielens-100k", tmp_path, sources={source.name: source})


def sheet(rows: str) -> list[list[str | None]]:
    text = f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
    return list(sheet_rows(io.BytesIO(zipped(**{"xl/worksheets/sheet1.xml": text}))))


def test_whole_numbers_of_a_sheet_are_their_digits_however_they_are_stored() -> None:
    cells = "".join(f"<c><v>{v}</v></c>" for v in ("22633", "1.0002E4", "17850.0", "-3.0", "2.55"))
    assert sheet(f"<row>{cells}</row>") == [["22633", "10002", "17850", "-3", "2.55"]]
    assert sheet("<row><c><v>1.5E20</v></c></row>") == [["1.5E20"]]


@pytest.mark.parametrize(
    "rows",
    [
        '<row r="2"><c><v>1</v></c></row><row r="2"><c><v>2</v></c></row>',
        '<row r="2"><c><v>1</v></c></row><row r="1"><c><v>2</v></c></row>',
        '<row r="1"><c r="B1"><v>1</v></c><c r="A1"><v>2</v></c></row>',
        '<row r="1"><c r="A1"><v>1</v></c><c r="A1"><v>2</v></c></row>',
    ],
)
def test_a_sheet_whose_cells_or_rows_are_out_of_order_is_refused(rows: str) -> None:
    with pytest.raises(DataError, match="comes after"):
        sheet(rows)
