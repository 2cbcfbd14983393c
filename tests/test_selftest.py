import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from restricted import SETUPS, Bench, in_setup, needs_every_layer, needs_linux

from runner import sandbox, selftest

CHECKOUT = Path(__file__).parents[1]


def probe(bench: Bench, layers: list[str]) -> dict[str, Any]:
    found = selftest.probe(bench.scratch.parent, bench.prepared, uid=bench.uid, layers=layers)
    return {
        "level": found.level,
        "level_of_layers": sandbox.level(found.applied),
        "stopped": [row.attack for row in found.rows if row.stopped],
        "missing": found.missing,
        "left": [path.name for path in bench.scratch.parent.iterdir()],
    }


def probe_each_way(bench: Bench) -> dict[str, Any]:
    """Try each attack against each set of layers that should stop it alone."""
    outcomes = {}
    for attack in selftest.ATTACKS:
        for layers in attack.stops:
            found = selftest.probe(bench.scratch.parent, bench.prepared, uid=bench.uid, layers=layers)
            if layers <= found.applied:
                [row] = [row for row in found.rows if row.attack == attack.name]
                outcomes[f"{attack.name}: {'+'.join(sorted(layers))}"] = row.stopped
    return outcomes


def probe_levels(bench: Bench) -> dict[str, Any]:
    """Measure the level without each layer in turn, beside what `level` makes of the layers' names."""
    levels = {}
    for layer in ["nothing", *sandbox.LAYERS]:
        layers = [name for name in sandbox.LAYERS if name != layer]
        found = probe(bench, layers)
        levels[layer] = [found["level"], found["level_of_layers"]]
    return levels


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_every_attack_is_stopped_at_full_restriction(setup: str, tmp_path: Path) -> None:
    found = in_setup(setup, tmp_path, probe, list(sandbox.LAYERS))
    assert found["stopped"] == [attack.name for attack in (*selftest.ATTACKS, selftest.SURVIVAL)]
    assert found["level"] == "strong"
    assert found["missing"] == ""
    assert found["left"] == ["scratch"]


@needs_linux
@pytest.mark.parametrize("setup", SETUPS)
def test_every_attack_succeeds_without_layers(setup: str, tmp_path: Path) -> None:
    found = in_setup(setup, tmp_path, probe, [])
    assert found["stopped"] == [selftest.SURVIVAL.name]
    assert found["level"] == found["level_of_layers"] == "none"
    assert found["missing"].startswith("Missing: a user of the slot's own (a worker that is started as root")


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_each_layer_stops_alone_what_the_table_says(setup: str, tmp_path: Path) -> None:
    outcomes = in_setup(setup, tmp_path, probe_each_way)
    assert len(outcomes) >= 30
    assert [way for way, stopped in outcomes.items() if not stopped] == []


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS)
def test_level_of_the_layers_is_the_level_that_is_measured(setup: str, tmp_path: Path) -> None:
    levels = in_setup(setup, tmp_path, probe_levels)
    levels.pop("capabilities")  # an ordinary user has none to drop, which the names do not tell
    assert {layer: pair for layer, pair in levels.items() if pair[0] != pair[1]} == {}
    assert levels["nothing"] == ["strong", "strong"]
    assert levels["seccomp"] == ["partial", "partial"]


def probe_secret(bench: Bench) -> list[Any]:
    secret = bench.scratch.parent / "database"
    secret.write_text("labels")
    secret.chmod(0o644)
    levels = []
    for layers in (list(sandbox.LAYERS), [name for name in sandbox.LAYERS if not name.startswith("landlock")]):
        found = selftest.probe(bench.scratch.parent, bench.prepared, uid=bench.uid, layers=layers, secrets=[secret])
        levels.append([found.level, [row.attack for row in found.rows if row.kind == "files" and not row.stopped]])
    return levels


@needs_every_layer
@pytest.mark.parametrize("setup", SETUPS[:1])
def test_a_secret_that_all_may_read_needs_landlock(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, probe_secret) == [["strong", []], ["none", ["read database"]]]


@needs_linux
def test_command_prints_the_table_and_the_level() -> None:
    command = [sys.executable, "-m", "runner.selftest"]
    text = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    lines = text.splitlines()
    assert lines[0].split() == ["attack", "stopped", "by", "result"]
    assert len(lines) >= 2 + len(selftest.ATTACKS)
    found = json.loads(subprocess.run([*command, "--json"], cwd=CHECKOUT, capture_output=True, check=True).stdout)
    assert f"level: {found['level']}" in lines
    assert [row["attack"] for row in found["rows"]][-1] == selftest.SURVIVAL.name


def test_a_platform_without_any_layer_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LINUX", False)
    found = selftest.probe(tmp_path, sandbox.prepare())
    assert (found.level, found.rows) == ("none", ())
    assert "Landlock for files and tracing (Linux 5.13 with Landlock enabled)" in found.missing
