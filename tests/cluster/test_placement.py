"""Trials on several nodes, their cards logical: what runs where, on which card, and what each node
fetches."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from scenarios import play

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each trial saw, on nodes `two` and `one` with so many cards, and on `small`, which has
    two cards and one CPU."""
    return play("placement", tmp_path_factory.mktemp("placement"))


def test_every_trial_sees_exactly_the_cards_that_it_was_promised(
    seen: list[dict[str, Any]],
) -> None:
    assert len(seen) == 20
    assert {one["gpu"] for one in seen} == {0.5, 0.3125, 0.25, 1}
    known = {"two": {"0", "1"}, "one": {"0"}}
    for one in seen:
        assert one["cards"] in known[one["node"]], one


def test_no_card_is_promised_twice_at_one_time(seen: list[dict[str, Any]]) -> None:
    cards: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in seen:
        cards[one["node"], one["cards"]].append(one)
    most = 0.0
    for trials in cards.values():
        for one in trials:
            at_once = sum(
                other["gpu"] for other in trials if other["begun"] <= one["begun"] < other["ended"]
            )
            assert at_once <= 1 + 1e-9, trials
            most = max(most, at_once if one["gpu"] < 1 else 0)
    assert most > 0.5  # cards were shared


def test_a_node_that_is_too_small_gets_nothing_and_the_others_share_the_work(
    seen: list[dict[str, Any]],
) -> None:
    assert set(Counter(one["node"] for one in seen)) == {"two", "one"}


def test_each_node_fetches_activations_once_and_not_once_for_each_trial(tmp_path: Path) -> None:
    outcome = play("locality", tmp_path)
    nodes = defaultdict(set)
    for one in outcome["seen"]:
        nodes[one["set"]].add(one["node"])
    assert {one["node"] for one in outcome["seen"]} == {"a", "b"}
    assert len(outcome["seen"]) == 8
    assert outcome["reads"] == {folder: len(found) for folder, found in nodes.items()}
    assert sum(outcome["copies"].values()) == sum(outcome["reads"].values())


def test_a_driver_that_comes_by_ray_client_sweeps_all_the_same(tmp_path: Path) -> None:
    outcome = play("client", tmp_path)
    assert len(outcome["seen"]) == 4
    assert outcome["refused"].startswith("0 of 2 nodes can host a trial of {CPU: 64, GPU: 0}")


def test_an_autoscaler_hears_of_all_trials_and_of_their_end(tmp_path: Path) -> None:
    outcome = play("growing", tmp_path)
    assert "and the autoscaler starts none that can; lower" in outcome["never"]
    assert len(outcome["seen"]) == 4
    assert len({one["node"] for one in outcome["seen"]}) == 2
    assert outcome["shrinks"]
    assert outcome["grows"]
    assert outcome["shrinks when the driver is killed"]
