"""The closed form of the task attributes: sums on a client, and the head on the server."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.models.private_rows import Public
from celeba_fl.models.scaling import Scaling, unfold
from celeba_fl.privacy.ledger import Release
from celeba_fl.task import Instructions, NodeConfig
from celeba_fl.tasks import closed_form, fairer, private, weighting
from celeba_fl.tasks.budgeted_faces import BudgetedFaces
from celeba_fl.tasks.contributions import Contributions, accuse, check_jury
from celeba_fl.tasks.examples import Examples, FeatureStores
from celeba_fl.vision.probe import probe_features


class SolvedFaces(BudgetedFaces):
    """A task whose head follows from sums; the task itself has what is in the server's splits."""

    features: FeatureStores
    _weights: str  # the SHA-256 of those of the backbone
    _scaling: Scaling | None  # of the heads on the way
    _statistics: Public  # under a budget of privacy

    def probe(self) -> np.ndarray:
        """What the backbone makes of it here."""
        return probe_features(self.config.home_dir, self.features.view, self._weights)

    def zero_sums(self) -> Arrays:
        """Zeros for the train sums; for validation sums too where the server has no such split.

        Under a budget of privacy, for sums over rows.
        """
        if self.config.private:
            return private.zero_sums(self._statistics)
        judged = len(self._central["server_valid"])
        fairer.check_budget(self.config, judged)
        check_jury(self.config, judged)
        parts = ("train",) if judged else ("train", "valid")
        return closed_form.zero_sums(self.features.view.dim, parts, self.config.fair)

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """Ridge regression, with lambda and the calibration to logits by validation examples.

        Under a budget of privacy, by public images.
        """
        if self.config.private:
            images = self.public_images()
            head = private.solve(self.config, sums, self._statistics, images)
            return unfold(head, self._scaling)
        valid = self._central["server_valid"]
        return self.solve_again(closed_form.complete(self.config, sums, valid, instructions))

    def solve_again(self, kept: Arrays) -> Arrays:
        """The model that the run config asks for, of complete sums, such as a run has kept."""
        if self.config.fair:
            head = fairer.solve(self.config, kept, self._central["server_valid"])
        else:
            head = closed_form.solve(kept)
        return unfold(head, self._scaling)

    def accused(
        self,
        sums: Arrays,
        instructions: Mapping[str, Any],
        clients: Sequence[str],
        read: Callable[[str], Arrays],
    ) -> list[str]:
        """Those whose sums are unlike all others' and do harm on the server's validation split."""
        valid = self._central["server_valid"]
        complete = closed_form.complete(self.config, sums, valid, {**instructions})
        return accuse(Contributions(complete, clients, read, valid))

    def sums_to_keep(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """With `fair-groups` or `keep-sums` all that `solve_again` needs for another head."""
        config, valid = self.config, self._central["server_valid"]
        keeps = config.fair or config.keep_sums
        return closed_form.complete(config, sums, valid, instructions) if keeps else {}

    def review(self, kept: Arrays) -> dict[str, list[dict[str, Any]]]:
        """Heads of other penalties, and what else makes groups equal, on the server's splits."""
        return fairer.review(self.config, kept, self._central) if self.config.fair else {}

    def public_arrays(self) -> Arrays:
        """The closed form on the public part of the train images.

        Under a budget of privacy, on all public images, as private sums are solved with them.
        """
        if self.config.private:
            head = private.alone(self._statistics, self.public_images())
        else:
            valid = self._central["server_valid"]
            head = closed_form.solve_public(self._public(), valid, self._scaling)
        return unfold(head, self._scaling)

    def promised(self) -> tuple[Sequence[Release], Sequence[str]]:
        """What a round lets out under a budget of privacy, and what is public; else nothing."""
        config, split = self.config, len(self._central["server_valid"])
        if not config.private:
            return (), ()
        more = len(self.faces.public)
        public = [
            f"{number:,} images of {which}: what the run begins with follows from them, and so do "
            f"its choices (directions, lambda, calibration)"
            for number, which in (
                (split, "the official validation split"),
                (more, "the train split that no client holds (public-fraction)"),
            )
            if number
        ]
        return (private.release(config, self._statistics),), public

    def _public(self) -> Examples:
        """The public part of the train images."""
        return self.features.compute(self.faces.table, self._weights, self.faces.public)

    def public_images(self) -> Examples:
        """The images that a budget does not cover: the validation split and `public-fraction`."""
        table = self.faces.table
        rows = np.union1d(table.rows("valid"), self.faces.public)
        return self.features.compute(table, self._weights, rows)

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        """Sums over the train images, and over the validation images if those are asked for."""
        parts, names = self._parts(node, instructions), instructions["sums"]
        if self.config.private:
            sums = private.sums_of(self.config, parts["train"], instructions)
        else:
            weigh = weighting.weigh(self.config, instructions)
            fair = self.config.fair
            sums = closed_form.sums_of(parts, names, weigh, fair)  # type: ignore[arg-type]
        return sums, len(parts["train"])

    @abstractmethod
    def _parts(self, node: NodeConfig, instructions: Instructions) -> dict[str, Examples]:
        """A node's train and validation images, whose features are there."""
