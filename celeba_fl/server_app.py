"""The ServerApp: run config -> task -> clients -> strategy -> run directory."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from celeba_fl.common.arrays import sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.loop import Loop
from celeba_fl.rounds.roll_call import roll_call
from celeba_fl.rounds.stopping import StopRules
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.recorder import Recorder
from celeba_fl.strategy import ClosedForm, make_strategy
from celeba_fl.task import load_task, starting_arrays

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run config describes."""
    config = RunConfig.load(context.run_config)
    with RunDirectory(config, context.run_id) as run:
        task = load_task(config)
        if config.watch not in task.metric_names:
            raise InputError(
                f"watch = {config.watch!r}: must be one of {', '.join(task.metric_names)}, which "
                f"the task {config.task} measures"
            )
        prepared = task.prepare()
        run.set_provenance(prepared.provenance)
        clients = roll_call(
            grid,
            prepared.instructions,
            task.deliver,
            minimum=config.min_available_clients,
            timeout=config.round_timeout,
            strict=config.bad_images == "fail",
            chosen=config.chosen,
            on_progress=run.progress,
        )
        recorder = Recorder(task, run, clients)
        recorder.record_partitions()
        counts = sum_counts([{"counts": client.counts} for client in clients.values()])["counts"]
        num_train = sum(client.num_train for client in clients.values())
        own = task.instruct(counts, num_train)
        instructions = {**prepared.instructions, **own, "run": run.path.name}

        loop = Loop(
            {name: client.node_id for name, client in clients.items()},
            seed=config.seed,
            fraction_train=config.fraction_train,
            fraction_evaluate=config.fraction_evaluate,
            min_train=config.min_train_clients,
            min_evaluate=config.min_evaluate_clients,
            min_replies=config.min_replies,
            retries=config.round_retries,
            stop=StopRules(
                config.watch,
                config.target,
                config.patience,
                config.max_seconds,
                task.lower_is_better,
            ),
            checkpoints=Checkpoints(run.path / "checkpoints", config.keep_checkpoints),
            on_start=run.cut,
            on_round=recorder.record,
            on_progress=run.progress,
        )
        if config.init == "closed-form":
            loop.init = ClosedForm(loop, task)
        result = make_strategy(config, loop, task).start(
            grid,
            ArrayRecord({key: Array(array) for key, array in starting_arrays(task).items()}),
            num_rounds=config.num_server_rounds,
            timeout=config.round_timeout,
            train_config=ConfigRecord({**instructions}),
            evaluate_config=ConfigRecord({**instructions}),
            evaluate_fn=recorder.evaluate_centrally,
        )
        final = loop.evaluate_all(
            grid,
            result.arrays,
            ConfigRecord({**instructions, "final": True}),
            config.round_timeout,
        )
        recorder.finish(result.arrays, final)
        run.end(loop.reason)
        _draw_report(run)


def _draw_report(run: RunDirectory) -> None:
    """Write what people look at; the run is complete without it."""
    try:
        from celeba_fl.report.page import write_report

        LOG.info("Report: %s", write_report(run.path))
    except Exception as error:
        LOG.warning("The report could not be written: %r", error)
