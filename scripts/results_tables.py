"""Tables of the evaluations in docs/results.md, by the names in their markers: TABLES has them."""

import csv
from collections.abc import Callable, Mapping
from functools import cache, partial
from statistics import mean, stdev

from table_parts import RESULTS, markdown, result

NDCG = "all/ndcg@10"
LOGS = {
    "beauty": "Beauty look-alike",
    "online_retail": "Online Retail",
    "video_games": "Video Games",
    "ml1m": "MovieLens 1M",
    "yelp": "Yelp 5-core",
}
UNTUNED = {"amazon_beauty_5core": "amazon_beauty_5core", "ml100k": "MovieLens 100K"}
SERVED = {
    "beauty": "readout + three teachers",
    "online_retail": "wider SCN",
    "video_games": "readout + three teachers",
    "ml1m": "readout + three teachers",
    "yelp": "readout + wider SCN",
    "amazon_beauty_5core": "readout + wider SCN",
    "ml100k": "readout + wider SCN",
}
"""The model that validation chooses for each log (`cloud-service tables`, summary.md)."""
SERVED_NAMES = {
    "readout + three teachers": "readout; item-kNN, wider SCN and GRU4Rec",
    "readout + wider SCN": "readout; item-kNN and wider SCN",
    "wider SCN": "the paper's; item-kNN and wider SCN",
}
NETWORKS = {
    "popularity": "Popularity",
    "mf": "MF",
    "din": "DIN",
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "item-knn": "item-kNN",
    "sasrec": "SASRec",
    "mamba4rec": "Mamba4Rec",
    "scn+gcn/local": "SCN and GCN as the paper trains them, corrections lost",
    "scn+gcn": "the same, corrected",
}
ONE_LAYER = {"gru4rec (one layer)": "GRU4Rec, one layer"}
OTHER_FILES = {
    "online_retail": {"item-knn": "correction_online_retail"},
    "beauty": {
        "item-knn": "correction_beauty",
        "scn+gcn/local": "ablations",
        "scn+gcn": "ablations",
    },
}
"""Networks of Table 1 whose figures another evaluation of the same log has."""
CORRECTED = {
    "scn+gcn/local": "SCN alone",
    "scn+gcn": "SCN, corrected by item-kNN",
    "readout/local": "SCN with a readout, alone",
    "readout": "SCN with a readout, corrected by item-kNN",
    "readout + wider SCN": "the same, by a wider SCN too",
    "readout + three teachers": "the same, by a GRU4Rec too",
}

Figures = Mapping[tuple[str, str], list[float]]
"""Values of every seed, by model and "protocol/metric"."""


@cache
def evaluation(file: str, log: str | None = None) -> Figures:
    """The figures of a results.csv in benchmarks/results/evaluations, of one log where given."""
    figures: dict[tuple[str, str], list[float]] = {}
    with (RESULTS / "evaluations" / f"{file}.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            if log in (None, line["dataset"]):
                key = line["model"], f"{line['protocol']}/{line['metric']}"
                figures.setdefault(key, []).append(float(line["value"]))
    return figures


def seeds_mean(values: list[float], seeds: int | None = None) -> str:
    """Mean and standard deviation over seeds; their number where it is not `seeds`."""
    if not values:
        return ""
    deviation = f" ±{stdev(values):.4f}" if len(values) > 1 else ""
    count = "" if seeds in (None, len(values)) else f" ({len(values)})"
    return f"{mean(values):.4f}{deviation}{count}"


def relative_gain(values: list[float], base: list[float]) -> str:
    """The gain of one mean over another in percent."""
    return f"{mean(values) / mean(base) - 1:+.1%}"


def metrics_table(file: str, names: dict[str, str], other_files: Mapping[str, str] = {}) -> str:
    """Nine metrics of the models of a results.csv, means over seeds, one row for each model.

    `other_files` names the results.csv of models that stand in another one.
    """
    figures = dict(evaluation(file))
    for model, other in other_files.items():
        figures |= {key: values for key, values in evaluation(other).items() if key[0] == model}

    def cell(model: str, *metrics: str) -> str:
        return ", ".join(f"{mean(figures[model, metric]):.4f}" for metric in metrics)

    cutoffs = (5, 10, 20)
    rows = [
        (
            shown,
            cell(model, *(f"all/ndcg@{k}" for k in cutoffs)),
            cell(model, *(f"all/hitrate@{k}" for k in cutoffs)),
            cell(model, "sampled100/uauc"),
            cell(model, "sampled100/ndcg@10", "sampled100/hitrate@10"),
        )
        for model, shown in names.items()
        if (model, NDCG) in figures
    ]
    header = (
        "model", "NDCG@5, 10, 20 (all)", "HitRate@5, 10, 20 (all)", "UAUC",
        "NDCG@10, HitRate@10 (100 negatives)",
    )  # fmt: skip
    return markdown(header, rows)


def served(logs: dict[str, str]) -> str:
    """NDCG@10 of item-kNN and of what validation chooses, alone and corrected, by log."""
    rows = []
    for log, shown in logs.items():
        figures = evaluation(f"correction_{log}")
        model = SERVED[log]
        local, corrected = figures[f"{model}/local", NDCG], figures[model, NDCG]
        rows.append(
            (
                shown,
                SERVED_NAMES[model],
                seeds_mean(figures["item-knn", NDCG]),
                seeds_mean(local),
                seeds_mean(corrected),
                f"**{relative_gain(corrected, local)}**",
            )
        )
    header = ("log", "what is served: SCN; teachers", "item-kNN", "SCN alone", "corrected", "gain")
    return markdown(header, rows)


def teachers(logs: dict[str, str], base: str, columns: dict[str, str]) -> str:
    """NDCG@10 of one SCN alone and with each of its corrections, by log, with the gains."""
    rows = []
    for log, shown in logs.items():
        figures = evaluation(f"correction_{log}")
        seeds = len(figures[base, NDCG])

        def cell(model: str, figures: Figures = figures, seeds: int = seeds) -> str:
            values = figures.get((model, NDCG))
            if values is None:
                return ""
            # Fewer seeds are compared with what the same seeds have without a correction.
            gain = relative_gain(values, figures[f"{model}/local", NDCG])
            return f"{seeds_mean(values, seeds)}, {gain}"

        rows.append((shown, seeds_mean(figures[base, NDCG]), *(cell(model) for model in columns)))
    return markdown(("log", "SCN alone", *columns.values()), rows)


def paper_scn_teachers(logs: dict[str, str]) -> str:
    """The paper's SCN: what each teacher's correction, and somebody else's, is worth."""
    columns = {
        "scn+gcn": "corrected by item-kNN",
        "wider SCN": "by a wider SCN too",
        "shuffled users": "item-kNN's, of somebody else's clicks",
    }
    return teachers(logs, "scn+gcn/local", columns)


def readout_teachers(logs: dict[str, str]) -> str:
    """The SCN with a readout: what each teacher's correction is worth."""
    columns = {
        "readout": "corrected by item-kNN",
        "readout + wider SCN": "by a wider SCN too",
        "readout + three teachers": "by a GRU4Rec too",
    }
    return teachers(logs, "readout/local", columns)


def sequence_models(metric: str) -> str:
    """A metric of other sequence models and of what is served, by log."""
    models = {
        "gru4rec": "GRU4Rec",
        "sasrec": "SASRec",
        "mamba4rec": "Mamba4Rec",
        "corrected/local": "SCN alone",
        "corrected": "corrected",
    }
    rows = []
    for log, shown in LOGS.items():
        figures = evaluation("sequence_models", log.replace("_", "-"))
        values = {model: figures.get((model, metric), []) for model in models}
        note = ""
        if not values["mamba4rec"] and metric == NDCG:
            # Trained in another evaluation, of which a benchmark keeps NDCG@10 over all items.
            run = result("quality_and_cost")["results"][f"{log}.csv.gz"]["mamba4rec, window"]
            values["mamba4rec"], note = [run["ndcg"]], ", CPU"
        cells = {model: seeds_mean(of_seeds, 3) for model, of_seeds in values.items()}
        cells["mamba4rec"] += note
        best = max(filter(None, (values[m] for m in ("gru4rec", "sasrec", "mamba4rec"))), key=mean)
        rows.append((shown, *cells.values(), relative_gain(values["corrected"], best)))
    header = ("log", *models.values(), "corrected, against the best of the three")
    return markdown(header, rows)


def dccl() -> str:
    """DCCL's baselines among 100 negatives, and over all items."""
    columns = {
        "sampled100/hitrate@1": "HitRate@1",
        "sampled100/hitrate@5": "HitRate@5",
        "sampled100/hitrate@10": "HitRate@10",
        "sampled100/ndcg@5": "NDCG@5",
        "sampled100/ndcg@10": "NDCG@10",
        NDCG: "NDCG@10 (all)",
    }
    names = {"neumf": "NeuMF", "fm": "FM", "sasrec": "SASRec", "din": "DIN"}
    figures = evaluation("dccl")
    rows = [
        (shown, *(f"{mean(figures[model, metric]):.4f}" for metric in columns))
        for model, shown in names.items()
    ]
    return markdown(("model", *columns.values()), rows)


def ablations(file: str) -> str:
    """NDCG@10 of the parts of the paper's correction, with it and with it lost."""
    names = {
        "scn+gcn": "`attn` and `b`",
        "only attn": "only `attn`",
        "only bias": "only `b`",
        "shuffled users": "both, but of somebody else's clicks",
    }
    figures = evaluation(file)
    alone = figures["scn", NDCG]
    wide = figures["scn (72 wide)", NDCG]
    rows = [
        ("no correction: the SCN alone", "", seeds_mean(alone), ""),
        (
            "more parameters on the device instead: SCN 72 wide",
            "",
            seeds_mean(wide),
            relative_gain(wide, alone),
        ),
    ]
    for model, shown in names.items():
        corrected, lost = figures[model, NDCG], figures[f"{model}/local", NDCG]
        gain = relative_gain(corrected, alone)
        rows.append((shown, seeds_mean(corrected), seeds_mean(lost), gain))
    return markdown(("model", "corrected", "corrections lost", "against the SCN alone"), rows)


def tuned() -> str:
    """SASRec and GRU4Rec beside what the literature has for them, NDCG@10 over all items."""
    logs = {  # the log's name, what was asked for, the literature's SASRec
        "beauty-5core": ("`amazon_beauty_5core`, 20 clicks", "0.050", "0.053"),
        "ml1m": ("`ml1m`, 200 clicks", "0.165", "0.168 to 0.182"),
    }
    rows = []
    for log, columns in logs.items():
        figures = evaluation("tuned", log)
        sasrec, gru4rec = figures["sasrec", NDCG], figures["gru4rec", NDCG]
        gain = relative_gain(gru4rec, sasrec)
        rows.append((*columns, seeds_mean(sasrec), seeds_mean(gru4rec), gain))
    header = (
        "log", "asked for", "the literature's SASRec", "SASRec", "GRU4Rec, one layer",
        "GRU4Rec to SASRec (goal: within 10%)",
    )  # fmt: skip
    return markdown(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    "correction-served": partial(served, LOGS),
    "correction-paper-scn": partial(paper_scn_teachers, LOGS),
    "correction-readout": partial(readout_teachers, LOGS),
    "untuned-served": partial(served, UNTUNED),
    "untuned-paper-scn": partial(paper_scn_teachers, UNTUNED),
    "untuned-readout": partial(readout_teachers, UNTUNED),
    "sequence-models": partial(sequence_models, NDCG),
    "sequence-models-sampled": partial(sequence_models, "sampled100/ndcg@10"),
    "networks-ml1m": partial(metrics_table, "networks_ml1m", NETWORKS | ONE_LAYER),
    "dccl": dccl,
    "ablations-beauty": partial(ablations, "ablations"),
    "ablations-ml1m": partial(ablations, "ablations_ml1m"),
    "tuned": tuned,
}
for log in ("online_retail", "beauty", "video_games", "yelp"):
    TABLES[f"networks-{log.replace('_', '-')}"] = partial(
        metrics_table, f"networks_{log}", NETWORKS, OTHER_FILES.get(log, {})
    )
for log in LOGS:
    TABLES[f"correction-{log.replace('_', '-')}"] = partial(
        metrics_table, f"correction_{log}", CORRECTED
    )
