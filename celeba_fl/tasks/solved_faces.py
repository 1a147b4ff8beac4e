"""The server's half of the closed form of the task attributes: from sums to a head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeba_fl.common.arrays import Arrays
from celeba_fl.models.scaling import Scaling, unfold
from celeba_fl.task import Instructions
from celeba_fl.tasks import closed_form, fairer
from celeba_fl.tasks.contributions import Contributions, accuse, check_jury
from celeba_fl.tasks.examples import Examples, FeatureStores
from celeba_fl.tasks.honest_faces import HonestFaces


class SolvedFaces(HonestFaces):
    """A task whose head follows from sums; the task itself has what is in the server's splits."""

    features: FeatureStores
    _central: dict[str, Examples]  # by part
    _scaling: Scaling | None  # of the heads on the way

    def zero_sums(self) -> Arrays:
        """Zeros for the train sums; for validation sums too where the server has no such split."""
        judged = len(self._central["server_valid"])
        fairer.check_budget(self.config, judged)
        check_jury(self.config, judged)
        parts = ("train",) if judged else ("train", "valid")
        return closed_form.zero_sums(self.features.view.dim, parts, self.config.fair)

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """Ridge regression, with lambda and the calibration to logits by validation examples."""
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
