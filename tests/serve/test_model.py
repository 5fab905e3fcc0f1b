"""Asking what a run trained: the same answers as the run's own steps give."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ares
from ares.config.schema import Config
from ares.pipeline.manifest import read_manifest, write_entry
from ares.serve.model import Model
from ares.serve.scoring import scorer_of
from ares.steps.common.answering import answering_of
from ares.steps.common.inputs import examples_of
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_json, write_json
from ares.storage.tables import read_predictions, read_rationales
from ares.text.sentences import sentences_of
from ares.types import AresError, Problem
from tests.support.asked_runs import T5, VLM, trained
from tests.support.problems import make_problem

KINDS = {"t5": T5, "vlm": VLM}


@pytest.fixture(scope="module", params=["t5", pytest.param("vlm", marks=pytest.mark.slow)])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    runs = tmp_path_factory.mktemp("runs")
    config = trained(runs, *KINDS[request.param])
    return config, runs / config.run


@pytest.fixture(scope="module")
def model(asked: tuple[Config, Path]) -> Model:
    return ares.load(asked[1], device="cpu")


def problems_of(config: Config) -> list[Problem]:
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    return [problems[pid] for pid in splits["test"]]


def test_rationales_are_the_runs_own(asked: tuple[Config, Path], model: Model) -> None:
    config, root = asked
    problems = problems_of(config)
    assert any(problem.image for problem in problems)
    written = {row.pid: row for row in read_rationales(root / "final/rationales-test.parquet")}
    for problem, answer in zip(problems, model.answer(problems), strict=True):
        assert answer.rationale == written[problem.pid].text
        assert answer.truncated == written[problem.pid].truncated


def test_the_adapter_answers_as_in_the_run(asked: tuple[Config, Path], model: Model) -> None:
    config, root = asked
    problems = {problem.pid: problem for problem in problems_of(config)}
    predicted = {row.pid: row for row in read_predictions(root / "final/lora/predictions.jsonl")}
    model.answer(list(problems.values()))  # extracts the image features
    rationales = {pid: row.rationale for pid, row in predicted.items()}
    examples = examples_of(problems, problems, "QCMG-A", config, rationales)
    inputs = model.answerer.encode(list(examples.values()))
    outputs = model.answerer.greedy(inputs, max_new_tokens=config.lora.max_output_tokens)
    assert [model.answerer.decode(ids) for ids in outputs] == [predicted[pid].output for pid in problems]


def test_the_answer_is_the_most_probable_choice(asked: tuple[Config, Path], model: Model) -> None:
    problems = problems_of(asked[0])
    assert len({len(problem.choices) for problem in problems}) > 1
    for problem, answer in zip(problems, model.answer(problems), strict=True):
        assert answer.probability == max(answer.probabilities)
        assert answer.text == problem.choices[answer.index] == problem.choices["ABCD".index(answer.letter)]
        example = examples_of(
            {problem.pid: problem}, [problem.pid], "QCMG-A", asked[0], {problem.pid: answer.rationale}
        )[problem.pid]
        found = []
        for letter in "ABCD"[: len(problem.choices)]:
            target = replace(example, target=f"The answer is ({letter}).")
            ids = torch.tensor(model.answerer.encode_targets([target], max_tokens=32))
            with torch.no_grad():
                logprobs = model.answerer.token_logprobs(
                    model.answerer.encode([example]), ids, [ids.shape[1]]
                )
            found.append(float(logprobs.exp().prod()))
        assert answer.probabilities == pytest.approx([p / sum(found) for p in found], rel=1e-3)


def test_asking_one_by_one_gives_what_a_batch_gives(asked: tuple[Config, Path], model: Model) -> None:
    problems = problems_of(asked[0])
    questions = [
        {"question": p.question, "choices": p.choices, "hint": p.hint, "caption": p.caption, "image": p.image}
        for p in problems
    ]
    together = model.ask_many(questions)
    for question, expected in zip(questions, together, strict=True):
        alone = model.ask(**question)
        assert alone == replace(expected, probabilities=alone.probabilities)
        assert alone.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    assert together == model.answer(problems)


def test_answers_depend_on_the_image(asked: tuple[Config, Path], model: Model) -> None:
    pictured = [problem for problem in problems_of(asked[0]) if problem.image]
    text = {"question": pictured[0].question, "choices": pictured[0].choices}
    one, other = (model.ask(**text, image=problem.image).probabilities for problem in pictured[:2])
    assert not np.allclose(one, other, atol=1e-7)
    assert not np.allclose(one, model.ask(**text).probabilities, atol=1e-7)


def test_answers_are_frozen(model: Model) -> None:
    answer = model.ask("Which is a plant?", ["a fern", "a rock"])
    with pytest.raises(FrozenInstanceError):
        answer.letter = "B"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"question": "Which?", "choices": []}, 'field "choices" must be a non-empty list of texts.'),
        ({"question": "Which?", "choices": "fern"}, 'field "choices" must be a non-empty list of texts.'),
        ({"question": "Which?", "choices": ["a"] * 27}, "at most 26"),
        ({"choices": ["a"]}, 'field "question" is missing; add it.'),
        ({"question": "Which?", "choices": ["a"], "image": "absent.png"}, "There is no image absent.png"),
        ({"question": "Which?", "choices": ["a"], "imgae": "a.png"}, 'field "imgae" is unknown'),
    ],
)
def test_impossible_questions_are_refused(model: Model, question: dict, message: str) -> None:
    with pytest.raises(AresError, match=message):
        model.ask_many([question])


def test_device_that_is_not_there_is_refused(asked: tuple[Config, Path]) -> None:
    _, root = asked
    for device in ("cuda:99", "gpu"):
        with pytest.raises(
            AresError, match=rf"device={device} cannot be used \(.*\); leave it out, or give device=cpu"
        ):
            ares.load(root, device=device)


def test_a_file_that_is_no_image_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_text("no picture")
    with pytest.raises(AresError, match=r"map\.png is not a readable image"):
        model.ask("Which?", ["a", "b"], image=tmp_path / "map.png")


def test_runs_of_other_features_are_refused(asked: tuple[Config, Path], tmp_path: Path) -> None:
    config, root = asked
    if config.model.reads_images:
        pytest.skip("reads images itself")
    text = (root / "config.yaml").read_text()
    broken = tmp_path / "run"
    broken.mkdir()
    steps = read_json(root / "manifest.json")
    for step in steps["steps"].values():
        for artefact in [*step["inputs"].values(), *step["outputs"].values()]:
            artefact["path"] = str(root / artefact["path"])
    write_json(broken / "manifest.json", steps)
    (broken / "config.yaml").write_text(text.replace("patch_size: 16", "patch_size: 32"))
    with pytest.raises(AresError, match="trained on image features of 784 numbers"):
        ares.load(broken)
    (broken / "config.yaml").write_text(text.replace("ares.models.t5.policy.T5Policy", "ares.of.old"))
    with pytest.raises(AresError, match=r"ares\.of\.old is no policy of this version"):
        ares.load(broken)
    (broken / "config.yaml").write_text(text.replace("ares.vision.encoders.PatchEncoder", "os.system"))
    with pytest.raises(AresError, match=r"os\.system is no image encoder"):
        ares.load(broken)


def test_the_adapter_is_that_of_the_last_policy(asked: tuple[Config, Path], tmp_path: Path) -> None:
    root = asked[1]
    steps = read_json(root / "manifest.json")
    (tmp_path / "config.yaml").write_bytes((root / "config.yaml").read_bytes())
    write_json(tmp_path / "manifest.json", steps)
    found = answering_of(tmp_path)
    assert (found.policy, found.adapter) == (tmp_path / "rationale/policy", tmp_path / "final/lora/adapter")
    entry = read_manifest(root)["final/lora"]
    other = replace(entry.inputs["policy"], sha256="of the policy before RL")
    write_entry(tmp_path, "final/other", replace(entry, inputs={**entry.inputs, "policy": other}))
    assert answering_of(tmp_path).adapter == found.adapter
    policy = {"policy": replace(entry.outputs["adapter"], path="round-1/sft/policy", sha256="newer")}
    write_entry(tmp_path, "round-1/sft", replace(entry, outputs=policy))
    with pytest.raises(AresError, match="no adapter that answers with the help of its last policy"):
        answering_of(tmp_path)


def test_the_runs_own_problems_are_scored_by_its_teacher(asked: tuple[Config, Path]) -> None:
    config, root = asked
    scorer = scorer_of(answering_of(root))
    problem = problems_of(config)[0]
    copy = replace(problem, pid="1")
    assert scorer.known(copy) == problem
    assert scorer.scores(problem, sentences_of(problem.solution))[-1] == 1.0
    assert scorer.scores(make_problem(), ["A fern is a plant."]) is None


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match="is neither a run nor an exported model"):
        ares.load(tmp_path)
    write_json(tmp_path / "manifest.json", {"format": 2, "steps": {}})
    with pytest.raises(AresError, match="has no adapter"):
        ares.load(tmp_path)
