"""Keys: who takes part, how long, and what a round survives."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key


@dataclass(frozen=True)
class RoundKeys(Keyed):
    """Who takes part, how long, and what a round survives."""

    seed: int = key("seed for partitions, cohorts, the initial model and local training", 42, low=0)
    clients: str = key(
        "names of the clients that take part, comma-separated; empty: all of them", "", empty=True
    )
    num_server_rounds: int = key("number of rounds", 10, low=1)
    fraction_train: float = key(
        "fraction of the clients that train in a round", 1.0, above=0, high=1
    )
    fraction_evaluate: float = key(
        "fraction of the clients that evaluate the model of a round", 1.0, low=0, high=1
    )
    min_train_clients: int = key("smallest number of clients that train", 1, low=1)
    min_evaluate_clients: int = key("smallest number of clients that evaluate", 1, low=0)
    min_available_clients: int = key(
        "number of clients (nodes, if `clients` names some) to wait for before round 1", 2, low=1
    )
    wait_seconds: float = key(
        "seconds to wait for so many nodes in a deployment before the run fails", 3600.0, above=0
    )
    round_timeout: float = key("seconds to wait for a client's reply", 3600.0, above=0)
    min_replies: float = key(
        "smallest fraction of the cohort that must return a usable model for the round to count",
        0.5,
        low=0,
        high=1,
    )
    max_update_norm: float = key(
        "norm of a client's update, in medians of its cohort, beyond which it is left out; 0: none",
        100.0,
        low=0,
    )
    scheduler: str = key(
        "what a round waits for: its cohort, or the first buffer-size answers of any clients",
        "synchronous",
        choices=("synchronous", "asynchronous"),
    )
    buffer_size: int = key(
        "number of answers that make an asynchronous round; 0: half of the clients, rounded up",
        0,
        low=0,
    )
    client_seconds: str = key(
        "seconds that clients take for an answer on the virtual clock of --inline: 1, or 1, 3=20, "
        "or a .csv file of client and seconds",
        "",
        kind="path",
        empty=True,
    )
    round_retries: int = key("number of times a failed round is tried again", 1, low=0)
    secure_aggregation: bool = key(
        "whether the server learns totals over clients alone, from masked words", False
    )
    min_cohort: int = key(
        "smallest number of clients in such a total; 0: half of those asked, and at least 3; of "
        "more than 20, nine tenths in any case",
        0,
        low=0,
    )
    watch: str = key("metric that target, patience and the best checkpoint are judged by", "loss")
    target: float = key("value of the watched metric at which the run ends; 0: none", 0.0, low=0)
    patience: int = key(
        "number of rounds without a better value after which the run ends; 0: no limit", 0, low=0
    )
    max_seconds: float = key(
        "seconds after which the run ends with its current round; 0: no limit", 0.0, low=0
    )
    keep_checkpoints: int = key("number of latest checkpoints to keep, besides the best", 2, low=1)
    resume: str = key(
        "run directory to continue, or `latest`; empty: none",
        "",
        kind="run",
        words=("latest",),
        empty=True,
    )
    join: str = key(
        "finished run of the closed form that more clients join, or `latest`; empty: none",
        "",
        kind="run",
        words=("latest",),
        empty=True,
    )
    joining: str = key(
        "names of the clients that may join it, comma-separated; empty: all that have not "
        "withdrawn",
        "",
        empty=True,
    )
    stay_open: bool = key("whether it then waits for others to join, until it is ended", False)
    audit: bool = key(
        "whether to keep each message as the server receives it, for whoever asks what it sees",
        False,
    )
