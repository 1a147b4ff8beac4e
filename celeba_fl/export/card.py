"""The model card: what a model is, how well it does for whom, and what it is not for.

Its sections are those of Mitchell et al., "Model Cards for Model Reporting", FAccT 2019; its head
is what the Hugging Face hub reads.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from celeba_fl.data.hub import HUB_ID
from celeba_fl.evaluation.resampling import intervals
from celeba_fl.export.markdown import plain, section
from celeba_fl.export.networks import Exported
from celeba_fl.report.heading import notes, title_of
from celeba_fl.report.html import Block
from celeba_fl.report.lede import lede
from celeba_fl.report.names import name_of
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.attributes import attributes
from celeba_fl.report.sections.groups import groups
from celeba_fl.report.sections.privacy import privacy
from celeba_fl.report.sections.probabilities import probabilities
from celeba_fl.report.sections.results import own_scores, results
from celeba_fl.report.sections.samples import samples
from celeba_fl.report.words import NONE, between, without_folders

CELEBA_TERMS = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
RELATED = f"""\
The images are those of CelebA (Liu et al., "Deep Learning Face Attributes in the Wild", ICCV \
2015), or come in its layout. CelebA is for non-commercial research alone and may not be passed \
on: read [its terms]({CELEBA_TERMS}). Whether a model that learned from it may be used for more, \
they do not say; take it that it may not."""
DRAWN = """\
The faces are drawn: avatars with labels sampled so that they are as frequent as CelebA's. They \
show that the machinery works and say nothing about photographs of people."""
FACES = """\
Research and teaching: how federated learning does on face attributes, and how it treats groups.

It is not for decisions about people, in no field and in no country: not for who may enter, buy, \
work or be searched. It does not recognise who somebody is. What it calls by words such as `Male`, \
`Young` or `Attractive` is what annotators called so at the sight of a picture: neither a person's \
gender or age nor a fact about them. Among the images of one person in CelebA, `Oval_Face` changes \
for 69 % of the people, `Big_Nose` for 48 % and `Male` for 6 %."""
CLASSES = """\
Research and teaching. It has been measured on pictures like those that it learned from, and on no \
others; of one that is no square it has seen the middle."""
NEW_FACES = """\
Research and teaching: it makes small pictures of faces of nobody. A generator may come close to \
pictures that it learned from; nobody has searched this one for such. Do not pass its pictures off \
as photographs of people."""
FACE_CAVEATS = """\
It expects one face, upright, aligned and cropped as CelebA's are. On other pictures, such as \
faces in a scene or lying on their side, its answers mean little. Turn pictures upright by their \
EXIF data first, lay transparent ones on white, and convert colours to sRGB; the network sees the \
pixels alone. A person's other images, another camera and another time were not measured."""


def card(run: Run, given: Exported, folder: Path) -> str:
    """The text of `README.md`; its pictures are written into the folder."""
    parts = [
        f"# {plain(title_of(run))}",
        plain(without_folders(lede(run))),
        *(f"> {plain(without_folders(note))}" for note in notes(run)),
        "## Model details\n\n" + _details(run, given),
        "## How to use it\n\n" + _use(given),
        "## Intended use\n\n" + _intended(given),
        "## Training data, and their terms\n\n" + _data(run),
        "## Factors\n\n" + _factors(run),
        "## Metrics\n\n" + section(results(run), folder),
    ]
    more: Mapping[str, Callable[[Run], Sequence[Block]]] = {
        "Quantitative analyses: attributes": attributes,
        "Quantitative analyses: probabilities": probabilities,
        "Quantitative analyses: groups and their intersections": groups,
        "Generated pictures": samples,
    }
    for title, make in more.items():
        if text := section(make(run), folder):
            parts.append(f"## {title}\n\n{text}")
    parts += ["## Privacy\n\n" + _privacy(run), "## Caveats\n\n" + _caveats(given)]
    return f"---\n{_head(run, given)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _head(run: Run, given: Exported) -> str:
    """What the hub reads: YAML.

    There is no `base_model` in it: that is a model of the hub, where torchvision's weights are not.
    """
    name, of_hub = _dataset(run), _is_hub(run)
    scores = own_scores(run)
    sure = intervals(scores) if scores else {}
    measured = [
        EvalResult(
            task_type=given.pipeline,
            dataset_type=name if of_hub else name.replace(" ", "-").lower(),
            dataset_name=name,
            dataset_split="test",
            metric_type=metric,
            metric_name=" ".join((name_of(metric), between(*sure.get(metric, NONE)))).strip(),
            metric_value=round(value, 6),
        )
        for metric, value in run.results().values.items()
    ]
    faces = run.info.config.get("task") != "lenet" and run.info.dataset.get("name") != "drawn"
    data = ModelCardData(
        language="en",
        license="other",
        license_name="celeba-non-commercial-research" if faces else None,
        license_link=CELEBA_TERMS if faces else None,
        library_name=given.library,
        pipeline_tag=given.pipeline,
        tags=["federated-learning", "flower", "onnx", "fairness"],
        datasets=[name] if of_hub else None,
        model_name=title_of(run),
        eval_results=measured or None,
    )
    return str(data.to_yaml())


def _details(run: Run, given: Exported) -> str:
    config, info = run.info.config, run.info
    weights = Path(str(info.weights.get("name", ""))).name
    rows: list[tuple[str, object]] = [
        ("learned by", f"federated learning with Flower, strategy {config.get('strategy')}"),
        ("clients", info.num_clients),
        ("rounds", run.last_round),
        ("finished", info.finished[:10]),
        ("seed", info.seed),
        ("takes", given.takes),
        *(("gives", about) for about in given.gives),
        ("backbone", given.config.get("backbone")),
        ("its weights, frozen", weights if "backbone" in given.config else None),
        ("what the head sees of it", given.config.get("features")),
        ("edge of a picture inside, in pixels", given.config.get("image_size")),
        ("code", f"celeba_fl {info.code.get('version')}, sha256 {info.code.get('sha256')}"),
        ("run", f"{info.name} ({run.path.name})"),
    ]
    lines = [f"| {what} | {value} |" for what, value in rows if value not in (None, "")]
    return "\n".join(["| | |", "|---|---|", *lines])


def _use(given: Exported) -> str:
    takes = given.takes.partition(":")[0]
    first = given.gives[0].partition(":")[0]
    if takes == "images":
        made = (
            "from PIL import Image\n\n"
            'images = np.asarray(Image.open("picture.jpg").convert("RGB"))[None]\n'
        )
    else:
        width = given.example.shape[1]
        made = f"\n{takes} = np.random.default_rng().standard_normal((16, {width}), np.float32)\n"
    onnx = (
        f"import numpy as np\nimport onnxruntime\n{made}"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        f'{first} = session.run(["{first}"], {{"{takes}": {takes}}})[0]\n'
    )
    text = f"By ONNX Runtime, all of it in one file:\n\n```python\n{onnx}```"
    if given.code:
        return f"{text}\n\nBy PyTorch:\n\n```python\n{given.code}```"
    return f"{text}\n\n`model.safetensors` has the tensors of the backbone in torchvision's keys."


def _intended(given: Exported) -> str:
    if given.pipeline != "image-classification":
        return NEW_FACES
    return FACES if "thresholds" in given.config else CLASSES


def _data(run: Run) -> str:
    splits = run.info.dataset.get("splits")
    sizes = ", ".join(f"{size:,} {name}" for name, size in splits.items()) if splits else "unknown"
    name, text = _dataset(run), RELATED
    if run.info.dataset.get("name") == "drawn":
        text = DRAWN
    elif run.info.config.get("task") == "lenet":
        text = "Their terms are those of whoever published them."
    fingerprint = run.info.dataset.get("fingerprint", "unknown")
    return f"{name} ({sizes} images; fingerprint `{fingerprint}`). {text}"


def _factors(run: Run) -> str:
    groupings = list(dict.fromkeys(row["grouping"] for row in run.groups))
    if not groupings:
        return "No groups of people were compared."
    names = " and ".join(f"`{name}`" for name in groupings)
    people = f" of {run.scores.num_identities} people" if run.scores else ""
    return (
        f"Groups by {names}, as annotated, on the test split{people}. Skin colour, health, origin "
        f"and whatever else is not annotated was not compared."
    )


def _privacy(run: Run) -> str:
    """What a ledger says, or that there is none."""
    secure = run.info.config.get("secure-aggregation")
    sums = (
        "The server saw sums over clients alone, by masked words (`secure-aggregation`)."
        if secure
        else "The server saw what each client sent: counts, sums or trained arrays, and no image."
    )
    if not run.privacy:
        return (
            f"No image left a client. {sums} No noise was added: this model has no differential "
            f"privacy, and may tell something of the images that it learned from."
        )
    return f"No image left a client. {sums}\n\n{section(privacy(run), Path())}"


def _caveats(given: Exported) -> str:
    text = FACE_CAVEATS if "thresholds" in given.config else CLASSES
    return NEW_FACES if given.pipeline != "image-classification" else text


def _dataset(run: Run) -> str:
    """The name of the data, without the path to them."""
    name = str(run.info.dataset.get("name", "unknown"))
    if _is_hub(run):
        return name
    return "drawn faces" if name == "drawn" else Path(name).name


def _is_hub(run: Run) -> bool:
    return bool(HUB_ID.fullmatch(str(run.info.dataset.get("name"))))
