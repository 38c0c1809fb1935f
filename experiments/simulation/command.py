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

from device_client.bundle import Bundle
from device_client.cloud import Cloud
from device_client.correction.budget import Budget
from device_client.scn import Graphs
from experiments.simulation.device import Load
from experiments.simulation.measure import RunMeasurements
from experiments.simulation.network import PROFILES, NetworkProfile, profile
from experiments.simulation.page import write_json, write_page
from experiments.simulation.pauses import Think, parse_think
from experiments.simulation.progress import RunProgress
from experiments.simulation.quality import Compared
from experiments.simulation.report import Machine, ModelFacts, Report, RunSettings
from experiments.simulation.requests import Visit, compared, plan_visits, rank_beforehand
from experiments.simulation.runner import run_profile
from experiments.simulation.shared_run import PartialResult, SharedRun, key_of
from experiments.simulation.terminal import print_report
from shared.open_files import SPARE, allow_open_files
from shared.wire import FORMS, Form


def simulate(options: argparse.Namespace, budget: Budget) -> int:
    """Runs the simulation and writes `report.json` and `index.html` into `--report`."""
    console = Console()
    if options.list_profiles:
        for network in PROFILES.values():
            console.print(f"{network.name:12} {network.description}", highlight=False)
        return 0
    networks, forms = _checked(options)
    think = parse_think(options.think, options.pauses)
    with RunProgress(console) as progress, Cloud(options.url) as cloud:
        step = progress.step("bundle", 1)
        bundle = Bundle.open(cloud.pull(options.bundles, options.model))
        step.set(1, 1)
        with SharedRun(options.report, _key(options, bundle)) as shared_run:
            visits = _plan(options, progress, cloud, bundle, shared_run.share)
            load = _load(options, think, budget, forms[0], visits, shared_run.share)
            share_result = _measure(options, progress, bundle, visits, load, networks, forms)
            with shared_run.finished(share_result) as report:
                write_json(report, options.report / "report.json")
                write_page(report, options.report / "index.html")
    _say(report, options.report, console)
    return 0


def _say(report: Report, folder: Path, console: Console) -> None:
    if report.settings.missing:
        console.print(
            f"Simulations that still run and share this report: {report.settings.missing}. The "
            "last one prints it."
        )
        return
    print_report(report, console)
    page = (folder / "index.html").resolve()
    console.print(f"\nThe report: {page}", soft_wrap=True, highlight=False)


def _checked(options: argparse.Namespace) -> tuple[list[NetworkProfile], list[Form]]:
    """Parses the profiles and forms. Raises ValueError if an option is invalid."""
    for name in ("devices", "requests", "longest", "candidates"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not 0 < options.rate <= 100_000:
        raise ValueError(f"--rate must be over 0 clicks a second, got {options.rate}")
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
    """Splits a comma-separated list of names and drops repetitions."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _allow_devices(count: int) -> None:
    """Raises ValueError if the limit of open files is too low for `count` devices."""
    needed = count + SPARE
    if (allowed := allow_open_files(needed)) < needed:
        raise ValueError(
            f"{count:,} devices need {needed:,} open files, of which the system allows {allowed:,} "
            "(ulimit -n): ask for fewer --devices"
        )


def _key(options: argparse.Namespace, bundle: Bundle) -> str:
    names = (
        "profiles", "form", "devices", "rate", "requests", "longest", "candidates", "think",
        "pauses", "seed", "budget_ms", "timeout_s",
    )  # fmt: skip
    return key_of(bundle.version, {name: str(getattr(options, name)) for name in names})


def _plan(
    options: argparse.Namespace, progress: RunProgress, cloud: Cloud, bundle: Bundle, share: int
) -> list[Visit]:
    return plan_visits(
        cloud,
        bundle.version,
        request_count=options.requests,
        longest=options.longest,
        candidates=options.candidates,
        seed=options.seed,
        skip=share * options.requests,
        progress=progress.step("candidate lists", options.requests).set,
    )


def _load(
    options: argparse.Namespace,
    think: Think,
    budget: Budget,
    form: Form,
    visits: list[Visit],
    share: int,
) -> Load:
    devices = min(options.devices, len(visits))
    _allow_devices(devices)
    return Load(devices, options.rate, think, budget, form, options.seed + share)


def _measure(
    options: argparse.Namespace,
    progress: RunProgress,
    bundle: Bundle,
    visits: list[Visit],
    load: Load,
    networks: list[NetworkProfile],
    forms: list[Form],
) -> PartialResult:
    """Plays the visits over every network, with corrections in every form."""
    graphs = Graphs(bundle)
    total = sum(len(visit.requests) for visit in visits)
    ranked: dict[Form, list[Compared]] = {}
    measurements: list[tuple[str, RunMeasurements]] = []
    for form in forms:
        ranking = progress.step(f"{form}: rankings to compare with", total)
        rank_beforehand(visits, graphs, options.url, form, ranking.set)
        ranked[form] = compared(visits)
        for network in networks:
            step = progress.step(f"{network.name}, {form}", total)
            played = replace(load, form=form)
            run = run_profile(visits, graphs, options.url, network, played, step.tick)
            measurements.append((network.name, run))
    return PartialResult(
        key=_key(options, bundle),
        created=datetime.now(UTC),
        machine=_machine(),
        model=_model(options.model, bundle),
        settings=RunSettings(
            devices=load.devices,
            users=len(visits),
            arrivals_per_s=load.rate,
            duration_s=total / load.rate,
            budget_ms=load.budget.tolerance_ms,
            candidates=options.candidates,
            think=options.think,
            seed=options.seed,
        ),
        pauses=load.think.pauses.source if load.think.pauses else "",
        compared=ranked,
        runs=measurements,
    )


def _model(name: str, bundle: Bundle) -> ModelFacts:
    manifest = bundle.manifest
    return ModelFacts(
        version=bundle.version,
        name=name,
        data=manifest.data.name,
        synthetic=manifest.data.synthetic,
        metrics=manifest.metrics,
        training_limit=manifest.training.limit if manifest.training else "",
        cautions=manifest.data.cautions,
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
