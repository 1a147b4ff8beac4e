"""What a run was set to, and what its figures rest on."""

from celeba_fl.config import describe_all
from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Run
from celeba_fl.report.words import UNKNOWN, written


def settings(run: Run) -> list[Block]:
    """All run-config keys with their values."""
    config = run.info.config
    if not config:
        return []
    keys = describe_all(run.info.own_keys)
    changed = [k for k, value in config.items() if keys.get(k, {}).get("default") != value]
    rows = [(k, written(config[k]), str(keys.get(k, {}).get("meaning", ""))) for k in changed]
    same = [(k, written(v), str(keys[k]["meaning"])) for k, v in config.items() if k not in changed]
    header = ("key", "value", "meaning")
    return [
        Table("Settings that are not the defaults", header, rows, words=True),
        Table("Settings that are the defaults", header, same, folded=True, words=True),
    ]


def foundations(run: Run) -> list[Block]:
    """Data, weights, seed and versions."""
    dataset, weights = run.info.dataset, run.info.weights
    code, splits = run.info.code, dataset.get("splits")
    sizes = splits.items() if isinstance(splits, dict) else ()
    rows = [
        ("dataset", str(dataset.get("name", UNKNOWN))),
        ("fingerprint", str(dataset.get("fingerprint", UNKNOWN))),
        ("examples", ", ".join(f"{name} {size:,}" for name, size in sizes) or UNKNOWN),
        ("people in test", str(run.scores.num_identities) if run.scores else UNKNOWN),
        ("backbone weights", str(weights.get("name", UNKNOWN))),
        ("their sha256", str(weights.get("sha256", UNKNOWN))),
        ("seed", str(UNKNOWN if run.info.seed is None else run.info.seed)),
        ("code", f"{code.get('version', UNKNOWN)}, sha256 {code.get('sha256', UNKNOWN)}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in run.info.packages.items())),
        ("run directory", str(run.path)),
    ]
    return [Table("Where the figures come from", ("what", "which"), rows, words=True)]
