"""The commands as users type them: output for people, JSON for machines, one line for errors."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import Vlacut

from vlacut.cli.show.output import size

TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,20ms")


def test_plan_json_has_the_documented_keys(vlacut: Vlacut, onnx_file: Path) -> None:
    status, out, _ = vlacut("plan", onnx_file, *TARGET, "--json")
    plan = json.loads(out)
    assert status == 0
    assert {"model", "edge", "cloud", "link", "chosen", "strategies"} <= set(plan)
    assert [one["other"] for one in plan["standings"]] == ["all-edge", "all-cloud"]
    keys = {"other", "ratio", "why_not", "changes_at_bytes_per_s"}
    assert all(set(one) == keys for one in plan["standings"])
    assert plan["verdict"].startswith("No split pays here: everything runs on the edge, ")
    assert "all-edge" not in plan["verdict"]
    assert {row["name"] for row in plan["strategies"]} >= {"optimal", "all-edge", "all-cloud"}
    for row in plan["strategies"]:
        keys = {"name", "latency_ms", "edge", "cloud", "bytes_up", "bytes_down", "crossings"}
        assert keys | {"feasible"} <= set(row)
        assert set(row["edge"]) == set(row["cloud"]) == {"weights_bytes", "time_ms"}
    best = min(row["latency_ms"] for row in plan["strategies"] if row["feasible"])
    assert plan["strategies"][0]["latency_ms"] == pytest.approx(best)
    low, high = plan["interval_ms"]
    assert low < best < high


def test_plan_keeps_the_limits_asked_for(vlacut: Vlacut, onnx_file: Path) -> None:
    """The model is three products over one input, on a link that makes the cloud worth while."""
    words = ("plan", onnx_file, *TARGET[:4], "--link", "100GB/s", "--json")

    def planned(*more: object) -> dict[str, Any]:
        status, out, err = vlacut(*words, *more)
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found["strategies"][0] | {"plan": found}

    free = planned()
    assert free["edge"]["weights_bytes"] == 0
    whole = free["cloud"]["weights_bytes"]
    for more, against_all_cloud in (
        (("--pin", "*=edge"), "as fast as all-cloud"),  # the pin holds for that too
        (("--private", "image"), "as fast as all-cloud"),
        (("--cloud-budget", "1B"), "which is not allowed: weights in the cloud"),
        (("--minimise", "cloud-time"), "which is allowed, but not what was asked for"),
        (("--cloud-time", "0ms"), "which is not allowed: compute in the cloud"),
    ):
        kept = planned(*more)
        assert kept["cloud"]["weights_bytes"] == 0, more
        assert kept["plan"]["certificate"]["proven"]
        assert against_all_cloud in kept["plan"]["verdict"]
    tight = planned("--edge-memory", f"{whole - 1}B", "--minimise", "cloud-time")
    assert tight["edge"]["weights_bytes"] < whole
    deadline = (free["latency_ms"] + planned("--pin", "*=edge")["latency_ms"]) / 2
    kept = planned("--deadline", f"{deadline:.6f}ms", "--minimise", "cloud-time")
    assert kept["latency_ms"] <= deadline
    assert kept["cloud"]["time_ms"] <= free["cloud"]["time_ms"]


def test_plan_ends_with_proof_and_verdict(vlacut: Vlacut, onnx_file: Path) -> None:
    _, out, _ = vlacut("plan", onnx_file, *TARGET)
    table, _, end = out.partition("Proven: no cut within the limits has a lower latency")
    assert "Strategies, per control step" in table
    assert end.strip().splitlines()[-1].endswith(".")
    assert "No split pays here" in end


def test_compile_serve_run_verify_inspect(vlacut: Vlacut, onnx_file: Path, tmp_path: Path) -> None:
    bundle, observed, acted = tmp_path / "b", tmp_path / "obs.npz", tmp_path / "act.npz"
    fast = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "100GB/s")
    status, out, _ = vlacut("compile", onnx_file, *fast, "-o", bundle)
    assert status == 0, out
    assert "all-edge" in out
    assert "next: vlacut serve" in out
    image = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    np.savez(observed, image=image)
    words = [sys.executable, "-m", "vlacut", "serve", str(bundle), "--port", "0", "--json"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as cloud:
        assert cloud.stdout is not None
        address = json.loads(cloud.stdout.readline())["address"]
        status, out, _ = vlacut(
            *("run", bundle, "--cloud", address, "--input", observed, "--steps", 5),
            *("--output", acted, "--json"),
        )
        cloud.terminate()
        cloud.communicate(timeout=20)
        assert cloud.returncode == 0
    assert status == 0, out
    ran = json.loads(out)
    assert len(ran["steps"]) == 5
    first = ran["steps"][0]
    assert first["latency_ms"] == pytest.approx(
        sum(first["edge_ms"].values()) + sum(first["cloud_ms"].values()) + first["network_ms"]
    )
    np.testing.assert_array_equal(np.load(acted)["features"], np.float32(ran["action"]["features"]))
    status, out, _ = vlacut("verify", bundle, "--json")
    assert status == 0
    verified = json.loads(out)
    assert verified["passed"]
    assert {cut["name"]: cut["max_abs_error"] for cut in verified["cuts"]}["chosen"] == 0
    status, out, _ = vlacut("inspect", bundle)
    assert status == 0
    assert re.search(r"digest\s+[0-9a-f]{64}", out)


def test_codecs_from_plan_to_verify(vlacut: Vlacut, onnx_file: Path, tmp_path: Path) -> None:
    slow = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "100kB/s,5ms")
    words = (onnx_file, *slow, "--pin", "*=cloud", "--codecs", "fp16,int8")
    status, out, _ = vlacut("plan", *words, "--max-action-error", "0.02", "--json")
    assert status == 0
    plan = json.loads(out)
    keys = {"tensor", "from", "codec", "raw_bytes", "coded_bytes", "edge_ms", "cloud_ms"}
    for crossing in plan["codecs"]["crossings"]:
        assert set(crossing) == keys | {"action_error_alone"}
        assert crossing["coded_bytes"] < crossing["raw_bytes"]
    assert {one["codec"] for one in plan["codecs"]["crossings"]} <= {"fp16", "int8"}
    error = plan["codecs"]["action_error"]
    assert 0 < error["measured"] <= error["allowed"] == 0.02
    row = plan["strategies"][0]
    spent = row["edge"]["time_ms"] + row["cloud"]["time_ms"] + row["codec_ms"] + row["network_ms"]
    assert row["latency_ms"] == pytest.approx(spent)
    status, out, _ = vlacut("compile", *words, "-o", tmp_path / "b")
    assert status == 0
    assert "Codecs, per control step" in out
    assert re.search(
        r"^optimal: codecs and casts at a border take 0\.\d+ ms more$", out, re.MULTILINE
    )
    assert re.search(
        r"Error on 4 observations: the action is off by 0\.\d+ of its magnitude at most", out
    )
    status, out, _ = vlacut("verify", tmp_path / "b")
    assert status == 0
    assert "within" in out


def test_opt_prints_stable_text(vlacut: Vlacut, onnx_file: Path) -> None:
    words = ("opt", onnx_file, "-p", "simplify,annotate-cost")
    status, first, _ = vlacut(*words)
    assert status == 0
    assert first.startswith("program policy(image: float32[1, 64])")
    assert "cost = 8192 flop" in first  # 2 x 64 x 64
    assert vlacut(*words)[1] == first


def test_tables_fit_a_terminal(vlacut: Vlacut, onnx_file: Path) -> None:
    _, out, _ = vlacut("plan", onnx_file, *TARGET)
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan", "nowhere.onnx", *TARGET), "nowhere.onnx"),
        (("plan", "README.md", *TARGET), "MODEL|no model"),
        (
            ("plan", "{onnx}", "--edge", "jetson-orin-agx", *TARGET[2:]),
            "did you mean .*jetson-agx-orin",
        ),
        (("plan", "{onnx}", *TARGET[:5], "10 MBps, 3"), "write UP"),
        (("plan", "{onnx}", *TARGET, "--cloud-budget", "lots"), "12.1GB"),
        (("plan", "{onnx}", *TARGET, "-p", "simplfy"), "did you mean simplify"),
        (("plan", "{onnx}", *TARGET, "--pin", "nowhere=edge"), "matches no block"),
        (("plan", "{onnx}", *TARGET, "--pin", "nowhere"), "PATTERN=edge"),
        (("plan", "{onnx}", *TARGET, "--private", "imag"), "keep private; did you mean image"),
        (("plan", "{onnx}", *TARGET, "--deadline", "1us"), "over|limit"),
        (("plan", "{onnx}", *TARGET, "--codecs", "mp3"), "write all, or some of fp16"),
        (("plan", "{onnx}", *TARGET, "--max-action-error", "0"), "add --codecs"),
        (("plan", "{onnx}", *TARGET, "--max-action-error", "nan"), "write a share"),
        (("verify", "{tmp}"), "is no bundle"),
        (("serve", "{tmp}/none"), "is no bundle"),
        (("run", "{bundle}", "--cloud", "nohost"), "write HOST:PORT"),
        (("serve", "{bundle}", "--host", "0.0.0.0"), "not authenticated"),
        (("run", "{bundle}", "--cloud", "127.0.0.1:9", "--input", "{tmp}/x.npz"), "x.npz|nobody"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    vlacut: Vlacut,
    onnx_file: Path,
    split_bundle: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    places = {"onnx": onnx_file, "bundle": split_bundle, "tmp": tmp_path}
    status, out, err = vlacut(*(word.format(**places) for word in words))
    assert status == (1 if "127.0.0.1:9" in words else 2), (out, err)
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_wrong_observation_is_one_line(vlacut: Vlacut, onnx_file: Path, tmp_path: Path) -> None:
    slow = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1kB/s,1s")
    assert vlacut("compile", onnx_file, *slow, "-o", tmp_path / "b")[0] == 0
    for arrays, message in (
        ({"imag": np.zeros((1, 64), np.float32)}, "unexpected tensor 'imag'; did you mean image"),
        ({"image": np.zeros((1, 63), np.float32)}, r"image: shape is \[1, 63\]"),
        ({"image": np.zeros((1, 64))}, "image: dtype is float64"),
    ):
        np.savez(tmp_path / "obs.npz", **arrays)  # type: ignore[arg-type]  # numpy 2.4's stub
        status, _, err = vlacut("run", tmp_path / "b", "--input", tmp_path / "obs.npz")
        assert status == 2
        assert re.search(message, err), err


def test_a_wrong_option_is_one_line_too(vlacut: Vlacut) -> None:
    status, out, err = vlacut("plan", "x", *TARGET, "--minimise", "latncy", "--json")
    assert (status, err.count("\n")) == (2, 1)
    assert "'latncy' is not one of" in err
    assert "; see vlacut plan --help" in err
    error = json.loads(out)["error"]
    assert error["kind"] == "UsageError"
    assert err == f"vlacut: {error['message']}\n"


@pytest.mark.parametrize(
    ("nbytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (12_345, "12.3 kB"),
        (999_700, "1 MB"),
        (999_800_000, "1 GB"),
        (12.34e9, "12.3 GB"),
        (999.7e9, "1000 GB"),
        (12_345e9, "12345 GB"),
    ],
)
def test_sizes_have_three_digits(nbytes: float, said: str) -> None:
    assert size(nbytes) == said


def test_devices_and_help(vlacut: Vlacut) -> None:
    assert "jetson-agx-orin" in vlacut("devices")[1]
    listed = json.loads(vlacut("devices", "--json")[1])["devices"]
    assert all(device["source"] for device in listed)
    status, out, _ = vlacut("--help")
    assert status == 0
    for command in ("compile", "plan", "serve", "run", "verify", "inspect", "opt"):
        assert command in out


def test_a_pool_is_reported_and_run(vlacut: Vlacut, onnx_file: Path, tmp_path: Path) -> None:
    """With room for all weights, all-edge beside a cut; the edge runs the variant asked for."""
    pooled = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "100GB/s")
    pooled += ("--cloud-budget", "17kB", "--pool", "portfolio:1MB", "--bandwidth", "1kB/s-1TB/s")
    status, out, _ = vlacut("plan", onnx_file, *pooled)
    assert status == 0
    assert "Variants, per control step" in out
    assert "in expectation" in out
    status, out, _ = vlacut("plan", onnx_file, *pooled, "--candidates")
    assert status == 0
    assert "Candidates of the pool" in out
    assert "placements: 1 chosen, " in out
    status, _, err = vlacut("plan", onnx_file, *TARGET, "--candidates")
    assert (status, "add --pool" in err) == (2, True)
    status, out, _ = vlacut("compile", onnx_file, *pooled, "-o", tmp_path / "b", "--json")
    said = json.loads(out)
    pool = said["pool"]
    assert {one["fate"] for one in said["candidates"]} >= {"chosen", "kept"}
    assert all(
        {each["direction"] for each in one["crossings"]} <= {"up", "down"}
        for one in said["candidates"]
    )
    assert status == 0
    assert pool["name"] == "portfolio:1MB"
    assert pool["expected_ms"] < pool["alone_ms"]
    assert pool["variants"][0]["name"] == "chosen"
    assert {"segments", "fused"} == {form["form"] for form in pool["forms"]}
    names = [variant["name"] for variant in pool["variants"]]
    assert "all-edge" in names
    status, out, _ = vlacut("run", tmp_path / "b", "--policy", "all-edge", "--json")
    assert status == 0
    assert [step["variant"] for step in json.loads(out)["steps"]] == ["all-edge"]
    status, _, err = vlacut("plan", onnx_file, *TARGET, "--pool", "some")
    assert status == 2
    assert "write block or portfolio:BYTES" in err


def test_a_predictor_is_trained_bundled_and_used(
    vlacut: Vlacut, onnx_file: Path, tmp_path: Path
) -> None:
    """From traces on disk to a run whose expectations are the network's."""
    numbers = np.random.default_rng(0)
    (tmp_path / "traces").mkdir()
    for index in range(4):
        rates = numbers.lognormal(2, 0.3, 1200)
        rows = (f"{step / 10:.1f},{rate:.4f}" for step, rate in enumerate(rates))
        text = "\n".join(("time_s,mbit_per_s", *rows))
        (tmp_path / "traces" / f"drive{index}.csv").write_text(text)
    file = tmp_path / "lstm.npz"
    words = ("train-predictor", tmp_path / "traces", "-o", file, "--epochs", 2)
    status, out, _ = vlacut(*words, "--json")
    found = json.loads(out)
    assert status == 0
    assert {*found["fitted"], *found["kept"]} == {f"traces/drive{index}" for index in range(4)}
    assert set(found["scores"]) == {"last", "ewma", "harmonic", "holt", "ar", "lstm"}
    assert {"samples", "mae", "rmse", "over", "covered", "quantile_over"} == set(
        found["scores"]["lstm"]
    )
    status, out, _ = vlacut(*words)
    assert status == 0
    assert "its 10 % quantile" in out
    target = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "100GB/s")
    target += ("--cloud-budget", "17kB", "--pool", "portfolio:1MB", "--bandwidth", "1kB/s-1TB/s")
    bundle = tmp_path / "b"
    status, _, err = vlacut("compile", onnx_file, *target, "--predictor", file, "-o", bundle)
    assert status == 0
    assert "equation 3" in err  # this model's sides compute for microseconds
    manifest = json.loads((bundle / "manifest.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert manifest["predictor"] == f"predictors/{digest}"
    assert (bundle / "predictors" / digest).read_bytes() == file.read_bytes()
    asked = ("--policy", "argmin", "--link", "1kB/s", "--json")  # all-edge: nobody is served
    status, out, _ = vlacut("run", bundle, *asked, "--predictor", "lstm", "--steps", 2)
    steps = json.loads(out)["steps"]
    assert status == 0
    assert [step["variant"] for step in steps] == ["all-edge"] * 2
    assert steps[0]["expected"]["up_bytes_per_s"] == pytest.approx(1000)
    status, _, err = vlacut("run", bundle, *asked, "--predictor", "oracle")
    assert status == 2
    assert "no predictor 'oracle'; there are last, ewma" in err
    (bundle / "predictors" / digest).write_bytes(b"else")
    status, _, err = vlacut("run", bundle, *asked)
    assert status == 2
    assert "is altered" in err
