"""Clients that come late send their sums, and the head is made anew.

A client that is in the model already is asked for no sums. It evaluates the new head, if it is
there and holds what it held before.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.arrays import add_exactly
from celeba_fl.common.bundle import code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RESUMABLE, RunConfig
from celeba_fl.deployment.client_keys import name_check
from celeba_fl.membership.solving import Members, make_head, why_not
from celeba_fl.membership.withdrawals import Withdrawals, now
from celeba_fl.rounds.checking import Client, Judge, check_reply, fault, largest_sum
from celeba_fl.rounds.exchange import send_and_wait
from celeba_fl.rounds.messages import ARRAYS, CONFIG, RUN, SERVER_ROUND, SUMS, TRAIN, to_arrays
from celeba_fl.rounds.roll_call import roll_call
from celeba_fl.rounds.runtimes import check_client
from celeba_fl.runs.audit import Audit, files_of
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import RunInfo, check_provenance, find_run
from celeba_fl.runs.reopened import ReopenedRun
from celeba_fl.runs.resuming import settings_changed
from celeba_fl.task import load_task

# What may differ between a run and that by which clients join it, besides how long it goes on.
OWN = ("join", "joining", "stay-open", "clients")
Draw = Callable[[RunDirectory], None]


def can_be_joined(run: RunInfo) -> bool:
    """Whether a run has kept its clients' sums, and has a model."""
    return KeptSums(run.path).exist and (run.path / "model.safetensors").exists()


def run_to_join(config: RunConfig) -> RunInfo:
    """The run that clients are to join, once it is certain that this is the same experiment.

    Raises
    ------
    InputError
        If there is no such run, nobody can join it, or it is of another experiment.
    """
    run = find_run(config.join, config.runs_dir, can_be_joined)
    changed = settings_changed(config, run, (*OWN, *RESUMABLE))
    why = why_not(config) or (f"it is another experiment: {'; '.join(changed)}" if changed else "")
    if not why and not can_be_joined(run):
        why = f"it is {run.status} and has no model yet; resume it first"
    for one in Withdrawals(run.path).all:
        if not one.get("done"):
            why = f"a withdrawal was cut off; repeat celeba-fl withdraw {run.path} {one['client']}"
    if why:
        raise InputError(f"join = {config.join!r}: nobody can join {run.path.name}: {why}")
    return run


class LateComers:
    """Who is there: members that can evaluate the next head, and clients that become members.

    Raises
    ------
    InputError
        If the data or the weights here are not those of the run.
    """

    def __init__(self, grid: Grid, config: RunConfig, run: RunInfo, opened: ReopenedRun) -> None:
        self.grid, self.config, self.run = grid, config, opened
        self.task = load_task(config)
        if config.audit:
            Audit(run.path).listen(grid)
        self._prepared = self.task.prepare()
        check_provenance(run, self._prepared.provenance)
        self.here: dict[str, int] = {}  # node ids of members
        self._module = type(self.task).__module__
        self.reload()

    def reload(self) -> None:
        """Read anew who is in the model."""
        self.members = Members(self.run.path, self.task)
        self._withdrawals = Withdrawals(self.run.path)

    def ask(self, grid: Grid, minimum: int) -> tuple[list[str], set[int]]:
        """Ask the nodes of a grid who they are, and new ones for their sums.

        The names of those that have joined, and the nodes that can take part.

        Raises
        ------
        InputError
            If there are fewer than `minimum`, or partitions are other ones than in the run.
        """
        config, task = self.config, self.task
        clients = roll_call(
            grid,
            self._prepared.instructions,
            task.deliver,
            code=code_hash(self._module),
            minimum=minimum,
            timeout=config.round_timeout,
            num_counts=len(task.count_names),
            wait=config.wait_seconds,
            sums=task.description_sums(),
            check=partial(check_client, task),
            check_owner=name_check(self.grid),  # which knows those that are here now
            on_progress=self.run.progress,
        )
        late = {}
        for name, client in clients.items():
            if self.here.get(name, client.node_id) != client.node_id:
                why = "another node that is there has its name"
            elif name in self.members.clients:
                why = self._other_data(name, client)
                if not why:
                    self.here[name] = client.node_id
            elif not (why := self._may_not(name)):
                late[name] = client
            if why:
                LOG.warning("client %s sits out: %s", name, why)
        joined = self._collect(late)
        self.here |= {name: late[name].node_id for name in joined}
        return joined, {client.node_id for client in clients.values()}

    def _may_not(self, name: str) -> str:
        """Why a client that is not in the model may not join it; empty if it may."""
        if name in self.config.may_join:
            return ""
        if self._withdrawals.of(name):
            for file in files_of(self.run.path, name):  # the roll call that it has just answered
                file.unlink()
            return f"it has withdrawn; name it, if it wants to join again (joining = {name!r})"
        return "it is not named in joining" if self.config.may_join else ""

    def _other_data(self, name: str, client: Client) -> str:
        """What a member says otherwise than when its sums were made; empty if nothing.

        Raises
        ------
        InputError
            If it is a partition: then all partitions are other ones.
        """
        before = self.members.clients[name]
        held = [(c.num_train, c.num_valid, c.counts.tolist()) for c in (before, client)]
        same = all(np.array_equal(sums, before.sums[key]) for key, sums in client.sums.items())
        if held[0] == held[1] and same:
            return ""
        has = f"it holds {client.num_train} train images, and its sums are of {before.num_train}"
        if name.isdecimal():
            raise InputError(
                f"client {name}: {has}, or of others; start as many nodes with the same data as "
                f"in the run"
            )
        return f"{has}, or of others; to renew them, withdraw it and let it join again"

    def _collect(self, late: Mapping[str, Client]) -> list[str]:
        """Have clients send their sums, and keep them; who has, by name."""
        if not late:
            return []
        zeros, members = self.task.zero_sums(), self.members
        told = {**self._prepared.instructions, RUN: self.run.path.name}
        judge = Judge(self.task, late, told)
        most = largest_sum(len(members.clients) + len(late))
        config = ConfigRecord({**told, SUMS: [*zeros], SERVER_ROUND: 1})
        content = RecordDict({ARRAYS: ArrayRecord(), CONFIG: config})

        def check(name: str, reply: RecordDict) -> None:
            check_reply(reply, zeros, most)
            judge(name, SUMS, reply)
            (arrays,) = reply.array_records.values()
            add_exactly(members.total, to_arrays(arrays))

        def take(name: str, reply: RecordDict) -> str:
            if why := fault(check, name, reply):
                return why
            (record,) = reply.array_records
            members.keep(name, late[name], to_arrays(reply.array_records[record]))
            del reply[record]
            return ""

        replies = send_and_wait(
            self.grid,
            {SUMS: [Message(content, client.node_id, TRAIN) for client in late.values()]},
            {client.node_id: name for name, client in late.items()},
            server_round=1,
            phase=TRAIN,
            timeout=self.config.round_timeout,
            on_progress=self.run.progress,
            take={SUMS: take},
        )[SUMS]
        for name, why in replies.failures.items():
            LOG.warning("client %s does not join: %s", name, why)
        for name in replies.usable:
            if withdrawal := self._withdrawals.of(name):
                self._withdrawals.note(withdrawal, {"joined_again": now()})
        return list(replies.usable)

    def publish(self, joined: list[str], draw: Draw) -> int:
        """Make the head of all members, and everything that follows; its number."""
        self.run.number_first(copy=True)
        make_head(self.task, self._prepared, self.run, self.members, self.grid, self.here)
        number = self.run.publish(self.members.clients, joined, (), self._module)
        LOG.info(
            "Head %d is that of %d clients%s; %d of them have evaluated it",
            *(number, len(self.members.clients), _those(joined), len(self.here)),
        )
        draw(self.run)
        return number


def join(grid: Grid, run_id: int, config: RunConfig, draw: Draw) -> None:
    """Let clients join the run that the run config names, and make its head anew.

    Raises
    ------
    InputError
        If that cannot be, or a client that is named is not there; the run is as it was.
    """
    from celeba_fl.membership.serving import serve

    run = run_to_join(config)
    with ReopenedRun(run.path, config) as opened:
        late = LateComers(grid, config, run, opened)
        if config.stay_open:
            serve(late, draw)
        else:
            joined, _ = late.ask(grid, 1)
            missing = [name for name in config.may_join if name not in late.here]
            why = "joining: %s cannot join: the log says why, or no node here has such a name"
            if missing and not joined:
                raise InputError(why % ", ".join(missing))
            if missing:
                LOG.warning(why, ", ".join(missing))
            if not joined:
                LOG.warning("Nobody new is here; the head is made anew, and evaluated by who is")
            late.publish(joined, draw)
        opened.close(run_id)


def _those(joined: list[str]) -> str:
    return f", with {', '.join(joined)}" if joined else ""
