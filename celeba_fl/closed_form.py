"""The strategy `closed-form`: one round in which clients send sums, from which the task solves.

Fed3R (Fani et al., ICML 2024, arXiv 2406.01116) and AFL (He et al., CVPR 2025, arXiv 2405.16240);
the mathematics are the task's own, see `celeba_fl.ridge`.
"""

from collections.abc import Iterable
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result

from celeba_fl.exchange import unusable
from celeba_fl.loop import Loop
from celeba_fl.progress import LOG
from celeba_fl.ridge import add
from celeba_fl.task import Arrays, Instructions, Task


class ClosedForm(flower.FedAvg):
    """Adds the clients' sums up as they arrive: there is one set of them in memory, not fifty.

    Parameters
    ----------
    loop : Loop
        Who is asked, and what becomes of the answers.
    task : Task
        What the sums are.

    Raises
    ------
    InputError
        If the task has no closed form.
    """

    def __init__(self, loop: Loop, task: Task) -> None:
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self.loop, self.task = loop, task
        task.zero_sums()  # now, and not after a first round
        self._total: Arrays = {}
        self._told: Instructions = {}

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run one round, as there is no second; the arguments are those of `Strategy.start`."""
        LOG.info("The closed form takes one round, whatever num-server-rounds")
        return self.loop.run(self, *args, **{**kwargs, "num_rounds": 1})

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for the sums; the model stays here."""
        self._total = self.task.zero_sums()
        self._told = {**config, "sums": list(self._total)}
        told = ConfigRecord({**self._told})
        return super().configure_train(server_round, ArrayRecord(), told, grid)

    def take(self, content: RecordDict) -> str | None:
        """Add a client's sums and drop them, or say why they are unusable."""
        wanted = ArrayRecord({key: Array(array) for key, array in self._total.items()})
        reason = unusable(content, wanted)
        if not reason:
            (name,) = content.array_records
            sums = content.array_records[name]
            add(self._total, {key: sums[key].numpy() for key in self._total})
            del content[name]
        return reason

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Solve; the sums are not needed any more."""
        total, self._total = self._total, {}
        head = self.task.solve(total, self._told)
        return ArrayRecord({key: Array(array) for key, array in head.items()}), MetricRecord()
