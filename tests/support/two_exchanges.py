"""The rounds as Flower runs them: one exchange to train, and one more to evaluate."""

from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from celeba_fl.rounds.aggregation import aggregate, cast
from celeba_fl.rounds.checking import FINAL_EVALUATION
from celeba_fl.rounds.clock import clock_of
from celeba_fl.rounds.cohort import CohortGrid, select_all
from celeba_fl.rounds.loop import Loop, Run
from celeba_fl.rounds.messages import EVALUATE, FINAL, SUMS, TRAIN, evaluation
from celeba_fl.rounds.round import Round


class TwoExchanges(Loop):
    """What `Loop` has to equal: nothing rides along, and all that is there is recorded at once."""

    def run(
        self,
        strategy: Strategy,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Any = None,
    ) -> Result:
        """Run the rounds; none is tried again, and none are resumed."""
        for each in filter(None, (strategy, self.init)):
            select_all(each)
        configs = [ConfigRecord({**(given or {})}) for given in (train_config, evaluate_config)]
        its = Run(strategy, grid, timeout, configs[0], configs[1], evaluate_fn, clock_of(grid))
        types = {key: array.dtype for key, array in initial_arrays.items()}
        now = Round(-1, cast(initial_arrays, types), evaluated=True)
        for number in range(getattr(strategy, "num_rounds", num_rounds) + 1):
            trainer = strategy if number else self.init
            after = Round(number, now.arrays)
            if trainer:
                cohort = CohortGrid(grid, self._cohort(number, TRAIN))
                asked = trainer.configure_train(number, now.arrays, configs[0], cohort)
                part = SUMS if hasattr(trainer, "take") else TRAIN
                after.train = self._exchange(its, now, {part: asked}, trainer)[part]
                arrays, _ = aggregate(trainer, number, after.train, now.arrays, self.uniform)
                after.arrays = arrays
            now = after
            asked = self._evaluation(its, now)
            self._complete(its, now, self._exchange(its, now, {EVALUATE: asked})[EVALUATE])
            self.reason = self.stop.reason(number)
            if self.reason:
                break
        content = evaluation(
            now.arrays, ConfigRecord({**configs[1], FINAL: True}), now.server_round
        )
        everyone = [Message(content, node, EVALUATE) for node in self.clients.values()]
        self.final = self._exchange(its, now, {FINAL_EVALUATION: everyone})[FINAL_EVALUATION]
        its.result.arrays = now.arrays
        return its.result
