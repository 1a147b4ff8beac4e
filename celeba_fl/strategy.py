"""FedAvg as this app runs it: Flower's aggregation, the rounds of our loop."""

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result

from celeba_fl.config import RunConfig
from celeba_fl.loop import EvaluateFn, Loop

# What a client's arrays are weighted by: a key of the MetricRecord that it replies with.
WEIGHTED_BY = {"examples": "num-examples", "uniform": "participates"}


class FedAvg(flower.FedAvg):
    """Federated averaging (McMahan et al. 2017), its rounds run by a `Loop`.

    Parameters
    ----------
    loop : Loop
        Who is asked in which round, and what becomes of the answers.
    weighting : str (default: "examples")
        ``examples``: clients count by their train examples; ``uniform``: alike.
    """

    def __init__(self, loop: Loop, weighting: str = "examples") -> None:
        super().__init__(
            min_train_nodes=1,
            min_evaluate_nodes=1,
            min_available_nodes=1,
            weighted_by_key=WEIGHTED_BY[weighting],
        )
        self.loop = loop

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run the rounds."""
        return self.loop.run(
            self,
            grid,
            initial_arrays,
            num_rounds,
            timeout,
            train_config,
            evaluate_config,
            evaluate_fn,
        )


def make_strategy(config: RunConfig, loop: Loop) -> flower.Strategy:
    """The strategy that a run config names."""
    return FedAvg(loop, config.weighting)
