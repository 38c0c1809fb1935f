"""`device-client simulate`: plan, replay over each network, report."""

import argparse
import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy
import onnxruntime
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from device_client.budget import Budget
from device_client.bundle import Bundle
from device_client.cloud import Cloud
from device_client.scn import Graphs
from device_client.simulate.network import PROFILES, NetworkProfile, profile
from device_client.simulate.page import write_json, write_page
from device_client.simulate.requests import Visit, plan_visits, rank_beforehand
from device_client.simulate.runner import Load, run_profile
from device_client.simulate.terminal import print_report
from shared.open_files import SPARE, allow_open_files
from shared.report import Machine, ModelFacts, ProfileResult, Report, RunSettings
from shared.wire import FORMS, Form


def simulate(options: argparse.Namespace, budget: Budget) -> int:
    """Runs the simulation and writes `report.json` and `index.html` into `--report`."""
    console = Console()
    if options.list_profiles:
        for each in PROFILES.values():
            console.print(f"{each.name:12} {each.description}", highlight=False)
        return 0
    networks, forms = _checked(options)
    options.report.mkdir(parents=True, exist_ok=True)
    with _progress(console) as progress:
        bundle, visits = _prepare(options, progress)
        graphs = Graphs(bundle)
        load = Load(
            min(options.devices, len(visits)),
            options.rate,
            options.think_ms / 1e3,
            budget,
            forms[0],
            options.seed,
        )
        _allow_devices(load.devices)
        results = []
        for form in forms:
            _rank_beforehand(options.url, progress, visits, graphs, form)
            results += [
                _run(progress, visits, graphs, options.url, network, replace(load, form=form))
                for network in networks
            ]
    report = _report(options, bundle, load, visits, results)
    write_json(report, options.report / "report.json")
    write_page(report, options.report / "index.html")
    print_report(report, console)
    page = (options.report / "index.html").resolve()
    console.print(f"\nThe report: {page}", soft_wrap=True, highlight=False)
    return 0


def _checked(options: argparse.Namespace) -> tuple[list[NetworkProfile], list[Form]]:
    """The profiles and forms asked for. Raises ValueError for options that make no run."""
    for name in ("devices", "requests", "longest", "candidates"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not 0 < options.rate <= 100_000:
        raise ValueError(f"--rate must be over 0 clicks a second, got {options.rate}")
    if not 0 <= options.think_ms <= 600_000:
        raise ValueError(f"--think-ms must be from 0 to 600,000, got {options.think_ms}")
    if options.candidates > 1000:
        raise ValueError(f"--candidates goes up to 1,000, got {options.candidates}")
    if options.budget_ms <= 0:
        raise ValueError("--budget-ms must be over 0: without a budget there is nothing to report")
    names = _listed(options.profiles)
    if not names:
        raise ValueError("--profiles is empty: see --list-profiles")
    forms = _listed(options.form)
    if not forms or set(forms) - set(FORMS):
        raise ValueError(f"--form is one or more of {', '.join(FORMS)}, got {options.form!r}")
    return [profile(name) for name in names], [form for form in FORMS if form in forms]


def _listed(text: str) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _allow_devices(count: int) -> None:
    """Raises ValueError where so many devices cannot have a connection each."""
    wanted = count + SPARE
    if (allowed := allow_open_files(wanted)) < wanted:
        raise ValueError(
            f"{count:,} devices need {wanted:,} open files, of which the system allows {allowed:,} "
            "(ulimit -n): ask for fewer --devices"
        )


def _prepare(options: argparse.Namespace, progress: Progress) -> tuple[Bundle, list[Visit]]:
    fetching = progress.add_task("bundle", total=1)
    with Cloud(options.url) as cloud:
        bundle = Bundle.open(cloud.pull(options.bundles, options.model))
        progress.update(fetching, completed=1)
        listing = progress.add_task("candidate lists", total=options.requests)
        visits = plan_visits(
            cloud,
            bundle.version,
            wanted=options.requests,
            longest=options.longest,
            candidates=options.candidates,
            seed=options.seed,
            progress=lambda done, total: progress.update(listing, completed=done, total=total),
        )
    return bundle, visits


def _rank_beforehand(
    url: str, progress: Progress, visits: list[Visit], graphs: Graphs, form: Form
) -> None:
    ranking = progress.add_task(f"{form}: rankings to compare with", total=None)
    rank_beforehand(
        visits,
        graphs,
        url,
        form,
        lambda done, total: progress.update(ranking, completed=done, total=total),
    )


def _run(
    progress: Progress,
    visits: list[Visit],
    graphs: Graphs,
    url: str,
    network: NetworkProfile,
    load: Load,
) -> ProfileResult:
    total, name = sum(len(visit.requests) for visit in visits), f"{network.name}, {load.form}"
    task: TaskID = progress.add_task(name, total=total)
    if not progress.console.is_terminal:  # bars would show nothing before the end
        progress.console.print(f"{name}: {total:,} requests at {load.rate:g}/s")
    return run_profile(visits, graphs, url, network, load, lambda: progress.advance(task))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )


def _report(
    options: argparse.Namespace,
    bundle: Bundle,
    load: Load,
    visits: list[Visit],
    results: list[ProfileResult],
) -> Report:
    manifest = bundle.manifest
    requests = sum(len(visit.requests) for visit in visits)
    return Report(
        created=datetime.now(UTC),
        machine=_machine(),
        model=ModelFacts(
            version=bundle.version,
            data=manifest.data.name,
            synthetic=manifest.data.synthetic,
            metrics=manifest.metrics,
        ),
        settings=RunSettings(
            devices=load.devices,
            users=len(visits),
            arrivals_per_s=load.rate,
            duration_s=requests / load.rate,
            budget_ms=load.budget.tolerance_ms,
            candidates=options.candidates,
            think_time_ms=options.think_ms,
            seed=options.seed,
        ),
        profiles=tuple(results),
    )


def _machine() -> Machine:
    try:
        project = version("device-cloud-recommendation")
    except PackageNotFoundError:
        project = "not installed"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=pages,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        numpy=numpy.__version__,
        project=project,
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
