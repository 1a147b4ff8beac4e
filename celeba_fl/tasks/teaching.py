"""Learning from a teacher, or from what the received model gets wrong."""

import numpy as np
from numpy.typing import NDArray

from celeba_fl.config import RunConfig
from celeba_fl.data.table import Table
from celeba_fl.data.teacher import Answers, Teacher, error_rates
from celeba_fl.task import NodeConfig

Bools = NDArray[np.bool_]


class Teachers:
    """The teachers of a run's nodes; each is opened once."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._opened: dict[tuple[str, str], Teacher] = {}

    def answers(self, node: NodeConfig, table: Table, rows: np.ndarray) -> Answers | None:
        """Answers of a node's teacher for some images; None where annotations are learned from."""
        config = self.config
        if config.labels != "teacher":
            return None
        name = str(node.get("teacher", config.teacher))
        key = table.fingerprint, name
        if key not in self._opened:
            self._opened[key] = Teacher(
                name,
                table,
                config.home_dir,
                confidence=config.teacher_confidence,
                errors=error_rates(config.teacher_error),
                seed=config.seed,
            )
        return self._opened[key](rows)


def targets(labels: Bools, answers: Answers | None, predicted: Bools | None) -> tuple[Bools, Bools]:
    """Choose what to learn from, image by image and attribute by attribute.

    Answers of a `Teacher` stand in for the annotations, and `predicted` is what the received model
    says, if it matters; (n, attributes) all. The results are labels, and which of them are learned
    from: those that exist and, where `predicted` is given, that it contradicts.
    """
    taught = labels if answers is None else answers == 1
    counted = np.ones_like(labels) if answers is None else answers >= 0
    return taught, counted if predicted is None else counted & (taught != predicted)
