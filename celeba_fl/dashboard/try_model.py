"""A picture, and what the models of one or two runs see in it."""

from pathlib import Path
from typing import Any

import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import watching
from celeba_fl.dashboard.blocks import part, plain
from celeba_fl.dashboard.watching import label, when
from celeba_fl.inference.predict import Prediction, Predictor, load_model
from celeba_fl.launch.app import app_here
from celeba_fl.report.words import named

NO_OTHER = "none"
KEPT = 4  # models in memory
MODEL = ("model.safetensors",)


def show_page() -> None:
    """The page."""
    st.title("Try the model")
    folder = app_here().places().runs_dir
    names = [p.name for p in watching.directories(folder) if any(watching.stamp(p, MODEL))]
    if not names:
        st.info("No run has a model yet: it is written at the end of a run.")
        return

    def described(name: str) -> str:
        return "no other run" if name == NO_OTHER else label(folder / name)

    left, right = st.columns(2)
    first = left.selectbox("Model of", names, format_func=described, key="first")
    others = [NO_OTHER, *(name for name in names if name != first)]
    second = right.selectbox("Beside it", others, format_func=described, key="second")
    chosen = [name for name in (first, second) if name != NO_OTHER]
    predictors: dict[str, Predictor] = {}
    for name in chosen:
        with part(name):
            stamp = watching.stamp(folder / name, (*MODEL, "run.json"))
            predictors[name] = _ready(folder / name, stamp)
    for name, predictor in predictors.items():
        about = (
            f"{described(name)}: trained on {predictor.model.faces}. It knows faces that are "
            f"aligned and cropped as those are, and nothing else: of other pictures its answers "
            f"mean little. Its probabilities are {predictor.model.probabilities}."
        )
        st.markdown(plain(about))
    upload = st.file_uploader("A picture of a face (JPEG, PNG)", key="picture")
    st.caption(
        "It is kept in memory, written nowhere, and forgotten some minutes after the page is left."
    )
    if upload is not None and predictors:
        with part("The picture"):
            _judge(upload.name, upload.getvalue(), predictors)


@st.cache_resource(
    max_entries=KEPT,
    show_spinner="The model is loaded",
    on_release=lambda predictor: predictor.__exit__(None, None, None),
)
def _ready(path: Path, found: watching.Stamp) -> Predictor:
    """The model of a run, ready for images; ready once, for all who ask."""
    info = watching.look(path)
    if info.status == "unreadable":
        raise InputError(f"{path.name} is unreadable: {info.reason}")
    return Predictor(load_model(info))


def _judge(name: str, data: bytes, predictors: dict[str, Predictor]) -> None:
    """The picture, the answers beside it, and every attribute, the likeliest first."""
    answers: dict[str, dict[str, Prediction]] = {}
    for run, predictor in predictors.items():
        (answer,) = predictor([data])
        if answer is None:
            raise InputError(f"{name} cannot be read as an image: it is damaged, or not an image")
        answers[run] = answer
    picture, beside = st.columns([1, 2])
    picture.image(data, plain(name), alt=f"The uploaded picture {name}", width=240)
    with beside:
        for run, answer in answers.items():
            seen = [named(a) for a, p in answer.items() if p.present]
            which = f" {plain(when(run))}" if len(answers) > 1 else ""
            st.markdown(f"**Seen by the model{which}:** {plain(', '.join(seen) or 'nothing')}.")
        first = next(iter(answers.values()))
        order = sorted(first, key=lambda attribute: -first[attribute].probability)
        labels = ("",) if len(answers) == 1 else (" (first)", " (second)")
        rows: list[dict[str, Any]] = []
        for attribute in order:
            row: dict[str, Any] = {"attribute": named(attribute)}
            for which, answer in zip(labels, answers.values(), strict=True):
                row[f"seen{which}"] = "yes" if answer[attribute].present else "no"
                row[f"probability{which}"] = answer[attribute].probability
            rows.append(row)
        bar = st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f")
        st.dataframe(
            rows,
            hide_index=True,
            column_config={f"probability{which}": bar for which in labels},
            height="content",
            alt="Every attribute with its probability, the likeliest first",
        )
