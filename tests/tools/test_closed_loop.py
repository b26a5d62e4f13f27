"""The closed loop: experts succeed, episodes hang on their seed alone, time is what it is told."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.precisions import policy

import vlacut

os.environ.setdefault("MUJOCO_GL", "egl")  # read when MuJoCo is imported
simulated = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None,
    reason="MuJoCo is not installed: sh tools/closed_loop/setup.sh",
)
RANDOM_WEIGHTS = 3


def skip_without_renderer(world: Any) -> None:
    try:
        world.picture("front")
    except (RuntimeError, AttributeError, ImportError) as error:
        pytest.skip(f"nothing renders here: {error}")


@simulated
@pytest.mark.parametrize("name", ["pick", "belt", "insert"])
def test_the_expert_succeeds(bench: Any, name: str) -> None:
    tasks, expert = bench("simulation.tasks"), bench("simulation.expert")
    task = tasks.TASKS[name]
    world = bench("simulation.world").World(task.xml)
    won = 0
    for seed in range(12):
        episode = tasks.begin(task, world, seed)
        for tick in range(task.most_ticks):
            episode.move(world, tick)
            world.step(expert.expert(world, episode, tick))
            if task.done(world, episode):
                won += 1
                break
    assert won >= 11


@simulated
def test_a_label_leaves_the_world_as_it_was(bench: Any) -> None:
    tasks, expert = bench("simulation.tasks"), bench("simulation.expert")
    task = tasks.TASKS["belt"]
    world = bench("simulation.world").World(task.xml)
    episode = tasks.begin(task, world, 7)
    places = []
    for label in (False, True):
        tasks.begin(task, world, 7)
        for tick in range(30):
            if label:
                chunk = expert.chunk(world, episode, tick, 16)
                assert chunk.shape == (16, 5)
            episode.move(world, tick)
            world.step(expert.expert(world, episode, tick))
        places.append(world.data.qpos.copy())
    np.testing.assert_array_equal(*places)


@simulated
def test_what_is_sensed_changes_nothing(bench: Any) -> None:
    """A step that reports its sensors ends where one that does not ends, to the bit."""
    tasks, expert = bench("simulation.tasks"), bench("simulation.expert")
    task = tasks.TASKS["insert"]
    world = bench("simulation.world").World(task.xml)
    places = []
    for quick in (False, True):
        episode = tasks.begin(task, world, 5)
        for tick in range(12):
            command = expert.expert(world, episode, tick)
            if quick:
                world.skip(command)
            else:
                sensed = world.step(command)
        places.append(world.data.qpos.copy())
    np.testing.assert_array_equal(*places)
    assert sensed.qd.shape == sensed.tau.shape == (25, 7)
    np.testing.assert_array_equal(sensed.q[-1], places[0][:7])
    assert np.abs(sensed.tau).max() <= max(bench("simulation.arm").TORQUES)


def _tilted(observation: Any, numbers: Any) -> np.ndarray:
    """An actor that turns the tool, whatever it sees."""
    turned = observation["state"][5:] + np.array([0, 0, 0, 0.1, 0])
    return np.tile(turned, (16, 1)).astype(float)


@simulated
@pytest.mark.parametrize("actor", [None, _tilted], ids=["demonstration", "dagger"])
def test_labels_are_what_the_expert_did(bench: Any, actor: Any) -> None:
    """A labelled sample has 16 commands, each within a step of the last; no actor drove in it."""
    world = bench("simulation.world").World(bench("simulation.tasks").TASKS["belt"].xml)
    skip_without_renderer(world)
    samples = bench("training.episodes").gather("belt", world, 4, actor)
    labelled = [one for one in samples if one["labelled"]]
    assert 0 < len(labelled) < len(samples)
    most = np.array([0.018, 0.018, 0.018, 0.12]) + 1e-6
    for sample in labelled:
        before = np.vstack([sample["state"][5:9], sample["chunk"][:-1, :4]])
        assert (np.abs(sample["chunk"][:, :4] - before) <= most).all()
        # The actor turns on and on; the expert never does after it has turned to the block.
        assert np.abs(np.diff(sample["chunk"][-4:, 3])).max() < 0.1 - 1e-6
    for sample in samples:
        assert np.isfinite(sample["facts"]).all()
        assert sample["labelled"] or not sample["chunk"].any()
    world.close()


@simulated
def test_a_scattered_scene_is_where_it_says(bench: Any) -> None:
    """Facts are of what is shown: the target from the tool, and in the hand if it is held."""
    world = bench("simulation.world").World(bench("simulation.tasks").TASKS["belt"].xml)
    skip_without_renderer(world)
    held = 0
    for seed in range(30):
        sample = bench("training.scattered").scatter("belt", world, seed)
        name = {2: "red", 3: "green"}[int(sample["words"][1])]
        place = np.array(world.data.body(name).xpos)
        np.testing.assert_allclose(sample["facts"][:3], (place - world.tool) / 0.1, atol=1e-5)
        assert 0 <= sample["facts"][5] <= 1
        assert not sample["labelled"]
        held += int(sample["facts"][6])
    assert 0 < held < 30
    assert (sample["front"] != sample["before"]).any()
    world.close()


@simulated
def test_a_scattered_peg_is_where_it_says(bench: Any) -> None:
    """Facts are of what is shown: the hole from the tool, and how the peg lies in the hand."""
    world = bench("simulation.world").World(bench("simulation.tasks").TASKS["insert"].xml)
    skip_without_renderer(world)
    over = 0
    for seed in range(12):
        sample = bench("training.scattered").scatter("insert", world, seed)
        hole, peg = (np.array(world.data.body(name).xpos) for name in ("hole", "peg"))
        np.testing.assert_allclose(sample["facts"][:3], (hole - world.tool) / 0.1, atol=1e-5)
        assert sample["facts"][7] == pytest.approx((peg - world.tool)[0] / 0.01, abs=1e-5)
        assert np.linalg.norm(peg - world.tool) < 0.03  # in the hand
        assert peg[2] - 0.05 > 0.05  # over the hole, not in it
        assert not sample["labelled"]
        over += int(np.linalg.norm((hole - peg)[:2]) < 0.1)
    assert 6 <= over < 12
    world.close()


@simulated
def test_contact_is_felt(bench: Any) -> None:
    """Nothing at rest and little in the air; much where the peg stands on the hole's edge."""
    tasks = bench("simulation.tasks")
    task = tasks.TASKS["insert"]
    world = bench("simulation.world").World(task.xml)
    tasks.begin(task, world, 3)
    assert not world.torques.any()
    edge = world.data.body("hole").xpos + np.array([0.03, 0, 0])
    for height, most in ((0.20, 3.0), (0.10, 100.0)):
        for _ in range(40):
            world.skip(np.array([*edge[:2], height, 0, 1]))
        felt = float(np.abs(world.torques).max())
        assert felt < most
    assert felt > 6.0


@simulated
@pytest.mark.parametrize(
    ("name", "task", "count", "least"),
    [("flow", "belt", 20, 17), ("tokens", "belt", 8, 6), ("touch", "insert", 20, 17)],
)
def test_a_trained_policy_succeeds(
    bench: Any, name: str, task: str, count: int, least: int
) -> None:
    """Held-out episodes without delay, four commands of every chunk played."""
    torch.set_num_threads(1)
    train, episodes = bench("train"), bench("training.episodes")
    world = bench("simulation.world").World(bench("simulation.tasks").TASKS[task].xml)
    skip_without_renderer(world)
    actor = bench("training.gathering").actor_of(bench("policies.heads").load(name, train.WEIGHTS))
    seeds = range(bench("results.cells").HELD_OUT, bench("results.cells").HELD_OUT + count)
    won = sum(episodes.succeeds(task, world, seed, actor, length=4) for seed in seeds)
    assert won >= least
    world.close()


@simulated
def test_no_doubt_no_delay(bench: Any) -> None:
    """Fixed times: what is late is in the outlook, and every inference is counted."""
    timing = bench("rollouts.timing").FixedTime(0.3)
    from vlacut.control.inferring.inference import Inference

    for number in range(3):
        course = timing.course(Inference(number, {}, 0, 0, None, ""), 0)
        assert course.seconds == 0.3
    assert [seconds for _, seconds in timing.taken()] == [0.3] * 3


@pytest.mark.parametrize("name", ["noise", "occlusion", "light"])
def test_disturbances_hang_on_the_seed_alone(bench: Any, name: str) -> None:
    make = bench("simulation.disturbances").make_disturbance
    picture = np.full((64, 64, 3), 100, np.uint8)
    seen = [make(name, seed)(picture, False, 20) for seed in (1, 1, 2)]
    assert seen[0].dtype == np.uint8
    assert seen[0].shape == picture.shape
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != picture).any()
    assert (seen[0] != seen[2]).any()
    assert (picture == 100).all()


def test_intervals_are_exact(bench: Any) -> None:
    from scipy.stats import binomtest

    interval = bench("results.outcomes").interval
    for won, count in ((0, 20), (7, 20), (20, 20), (190, 200)):
        exact = binomtest(won, count).proportion_ci(0.95, method="exact")
        assert interval(won, count) == pytest.approx((exact.low, exact.high))


@simulated
def test_the_same_seed_is_the_same_episode_to_the_bit(bench: Any) -> None:
    rollout, cells = bench("rollouts.rollout"), bench("results.cells")
    task, world = bench("rollouts.scene").world_of("belt")
    cell = cells.Cell("belt", cells.EXPERT, 0.1, playing="naive")
    runs = []
    for _ in range(2):
        timing = cells.timing_of(cell, 1)
        oracle = bench("rollouts.oracle").Oracle("belt")
        runs.append(rollout.drive(task, world, oracle, 1, timing, cells.how(cell, timing)))
    assert runs[0].success
    assert runs[0].ticks == runs[1].ticks
    for one, other in zip(runs[0].sensed, runs[1].sensed, strict=True):
        np.testing.assert_array_equal(one.q, other.q)
        np.testing.assert_array_equal(one.tau, other.tau)
    ages = {round(report.age_s, 3) for report in runs[0].reports[4:]}
    assert ages == {0.1, 0.15}  # a new chunk every 100 ms, 100 ms old when it comes
    first, second = (bench("results.outcomes").outcome_of(1, run) for run in runs)
    assert first == second


@simulated
def test_the_oracle_goes_on_from_the_commands_in_force(bench: Any) -> None:
    from vlacut.control.rtc import PREV_CHUNK, WEIGHTS

    oracle, tasks = bench("rollouts.oracle"), bench("simulation.tasks")
    task, world = bench("rollouts.scene").world_of("belt")
    episode = tasks.begin(task, world, 2)
    scene = oracle.scene_of(world, episode, 0)
    policy = oracle.Oracle("belt")
    plain = policy.act({oracle.SCENE: scene})["actions"]
    np.testing.assert_array_equal(plain, policy.act({oracle.SCENE: scene})["actions"])
    held = np.tile(world.command.astype(np.float32), (16, 1))
    weights = np.repeat([1.0, 0.0], [5, 11]).astype(np.float32)
    told = {oracle.SCENE: scene, PREV_CHUNK: held, WEIGHTS: weights}
    later = policy.act(told)["actions"]
    np.testing.assert_allclose(later[:5], held[:5], atol=1e-6)
    assert np.abs(plain[4] - held[4]).max() > 0.01
    assert np.abs(later[10] - held[10]).max() > 0.01


@simulated
def test_outcomes_are_kept(bench: Any, tmp_path: Path) -> None:
    cells, outcomes = bench("results.cells"), bench("results.outcomes")
    cell = cells.Cell("belt", cells.EXPERT, 0.1)
    made = outcomes.Outcome(cells.HELD_OUT, True, 3.5, 0.1, 9.0, 4, 0.9, 0.1, 0.2, 7, 0.1)
    bench("results.store").Store(tmp_path / "outcomes.jsonl").add(cell, made)
    again = bench("results.store").Store(tmp_path / "outcomes.jsonl")
    assert again.missing(cell, 3) == [cells.HELD_OUT + 1, cells.HELD_OUT + 2]
    assert again.of(cell, 3) == [made]
    assert not again.of(cells.Cell("belt", cells.EXPERT, 0.2), 3)


@simulated
def test_tables_come_from_the_expert_alone(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = bench("report")
    arguments = ["report", "--folder", str(tmp_path), "--episodes", "1", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    report.main()
    shown = capsys.readouterr().out
    assert "naive 100 ms" in shown
    assert "1/1" in shown
    assert "of 1, worse by p" in shown
    monkeypatch.setattr(sys, "argv", [*arguments, "--tables", "other"])
    with pytest.raises(SystemExit):
        report.main()
    assert "no table other" in capsys.readouterr().err


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's bundle is: it takes long to compile."""
    return tmp_path_factory.mktemp("kept") / "p.vlacut"


@pytest.fixture
def deployed(bench: Any, kept: Path) -> Any:
    torch.manual_seed(RANDOM_WEIGHTS)
    net = bench("policies.tokens").TokenPolicy().eval()
    if not kept.exists():
        program = bench("rollouts.programs").token_program(net)
        machines = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
        vlacut.compile(program, **machines, out=kept)
    return net, bench("rollouts.deployed").Deployed(kept)


@simulated
def test_a_policy_is_what_is_deployed(bench: Any, deployed: Any) -> None:
    net, policy = deployed
    numbers = np.random.default_rng(0)
    given = {
        name: numbers.integers(0, 256, (64, 64, 3), np.uint8)
        for name in bench("policies.policy").PICTURES
    }
    given |= {"tokens": np.array([1, 3]), "state": numbers.normal(size=10).astype(np.float32)}
    observed = {name: torch.from_numpy(array) for name, array in given.items()}
    with torch.inference_mode():
        expected = net.act({**observed, "words": observed["tokens"]}).numpy()
    np.testing.assert_allclose(policy.act(given)["actions"], expected, atol=1e-5)


@simulated
def test_episodes_in_virtual_time(bench: Any, deployed: Any) -> None:
    """The same seed gives the same episode to the bit, and a command is as old as its inference."""
    from vlacut.control.controllers.simple import Periodic

    rollout = bench("rollouts.rollout")
    task, world = bench("rollouts.scene").world_of("belt")
    skip_without_renderer(world)
    task.most_ticks = 24
    how = rollout.How(Periodic)
    runs = [
        rollout.drive(task, world, deployed[1], 3, bench("rollouts.timing").FixedTime(0.2), how)
        for _ in range(2)
    ]
    commands = [[report.command for report in run.reports[4:]] for run in runs]
    np.testing.assert_array_equal(*commands)
    ages = {round(report.age_s, 3) for report in runs[0].reports[8:]}
    assert ages == {0.2, 0.25, 0.3, 0.35}  # a new chunk every 200 ms, 200 ms old when it comes
    world.close()


@simulated
def test_an_animation_of_two_ways(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame every third tick of 12, and the last one, of both, side by side."""
    task, world = bench("rollouts.scene").world_of("belt")
    skip_without_renderer(world)
    world.close()
    task.most_ticks = 12
    out = tmp_path / "episode.gif"
    monkeypatch.setattr(sys, "argv", ["picture", "naive", "aligned", "-o", str(out)])
    bench("picture").main()
    with Image.open(out) as made:
        lasts = []
        for at in range(made.n_frames):
            made.seek(at)
            lasts.append(made.info["duration"])
            shown = np.asarray(made.convert("RGB"))
        assert sum(lasts) == 4 * 150 + 1500
        left, right = shown[:, :208], shown[:, 212:]
        assert left.shape == right.shape == (240, 208, 3)
        assert len(np.unique(left[32:].reshape(-1, 3), axis=0)) > 10  # a picture, not a plane


@simulated
def test_an_episode_in_real_time(bench: Any, kept: Path, deployed: Any, tmp_path: Path) -> None:
    """A second of it, over the twin's sockets: as many ticks, and commands out of chunks."""
    cells = bench("results.cells")
    bench("simulation.tasks").TASKS["belt"].most_ticks = 20
    rates = "".join(f"{second},80\n" for second in range(20))
    (tmp_path / "driven.csv").write_text(f"time_s,mbit_per_s\n{rates}")
    cell = cells.Cell("belt", cells.EXPERT, plan=str(kept), traces=str(tmp_path))
    virtual, real, late = bench("live").both(cells.Stage(), cell, 3)
    assert virtual.seconds == real.seconds == 1.0
    assert real.asked > 0
    assert real.age_s > 0
    assert real.jerk > 0
    assert min(late) >= 0


@simulated
def test_what_precisions_are_worth_is_a_row_each(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    precisions = {"as it is": "", "W8A8": "w8a8", "W4A16": "w4a16", "W4A8": "w4a8"}
    for name, quantise in precisions.items():
        folder = tmp_path / name
        folder.mkdir()
        target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,20ms"}
        options = {"quantise": quantise, "rounding_method": "rtn" if quantise else ""}
        made = vlacut.compile(policy(folder), **target, **options, out=folder / "b")
        paths.append(made.root)
    bench("worth").show(paths, 3)
    rows = {line[:9].strip(): line[9:].split() for line in capsys.readouterr().out.splitlines()}
    assert list(rows)[1:] == list(precisions)
    shares = {name: float(row[1].rstrip("%")) for name, row in list(rows.items())[1:]}
    assert shares["as it is"] == 100
    assert 24 < shares["W8A8"] < 30
    assert shares["W4A16"] == shares["W4A8"] < shares["W8A8"]
    assert all(float(row[2]) > 0 for row in list(rows.values())[1:])
