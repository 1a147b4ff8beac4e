"""The ServerApp: run config -> task -> clients -> strategy -> run directory."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from celeba_fl.attacks.exchange import Attackers, check_simulation
from celeba_fl.common.bundle import code_description, code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import clean_up
from celeba_fl.common.flower import at_the_end, ends_slowly, look_by_node
from celeba_fl.common.log import LOG, quiet_flower
from celeba_fl.config import RunConfig
from celeba_fl.deployment.client_keys import name_check
from celeba_fl.membership.joining import join
from celeba_fl.privacy.averaging import PrivateAveraging
from celeba_fl.privacy.ledger import Budget, Ledger
from celeba_fl.privacy.promise import assumptions
from celeba_fl.privacy.server import SecureSums
from celeba_fl.report.ahead import writer
from celeba_fl.rounds.asynchronous import AsynchronousLoop
from celeba_fl.rounds.checking import Client, Judge, total_client
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.exchange import send_and_wait
from celeba_fl.rounds.loop import Loop, Retries
from celeba_fl.rounds.messages import RUN, TRAIN, to_record
from celeba_fl.rounds.roll_call import roll_call
from celeba_fl.rounds.runtimes import check_client
from celeba_fl.rounds.stopping import StopRules
from celeba_fl.runs.audit import Audit
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.recorder import Recorder
from celeba_fl.runs.resuming import last_recorded
from celeba_fl.strategy import ClosedForm, check_strategy, make_strategy, private_averaging
from celeba_fl.task import Prepared, Task, load_task, starting_arrays

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
    if config.join:
        join(grid, context.run_id, config, _draw_report)
        return
    ending = _draw_report, partial(at_the_end, grid)
    with quiet_flower(), RunDirectory(config, context.run_id, *ending) as run:
        check_strategy(config.strategy, config.secure_aggregation)
        check_simulation(config, grid)
        _check_clock(config, grid)
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
        sums = {} if config.private else task.description_sums()
        clients = roll_call(
            grid,
            {**prepared.instructions, RUN: run.path.name},
            task.deliver,
            code=code_hash(module),
            minimum=config.min_available_clients,
            timeout=config.round_timeout,
            num_counts=len(task.count_names),
            wait=config.wait_seconds,
            strict=config.bad_images == "fail",
            chosen=config.chosen,
            sums=sums,
            check=partial(check_client, task),
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
            total = total_client(clients.values(), sums)
        recorder = Recorder(task, run, clients, total if secure else None)
        recorder.record_partitions()
        totals = task.instruct(total.counts, total.num_train)
        totals = {**totals, **task.instruct_from_sums(run.keep_sums(total.sums))}
        instructions = {**prepared.instructions, **totals, RUN: run.path.name}
        said = {name: client.sums for name, client in clients.items()}
        each = KeptSums(run.path, said) if config.keep_sums else None
        strategy = make_strategy(config, task, run.keep_closed_form, each)
        judge = Judge(task, clients, instructions)
        loop = _loop(config, task, clients, cohorts, run, recorder, judge)
        if secure:
            loop.send, loop.check = secure.send_and_wait, secure.check_by(judge)
        elif config.attack != "none":
            loop.send = _attackers(config, clients, run).send_and_wait
        if config.private:
            strategy = _keep_budget(config, prepared, run, loop, strategy)
        if not ends_slowly(grid):  # else there is time enough at the end
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


def _check_watch(config: RunConfig, task: Task) -> None:
    """Raise InputError unless the task measures the metric that is to be watched."""
    if config.watch not in task.metric_names:
        raise InputError(
            f"watch = {config.watch!r}: must be one of {', '.join(task.metric_names)}, which the "
            f"task {config.task} measures"
        )


def _check_clock(config: RunConfig, grid: Grid) -> None:
    """Raise InputError if clients are to take seconds of a virtual clock, and there is none."""
    if config.client_seconds and not getattr(grid, "clock", None):
        raise InputError(
            f"client-seconds = {config.client_seconds!r}: are those of a virtual clock, which only "
            f"a run in one process has; run with --inline, or leave it out"
        )


def _cohorts(config: RunConfig) -> Cohorts:
    """Which clients take part in a round."""
    fractions = config.fraction_train, 0.0 if config.private else config.fraction_evaluate
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
    make: Callable[..., Loop] = Loop
    if config.scheduler == "asynchronous":
        step = config.server_learning_rate
        make = partial(AsynchronousLoop, buffer=config.buffer_size, step=step)
    return make(
        {name: client.node_id for name, client in clients.items()},
        cohorts,
        Retries(config.min_replies, config.round_retries),
        StopRules(*rules, task.lower_is_better),
        uniform=config.weighting == "uniform",
        check=judge,
        max_update_norm=0.0 if config.private else config.max_update_norm,
        init=ClosedForm(task) if config.init == "closed-form" else None,
        checkpoints=Checkpoints(run.path / "checkpoints", config.keep_checkpoints),
        recorded=last_recorded(run.path),
        on_start=run.cut,
        on_round=recorder.record,
        on_failures=run.note_failures,
        on_progress=run.progress,
        ask_everyone=not config.private,
        measure=not config.private,
    )


def _keep_budget(
    config: RunConfig, prepared: Prepared, run: RunDirectory, loop: Loop, strategy: Strategy
) -> Strategy:
    """Have a loop write down what it lets out, and ask nobody for more; the strategy for that."""
    releases, last, number = prepared.releases, 1, len(loop.clients)
    if config.privacy_unit == "client":
        strategy = averaging = private_averaging(config, number)
        releases, last = (averaging.release,), config.num_server_rounds
    kept = loop.checkpoints.rounds() if loop.checkpoints else []
    rounds = range(max(kept, default=0) + 1, last + 1)
    unit, noise = config.privacy_unit, config.privacy_noise
    most = config.max_images if unit == "person" else 0
    budget = Budget(config.privacy_epsilon, config.privacy_delta, unit, noise, most)
    promised = assumptions(unit, noise, config.audit)
    ledger = Ledger(run.path, budget, releases, rounds, number, prepared.public, promised)
    if isinstance(strategy, PrivateAveraging):
        strategy.count_earlier(len(ledger.spent))
    loop.send = ledger.counting(loop.send)
    return strategy


def _attackers(config: RunConfig, clients: Iterable[str], run: RunDirectory) -> Attackers:
    """Those of the simulation, named in the log and in `attackers.csv`."""
    attackers = Attackers.of(config, clients)
    names = sorted(attackers.clients)
    LOG.warning(
        "Simulated attack: %s, strength %g, by %d clients: %s",
        *(attackers.attack, attackers.strength, len(names), ", ".join(names)),
    )
    run.write_csv("attackers.csv", [{"client": name, "attack": config.attack} for name in names])
    return attackers


def _get_ready_to_draw() -> None:
    """Start the process that writes the report: it takes as long to load as several rounds.

    If it cannot start, the report says why.
    """
    with suppress(OSError):
        writer()


def _draw_report(run: RunDirectory) -> None:
    """Have the report written; the run counts as completed without it."""
    try:
        made = writer().ask(path=str(run.path))
        for warning in made["warnings"]:
            LOG.warning("%s", warning)
        LOG.info("Report: %s", made["report"])
    except Exception as error:
        LOG.warning("The report could not be written: %s", error)
