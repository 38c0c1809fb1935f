"""The page, the JSON beside it, and the terminal's tables."""

import io
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from experiments.simulation.description import cautions, headline, ms, percent
from experiments.simulation.measure import Measurement, Rerank, RunMeasurements, summarise
from experiments.simulation.network import PROFILES
from experiments.simulation.page import html, read_json, write_json, write_page
from experiments.simulation.report import Report
from experiments.simulation.terminal import print_report
from experiments.simulation.verdict import verdict
from shared.outcomes import Outcome
from tests.experiments.simulation.conftest import made_up_profile, made_up_report

HOSTILE = '<script>alert("x")</script> & $y$ \\'
VOID = {"meta", "br", "path", "use"}


class _Structure(HTMLParser):
    """Tags with their attributes, and a stack that must come out even."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def _structure(text: str) -> _Structure:
    parser = _Structure()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html(report)


@pytest.mark.slow
def test_the_page_fetches_nothing(page: str) -> None:
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    found = _structure(page)
    fetching = {"script", "link", "img", "iframe", "object", "embed", "base", "video", "source"}
    assert not fetching & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert "src" not in attributes
        link = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert link.startswith("#")


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert references
    assert {first or second for first, second in references} <= set(ids)


def test_every_outcome_network_and_figure_is_there(page: str, report: Report) -> None:
    for word in Outcome:
        assert f'<th scope="row">{word}</th>' in page
        assert page.count(f'<th scope="col">{word}</th>') == len(report.cases)
    for result in report.profiles:
        assert page.count(f'<th scope="row">{result.name}</th>') >= 6
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        assert '<div role="img" aria-label="' in figure
        assert "<figcaption>" in figure
        assert "<svg" in figure
        assert "<text" in figure


def test_plots_are_drawn_in_the_colours_of_the_page(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "currentColor" in drawings
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", drawings))
    assert {"--hue-0", "--hue-7", "--grid"} <= used
    for name in used:
        assert page.count(f"{name}: #") == 2, f"{name} needs a light and a dark colour"
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)


def test_the_papers_figures_stand_beside_ours(page: str) -> None:
    _, page = page.split("as in the paper&#x27;s Table 5", 1)
    row = re.search(r'<th scope="row">4g-5</th>(.*?)</tr>', page, flags=re.DOTALL)
    assert row is not None
    for number in ("0.51", "1.18", "0.83", "2.52"):
        assert f"<small>paper {number}</small>" in row[1]
    row = re.search(r'<th scope="row">wifi-home</th>(.*?)</tr>', page, flags=re.DOTALL)
    assert row is not None
    assert "paper" not in row[1]


def test_synthetic_data_is_announced_and_real_data_is_not(page: str, worse_report: Report) -> None:
    assert "Synthetic data." in page
    assert "Synthetic data." not in html(worse_report)


@pytest.mark.slow
def test_hostile_strings_are_escaped(worse_report: Report) -> None:
    result = worse_report.profiles[0].model_copy(update={"description": HOSTILE})
    machine = dict.fromkeys(("cpu", "os", "python", "onnxruntime", "numpy", "project"), HOSTILE)
    hostile = worse_report.model_copy(
        update={
            "model": worse_report.model.model_copy(
                update={
                    "data": HOSTILE,
                    "version": HOSTILE,
                    "synthetic": True,
                    "metrics": {HOSTILE: 1.0},
                }
            ),
            "machine": worse_report.machine.model_copy(update=machine),
            "profiles": (result,),
        }
    )
    text = html(hostile)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10
    _structure(text)


def test_the_same_report_gives_the_same_page(report: Report, page: str) -> None:
    assert html(report) == page


@pytest.mark.slow
def test_page_and_json_are_written_whole_or_not_at_all(report: Report, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    write_page(report, target)
    write_json(report, tmp_path / "report.json")
    assert target.read_text("utf-8") == html(report)
    assert read_json(tmp_path / "report.json") == report
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_json(report, tmp_path / "taken")
    assert len(list(tmp_path.iterdir())) == 3


def test_the_headline_says_what_was_served_and_what_came_within_the_budget(
    report: Report,
) -> None:
    said = headline(report)
    results = [each for each in report.profiles if each.name != "loopback"]
    within = max(each.share_within_budget for each in results)
    assert "0% to" in said
    assert f"{100 * within:.1f}% of corrections came within 4.21 ms of H" in said
    assert "97.5% after a pause" in said


def test_a_headline_never_says_0_percent_alone_where_every_rerank_was_corrected() -> None:
    late = Measurement(1, 3, None, Rerank(Outcome.APPLIED, 0.0002, 0), 0.3, total_s=0.08)
    result = summarise(
        PROFILES["lte-typical"], [RunMeasurements("full", 10, 10, 0.05, [late] * 3)], 4.21e-3
    )
    report = made_up_report(("4g-5",)).model_copy(update={"profiles": (result,)})
    assert "served corrected: 100% after a pause. 0% of corrections came within" in headline(report)


def test_an_outcome_that_did_not_occur_has_no_column(worse_report: Report) -> None:
    every = Measurement(1, 3, Rerank(Outcome.APPLIED, 0.0002, 0), total_s=0.002)
    result = summarise(
        PROFILES["4g-5"], [RunMeasurements("full", 10, 10, 0.05, [every] * 3)], 4.21e-3
    )
    report = worse_report.model_copy(update={"profiles": (result,)})
    text = html(report)
    assert '<th scope="col">applied</th>' in text
    assert '<th scope="col">late</th>' not in text
    assert '<th scope="row">late</th>' not in text
    printed = io.StringIO()
    print_report(report, Console(file=printed, width=80))
    assert "offline" not in printed.getvalue()


def test_a_report_without_quality_or_answers_has_a_page(worse_report: Report) -> None:
    nothing = Measurement(1, None, Rerank(Outcome.OFFLINE, 0.001, None))
    result = summarise(PROFILES["4g-5"], [RunMeasurements("full", 1, 1, None, [nothing])], 0.004)
    bare = worse_report.model_copy(update={"profiles": (result,), "quality": (), "pauses": None})
    text = html(bare)
    assert text.count("<figure>") == 3
    assert "quality was not measured" in text
    print_report(bare, Console(file=io.StringIO(), width=120))


@pytest.mark.slow
def test_what_held_the_run_up_is_announced(worse_report: Report) -> None:
    assert cautions(worse_report) == []
    result = worse_report.profiles[0]
    late = result.legs.total
    assert late is not None
    for update, said in (
        (
            {"cpu_share": 0.97},
            ("no processor time to spare over 4g-5", "no: no processor time to spare", "97.0%"),
        ),
        (
            {"own_delay": late.model_copy(update={"p90": 5, "p99": 9, "p999": 9, "max": 9})},
            ("The machine was busy with other things over 4g-5", "late: the machine was busy"),
        ),
        ({"achieved_per_s": 10.0}, ("there are too few --devices", "no: too few devices")),
    ):
        arrivals = result.arrivals.model_copy(update=update)
        report = worse_report.model_copy(
            update={"profiles": (result.model_copy(update={"arrivals": arrivals}),)}
        )
        assert all(part in html(report) for part in said)
        text = io.StringIO()
        print_report(report, Console(file=text, width=400))
        assert said[0] in text.getvalue()


def test_a_doubtful_log_missing_parts_and_unsplit_legs_are_announced(worse_report: Report) -> None:
    result = worse_report.profiles[0].model_copy(update={"unsplit": 60})
    report = worse_report.model_copy(
        update={
            "profiles": (result,),
            "model": worse_report.model.model_copy(update={"cautions": ("40% of rows repeat.",)}),
            "settings": worse_report.settings.model_copy(update={"missing": 2, "simulations": 1}),
        }
    )
    said = cautions(report)
    assert said[0] == "The log is doubtful: 40% of rows repeat."
    assert said[1].startswith("2 of 3 simulations that share this report had not ended")
    assert "4g-5 (10.0%)" in said[2]
    text = html(report)
    assert all(escape(caution) in text for caution in said)
    assert '<th scope="col">Not split</th>' in text
    assert "Not split" not in html(worse_report)


def test_the_same_gain_is_said_once_a_form_and_not_once_a_network(
    page: str, report: Report
) -> None:
    (quality,) = report.quality
    gain = f"{quality.gain_ndcg10.low:+.4f} to {quality.gain_ndcg10.high:+.4f}".replace("-", "−")
    assert page.count(gain) == 2, "in the verdict, and in the table of the correction's worth"


def test_the_caption_of_a_table_is_outside_of_what_scrolls(page: str) -> None:
    assert "<caption" not in page
    assert page.count('<p class="caption">') == page.count('<div class="scroll"')
    assert "overflow-x: auto" in page


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminals_tables_fit_its_width(width: int) -> None:
    report = made_up_report(("4g-5", "lte-typical"))
    text = io.StringIO()
    result = report.profiles[1]
    quiet = {
        case: served.model_copy(
            update={
                "outcomes": dict.fromkeys(Outcome, 0) | {Outcome.APPLIED: 400, Outcome.LATE: 200}
            }
        )
        for case, served in result.cases.items()
    }
    quiet_report = report.model_copy(
        update={"profiles": (result.model_copy(update={"cases": quiet}),)}
    )
    print_report(quiet_report, Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("│ lte-typical │" in line for line in lines) == 4
    assert "…" not in text.getvalue()


def test_the_terminal_shows_times_outcomes_and_quality(report: Report) -> None:
    text = io.StringIO()
    print_report(report, Console(file=text, width=140))
    said = text.getvalue()
    for part in ("4g-5", "2.52", "wrong_model", "NDCG@10", "Synthetic data", "585"):
        assert part in said
    words = " ".join(said.split())
    assert " ".join(headline(report).split()) in words
    judged = verdict(report)
    assert words.endswith(f"{judged.title} {judged.reason}")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0261, "0.026"), (0.512, "0.51"), (4.21, "4.21"), (57.34, "57.3"), (1234.5, "1,234")],
)
def test_times_have_about_three_figures(value: float, said: str) -> None:
    assert ms(value) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0%"), (1, "100%"), (0.99999, ">99.9%"), (0.00001, "<0.1%"), (0.992, "99.2%")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, said: str) -> None:
    assert percent(share) == said


def test_rows_of_several_forms_say_which_they_are() -> None:
    both = made_up_report(("4g-5", "loopback"))
    other = made_up_profile(PROFILES["4g-5"], form="row-half")
    quality = (*both.quality, both.quality[0].model_copy(update={"form": "row-half"}))
    report = both.model_copy(update={"profiles": (*both.profiles, other), "quality": quality})
    text = html(report)
    for name in ("4g-5, full", "4g-5, row-half", "loopback, full"):
        assert text.count(f'<th scope="row">{name}</th>') >= 6
    assert '<th scope="row">NDCG@10, row-half</th>' in text
    assert "full, row-half" in text
    printed = io.StringIO()
    print_report(report, Console(file=printed, width=160))
    assert "4g-5, row-half" in printed.getvalue()
