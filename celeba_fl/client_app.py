"""The ClientApp: reads a message, asks the task, replies."""

import math
import time
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, wraps
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.attacks.labels import check_site
from celeba_fl.common.bundle import PACKAGE, code_hash, code_path
from celeba_fl.common.errors import InputError, for_others, in_full, printable
from celeba_fl.common.files import clean_up
from celeba_fl.common.flower import simulated
from celeba_fl.common.log import LOG
from celeba_fl.common.threads import one_thread
from celeba_fl.config import RunConfig
from celeba_fl.rounds import messages
from celeba_fl.rounds.checking import told_hashes
from celeba_fl.rounds.parts import DETAILS, answer_together
from celeba_fl.task import NodeConfig, Task, Trained, client_name, derived_seed, load_task

if TYPE_CHECKING:
    from celeba_fl.privacy.site import Asked

Handler = Callable[[Message, Context], Message]
MIN_COHORT, LIMIT = "min-cohort", "privacy-limit"  # keys of a node config


class ToldInputError(InputError):
    """An error that the log has whole, in the words that the server may read.

    By the end of its type's name the server knows it for one of ours, and shows its words alone.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, open_to_all=True)


def for_two_readers(handler: Callable[..., Message]) -> Callable[..., Message]:
    """Log an error whole, for whoever owns the data; to the server goes what others may read.

    In a simulation the two are one: then all of it goes to the server, whose log is that of the
    run.
    """

    @wraps(handler)
    def handle(message: Message, context: Context, *more: Handler) -> Message:
        try:
            return handler(message, context, *more)
        except ToldInputError:
            raise
        except Exception as error:
            name, whole = printable(client_name(context.node_config)), in_full(error)
            # Only in the roll call the server does not know which client it asked.
            query = message.metadata.message_type == messages.QUERY
            whose = f"client {name}: " if query and messages.CONFIG in message.content else ""
            private = context.run_config.get("privacy-epsilon")
            said = _excuse(error) if private else for_others(error, context.run_config)
            words = f"{whose}{said}"
            if simulated() and not private:
                words += f"{DETAILS}{whose}{whole}"
            else:  # the log of a simulation is that of a run, and may be passed on
                LOG.error("client %s: %s", name, said if simulated() else whole)
            raise ToldInputError(words) from None

    return handle


@for_two_readers
def in_sums(message: Message, context: Context, answer: Handler) -> Message:
    """A mod: under `secure-aggregation`, only masked words leave a client."""
    node = context.node_config
    config = _config(context) if context.run_config.get("secure-aggregation") else None
    if config is None and MIN_COHORT in node:
        raise InputError(
            "this site takes part in secure sums alone (min-cohort): set secure-aggregation = true",
            open_to_all=True,
        )
    if config is None:
        return answer(message, context)
    from celeba_fl.privacy.client import SecureClient  # takes cryptography
    from celeba_fl.privacy.roster import identity_of

    cohorts, uniform = (config.min_cohort, own_least(node)), config.weighting == "uniform"
    secure = SecureClient(client_name(node), *cohorts, uniform, identity_of(node))
    return secure.answer(message, context, answer)


@for_two_readers
def within_budget(message: Message, context: Context, answer: Handler) -> Message:
    """A mod: under a privacy budget, only what its ledgers count leaves a client."""
    node = context.node_config
    config = _config(context) if context.run_config.get("privacy-epsilon") else None
    if config is None and LIMIT in node:
        raise InputError(
            f"this site takes part under a privacy budget alone ({LIMIT}): set privacy-epsilon",
            open_to_all=True,
        )
    if config is None:
        return answer(message, context)
    from celeba_fl.privacy.gate import check_asked, let_out  # no other run needs them
    from celeba_fl.privacy.site import Limit, SiteLedger

    kind, name, limit = message.metadata.message_type, client_name(node), Limit.of(node)
    instructions = messages.received_config(message.content)
    check_asked(kind, messages.SUMS in instructions, config.privacy_unit)
    if kind != messages.QUERY or not config.chosen or name in config.chosen:
        asked = _asked(config, instructions)
        # Where it lies is not for those to say who start runs.
        home = config.home_dir if simulated() else RunConfig().home_dir
        ledger = SiteLedger(home, name, load_task(config).data_of(node), limit)
        (ledger.check if kind == messages.QUERY else ledger.spend)(asked)
    return Message(let_out(kind, answer(message, context).content), reply_to=message)


app = ClientApp(mods=[in_sums, within_budget])
_clean_up = cache(clean_up)  # once a process


@app.query()
@for_two_readers
def query(message: Message, context: Context) -> Message:
    """Introduce this client to the server: its name and the number of its examples."""
    config, name = _config(context), client_name(context.node_config)
    if config.chosen and name not in config.chosen:  # nothing to load or to compute
        return Message(messages.sits_out(name), reply_to=message)
    _clean_up(config.home_dir)
    task, instructions = load_task(config), messages.received_config(message.content)
    for sha256, data in messages.received_files(message.content).items():
        if sha256 not in told_hashes(instructions):
            raise InputError("the server sends a file that it did not tell of")
        task.receive(sha256, data)
    about = task.describe(context.node_config, instructions)
    module = type(task).__module__
    introduction = messages.Introduction(
        name=name,
        num_train=about.num_train,
        num_valid=about.num_valid,
        counts=about.counts,
        missing=about.missing,
        sums=about.sums,
        code=code_hash(module),
        path=" and ".join(map(str, filter(None, (PACKAGE, code_path(module))))),
    )
    waits = "; the weights are still to come" if about.missing else ""
    held = f"{about.num_train} train and {about.num_valid} validation examples"
    content = introduction.to_content()
    _tell(content, {}, f"introduced itself with {held}{waits}")
    return Message(content, reply_to=message)


@app.train()
@for_two_readers
@one_thread()
def train(message: Message, context: Context) -> Message:
    """Train the global model on this client's examples, or sum them up for the closed form."""
    start = time.perf_counter()
    task, node = _task(context), context.node_config
    config = messages.received_config(message.content)
    if messages.SUMS in config:
        sums, n = task.summarise(node, config)
        content = messages.training_reply(sums, n, time.perf_counter() - start)
        what = f"summed up {n} examples"
    else:
        arrays = messages.received_arrays(message.content)
        parts = context.run_config["seed"], config[messages.SERVER_ROUND], client_name(node)
        model, n, loss, epochs = Trained(*task.train(arrays, node, config, derived_seed(*parts)))
        content = messages.training_reply(model, n, time.perf_counter() - start, loss, epochs)
        what = f"trained on {n} examples, loss {loss:.3g}" if n else "nothing to train on"
    _tell(content, config, what)
    return Message(content, reply_to=message)


@app.evaluate()
@for_two_readers
@one_thread()
def evaluate(message: Message, context: Context) -> Message:
    """Count how well the global model does on this client's train and validation examples."""
    start = time.perf_counter()
    task = _task(context)
    arrays = messages.received_arrays(message.content)
    config = messages.received_config(message.content)
    parts, num_examples = task.evaluate(arrays, context.node_config, config)
    content = messages.evaluation_reply(parts, num_examples, time.perf_counter() - start)
    _tell(content, config, f"evaluated the model on {' and '.join(parts)} examples")
    return Message(content, reply_to=message)


answer_together(app)


def _task(context: Context) -> Task:
    return load_task(_config(context))


def _config(context: Context) -> RunConfig:
    config = _checked(tuple(context.run_config.items()))
    check_site(config, context.node_config)
    return config


@lru_cache(maxsize=4)
def _checked(items: tuple[tuple[str, Any], ...]) -> RunConfig:
    """The run config, which comes with every message and is the same in all of a run."""
    return RunConfig.load(dict(items))


def _tell(reply: RecordDict, instructions: Mapping[str, object], what: str) -> None:
    """Log a line about a message, for who looks after a site; a simulation has one log for all."""
    if not simulated():
        number, seconds = instructions.get(messages.SERVER_ROUND, 0), messages.seconds(reply)
        LOG.info(
            "round %s: %s%s", number, what, "" if math.isnan(seconds) else f", {seconds:.1f} s"
        )


def _excuse(error: Exception) -> str:
    from celeba_fl.privacy.gate import excuse

    return excuse(error)


def _asked(config: RunConfig, instructions: Mapping[str, object]) -> "Asked":
    """What a run may ask for in all, and with a message."""
    from celeba_fl.privacy.noise import noise_multiplier
    from celeba_fl.privacy.site import Asked

    whole = noise_multiplier(config.privacy_epsilon, config.privacy_delta)
    rounds = 1 if config.strategy == "closed-form" else config.num_server_rounds
    number = int(str(instructions.get(messages.SERVER_ROUND, 0)))
    run, unit = str(instructions[messages.RUN]), config.privacy_unit
    return Asked(run, number, unit, whole * math.sqrt(rounds), whole)


def own_least(node: NodeConfig) -> int:
    """How many clients a site wants in a total, by its node config; 0: it says nothing of it."""
    least = node.get(MIN_COHORT)
    if least is None or (isinstance(least, int) and least > 1):
        return least or 0
    raise InputError(
        f"min-cohort = {least!r}: in a node config, should be a whole number of clients, 2 or more"
    )
