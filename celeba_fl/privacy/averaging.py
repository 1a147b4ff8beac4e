"""Federated averaging that hides each client: Flower's own clipping, noise and accountant.

McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018. The server
sees each update, clips it to a norm, averages with equal weights and adds noise, as large for two
clients as for two thousand: so it takes many of them.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
)
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

from celeba_fl.privacy.ledger import Release


class PrivateAveraging(DifferentialPrivacyServerSideFixedClipping):
    """Flower's wrapper around FedAvg, for the same clients in every round."""

    def __init__(
        self, noise_multiplier: float, clipping_norm: float, clients: int, delta: float
    ) -> None:
        accountant = RdpAccountant(
            PrivacyConfig(
                delta,
                clients,
                NeighboringRelation.ADD_OR_REMOVE_ONE,
                SamplingMethod.NO_AMPLIFICATION,
            )
        )
        strategy = FedAvg(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        known = noise_multiplier, clipping_norm, clients
        super().__init__(strategy, *known, accountant=accountant)

    @property
    def release(self) -> Release:
        """What a round lets out."""
        share = self.clipping_norm / self.num_sampled_clients
        return Release(
            f"the mean of the updates of {self.num_sampled_clients} clients, each clipped to norm "
            f"{self.clipping_norm:g}",
            "Gaussian, added by the server (Flower's fixed clipping)",
            share,
            share * self.noise_multiplier,
        )

    def count_earlier(self, rounds: int) -> None:
        """Have the accountant know of rounds that were done before the run was resumed."""
        clients = self.num_sampled_clients
        if self.accountant and rounds:
            event = GaussianPrivacyEvent(self.noise_multiplier, clients, clients)
            self.accountant.compose(event, rounds)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Clip, average and add noise.

        An update of nothing at all, as that of a client without images, is one of the smallest
        number there is: Flower divides by its norm.
        """
        messages = list(replies)
        before = self.current_arrays.to_numpy_ndarrays()
        for message in messages:
            for name, record in message.content.array_records.items():
                arrays = record.to_numpy_ndarrays()
                if all(map(np.array_equal, arrays, before)):
                    moved = (np.nextafter(array.astype(np.float64), np.inf) for array in arrays)
                    named = zip(record, map(Array, moved), strict=True)
                    message.content[name] = ArrayRecord({**dict(named)})
        return super().aggregate_train(server_round, messages)
