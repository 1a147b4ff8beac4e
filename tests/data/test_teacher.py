import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.sources import load
from celeba_fl.data.teacher import UNASKED, UNSURE, Teacher, error_rates

HEADER = "image,attribute,value,confidence"
SMILING, MALE = ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("Male")


@pytest.fixture
def table(celeba_folder, tmp_path):
    return load(str(celeba_folder(splits="0" * 400, images_each=4)), tmp_path / "home")


@pytest.fixture
def make(table, tmp_path):
    def make(**keys):
        written = {key.replace("_", "-"): value for key, value in keys.items()}
        config = RunConfig.load(written)
        return Teacher(
            config.teacher,
            table,
            tmp_path / "home",
            confidence=config.teacher_confidence,
            errors=error_rates(config.teacher_error),
            seed=config.seed,
        )

    return make


@pytest.fixture
def answers(make, tmp_path):
    """A teacher of a file with these lines after the header."""

    def answers(*lines, header=HEADER, **keys):
        path = tmp_path / "answers.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return make(teacher=str(path), **keys)

    return answers


def test_a_simulated_teacher_errs_as_often_as_it_is_told(make, table):
    rows = np.arange(400)
    said = make(teacher_error="0.2, Male=0, Smiling=1")(rows)
    wrong = (said == 1) != table.labels
    assert set(np.unique(said)) == {0, 1}
    assert wrong[:, SMILING].all()
    assert not wrong[:, MALE].any()
    others = np.delete(wrong, [SMILING, MALE], axis=1)
    assert others.mean() == pytest.approx(0.2, abs=0.01)
    assert np.ptp(others.mean(axis=0)) < 0.15
    # It errs on each attribute by itself.
    assert len(np.unique(others, axis=0)) > 0.95 * len(np.unique(table.content))


def test_a_simulated_answer_depends_on_image_and_seed_alone(make):
    some = np.array([7, 3, 200])
    said = make(teacher_error="0.5")(np.arange(400))
    np.testing.assert_array_equal(make(teacher_error="0.5")(some), said[some])
    assert (make(teacher_error="0.5", seed=1)(some) != said[some]).any()
    # Who errs less errs in fewer of the same answers.
    truth, less = make(teacher_error="0")(some), make(teacher_error="0.2")(some)
    np.testing.assert_array_equal((less != truth) & (said[some] != truth), less != truth)


def test_answers_of_a_file(answers):
    said = answers(
        "000002.jpg,Smiling,1,0.9", "000002.jpg,Male,,0.2", "000005.jpg,Male,0,", "x.jpg,Male,1,1"
    )(np.array([1, 4, 0]))
    assert said[:, SMILING].tolist() == [1, UNASKED, UNASKED]
    assert said[:, MALE].tolist() == [UNSURE, 0, UNASKED]
    assert (said[2] == UNASKED).all()


def test_answers_that_are_not_sure_enough_count_as_unsure(answers):
    lines = "000001.jpg,Smiling,1,0.8", "000001.jpg,Male,1,0.79", "000002.jpg,Male,1,"
    said = answers(*lines, teacher_confidence=0.8)(np.array([0, 1]))
    assert said[0, [SMILING, MALE]].tolist() == [1, UNSURE]
    assert said[1, MALE] == 1  # one that does not say how sure it is is taken at its word


def test_a_file_that_changes_is_read_again(answers):
    assert answers("000001.jpg,Smiling,1,1")(np.array([0]))[0, SMILING] == 1
    said = answers("000001.jpg,Smiling,0,1", "000001.jpg,Male,0,1")(np.array([0]))
    assert said[0, SMILING] == 0


def test_answers_for_other_images_are_warned_about(answers, caplog):
    answers("000001.jpg,Smiling,1,1", "other.jpg,Smiling,1,1", "other.jpg,Male,1,1")
    assert any("has 2 answers for images that are not in" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001.jpg,Smile,1,1", r"line 3: \['000001.jpg', 'Smile', '1', '1'\] should be an image"),
        ("000001.jpg,Male,yes,1", "line 3: .*'yes'.* should be an image, an attribute of CelebA"),
        ("000001.jpg,Male,1,2", "line 3: .*'2'.* and a confidence"),
        ("000001.jpg,Male,1,nan", "line 3: .*'nan'"),
        ("000001.jpg,Male,1,high", "line 3: .*'high'"),
        (f"{'x' * 200_000},Male,1,1", "after line 3: field larger than field limit"),
        ("000001.jpg,Male,1", r"line 3: \['000001.jpg', 'Male', '1'\] should have 4 cells"),
        ("000001.jpg,Smiling,0,1", "line 3: a second answer for Smiling of 000001.jpg"),
    ],
)
def test_lines_that_are_wrong_are_named(answers, line, message):
    with pytest.raises(InputError, match=rf"answers\.csv, {message}"):
        answers("000001.jpg,Smiling,1,1", line)


def test_files_that_are_no_answers(answers, make, tmp_path):
    foreign = tmp_path / "foreign.csv"
    foreign.write_bytes(b"image,attribute,value,confidence\nM\xfcller.jpg,Male,1,1\n")
    with pytest.raises(InputError, match=r"foreign\.csv, after line 0: 'utf-8' codec can't decode"):
        make(teacher=str(foreign))
    with pytest.raises(InputError, match="line 1: should be image,attribute,value,confidence"):
        answers(header="image,value")
    with pytest.raises(InputError, match="has no answer for any image"):
        answers("other.jpg,Male,1,1")
    with pytest.raises(InputError, match=r"teacher = '/no/such\.csv': no such file; celeba-fl tea"):
        make(teacher="/no/such.csv")


def test_a_byte_order_mark_is_no_part_of_the_header(answers):
    header = "\ufeffimage,attribute,value,confidence"
    said = answers("000001.jpg,Smiling,1,1", header=header)(np.array([0]))
    assert said[0, SMILING] == 1
