"""`tally capacity`: what so many keys and operations take."""

import json

import pytest

from servers import run_tally


def capacity(*options):
    ended = run_tally("capacity", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def plan(*options):
    return capacity(*options)["plan"]


def needed(found, name, part="nodes"):
    return next(each["needed"] for each in found[part] if each["name"] == name)


def test_what_is_asked_for_is_paid_for():
    """More of one thing takes more of what it uses, and of nothing else."""
    small = plan("--records", "1e9", "--increments", "1e5", "--reads", "1e5")
    large = plan("--records", "2e9", "--increments", "1e5", "--reads", "1e5")
    assert needed(large, "memory") > 1.8 * needed(small, "memory")
    assert needed(large, "disk") == pytest.approx(2 * needed(small, "disk"))
    assert needed(large, "processors") == needed(small, "processors")
    busy = plan("--records", "1e9", "--increments", "4e5", "--reads", "1e5")
    assert needed(busy, "processors") > needed(small, "processors")
    # The same messages carry more.
    assert busy["messages"] == small["messages"]
    more = busy["logBytes"] - small["logBytes"]
    assert more == pytest.approx(3e5 * capacity()["costs"]["incrementBytes"])
    assert needed(busy, "disk", "brokers") / needed(small, "disk", "brokers") == pytest.approx(
        busy["logBytes"] / small["logBytes"])
    read = plan("--records", "1e9", "--increments", "1e5", "--reads", "1e6")
    assert needed(read, "processors") > needed(small, "processors")
    assert read["logBytes"] == small["logBytes"]


def test_machines_are_enough_for_what_is_needed():
    for options in (
            ("--records", "4e10", "--increments", "1e7", "--reads", "1e6", "--memory", "256gb"),
            ("--keys", "1e9", "--key-random-bytes", "12", "--increments", "1e6"),
            ("--records", "1e11", "--hot", "0.1", "--increments", "1e6", "--memory", "64gb"),
            ("--increments", "10"), ()):
        found = plan(*options)
        for part, machines in (("nodes", "nodeMachines"), ("brokers", "brokerMachines")):
            for each in found[part]:
                assert each["needed"] <= found[machines] * each["perMachine"]
        assert found["nodeMachines"] >= 3
        assert found["brokerMachines"] >= 3 and found["brokerMachines"] % 2 == 1
        assert found["logs"] in (1, 2, 4, 8, 16, 32, 64)


def test_copies_and_what_is_cold():
    three = plan("--records", "1e10", "--increments", "1e5")
    two = plan("--records", "1e10", "--increments", "1e5", "--copies", "2")
    cold = plan("--records", "1e10", "--increments", "1e5", "--hot", "0.1")
    assert needed(two, "memory") == pytest.approx(needed(three, "memory") * 2 / 3)
    assert needed(cold, "memory") < needed(three, "memory") / 2
    assert needed(cold, "disk") == needed(three, "disk")


def test_costs_of_ones_own(tmp_path):
    costs = capacity()["costs"]
    costs["recordBytes"] *= 2
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(costs))
    options = ("--records", "1e10")
    assert needed(plan(*options, "--costs", file), "disk") == 2 * needed(plan(*options), "disk")


@pytest.mark.parametrize("options, error", [
    (("--records", "many"), "--records is 'many'"),
    (("--records", "-1"), "records"),
    (("--load", "0"), "--load is '0.0'"),
    (("--memory", "12"), "--memory is '12'"),
    (("--costs", "/nowhere/costs.json"), "cannot read"),
    (("--copies", "0"), "--copies is '0'"),
])
def test_what_is_refused(options, error):
    ended = run_tally("capacity", *options)
    assert ended.returncode == 64 and error in ended.stderr


def test_a_table_for_people():
    ended = run_tally("capacity", "--records", "4e10", "--increments", "1e7", "--reads", "1e6")
    assert ended.returncode == 0
    for word in ("MACHINES", "nodes: memory", "NATS: disk", "machines for nodes", "logs"):
        assert word in ended.stdout
