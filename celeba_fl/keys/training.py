"""Keys: what a client does in a round, and what the server makes of it."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import HEAD, IMAGES


@dataclass(frozen=True)
class TrainingKeys(Keyed):
    """What a client does in a round, and what the server makes of it."""

    train_on: str = key(
        "pairs to train on: all, or those where label and received model disagree",
        "all",
        choices=("all", "disagreements"),
        of=HEAD,
    )
    augmentations: int = key(
        "number of altered copies of each train image", 0, low=0, high=50, of=HEAD
    )
    local_epochs: int = key(
        "number of passes over a client's train images in a round", 5, low=1, of=IMAGES
    )
    batch_size: int = key("number of images in a step of local training", 16, low=1, of=IMAGES)
    learning_rate: float = key("step size of local training", 0.002, above=0, of=IMAGES)
    optimizer: str = key("optimizer of local training", "adam", choices=("adam", "sgd"), of=IMAGES)
    dropout: float = key(
        "dropout probability before the linear layer", 0.2, low=0, high=0.9, of=HEAD
    )
    class_weights: bool = key(
        "whether positives are weighted by negatives / positives of all clients", False, of=HEAD
    )
    group_weighting: str = key(
        "attributes whose combinations count equally in the loss; empty: none",
        "",
        of=HEAD,
        empty=True,
    )
    fair_groups: str = key(
        "attributes whose groups get more equal odds from the closed form; empty: off",
        "",
        of=HEAD,
        empty=True,
    )
    fairness_penalty: float = key(
        "how much a difference between mean scores of fair-groups costs the closed form",
        0.0,
        low=0,
        of=HEAD,
    )
    fairness_budget: float = key(
        "points of mean validation accuracy that the penalty may cost, chosen by it; 0: none",
        0.0,
        low=0,
        of=HEAD,
    )
    scaling: str = key(
        "images whose features give mean 0 and deviation 1: the clients' or the public ones",
        "clients",
        choices=("clients", "public", "none"),
        of=HEAD,
    )
    init: str = key(
        "model that round 1 starts from",
        "base-rates",
        choices=("base-rates", "random", "closed-form", "public"),
        of=HEAD,
    )
    keep_sums: bool = key(
        "whether the run directory keeps each client's sums of the closed form", False
    )
    robust: str = key(
        "clients that the closed form leaves out: none, or those whose sums are accused",
        "none",
        choices=("none", "leave-out"),
        of=HEAD,
    )
    strategy: str = key(
        "how the server aggregates: a name in celeba_fl/strategy.py, or module:Class", "fedavg"
    )
    weighting: str = key(
        "weight of a client in the average", "examples", choices=("examples", "uniform")
    )
    server_learning_rate: float = key(
        "server's step size for fedavgm, fedadam, fedyogi (0: Flower's default) and asynchronous "
        "rounds (0: answers that make a round / clients)",
        0.0,
        low=0,
    )
    server_momentum: float = key("momentum of fedavgm", 0.9, low=0, high=1)
    beta_1: float = key("decay of the first moment of fedadam and fedyogi", 0.9, low=0, below=1)
    beta_2: float = key("decay of the second moment of fedadam and fedyogi", 0.99, low=0, below=1)
    tau: float = key("degree of adaptivity of fedadam and fedyogi", 0.001, above=0)
    proximal_mu: float = key("weight of the proximal term of fedprox", 0.01, low=0)
