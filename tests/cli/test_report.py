"""The page of a bundle: its figures, what is in it, and what cannot get into it."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import Vlacut

from vlacut.bundle.costs import MeasuredCosts, MeasuredPart, write_costs
from vlacut.bundle.opened import Bundle
from vlacut.bundle.planning import PLANNING, read_planning
from vlacut.bundle.reading import open_bundle
from vlacut.bundle.writing import list_files, write_manifest
from vlacut.cli.page.figures import page_json
from vlacut.cli.page.scales import Scale, around
from vlacut.cli.page.views import BundleView
from vlacut.cli.page.writing import MOST_BYTES, write_page
from vlacut.cli.show.output import milliseconds, size
from vlacut.errors import BundleError
from vlacut.pricing.coding import ActionError

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
VOID = {"meta", "br", "hr", "img", "input", "link"}


@dataclass
class Page(html.parser.HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is not closed where it was opened"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.held[self.open[-1]] = data
        else:
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def parsed(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text())
    page.close()
    assert not page.open
    return page


@pytest.fixture
def page(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> Path:
    status, _, err = vlacut("report", split_bundle, "-o", tmp_path / "page.html")
    assert status == 0, err
    return tmp_path / "page.html"


def test_a_page_holds_the_figures_of_json(
    vlacut: Vlacut, page: Path, split_bundle: Path, tmp_path: Path
) -> None:
    printed = json.loads(vlacut("report", split_bundle, "-o", tmp_path / "b.html", "--json")[1])
    assert json.loads(parsed(page).held["script"]) == {"bundles": printed["bundles"]}
    inspected = json.loads(vlacut("inspect", split_bundle, "--json")[1])
    (shown,) = printed["bundles"]
    assert {key: shown[key] for key in inspected} == inspected
    assert printed["bytes"] == page.stat().st_size < MOST_BYTES


def test_what_is_read_on_a_page_is_what_json_says(page: Path, split_bundle: Path) -> None:
    data, found = page_json(open_bundle(split_bundle)), parsed(page)
    text = " ".join(" ".join(found.text).split())
    for row in data["strategies"]:
        numbers = (milliseconds(row["latency_ms"] / 1e3), size(row["bytes_up"]))
        assert f"{row['name']} {' '.join(numbers)} {size(row['bytes_down'])}" in re.sub(
            r"(edge|cloud|codecs|uplink|downlink|propagation): [\d.e-]+ ms ", "", text
        )
    assert data["verdict"] in text
    assert data["proof"] in text
    parts = {part["name"]: part["what"] for part in data["parts"]}
    for one in data["sequence"]:
        said = f"{one['part']} {parts[one['part']]}" if one["part"] else size(one["bytes"])
        assert said in text


def test_every_section_says_what_json_says(page: Path, split_bundle: Path) -> None:
    data, found = page_json(open_bundle(split_bundle)), parsed(page)
    text = " ".join(" ".join(found.text).split())
    planning, chosen = data["planning"], data["strategies"][0]
    low, high = (milliseconds(bound / 1e3) for bound in planning["interval_ms"])
    said = [f"Nine of ten within {low} to {high} ms"]
    for block in planning["blocks"]:
        spent = [milliseconds(block[key] / 1e3) for key in ("edge_ms", "cloud_ms")]
        name = f"{block['name']} {block['stage']} {', '.join(block['phases'])}"
        said.append(f"{name} {' '.join(spent)} {size(block['weights_bytes'])}")
    for side, doubled in planning["doubled_bytes"].items():
        said.append(f"{size(chosen[side]['weights_bytes'])} {size(doubled)}")
    for one in planning["contents"]:
        said.append(f"{one['block']} {sum(one['operators'].values())} operators")
    for one in data["pool"]["variants"]:
        said.append(milliseconds(one["latency_ms"] / 1e3))
    memory = data["memory"]
    said.append(
        f"The cloud has {size(memory['device'])}; its engines hold {size(memory['weights'])}"
    )
    said += [data["comparison"], data["pipeline"]]
    for one in said:
        assert " ".join(one.split()) in text, one


def test_lines_are_drawn_through_the_figures_of_json(page: Path, split_bundle: Path) -> None:
    data = page_json(open_bundle(split_bundle))
    drawn = re.findall(
        r'<polyline class="line[^"]*" points="(.*?)"><title>(.*?)</title>', page.read_text()
    )
    lines = {
        name: [tuple(map(float, one.split(","))) for one in points.split()]
        for points, name in drawn
    }
    curves = data["curves"]
    y = around([ms for one in curves["lines"] for ms in one["latency_ms"]])
    for one in curves["lines"]:
        heights = [1 - at / 100 for _, at in lines[one["name"]]]
        back = [y.low * (y.high / y.low) ** height for height in heights]
        assert back == pytest.approx(one["latency_ms"], rel=2e-3)
    places = [x for x, _ in lines["a step"]]
    found = [one["blocks_on_edge"] for one in data["planning"]["positions"]]
    assert places == pytest.approx([100 * one / max(found) for one in found], abs=0.01)
    heights = [100 - at for _, at in lines["a step"]]
    totals = [one["latency_ms"] for one in data["planning"]["positions"]]
    scale = heights[-1] / totals[-1]
    assert heights == pytest.approx([one * scale for one in totals], abs=0.02)


def written(data: dict[str, Any], file: Path) -> str:
    """The text of a page of figures, as one line."""
    write_page(file, [BundleView("policy", data)], {"bundles": [data]})
    return " ".join(" ".join(parsed(file).text).split())


def test_precisions_on_a_page_are_those_of_json(split_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(split_bundle)
    first = bundle.plan.variants[0]
    more = (
        replace(first, name="int4.0", precision="int4", action_error=ActionError(0.0123, 0.02, 7)),
        replace(first, name="int8.0", precision="int8", action_error=ActionError(None, None)),
    )
    plan = replace(bundle.plan, variants=(*bundle.plan.variants, *more))
    data = page_json(replace(bundle, manifest=replace(bundle.manifest, plan=plan)))
    text = written(data, tmp_path / "page.html")
    assert [row["precision"] for row in data["precisions"][-2:]] == ["int4", "int8"]
    for row in data["precisions"]:
        holds = [size(row[f"{side}_weights_bytes"]) for side in ("edge", "cloud")]
        error = "not measured" if row["error"] is None else f"{row['error']:.3g}"
        said = [row["variant"], row["precision"], milliseconds(row["latency_ms"] / 1e3), *holds]
        assert " ".join([*said, error, str(row["observations"])]) in text
    assert "0.0123 7" in text
    assert "not measured 0" in text


def test_measured_parts_on_a_page_are_those_of_json(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(split_bundle)
    found = [
        MeasuredPart(
            *(part.name, part.phase, part.inputs, part.outputs, part.digest, part.side, "a100"),
            *(2e-3, 3e-3 + place * 1e-3, 2.5e-3, 9e-3, 11),
        )
        for place, part in enumerate(bundle.plan.parts)
    ]
    costs = MeasuredCosts(
        1, bundle.plan.program, bundle.digest.hex(), "onnxruntime", "here", {}, tuple(found)
    )
    write_costs(tmp_path / "costs.json", costs)
    words = ("report", split_bundle, "--costs", tmp_path / "costs.json")
    printed = json.loads(vlacut(*words, "-o", tmp_path / "page.html", "--json")[1])
    page = parsed(tmp_path / "page.html")
    assert json.loads(page.held["script"]) == {"bundles": printed["bundles"]}
    text = " ".join(" ".join(page.text).split())
    rows = printed["bundles"][0]["measured_parts"]
    assert [row["time_ms"] for row in rows] == pytest.approx([one.seconds * 1e3 for one in found])
    for row in rows:
        shown = [milliseconds(row[key] / 1e3) for key in ("time_ms", "planned_ms")]
        low, high = (milliseconds(one / 1e3) for one in row["quartiles_ms"])
        ratio = f"{row['time_ms'] / row['planned_ms']:.2f}"
        said = f"{row['name']} {row['side']}, a100 {shown[0]} {low} to {high} {shown[1]} {ratio}"
        assert said in text


def test_figures_agree_with_each_other(split_bundle: Path) -> None:
    data = page_json(open_bundle(split_bundle))
    for row in data["strategies"]:
        shares = (row[key] for key in ("codec_ms", "uplink_ms", "propagation_ms", "downlink_ms"))
        spent = row["edge"]["time_ms"] + row["cloud"]["time_ms"] + sum(shares)
        assert spent - row["overlap_ms"] == pytest.approx(row["latency_ms"])
    chosen = data["strategies"][0]
    for side, way in (("edge", "bytes_up"), ("cloud", "bytes_down")):
        sent = (one["bytes"] * one["times"] for one in data["sequence"] if one["from"] == side)
        assert sum(sent) == chosen[way]
    rows = {row["name"]: row for row in data["strategies"]}
    planning = data["planning"]
    first, last = planning["positions"][0], planning["positions"][-1]
    assert first["latency_ms"] == pytest.approx(rows["all-cloud"]["latency_ms"])
    assert last["latency_ms"] == pytest.approx(rows["all-edge"]["latency_ms"])
    assert sum(block["edge_ms"] for block in planning["blocks"]) == pytest.approx(last["edge_ms"])
    assert sum(planning["doubled_bytes"].values()) == data["pool"]["doubled_bytes"]
    held = {one["part"] for one in planning["contents"]}
    assert held == {part["name"] for part in data["parts"]}


def test_latency_over_bandwidths_is_the_price(split_bundle: Path) -> None:
    bundle = open_bundle(split_bundle)
    curves = page_json(bundle)["curves"]
    middle = len(curves["up_bytes_per_s"]) // 2
    assert curves["up_bytes_per_s"][middle] == pytest.approx(bundle.plan.link.wire_up)
    rows = {row.name: row.price for row in bundle.plan.strategies}
    rows |= {one.name: one.price for one in bundle.plan.variants}
    for line in curves["lines"]:
        assert line["latency_ms"][middle] == pytest.approx(rows[line["name"]].total_s * 1e3)


def test_nothing_on_a_page_comes_from_elsewhere(page: Path) -> None:
    found, text = parsed(page), page.read_text()
    assert not [one for _, one in found.elements if {"src", "href", "style"} & one.keys()]
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = (one["content"] for one in found.named("meta") if "http-equiv" in one)
    digest = base64.b64encode(hashlib.sha256(found.held["style"].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert len(found.named("script")) == 1  # the figures: without a run nothing runs


def test_a_hostile_bundle_writes_text_alone(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    made = shutil.copytree(split_bundle, tmp_path / "h.vlacut")
    bundle = open_bundle(split_bundle)
    plan = bundle.plan
    parts = tuple(replace(part, label=HOSTILE) for part in plan.parts)
    rows = tuple(replace(row, name=HOSTILE + row.name, why_not=HOSTILE) for row in plan.strategies)
    certificate = replace(plan.certificate, method=HOSTILE, simpler=HOSTILE)
    plan = replace(plan, program=HOSTILE, edge=HOSTILE, cloud=HOSTILE, parts=parts,
                   strategies=rows, certificate=certificate)  # fmt: skip
    (made / PLANNING).write_text(
        (made / PLANNING).read_text().replace('"backbone"', json.dumps(HOSTILE))
    )
    for name in ("manifest.json", "manifest.json.sha256"):
        (made / name).unlink()
    tools = {HOSTILE: HOSTILE}
    manifest = replace(
        bundle.manifest, plan=plan, pipeline=HOSTILE, tools=tools, files=list_files(made)
    )
    write_manifest(made, manifest)
    status, _, err = vlacut("report", made, "-o", tmp_path / "h.html")
    assert status == 0, err
    found = parsed(tmp_path / "h.html")
    assert [one.get("id") for one in found.named("script")] == ["figures"]
    assert not found.named("img")
    assert not [name for _, one in found.elements for name in one if name.startswith("on")]
    assert " ".join(found.text).count(HOSTILE) > 10
    held: dict[str, Any] = json.loads(found.held["script"])
    assert held["bundles"][0]["model"] == HOSTILE


def test_a_page_can_be_read_without_seeing_and_without_a_mouse(page: Path) -> None:
    found = parsed(page)
    ids = [one["id"] for _, one in found.elements if "id" in one]
    assert len(ids) == len(set(ids))
    assert found.named("html")[0]["lang"] == "en"
    assert len(found.named("details")) == len(found.named("summary"))
    for svg in found.named("svg"):  # drawings are named, or hidden, or inside of a named one
        assert svg.get("aria-label") or svg.get("aria-hidden") or "viewbox" in svg
    regions = [one for one in found.named("div") if one.get("class") == "scroll"]
    assert regions
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in regions)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(found.named("table")) == len(found.named("caption"))


def test_colours_can_be_told_from_the_page(page: Path) -> None:
    """WCAG 2.1: text 4.5 to 1 (1.4.3), what a picture needs 3 to 1 (1.4.11)."""
    style = parsed(page).held["style"]
    for theme in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for name in ("text", "quiet", "edge"):
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        for name in colours.keys() - {"page", "rule", "grid"}:
            assert contrast(colours[name], colours["page"]) >= 3, name


def contrast(one: str, other: str) -> float:
    """Of two colours, see WCAG 2.1."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative, as in WCAG 2.1."""
    shares = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_two_bundles_are_side_by_side(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> None:
    both = split_bundle, split_bundle
    status, _, err = vlacut("report", *both, "-o", tmp_path / "two.html")
    assert status == 0, err
    assert len(parsed(tmp_path / "two.html").named("article")) == 2
    status, _, err = vlacut("report", *both, split_bundle, "-o", tmp_path / "three.html")
    assert status == 2
    assert "3 bundles: a page shows 2" in err
    assert not (tmp_path / "three.html").exists()


def test_a_place_that_cannot_be_written_is_said_first(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    status, _, err = vlacut("report", split_bundle, "-o", tmp_path / "none" / "a.html")
    assert (status, err.count("there is no folder")) == (2, 1)


def test_a_record_of_planning_is_checked(split_bundle: Path, tmp_path: Path) -> None:
    made = shutil.copytree(split_bundle, tmp_path / "b.vlacut")
    bundle = open_bundle(made)
    for wrong, said in (
        ("{", "is not JSON"),
        ('{"kind": "Planning"}', "missing or unknown entry"),
        (re.sub('"blocks": \\d+', '"blocks": 99', (made / PLANNING).read_text()), "not there"),
        (re.sub(r'"interval_s": \[.*?\]', '"interval_s": []', (made / PLANNING).read_text()),
         "two bounds"),
        ((made / PLANNING).read_text().replace('"doubled": {', '"doubled": {"both": 1, '),
         "by edge and cloud"),
    ):  # fmt: skip
        (made / PLANNING).write_text(wrong)
        again = Bundle(made, replace(bundle.manifest, files=list_files(made)), bundle.digest)
        with pytest.raises(BundleError, match=said):
            read_planning(again)
    older = {name: one for name, one in bundle.manifest.files.items() if name != PLANNING}
    assert read_planning(replace(bundle, manifest=replace(bundle.manifest, files=older))) is None


def test_a_page_of_an_older_bundle_leaves_blocks_out(split_bundle: Path, tmp_path: Path) -> None:
    from vlacut.cli.building.report import report

    bundle = open_bundle(split_bundle)
    files = {name: one for name, one in bundle.manifest.files.items() if name != PLANNING}
    older = replace(bundle, manifest=replace(bundle.manifest, files=files))
    report(tmp_path / "a.html", [older])
    assert "Where one cut would be" not in (tmp_path / "a.html").read_text()


def test_numbers_on_an_axis_are_round() -> None:
    assert [tick.text for tick in Scale(0, 21).ticks(str)] == ["0.0", "5.0", "10.0", "15.0", "20.0"]
    assert [tick.text for tick in Scale(0, 2).ticks(str, least=1)] == ["0.0", "1.0", "2.0"]
    decades = Scale(0.1, 1000, logarithmic=True)
    assert [tick.text for tick in decades.ticks(str)] == ["0.1", "1.0", "10.0", "100.0", "1000.0"]
    assert decades.at(10) == 50
    assert around([3.0]).high / around([3.0]).low > 3


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium")
def test_a_browser_has_nothing_to_complain_of(page: Path, tmp_path: Path) -> None:
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in ended.stderr
    assert "Latency of every strategy" in ended.stdout
