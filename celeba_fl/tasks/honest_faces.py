"""What is known of honest replies of the task attributes: its expectations of clients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.common.errors import InputError
from celeba_fl.data.schema import ATTRIBUTES, group_names
from celeba_fl.evaluation.checking import (
    check_answers,
    check_groups,
    check_names,
    check_parts,
    check_scores,
    check_total,
)
from celeba_fl.rounds.checking import Client
from celeba_fl.task import Task
from celeba_fl.tasks import closed_form, start


class HonestFaces(Task):
    """The checks of a task whose clients count groups and attributes in the roll call."""

    def check_description(self, client: Client) -> None:
        """No more of a group or an attribute than train images, and sums that fit them.

        Under a privacy budget a client tells of none, and so is held to nothing.
        """
        if self.config.private:
            return
        if (client.counts > client.num_train).any():
            raise InputError(f"its counts: it has {client.num_train} train images")
        for grouping in filter(None, {self.config.groupby, self.config.weighted}):
            sizes = self._numbers_of(client, group_names(grouping))
            check_total(f"groups of {','.join(grouping)}", sizes.sum(), client.num_train)
        start.check_sums(self.config, client.sums, client.num_train, self._positives(client))

    def most_examples(self, client: Client, instructions: Mapping[str, Any]) -> int:
        """Its train images, or under `group-weighting` their weight."""
        return max(1, round(float(self._sizes(client) @ _weights(instructions)) + 1e-6))

    def check_epochs(self, client: Client, epochs: Mapping[str, Any]) -> None:
        """There are none."""
        check_names(epochs, ())

    def check_sums(self, client: Client, sums: Arrays, instructions: Mapping[str, Any]) -> None:
        """Sums for the closed form fit what it counted in the roll call, if it told that."""
        if self.config.private:
            return
        numbers = self._sizes(client), client.num_valid, self._positives(client)
        weights, fair = _weights(instructions), self.config.fair
        closed_form.check_sums(sums, *numbers, weights, fair, client.at_most)

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        """Scores are of its own images, and those of groups add up to them."""
        check_parts(counts)
        known: dict[str, Ints | None] = {"train": self._positives(client), "valid": None}
        # With a teacher, a site may have no labels before the rounds: its answers are those. It
        # tells of no positives then; of a total nobody knows which sites did.
        if self.config.labels == "teacher" and (
            self.config.secure_aggregation or not self._positives(client).any()
        ):
            known["train"] = None
        for part, n in (("train", client.num_train), ("valid", client.num_valid)):
            of_part, number = counts[part], len(ATTRIBUTES)
            names = check_scores(of_part, n, number, known[part], client.at_most)
            if part == "train" and self.config.labels == "teacher":
                names += check_answers(of_part, n, number)
            if final:
                sizes = [2 ** len(grouping) for grouping in self.config.demographics]
                names += check_groups(of_part, number, sizes)
            check_names(of_part, names)

    def _numbers_of(self, client: Client, names: list[str]) -> Ints:
        """What a client has counted under some names."""
        by_name = dict(zip(self.count_names, client.counts.tolist(), strict=True))
        return np.array([by_name[name] for name in names])

    def _positives(self, client: Client) -> Ints:
        """Its train images with each attribute."""
        return self._numbers_of(client, list(ATTRIBUTES))

    def _sizes(self, client: Client) -> Ints:
        """Its train images of each group of `group-weighting`; of all, where there are none."""
        grouping = self.config.weighted
        names = group_names(grouping)
        return self._numbers_of(client, names) if grouping else np.array([client.num_train])


def _weights(instructions: Mapping[str, Any]) -> Floats:
    """The weight of an example of each of these groups."""
    return np.array(instructions.get("group-weights", [1.0]))
