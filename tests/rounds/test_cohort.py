"""Cohorts: a function of seed, round, phase and names, and of nothing else."""

import random
from collections.abc import Iterable

import pytest
from adding import Nodes, adding_app
from flwr.app import Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from celeba_fl.rounds import cohort
from celeba_fl.rounds.cohort import CohortGrid, Cohorts, await_nodes, draw_cohort

NAMES = [str(i) for i in range(50)]


@given(
    names=st.lists(st.text(max_size=5), unique=True, max_size=20),
    fraction=st.floats(0, 1),
    minimum=st.integers(0, 25),
    seed=st.integers(0),
    chance=st.randoms(use_true_random=False),
)
def test_a_cohort_depends_on_the_names_but_not_on_their_order(
    names: list[str], fraction: float, minimum: int, seed: int, chance: random.Random
) -> None:
    cohort = draw_cohort(names, fraction, minimum, seed, 1, "train")
    shuffled = chance.sample(names, len(names))

    assert draw_cohort(shuffled, fraction, minimum, seed, 1, "train") == cohort
    assert cohort == sorted(set(cohort))
    assert set(cohort) <= set(names)
    size = max(int(fraction * len(names)), minimum) if fraction else 0
    assert len(cohort) == min(size, len(names))


@pytest.mark.parametrize(
    ("fraction", "minimum", "size"),
    [
        (1.0, 1, 50),
        (0.5, 1, 25),
        (0.01, 1, 1),
        (0.01, 3, 3),
        (0.2, 99, 50),
        (0.39, 0, 19),
        (0, 3, 0),
    ],
)
def test_size(fraction: float, minimum: int, size: int) -> None:
    assert len(draw_cohort(NAMES, fraction, minimum, 42, 1, "train")) == size


def test_the_cohort_is_the_same_on_every_machine() -> None:
    drawn = draw_cohort(NAMES, 0.1, 1, 42, 1, "train")
    assert drawn == ["12", "20", "23", "27", "43"]


@pytest.mark.parametrize("parts", [(43, 1, "train"), (42, 2, "train"), (42, 1, "evaluate")])
def test_seed_round_and_phase_change_the_cohort(parts: tuple[int, int, str]) -> None:
    assert draw_cohort(NAMES, 0.5, 1, *parts) != draw_cohort(NAMES, 0.5, 1, 42, 1, "train")


def test_each_phase_has_its_own_cohort() -> None:
    cohorts = Cohorts(42, fraction_train=0.1, fraction_evaluate=0.0, min_train=3, min_evaluate=9)
    assert cohorts.draw(NAMES, 1, "train") == draw_cohort(NAMES, 0.1, 3, 42, 1, "train")
    assert cohorts.draw(NAMES, 1, "evaluate") == []
    assert len(Cohorts(min_evaluate=9).draw(NAMES, 1, "evaluate")) == 50


def test_every_client_has_its_turn() -> None:
    rounds = [draw_cohort(NAMES, 0.2, 1, 42, number, "train") for number in range(60)]
    assert {name for cohort in rounds for name in cohort} == set(NAMES)


def test_global_chance_is_left_alone() -> None:
    random.seed(1)
    before = random.getstate()
    draw_cohort(NAMES, 0.5, 1, 7, 1, "train")
    assert random.getstate() == before


class Absent(Nodes):
    """Of four nodes, those in `away` are offline, each for so many questions."""

    def __init__(self, away: dict[str, int]) -> None:
        super().__init__(adding_app(), 4)
        self.away = away

    def get_node_ids(self) -> Iterable[int]:
        here = set(super().get_node_ids())
        if hasattr(self, "away"):
            gone = {self.by_name[name] for name, times in self.away.items() if times > 0}
            self.away = {name: times - 1 for name, times in self.away.items()}
            return here - gone
        return here


@pytest.mark.parametrize(("fraction", "asked"), [(0.1, 1), (0.5, 4), (2 / 3, 4), (0.7, 9), (1, 9)])
def test_nodes_that_are_needed_are_awaited(
    monkeypatch: pytest.MonkeyPatch, fraction: float, asked: int
) -> None:
    monkeypatch.setattr(cohort, "POLL_SECONDS", 0)
    nodes = Absent({"0": 99, "1": 3, "2": 8})
    await_nodes(nodes, [nodes.by_name[name] for name in "123"], fraction, timeout=60)
    assert nodes.away["0"] == 99 - asked


def test_nodes_that_do_not_come_back_are_awaited_up_to_the_timeout() -> None:
    nodes = Absent({"1": 10**9})
    await_nodes(nodes, [nodes.by_name["1"]], 1, timeout=0.01)
    assert nodes.away["1"] < 10**9


def test_on_the_grid_of_a_cohort_there_is_no_one_else() -> None:
    nodes = Nodes(adding_app(), 4)
    shown = CohortGrid(nodes, [nodes.by_name["1"], nodes.by_name["3"]])

    assert list(shown.get_node_ids()) == [nodes.by_name["1"], nodes.by_name["3"]]
    assert shown.run is nodes.run


def test_all_else_goes_to_the_real_grid() -> None:
    nodes = Nodes(adding_app(), 2)
    grid = CohortGrid(nodes, [])
    content = RecordDict()

    def query() -> Message:
        return grid.create_message(content, "query", nodes.by_name["1"], "group", ttl=60.0)

    message = query()
    assert (message.metadata.dst_node_id, message.metadata.group_id) == (
        nodes.by_name["1"],
        "group",
    )
    assert message.metadata.ttl == 60.0
    (pushed,) = grid.push_messages([message])
    (answer,) = grid.pull_messages([pushed])
    assert answer.metadata.reply_to_message_id == pushed
    (answer,) = grid.send_and_receive([query()], timeout=1)
    assert answer.metadata.src_node_id == nodes.by_name["1"]

    other = Nodes(adding_app(), 1).run
    grid.set_run(other)
    assert nodes.run is other
