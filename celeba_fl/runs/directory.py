"""The run directory as a run writes it.

Its files and their columns are an interface, see README.md: add freely, rename never.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.bundle import code_description
from celeba_fl.common.errors import InputError, OwnError, encodable, in_full
from celeba_fl.common.files import (
    append_bytes,
    clean_up,
    make_folder,
    pack_arrays,
    write_bytes,
    write_json,
)
from celeba_fl.common.keys import describe
from celeba_fl.common.log import LOG, LogFile
from celeba_fl.config import RunConfig
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.rounds.checking import difference
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.rounds.messages import QUERY
from celeba_fl.runs.names import default_name
from celeba_fl.runs.naming import give_name
from celeba_fl.runs.reading import read_json, read_run
from celeba_fl.runs.resuming import directory_to_resume
from celeba_fl.runs.tables import columns_of, csv_text, defined, read_csv, write_csv, write_parquet

HEARTBEAT_SECONDS = 5.0
PARTITIONS, FAILURES = "partitions.csv", "failures.csv"
PACKAGES = ("flwr", "flwr-datasets", "torch", "torchvision", "onnxruntime", "numpy")


class RunDirectory:
    """The files of a run; a context manager that keeps its log and records how the run ended.

    If the run config has `resume`, an existing directory is opened. An error goes on with a note
    that says where to read of it. Once a run is over, unless Ctrl-C has ended it, `at_end` is
    called, and then the directory is let go. `last` is given that to do, and may put it off.

    Raises
    ------
    InputError
        If the directory to resume does not exist, is in use, or is of another experiment; or if
        there cannot be a new one.
    """

    def __init__(
        self,
        config: RunConfig,
        flwr_run_id: int,
        at_end: Callable[["RunDirectory"], None] = lambda _: None,
        last: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        self._clock = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._at_end, self._last = at_end, last
        try:
            self._open(config, flwr_run_id)
        except OSError as error:
            raise InputError(
                f"results-dir = {config.results_dir!r}: no run can be written there: {error}"
            ) from error
        self._heart = threading.Thread(target=self._beat, name="run-heartbeat", daemon=True)
        self._heart.start()

    def _open(self, config: RunConfig, flwr_run_id: int) -> None:
        started = datetime.now(UTC)
        if config.resume:
            self.path = directory_to_resume(config)
            self._info = read_json(self.path / "run.json")
            self._info |= {"status": "running", "reason": "", "finished": None}
            self._info["config"] = config.to_dict()
            self._info["flwr_run_ids"].append(flwr_run_id)
        else:
            self.path = config.runs_dir / f"{started:%Y-%m-%d_%H-%M-%S}_{flwr_run_id}"
            make_folder(self.path)
            self._info = {
                "status": "running",
                "reason": "",
                "updated": "",
                "started": iso(started),
                "finished": None,
                "seconds": 0.0,
                "seed": config.seed,
                "config": config.to_dict(),
                "home": str(config.home_dir),
                "flwr_run_ids": [flwr_run_id],
            }
        self._hold(f"resume: another run is writing {self.path}")
        self._before: float = self._info["seconds"]
        self.update(
            code=code_description(),
            packages={name: version(name) for name in PACKAGES},
            own_keys=describe(config.own_keys()),
        )
        usual = (
            read_run(self.path).name
            if config.resume
            else default_name(config.to_dict(), config.defaults())
        )
        if config.name or config.note or not config.resume:
            give_name(self.path, config.name or usual, config.note or None)

    def _hold(self, trouble: str) -> None:
        """Let nobody else write here from now on; InputError if somebody does."""
        self._writer = FileLock(self.path / ".lock", timeout=0, thread_local=False)
        try:
            self._writer.acquire()
        except Timeout:
            raise InputError(trouble) from None
        clean_up(self.path)

    def __enter__(self) -> Self:
        self._log = LogFile(self.path / "log.txt")
        LOG.info("Run directory: %s", self.path)
        LOG.info("The run is called %s", read_run(self.path).name)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stop_heart()
        if error:
            reason = encodable(str(error) or repr(error))
            if isinstance(error, KeyboardInterrupt):
                reason = "it was ended by Ctrl-C"
            told = isinstance(error, InputError | OwnError | RoundFailedError | KeyboardInterrupt)
            LOG.error("The run failed: %s", reason if told else encodable(in_full(error)))
            error.add_note(f"{self.path / 'log.txt'} has all that is known of it")
            with self._best_effort():
                self._close("failed", reason)
        interrupted = error is not None and not isinstance(error, Exception)
        self._last(self._let_go if interrupted else self._finish)

    def _finish(self) -> None:
        try:
            self._at_end(self)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._writer.release()
        LOG.info("Run directory: %s", self.path)
        self._log.close()

    @property
    def seconds(self) -> float:
        """Wall time of the run, without interruptions."""
        return round(self._before + time.monotonic() - self._clock, 3)

    def end(self, reason: str) -> None:
        """Record how the run ended: ``stopped`` for a reason, or ``completed`` without one."""
        self._close("stopped" if reason else "completed", reason)

    def _stop_heart(self) -> None:
        self._ended.set()
        self._heart.join()

    def _close(self, status: str, reason: str) -> None:
        self._stop_heart()  # `seconds` end where `finished` is; the report comes after both
        finished = iso(datetime.now(UTC))
        self.update(status=status, reason=reason, finished=finished, seconds=self.seconds)

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Record where data and weights are from; a resumed run must have the same."""
        for key, value in provenance.items():
            if self._info.setdefault(key, value) != value:
                raise InputError(f"resume: {key} was {self._info[key]} and is {value} now")
        self.update()

    def set_partitions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `partitions.csv`; the clients of a resumed run must hold what they held before."""
        earlier = {row["client"]: row for row in read_csv(self.path / PARTITIONS)}
        for row in rows:
            for key, before in earlier.get(row["client"], {}).items():
                if before != str(row[key]):
                    raise InputError(
                        f"resume: {key} of client {row['client']} was {before} and is {row[key]} "
                        f"now; start as many clients with the same data as before"
                    )
        self.write_csv(PARTITIONS, rows)
        self.update(num_clients=len(rows))

    def cut(self, first: int) -> None:
        """Delete rows and pictures of round `first` and later ones, which will be done again."""
        before = {str(done) for done in range(first)}
        for name in ("rounds.csv", "clients.csv", "epochs.csv", FAILURES):
            rows = read_csv(self.path / name)
            kept = [row for row in rows if row["round"] in before or row.get("phase") == QUERY]
            if kept:
                self.write_csv(name, kept)
            else:
                (self.path / name).unlink(missing_ok=True)
        for picture in self.path.glob("*/round-*.png"):
            if int(picture.stem.partition("-")[2]) >= first:
                picture.unlink()

    def update(self, **values: Any) -> None:
        """Set keys of `run.json`; every write is also a sign of life."""
        with self._lock:
            self._info.update(values, updated=iso(datetime.now(UTC)))
            write_json(self.path / "run.json", self._info)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with self._best_effort():
                self.update(seconds=self.seconds)

    def progress(self, phase: PhaseProgress) -> None:
        """Write `progress.json`, if the disk takes it."""
        with self._best_effort():
            said = {key: value for key, value in asdict(phase).items() if value is not None}
            write_json(self.path / "progress.json", said, sync=False)

    @contextmanager
    def _best_effort(self) -> Iterator[None]:
        """Go on without what cannot be written, such as on a disk that is full for a moment."""
        try:
            yield
        except OSError as error:
            LOG.warning("%s: not written, and the run goes on: %s", self.path, error)

    def append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to a CSV file; the first rows create it with its header.

        A file that lacks a column, as that of a run of an earlier version, gets it first.
        """
        path = self.path / name
        if not rows:
            return
        before = columns_of(path) if path.exists() else []
        columns = dict.fromkeys((*rows[0], *before))
        if before and before != [*columns]:
            self.write_csv(name, [{**columns, **row} for row in read_csv(path)])
        text = csv_text([{**columns, **row} for row in rows], header=not before)
        append_bytes(path, text.encode())

    def note_failures(self, server_round: int, phase: str, failures: Mapping[str, str]) -> None:
        """Add reasons by client to `failures.csv`."""
        row = {"round": server_round, "phase": phase}
        rows = [{**row, "client": client, "reason": why} for client, why in failures.items()]
        self.append(FAILURES, rows)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a whole CSV file."""
        write_csv(self.path / name, rows)

    def write_picture(self, name: str, server_round: int, png: bytes) -> None:
        """Write the PNG of a round, such as ``samples/round-0005.png``."""
        write_bytes(self.path / name / f"round-{server_round:04d}.png", png)

    def write_parquet(self, name: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write a parquet file."""
        write_parquet(self.path / name, columns)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; undefined values are null."""
        write_json(self.path / "summary.json", {k: defined(v) for k, v in summary.items()})

    def write_model(
        self, name: str, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]
    ) -> None:
        """Write `model.safetensors`, or `base.safetensors`: the one after round 0."""
        write_bytes(self.path / f"{name}.safetensors", pack_arrays(arrays, metadata))

    def keep_sums(self, sums: Arrays) -> Arrays:
        """Write the roll call's sums into `sums.safetensors`; a run that resumes has its earlier.

        The scale of a model must not change within a run, and other clients may be there.

        Raises
        ------
        InputError
            If the earlier ones cannot be read, or are not of the same arrays.
        """
        path = self.path / "sums.safetensors"
        if not path.exists():
            if sums:
                write_bytes(path, pack_arrays(sums, {}))
            return sums
        try:
            kept = load(path.read_bytes())
        except (SafetensorError, OSError) as error:
            raise InputError(f"resume: {path} cannot be read: {error}; start a new run") from error
        if different := difference(kept, sums):
            raise InputError(f"resume: {path} holds other sums: {different}; start a new run")
        return kept

    def keep_closed_form(self, sums: Arrays) -> None:
        """Write the sums of the closed form into `closed_form.safetensors`, for the owner alone."""
        data = pack_arrays(sums, {})
        write_bytes(self.path / "closed_form.safetensors", data, mode=0o600)

    def read_model(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays of a model; empty if there is none, such as the base of an older run."""
        path = self.path / f"{name}.safetensors"
        return load(path.read_bytes()) if path.exists() else {}


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
