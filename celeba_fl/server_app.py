"""The ServerApp: run config -> task -> clients -> strategy -> run directory."""

from contextlib import suppress
from functools import partial

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from celeba_fl.common.bundle import code_description, code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import clean_up
from celeba_fl.common.flower import look_by_node
from celeba_fl.common.log import LOG, quiet_flower
from celeba_fl.config import RunConfig
from celeba_fl.deployment.client_keys import name_check
from celeba_fl.privacy.server import SecureSums
from celeba_fl.report.drawing import drawer
from celeba_fl.rounds.checking import FINAL_EVALUATION, Client, Judge, total_client
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.exchange import PhaseProgress, send_and_wait
from celeba_fl.rounds.loop import Loop, Retries
from celeba_fl.rounds.messages import RUN, TRAIN, to_record
from celeba_fl.rounds.roll_call import roll_call
from celeba_fl.rounds.stopping import StopRules
from celeba_fl.runs.audit import Audit
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.recorder import Recorder
from celeba_fl.runs.resuming import last_recorded
from celeba_fl.strategy import ClosedForm, check_strategy, make_strategy
from celeba_fl.task import Task, load_task, starting_arrays

CHANGING = (
    "fraction-train is below 1: totals over changing clients differ by those who come and leave, "
    "so whoever has the totals can compute how many examples each client has, and after as many "
    "rounds as there are clients guess what their models have in common; set it to 1 to rule it out"
)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run config describes."""
    config = RunConfig.load(context.run_config)
    clean_up(config.home_dir)
    look_by_node(grid)
    with quiet_flower(), RunDirectory(config, context.run_id, _draw_report) as run:
        check_strategy(config.strategy, config.secure_aggregation)
        task = load_task(config)
        module = type(task).__module__
        run.update(code=code_description(module))
        _check_watch(config, task)
        if config.audit:
            Audit(run.path).listen(grid)
        prepared = task.prepare()
        run.set_provenance(prepared.provenance)
        secure = None
        if config.secure_aggregation:
            secure = SecureSums(str(grid.run.run_id), config.min_cohort, config.min_replies)
            if config.fraction_train < 1:
                LOG.warning("%s", CHANGING)
        clients = roll_call(
            grid,
            prepared.instructions,
            task.deliver,
            code=code_hash(module),
            minimum=config.min_available_clients,
            timeout=config.round_timeout,
            num_counts=len(task.count_names),
            wait=config.wait_seconds,
            strict=config.bad_images == "fail",
            chosen=config.chosen,
            sums=task.description_sums(),
            check=task.check_description,
            check_owner=name_check(grid),
            on_progress=run.progress,
            on_failures=run.note_failures,
            send=secure.introduce if secure else send_and_wait,
        )
        cohorts = _cohorts(config)
        if secure:
            trains = cohorts.draw(clients, 1, TRAIN)
            secure.check_sizes({"the run": len(clients), "a round of training": len(trains)})
            total = secure.describe(grid, clients, config.round_timeout, task.check_description)
            clients = {name: clients[name] for name in sorted(secure.counted)}
        else:
            total = total_client(clients.values(), task.description_sums())
        recorder = Recorder(task, run, clients, total if secure else None)
        recorder.record_partitions()
        totals = task.instruct(total.counts, total.num_train)
        totals = {**totals, **task.instruct_from_sums(run.keep_sums(total.sums))}
        instructions = {**prepared.instructions, **totals, RUN: run.path.name}
        strategy = make_strategy(config, task, run.keep_closed_form)
        judge = Judge(task, clients, instructions)
        loop = _loop(config, task, clients, cohorts, run, recorder, judge)
        if secure:
            loop.send, loop.check = secure.send_and_wait, secure.check_by(judge)
        _get_ready_to_draw()
        result = loop.run(
            strategy,
            grid,
            to_record(starting_arrays(task)),
            num_rounds=config.num_server_rounds,
            timeout=config.round_timeout,
            train_config=ConfigRecord({**instructions}),
            evaluate_config=ConfigRecord({**instructions}),
            evaluate_fn=recorder.evaluate_centrally,
        )
        recorder.finish(result.arrays, loop.final)
        run.end(loop.reason)
        _draw_report(run)


def _check_watch(config: RunConfig, task: Task) -> None:
    """Raise InputError unless the task measures the metric that is to be watched."""
    if config.watch not in task.metric_names:
        raise InputError(
            f"watch = {config.watch!r}: must be one of {', '.join(task.metric_names)}, which the "
            f"task {config.task} measures"
        )


def _cohorts(config: RunConfig) -> Cohorts:
    """Which clients take part in a round."""
    fractions = config.fraction_train, config.fraction_evaluate
    sizes = config.min_train_clients, config.min_evaluate_clients
    return Cohorts(config.seed, *fractions, *sizes)


def _loop(
    config: RunConfig,
    task: Task,
    clients: dict[str, Client],
    cohorts: Cohorts,
    run: RunDirectory,
    recorder: Recorder,
    judge: Judge,
) -> Loop:
    """The loop that the run config describes."""
    rules = config.watch, config.target, config.patience, config.max_seconds
    return Loop(
        {name: client.node_id for name, client in clients.items()},
        cohorts,
        Retries(config.min_replies, config.round_retries),
        StopRules(*rules, task.lower_is_better),
        uniform=config.weighting == "uniform",
        check=judge,
        max_update_norm=config.max_update_norm,
        init=ClosedForm(task) if config.init == "closed-form" else None,
        checkpoints=Checkpoints(run.path / "checkpoints", config.keep_checkpoints),
        recorded=last_recorded(run.path),
        on_start=run.cut,
        on_round=recorder.record,
        on_failures=run.note_failures,
        on_progress=partial(_on_progress, run),
        ask_everyone=True,
    )


def _on_progress(run: RunDirectory, progress: PhaseProgress) -> None:
    """Write down how far the run is; while all clients evaluate, load what makes the report."""
    run.progress(progress)
    if progress.phase == FINAL_EVALUATION:
        with suppress(ImportError):  # then the report says it
            import celeba_fl.report.page  # noqa: F401


def _get_ready_to_draw() -> None:
    """Start the process that draws, which takes as long to load as several rounds.

    If it cannot start, the report says why.
    """
    with suppress(OSError):
        drawer()


def _draw_report(run: RunDirectory) -> None:
    """Write the report; the run counts as completed without it."""
    try:
        from celeba_fl.report.page import write_report

        LOG.info("Report: %s", write_report(run.path))
    except Exception as error:
        LOG.warning("The report could not be written: %r", error)
