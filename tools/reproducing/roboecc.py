"""RoboECC's tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from fit_paper import DECODES, LAYERS, cells
from paper_loads import PRESETS, PRINTED, loads

from reproducing.adjustment import figure_7, table_iv
from reproducing.machines import EDGES, SHORT, SOURCE, printed, spent
from reproducing.tables import Kind, Make, Row, Table, missing, ms
from vlacut.cli.page.charts import Chart, Mark, line, stacked
from vlacut.cli.page.scales import Scale, from_zero
from vlacut.hardware import load_device, parse_link

PAPER = "RoboECC"
LINK = parse_link("10MB/s,20ms")
HIDDEN = 4096 * 2  # bytes of a token of Llama-2 7B in bfloat16
PROMPT = 280


def table_i() -> Table:
    """The machines."""
    facts = (
        ("A100, memory", "2039 GB/s", "a100"),
        ("Orin, memory", "204.8 GB/s", "jetson-agx-orin"),
    )
    rows = [
        Row(what, paper, f"{load_device(name).memory_bandwidth / 1e9:.4g} GB/s", Kind.COUNTED)
        for what, paper, name in (*facts, ("Thor, memory", "273 GB/s", "jetson-agx-thor"))
    ]
    return Table(
        PAPER, "table I", "the machines", SOURCE, rows, "Data sheets; the profiles say which."
    )


def whole(model: str, number: str) -> Make:
    """Table II or III: latencies of a model, by machine and method."""

    def make() -> Table:
        rows = [each for row in printed() if row["model"] == model for each in _cells(row)]
        note = (
            "Eager PyTorch. Two whole-model rows of each device fit three figures of it; rows "
            "with a cut are predicted from these. Of `fixed` half of the layers takes 64 % of "
            "the time that the paper prints for all, and kernels that add up give half: there "
            "ours are furthest off. The network's share is the paper's total less both sides, "
            "and has no bandwidth beside it."
        )
        return Table(PAPER, number, f"latency of {model}", SOURCE, rows, note)

    return make


def _cells(row: Mapping[str, Any]) -> Iterator[Row]:
    model, edge = str(row["model"]), str(row.get("edge", ""))
    name = f"{SHORT[edge] if edge else 'A100'}, {row['method']}"
    if row["use"] == "calibrate":
        found = spent(edge).whole(model)
        yield Row(name, f"{row['total_ms']} ms", ms(found), Kind.FITTED)
        return
    for side, seconds in zip(("cloud", "edge"), cells(row, spent(""), spent(edge)), strict=True):
        yield Row(f"{name}, {side}", f"{row[f'{side}_ms']} ms", ms(seconds), Kind.PRICED)


def load() -> Table:
    """The loads of tables II and III."""
    ours = {model: loads(model) for model in PRESETS}
    rows = [
        Row(
            f"{model}, {placement}{f', {side}' if side else ''}",
            f"{paper:.1f} GB",
            f"{ours[model][placement, side]:.2f} GiB",
            Kind.COUNTED,
        )
        for (model, placement, side), paper in PRINTED.items()
    ]
    note = "The paper's GB are GiB of bfloat16 weights."
    return Table(PAPER, "tables II and III, loads", "weights by side", SOURCE, rows, note)


def figure_2() -> Table:
    """Latency against the place of the cut."""
    x, places = Scale(0, LAYERS), list(range(LAYERS + 1))
    edge, cloud = spent("orin"), spent("")
    here = [edge.vision + edge.layers("openvla", place) for place in places]
    there = [cloud.layers("openvla", LAYERS - place) + cloud.ends("openvla") for place in places]
    network = [_network(place) for place in places]
    totals = [1e3 * sum(one) for one in zip(here, there, network, strict=True)]
    y = from_zero(totals)
    shares = (("edge", "edge", here), ("network", "up", network), ("cloud", "cloud", there))
    in_ms = [(name, look, [1e3 * one for one in values]) for name, look, values in shares]
    best = int(np.argmin(totals))
    chart = Chart(
        title="OpenVLA on Orin and A100 at 10 MB/s, 20 ms: latency against layers on the edge",
        x="layers of the LLM on the edge",
        y="ms",
        x_ticks=x.ticks(lambda value: f"{value:g}", least=1),
        y_ticks=y.ticks(lambda value: f"{value:g}"),
        areas=stacked(in_ms, x, places, y),
        lines=(line("a step", "total", x, places, y, totals),),
        marks=(Mark(x.at(places[best]), f"{totals[best]:.0f} ms"),),
    )
    step = (totals[-2] - totals[1]) / (LAYERS - 2)
    rows = [
        Row(
            "OpenVLA, within the layers", "relatively linear", f"{step:.1f} ms a layer", Kind.PRICED
        ),
        Row("OpenVLA, no layer on the edge", "", f"{totals[0]:.0f} ms", Kind.PRICED),
        Row("OpenVLA, all layers on the edge", "", f"{totals[-1]:.0f} ms", Kind.PRICED),
    ]
    note = (
        "The paper prints no numbers of it. `vlacut report` of a bundle draws it from the plan's "
        "own price, block by block."
    )
    legend = [(look, name) for name, look, _ in shares]
    number = "figure 2"
    return Table(PAPER, number, "latency against the cut", SOURCE, rows, note, chart, legend)


def _network(place: int) -> float:
    """Seconds on the link: hidden states of the prompt, then one of each further token."""
    tokens = PROMPT + (DECODES["openvla"] if place else 0)
    hops = 2 * (1 + DECODES["openvla"]) if place else 2
    return tokens * HIDDEN / LINK.up + hops * LINK.hop_s


def figure_3() -> Table:
    """What 102 and 25.5 kB take at 10 and 1 MB/s."""
    cases = (
        ("old cut, 102 kB at 10 MB/s", 1 * 17 * 3072 * 2, "10MB/s", "9.9 ms"),
        ("old cut, 102 kB at 1 MB/s", 1 * 17 * 3072 * 2, "1MB/s", "99.6 ms"),
        ("new cut, 25.5 kB at 1 MB/s", 1 * 17 * 768 * 2, "1MB/s", "24.9 ms"),
    )
    rows = [
        Row(what, paper, ms(nbytes / parse_link(link).up), Kind.PRICED)
        for what, nbytes, link, paper in cases
    ]
    note = (
        "The paper's 102 kB are 104,448 bytes, and its MB are 1024 x 1024: 99.6 ms. Ours takes a "
        "MB as 10**6 bytes, and counts the headers of TCP: 9.6 % more."
    )
    return Table(PAPER, "figure 3", "drift of the best cut", SOURCE, rows, note)


def headline() -> Table:
    """Speed-ups of the abstract."""
    rows = []
    for model in ("openvla", "cogact"):
        for edge in EDGES:
            found = {
                row["method"]: row for row in printed() if row["model"] == model
                and row.get("edge") == edge
            }  # fmt: skip
            cut = found["roboecc"]
            network = (cut["total_ms"] - cut["cloud_ms"] - cut["edge_ms"]) * 1e-3
            paper = found["edge-only"]["total_ms"] / cut["total_ms"]
            total = sum(cells(cut, spent(""), spent(edge))) + network
            ours = spent(edge).whole(model) / total
            name = f"{model}, {SHORT[edge]} and A100"
            rows.append(Row(name, f"{paper:.2f} x", f"{ours:.2f} x", Kind.PRICED))
    note = "Ours with the network's time that the paper's totals imply."
    return Table(PAPER, "abstract", "speed-up over the edge alone", SOURCE, rows, note)


def figure_6() -> Table:
    """What a pool of one block adds."""
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    nbytes, total = 2 * layer, {name: loads(name)["whole", ""] * 2**30 for name in PRESETS}
    rows = [
        Row("a layer of Llama-2 7B", "386 MB", f"{nbytes / 2**20:.0f} MiB", Kind.COUNTED),
        *(
            Row(f"pool of a block, {name}", "2.55 to 2.62 %", f"{nbytes / every:.2%}", Kind.COUNTED)
            for name, every in total.items()
        ),
    ]
    note = "Of the model's weights. `vlacut plan --pool block` says what a pool doubles."
    return Table(PAPER, "figure 6", "overhead of the pool", SOURCE, rows, note)


TABLES: tuple[Make, ...] = (
    missing(PAPER, "figure 1", "the problem, and the framework", SOURCE,
            "Drawings; (a) follows from table II."),
    headline,
    table_i,
    whole("openvla", "table II"),
    whole("cogact", "table III"),
    load,
    figure_2,
    figure_3,
    missing(PAPER, "figure 4", "the components", SOURCE, "A drawing."),
    missing(PAPER, "figure 5", "a task on a real arm", SOURCE,
            "Needs the arm. The paper: 1274.4 and 667.2 ms on Orin and Thor alone, 361.8 and "
            "321.6 with RoboECC."),
    table_iv,
    figure_6,
    figure_7,
)  # fmt: skip
