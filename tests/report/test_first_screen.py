"""What stands on top of a page, and what a page that is passed on leaves out."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import PageParser, check_page
from PIL import Image

from celeba_fl.data import sources
from celeba_fl.data.schema import SPLITS
from celeba_fl.data.table import Table
from celeba_fl.report.charts import table
from celeba_fl.report.front import take_front
from celeba_fl.report.heading import title_of
from celeba_fl.report.html import Embedded, Figures, Picture, Pictures, Section
from celeba_fl.report.page import write_report
from celeba_fl.report.pictures.standing import OTHERS, Standing, standing
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.curves import curves, shown_rounds
from celeba_fl.report.sections.faces import TERMS, faces
from celeba_fl.report.sections.membership import membership
from celeba_fl.report.sections.results import results
from celeba_fl.report.sections.tables import settings
from celeba_fl.report.words import named, without_folders

MakeRun = Callable[..., Path]


def pictures_of(blocks: Sequence[Any]) -> list[Picture]:
    return [one for block in blocks if isinstance(block, Pictures) for one in block.pictures]


# ---- the top ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "title"),
    [
        (
            {"task": "attributes", "dataset": "drawn", "partitioner": "iid"},
            "run: Face attributes on drawn faces, FedAvg, 2 simulated clients, IID",
        ),
        (
            {"task": "dcgan", "dataset": "/x/celeba", "partitioner": "dirichlet"},
            "run: New faces by a DCGAN on CelebA, FedAvg, 2 simulated clients, "
            "Dirichlet (alpha None)",
        ),
        (
            {"task": "lenet", "dataset": "uoft-cs/cifar10", "strategy": "fedmedian"},
            "run: LeNet-5 on CIFAR-10, the median, 2 simulated clients",
        ),
    ],
)
def test_the_title(make_run: MakeRun, config: dict[str, str], title: str) -> None:
    path = make_run(
        info={"config": config, "num_clients": 2},
        csv={"partitions": "client,num_examples\n0,1\n1,1\n"},
    )
    assert title_of(Run.read(path)) == title


def test_the_title_of_sites(make_run: MakeRun) -> None:
    config = {"task": "attributes", "dataset": "none", "strategy": "closed-form"}
    path = make_run(
        info={"config": config, "num_clients": 2},
        csv={"partitions": "client,num_examples\neast,1\nwest,1\n"},
    )
    assert title_of(Run.read(path)) == "run: Face attributes, closed form, 2 sites"


def embedded(name: str) -> Embedded:
    return Embedded(name, "data:,", 1, 1, name, name)


@pytest.mark.parametrize(
    ("there", "rounds", "front"),
    [
        (["standing", "rounds_auroc", "rounds_balanced_accuracy"], 9, [0, 2]),
        (["standing", "rounds_balanced_accuracy", "rounds_accuracy"], 9, [0, 2]),
        (["rounds_x", "samples-0000", "samples-0001", "samples-0002", "samples"], 2, [1, 3]),
        (["rounds_auroc", "standing", "partitions"], 1, [1, 2]),
        (["attributes"], 9, []),
    ],
)
def test_pictures_that_carry_it_move_to_the_top(
    there: list[str], rounds: int, front: list[int]
) -> None:
    section = Section("All", ["text", Figures([embedded(name) for name in there])])
    top, (rest,) = take_front([section], rounds)
    assert [one.name for one in top] == [there[i] for i in front]
    left = [name for i, name in enumerate(there) if i not in front]
    figures = [block for block in rest.blocks if isinstance(block, Figures)]
    assert [one.name for block in figures for one in block.pictures] == left
    if front:
        assert rest.blocks[-1] == "Two more pictures of this section are on top of the page."


def test_figures_stand_beside_a_simple_guess(make_run: MakeRun) -> None:
    summary = {
        **{"test_balanced_accuracy": 0.66, "test_auroc": 0.7, "test_accuracy": 0.86},
        "test_majority_accuracy": 0.8,
    }
    (picture,) = pictures_of(results(Run.read(make_run(summary=summary))))
    assert picture.name == "standing"
    assert picture.alt.endswith(
        "balanced accuracy 0.660 to 0.500; AUROC 0.700 to 0.500; accuracy 0.860 to 0.800."
    )
    assert "intervals" not in picture.caption  # there are none


def test_the_picture_of_figures_shows_models_that_are_known() -> None:
    nan, beside = float("nan"), dict(zip(OTHERS, (0.75, float("nan")), strict=True))
    rows = table(standing([Standing("accuracy", 0.7, 0.5, (0.6, 0.8), beside)]))
    by_series = {row["series"]: row["figure"] for row in rows}
    assert by_series == {"this run": 0.7, "a simple guess": 0.5, next(iter(OTHERS)): 0.75}
    unknown = table(standing([Standing("accuracy", 0.3, 0.1, (nan, nan), {})]))
    assert [row["series"] for row in unknown] == ["this run", "a simple guess"]


# ---- curves -------------------------------------------------------------------------------


def test_round_0_is_left_out_where_it_flattens_the_rest(make_run: MakeRun) -> None:
    """The others take 0.1 of 2.3 in `loss`, and 0.4 of 0.5 in `accuracy`."""
    rounds = "round,test_loss,test_accuracy\n0,2.3,0.4\n1,0.1,0.5\n2,0.05,0.7\n3,0,0.9\n"
    run = Run.read(make_run(csv={"rounds": rounds}))
    assert [row["round"] for row in shown_rounds(run.rounds, "loss")] == ["1", "2", "3"]
    assert shown_rounds(run.rounds, "accuracy") == run.rounds
    assert shown_rounds(run.rounds[:3], "loss") == run.rounds[:3]  # no curve without it
    captions = {one.name: one.caption for one in pictures_of(curves(run))}
    assert captions == {
        "rounds_accuracy": "Accuracy by round; 0 is before training.",
        "rounds_loss": "Loss (nats) by round, from 1; beside round 0 (2.300), all others would "
        "look the same.",
    }


def test_answers_to_older_models_are_said(make_run: MakeRun) -> None:
    clients = "round,client,staleness\n1,a,0\n1,b,\n2,a,0\n2,b,1\n3,b,5\n"
    csv = {"rounds": "round,test_loss\n0,1\n1,1\n", "clients": clients}
    text = " ".join(
        filter(lambda block: isinstance(block, str), curves(Run.read(make_run(csv=csv))))
    )
    # 0, 0, 1 and 5: 1.5 on average.
    assert "was 1.5 rounds older than the newest on average" in text
    assert "50 % of the 4 answers were on the newest, and none was more than 5 behind" in text


# ---- who came and left --------------------------------------------------------------------


def test_joins_and_withdrawals(make_run: MakeRun) -> None:
    heads = (
        "head,made,clients,joined,withdrawn\n1,2026-11-26T06:18:31.691+00:00,3,,\n"
        '2,2026-11-27T06:18:31.691+00:00,3,"d,e",a\n'
    )
    path = make_run(csv={"heads": heads})
    began = {"begun": "2026-11-27T06:18:34", "done": "2026-11-27T06:19:00"}
    entries = [
        {"client": "a", **began, "head": 2, "still_held_by": ["x", "y"]},
        {"client": "b", **began, "head": 2, "joined_again": "2026-11-28"},
        {"client": "c", **began, "retrained_as": "other"},
        {"client": "d", **began, "done": None},
    ]
    (path / "withdrawals.json").write_text(json.dumps({"withdrawals": entries}))
    run = Run.read(path)
    said = membership(run)[:-1]
    anew = "has withdrawn on 2026-11-27, and the head was made anew without it."
    assert said == [
        f"a {anew} 2 older files still hold it; withdrawals.json lists them.",
        f"b {anew} It has joined again since.",
        "c has withdrawn on 2026-11-27. This model still holds it: the one that was trained again "
        "without it is that of the run other.",
        "The withdrawal of d, begun on 2026-11-27, is not finished: repeat the command.",
    ]
    parsed = PageParser(write_report(path))
    check_page(parsed)
    assert parsed.row("Each head", "2") == ["2026-11-27 06:18", "3", "d, e", "a"]
    assert "Heads" not in parsed.tables
    (path / "withdrawals.json").write_text('{"withdrawals": 3}')
    assert "withdrawals.json cannot be read" in PageParser(write_report(path)).text


# ---- faces --------------------------------------------------------------------------------


@pytest.fixture
def judged(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run with scores of three images, which are those of a data set of three colours."""
    names = np.array(["a.jpg", "b.jpg", "c.jpg"])

    def colour(row: int) -> bytes:
        with io.BytesIO() as file:
            Image.new("RGB", (200, 100), (row * 100, 0, 0)).save(file, "JPEG")
            return file.getvalue()

    labels = np.array([[1, 0], [1, 0], [0, 1]], bool)
    split, content = np.full(3, SPLITS.index("test"), np.uint8), np.zeros(3, np.uint64)
    people = np.arange(3, dtype=np.int32)
    colours = Table("any", "f", names, labels, split, content, people, colour)
    monkeypatch.setattr(sources, "load", lambda name, home: colours)

    def make(name: str, home: Path, fingerprint: str = "f") -> Run:
        columns = {"image": names, "celeb_id": people, "Bald": labels[:, 0], "Young": labels[:, 1]}
        # Bald: right on a and c, and wrong on b; Young: wrong on a and c, surest on c.
        columns |= {"Bald_score": [4.0, -1.0, -9.0], "Young_score": [0.5, -0.5, -3.0]}
        dataset = {"name": name, "fingerprint": fingerprint}
        summary = {"test_accuracy": 3 / 6}
        info = {"dataset": dataset, "home": str(home)}
        return Run.read(
            make_run(f"{home.name}-{fingerprint}", info=info, summary=summary, scores=columns)
        )

    return make


def test_the_largest_mistakes_and_the_best_hits(judged: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    mistakes, hits = (
        block for block in faces(judged("drawn", tmp_path)) if isinstance(block, Pictures)
    )
    # 1 / (1 + e^3) is 4.7 %, 1 / (1 + e) 26.9 %, and 1 / (1 + e^-4) 98.2 %.
    assert [one.caption for one in mistakes.pictures] == [
        "Young: 4.7 % by the model, annotated yes.",
        "Bald: 26.9 % by the model, annotated yes.",
    ]
    assert [one.caption for one in hits.pictures] == ["Bald: 98.2 % by the model, annotated yes."]
    with Image.open(io.BytesIO(bytes(hits.pictures[0].source))) as image:
        assert image.size == (120, 60)


def test_faces_of_people_are_shown_on_demand_alone(
    judged: Callable[..., Run], tmp_path: Path
) -> None:
    people = judged(str(tmp_path), tmp_path)
    assert faces(people) == []
    assert faces(people, asked=True)[0] == TERMS
    elsewhere = judged(str(tmp_path / "gone"), tmp_path, "g")
    assert faces(elsewhere, asked=True) == [
        "Its images are not on this machine, or are not the same."
    ]
    assert faces(judged("drawn", tmp_path / "nothing-drawn")) == []


# ---- what is left out ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "for_others"),
    [
        ("dataset = '/srv/our data' or /home/me/faces.", "dataset = '…/our data' or …/faces."),
        ("~/.celeba-fl/runs/x.csv", "…/x.csv"),
        ("https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, TPR/FPR", None),
        ("/tmp and 1/2, flwrlabs/celeba", None),
    ],
)
def test_folders_of_this_machine_are_left_out(text: str, for_others: str | None) -> None:
    assert without_folders(text) == (for_others or text)


def test_a_page_names_no_folder(make_run: MakeRun) -> None:
    config = {"task": "attributes", "dataset": "/srv/deep/faces", "home": "/srv/home"}
    reason = "/srv/deep/faces/x.jpg cannot be read"
    info = {
        "status": "failed",
        "reason": reason,
        "config": config,
        "dataset": {"name": "/srv/deep/faces"},
    }
    parsed = PageParser(write_report(make_run(info=info)))
    assert "…/x.jpg cannot be read" in parsed.text
    assert parsed.row("Settings that matter", "dataset")[0] == "…/faces"
    assert "/srv" not in parsed.source


def test_groups_are_called_what_their_people_were_called() -> None:
    assert named("Male=0,Young=1") == "women, young"
    assert named("Wearing_Hat=0") == "not Wearing Hat"
    assert named("label=airplane") == "airplane"
    assert named("5_o_Clock_Shadow") == "5 o Clock Shadow"


def test_settings_that_matter_are_seen_at_once(make_run: MakeRun) -> None:
    known = {"task": "attributes", "strategy": "fedavg", "learning-rate": 0.002, "home": "/x/y"}
    config = {**known, "patience": 3, "tau": 0.001, "seed": 42}
    first, others = settings(Run.read(make_run(info={"config": config})))
    assert [row[0] for row in first.rows] == ["strategy", "seed", "learning-rate", "patience"]
    assert [row[0] for row in others.rows] == ["task", "tau"]
    assert not first.folded
