"""Settings that the tasks of this package check when they are made: what one key alone cannot say.

`celeba-fl run`, a sweep and the dashboard make the task before they submit anything.
"""

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.teacher import error_rates

# 2^5 = 32 groups: more could neither be filled nor sent.
MAX_GROUPED = 5
# The keys of how images are dealt to clients, besides `partition-by`, which also counts groups.
DEALING = ("partitioner", "dirichlet-alpha", "min-partition-size", "partition-size")


def check_partitions(config: RunConfig) -> None:
    """Raise InputError if keys of partitions go neither together nor with the data set."""
    given, defaults = config.to_dict(), config.defaults()
    idle = [f"{key} = {given[key]!r}" for key in DEALING if given[key] != defaults[key]]
    if config.dataset == "none" and idle:
        raise InputError(
            f"{', '.join(idle)}: nothing is dealt with dataset = 'none', where each client brings "
            f"its own images; leave it out"
        )
    if config.partition_size and config.partitioner != "iid":
        raise InputError(
            f"partition-size = {config.partition_size}: clients of one size exist under "
            f"partitioner = 'iid' only, and it is {config.partitioner!r}; set the size to 0"
        )


def check_faces(config: RunConfig) -> None:
    """Raise InputError if faces cannot be divided among clients as the config says."""
    check_partitions(config)
    unknown = [name for name in config.groupby if name not in ATTRIBUTES]
    if unknown or not config.groupby:
        raise InputError(
            f"partition-by = {config.partition_by!r}: {unknown or 'nothing'} is not an attribute "
            f"of CelebA; take one or several of {', '.join(ATTRIBUTES)}"
        )


def check_backbone(config: RunConfig, dataset: str) -> None:
    """Raise InputError if the backbone knows drawn faces only, and a data set shows others."""
    if config.weights == "drawn" and dataset != "drawn" and not config.allow_drawn_weights:
        raise InputError(
            f"weights = 'drawn': have seen drawn faces only, and the images of {dataset!r} are "
            f"others; photographs need weights = 'imagenet', as in the experiment celeba-iid, or "
            f"the path of a file (allow-drawn-weights = true takes the drawn ones all the same)"
        )


def check_head(config: RunConfig) -> None:
    """Raise InputError if a head cannot be trained or judged as the config says."""
    check_faces(config)
    check_backbone(config, config.dataset)
    for grouping in config.demographics:
        _check_grouping("groupings", config.groupings, grouping)
    if not 0 < len(config.demographics) == len(set(config.demographics)):
        raise InputError(f"groupings = {config.groupings!r}: must name each grouping once")
    if config.group_weighting:
        _check_grouping("group-weighting", config.group_weighting, config.weighted)
    if config.thresholds != "capped" and config.accuracy_cost != config.defaults()["accuracy-cost"]:
        raise InputError(
            f"accuracy-cost = {config.accuracy_cost}: is read with thresholds = 'capped' only, and "
            f"thresholds = {config.thresholds!r}"
        )
    closed = "closed-form" in (config.strategy, config.init)
    if config.class_weights and closed:
        raise InputError(
            "class-weights = true: has no closed form (each attribute would need sums of its "
            "own); set it to false, or take another strategy and init"
        )
    _check_fairness(config)
    if config.init == "public" and not (config.public_fraction or config.private):
        raise InputError("init = 'public': needs a public-fraction above 0 to learn from")
    if config.scaling == "public" and not config.public_fraction:
        raise InputError(
            "scaling = 'public': needs a public-fraction above 0, or set it to clients"
        )
    if config.labels == "teacher" and (closed or config.class_weights or config.group_weighting):
        raise InputError(
            "labels = 'teacher': cannot be combined with class-weights and group-weighting, which "
            "count annotations, nor with the closed form, which cannot leave out an unknown "
            "label; set them to their defaults"
        )
    if config.train_on == "disagreements" and closed:
        raise InputError(
            "train-on = 'disagreements': the closed form learns from all pairs; take 'all', or "
            "another strategy and init"
        )
    if config.augmentations and config.strategy == "closed-form":
        raise InputError(
            f"augmentations = {config.augmentations}: the closed form learns from the images "
            f"themselves; set it to 0, or take another strategy"
        )
    error_rates(config.teacher_error)


def _check_fairness(config: RunConfig) -> None:
    """Raise InputError if the closed form cannot be made fairer as the config says."""
    penalty, budget = config.fairness_penalty, config.fairness_budget
    if not config.fair_groups:
        if penalty or budget:
            raise InputError(
                f"fairness-penalty = {penalty}, fairness-budget = {budget}: say between which "
                f"groups, such as fair-groups = 'Male'"
            )
        return
    _check_grouping("fair-groups", config.fair_groups, config.fair)
    if config.strategy != "closed-form":
        raise InputError(
            f"fair-groups = {config.fair_groups!r}: is for strategy = 'closed-form' alone, and it "
            f"is {config.strategy!r}: rounds of training know no penalty"
        )
    if penalty and budget:
        raise InputError(
            f"fairness-penalty = {penalty}, fairness-budget = {budget}: the budget chooses the "
            f"penalty; set one of them to 0"
        )


def _check_grouping(key: str, value: str, grouping: tuple[str, ...]) -> None:
    """Raise InputError unless a grouping in the value of a key names some attributes, each once."""
    unknown = [name for name in grouping if name not in ATTRIBUTES]
    wrong: str | None = None
    if unknown or not grouping:
        wrong = (
            f"{unknown or 'nothing'} is not an attribute of CelebA; there are "
            f"{', '.join(ATTRIBUTES)}"
        )
    elif len(set(grouping)) < len(grouping):
        wrong = f"{','.join(grouping)} names an attribute twice"
    elif len(grouping) > MAX_GROUPED:
        wrong = f"{','.join(grouping)} are more than {MAX_GROUPED} attributes"
    if wrong:
        raise InputError(
            f"{key} = {value!r}: {wrong}. Write attributes with commas, such as 'Male,Young', and "
            f"several groupings, in groupings alone, with semicolons: 'Male; Young; Male,Young'"
        )
