"""A run directory as a research object: `ro-crate-metadata.json`, which says what its files are.

By the profile Process Run Crate (https://w3id.org/ro/wfrun/process/0.5): one action, the software
that did it, the data it was done to, and the files that came of it.
"""

from pathlib import Path

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.report.heading import title_of
from celeba_fl.report.reading import Run

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
FILE = "ro-crate-metadata.json"
# Settings that say where something lies on a machine.
PATHS = {name for name, one in RunConfig.keys().items() if one.kind}
MEANINGS = {
    "report.html": "what the run found, as a page",
    "model.safetensors": "the final model",
    "run.json": "settings, data, versions and state of the run",
    "summary.json": "the final figures on the test split",
    "rounds.csv": "the figures of each round",
    "clients.csv": "the figures of each client in each round",
    "attributes.csv": "the final figures of each attribute",
    "groups.csv": "the final rates of each demographic group",
    "fairness.csv": "the differences between groups",
    "test_scores.parquet": "the score of each test image",
}


def write_crate(path: Path) -> Path:
    """Write the description of a run directory into it.

    Raises
    ------
    InputError
        If `rocrate` is not installed.
    """
    try:
        from rocrate.model import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise InputError(f"ro-crate: {error}; pip install 'celeba-fl[ro-crate]'") from error

    run = Run.read(path, whole=False)
    info, crate = run.info, ROCrate()
    crate.name, crate.description = title_of(run), f"A federated run of celeba-fl: {info.standing}"
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    crate.root_dataset["conformsTo"] = crate.add(ContextEntity(crate, PROFILE, profile))
    code, data = info.code, info.dataset
    software = {
        "@type": "SoftwareApplication",
        "name": "celeba-fl",
        "softwareVersion": str(code.get("version", "unknown")),
        "identifier": f"sha256:{code.get('sha256', 'unknown')}",
        "softwareRequirements": ", ".join(f"{name} {one}" for name, one in info.packages.items()),
    }
    learned = {
        "@type": "Dataset",
        "name": Path(str(data.get("name", "unknown"))).name,
        "identifier": f"sha256:{data.get('fingerprint', 'unknown')}",
    }
    results = [
        crate.add_file(path / name, name, properties={"description": meaning})
        for name, meaning in MEANINGS.items()
        if (path / name).exists()
    ]
    settings = [
        crate.add(
            ContextEntity(
                crate,
                f"#{key}",
                {"@type": "PropertyValue", "name": key, "value": str(value)},
            )
        )
        for key, value in info.config.items()
        if key not in PATHS
    ]
    action = {
        "@type": "CreateAction",
        "name": title_of(run),
        "startTime": info.started,
        "endTime": info.finished,
        "actionStatus": f"http://schema.org/{_status(info.status)}",
    }
    done = crate.add(ContextEntity(crate, f"#{path.name}", action))
    done["instrument"] = crate.add(ContextEntity(crate, "#celeba-fl", software))
    done["object"] = [crate.add(ContextEntity(crate, "#data", learned)), *settings]
    done["result"] = results
    crate.root_dataset["mentions"] = done
    crate.metadata.write(path)
    return path / FILE


def _status(status: str) -> str:
    words = {"completed": "Completed", "stopped": "Completed", "running": "Active"}
    return f"{words.get(status, 'Failed')}ActionStatus"
