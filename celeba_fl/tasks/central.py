"""The head that all train images would give in one place: what federated ones are compared with."""

from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.log import LOG
from celeba_fl.data.teacher import Answers
from celeba_fl.models import logistic
from celeba_fl.models.scaling import Scaling, scaled
from celeba_fl.tasks.examples import Examples
from celeba_fl.tasks.teaching import targets


def fit(
    train: Examples,
    answers: Answers | None,
    public: Examples | None,
    valid: Examples,
    scaling: Scaling | None,
) -> tuple[Arrays, dict[str, Any]] | None:
    """Logistic regression, and how its one L2 was chosen: by the loss on validation examples.

    It learns from all that the run learned from: the clients' train images, with their annotations
    or a teacher's answers, and public images if there are any. All count alike, whatever weights
    the run gives to classes and groups, so that the reference stays where it is. The head is on the
    run's scale of features. There is none without validation examples.
    """
    if not len(valid):
        return None
    (labels, counted), features = targets(train.labels, answers, None), train.features[:]
    if public is not None:
        known = targets(public.labels, None, None)
        labels, counted = np.vstack([labels, known[0]]), np.vstack([counted, known[1]])
        features = np.vstack([features, public.features[:]])
    LOG.info("Fitting one head to the %d train images of all", len(features))
    found = logistic.fit(
        scaled(features, scaling), labels, scaled(valid.features, scaling), valid.labels, counted
    )
    LOG.info("Fitted with an L2 of %.3g mean variances of a feature", found.ratio)
    return found.head, {"by": "loss on validation", "value": found.loss, "l2": found.ratio}
