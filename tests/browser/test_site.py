"""What a tab knows of its pictures and of bytes, against what Python makes of the same."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from celeba_fl.browser.server import PAGE
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.imagefolder import annotations
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.models.heads import initial_head
from celeba_fl.tasks import closed_form

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
READ = """
import { readFileSync } from "node:fs";
import { readMetadata } from "SITE/metadata.js";
const [folders, attributes] = JSON.parse(readFileSync(0, "utf8"));
const verdict = (folder) => {
  try {
    const rows = readMetadata(readFileSync(`${folder}/metadata.csv`), ["a.jpg"], attributes);
    return rows.map(({ labels, identity, split }) => [[...labels].join(""), identity, split]);
  } catch (error) {
    return null;
  }
};
console.log(JSON.stringify(folders.map(verdict)));
"""
ESTIMATE = """
import { estimate } from "SITE/estimate.js";
console.log(JSON.stringify(estimate(1280, "GROUPINGS")));
"""
ROW = ",".join(["a.jpg", *"10" * 20])
HEAD = ",".join(["file_name", *ATTRIBUTES])
FILES = {
    "plain": f"{HEAD}\n{ROW}\n",
    "quoted": f"{HEAD},note\n{ROW},\"two\nlines, \"\"one\"\" cell\"\n",
    "semicolons": f"{HEAD};celeb_id;split\n{ROW};-5;train\n".replace(",", ";"),
    "test": f"{HEAD},split\n{ROW},test\n",
    "of no split": f"{HEAD},split\n{ROW},4\n",
    "of no number": f"{HEAD},celeb_id\n{ROW},1.0\n",
    "large number": f"{HEAD},celeb_id\n{ROW},2147483648\n",
    "split by another name": f"{HEAD},Eval Partition\n{ROW},0\n",
    "nearly an attribute": f"{HEAD},Smilling\n{ROW},0\n",
    "nearly no attribute": f"{HEAD},Smirk\n{ROW},0\n",
    "nearly an identity": f"{HEAD},celeb-ids\n{ROW},0\n",
    "a label short": f"{HEAD}\n{ROW[:-2]}\n",
    "no label": f"{HEAD}\n{ROW[:-1]}\n",
    "twice": f"{HEAD}\n{ROW}\n{ROW}\n",
    "outside": f"{HEAD}\n../{ROW}\n",
    "round about": f"{HEAD}\n./x/../{ROW}\n",
    "not there": f"{HEAD}\nb{ROW}\n",
    "empty": "",
}  # fmt: skip


def node(script: str, given: object = None) -> object:
    """What a module prints as JSON."""
    command = ["node", "--input-type=module", "-e", script.replace("SITE", str(PAGE / "site"))]
    text = json.dumps(given)
    return json.loads(subprocess.run(command, input=text, stdout=-1, text=True, check=True).stdout)


def test_a_metadata_is_taken_or_refused_as_by_python(tmp_path: Path) -> None:
    def verdict(folder: Path) -> list[list[object]] | None:
        try:
            read = annotations(folder)
        except InputError:
            return None
        labels = ["".join(map(str, row)) for row in read.labels.astype(int)]
        splits = [("train", "valid", "test", "pretrain")[code] for code in read.split]
        return [list(row) for row in zip(labels, read.celeb_id.tolist(), splits, strict=True)]

    folders = []
    for name, text in FILES.items():
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "a.jpg").touch()
        (tmp_path / name / "metadata.csv").write_text(text)
        folders.append(tmp_path / name)
    python = [verdict(folder) for folder in folders]
    said = node(READ, [[*map(str, folders)], ATTRIBUTES])
    assert dict(zip(FILES, said, strict=True)) == dict(zip(FILES, python, strict=True))  # type: ignore
    assert None in python
    assert python.count(None) < len(python)


def test_the_bytes_told_are_those_of_the_arrays_of_python() -> None:
    config, dim = RunConfig(), 1280
    told = node(ESTIMATE.replace("GROUPINGS", config.groupings))
    scores, labels = np.zeros((200, 40)), np.zeros((200, 40), bool)
    counts = Counts.of(scores, labels).to_arrays()
    groups = fairness.count_groups(scores, labels, ATTRIBUTES, config.demographics)
    sizes = {
        "averaging": [*initial_head(dim, 40, 1).values(), *counts.values(), *counts.values()],
        "closed": [
            *closed_form.zero_sums(dim, ("train",)).values(),
            *(*counts.values(), *counts.values()),
        ],
        "end": 2 * [*counts.values(), *groups.values()],
    }
    sent = {key: sum(array.nbytes for array in arrays) for key, arrays in sizes.items()}
    assert sent == {key: told[key]["sent"] for key in sizes}


def test_all_attributes_can_be_ticked_under_a_heading() -> None:
    text = (PAGE / "ui" / "labeller.js").read_text()
    groups = text[text.index("const GROUPS") : text.index("\n};")]
    ticked = [name for name in ATTRIBUTES if re.search(rf'"?\b{name}"?[,\]\s]', groups)]
    assert ticked == [*ATTRIBUTES]
