"""Encoders of pictures: their heads, what is saved, what is frozen, and whole runs on pictures through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from burnish.data.batching import collate
from burnish.data.dialog import Frame, as_task
from burnish.data.render_heads import HeadRenderer, HeadSpec
from burnish.errors import ModelError
from burnish.finish import measured
from burnish.finish_classes import by_class
from burnish.finish_pictures import swapped, worst_rows
from burnish.models import Model, adapt, forward, load_model, restore_weights, save_model
from burnish.models.fast import keep
from burnish.models.outline import outline
from burnish.pictures import BLANK, as_part, decode
from burnish.scores import SCORES
from burnish.techniques import TECHNIQUES
from burnish.types import Answer, Batch, Expected, Labelled, Message, Origin, Sequence, Task, content
from cli_runs import cli
from loop import snapshot
from picture_files import KINDS, drawn, make_encoder, write_pictures, write_table
from stub import cpu, make_stub

SPEC = HeadSpec("picture", ("cross", "disc"))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: make_encoder(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Labelled]:
    folder = write_pictures(tmp_path_factory.mktemp("pictures"), 3)
    parts = [as_part(path) for path in sorted(folder.rglob("*.png"))]
    return [Labelled(content=(part,), labels=(Path(part.path).parent.name,), origin=Origin(part.path)) for part in parts]


def load(folder: Path, *, seed: int = 0, spec: HeadSpec = SPEC) -> Model:
    torch.manual_seed(seed)
    return load_model(str(folder), cpu(), head=spec)


def reader_of(model: Model) -> HeadRenderer:
    assert model.spec is not None
    return HeadRenderer(model.tokenizer, 1000, Frame(), model.spec, model.encoder)


def sequences(model: Model, rows: list[Labelled]) -> list[Sequence]:
    return [one for row in rows for one in reader_of(model).sequences(row)]


def batch_of(model: Model, found: list[Sequence]) -> Batch:
    return collate(found, packing=False, pad_id=0, device="cpu", mask=True)


def scores_of(model: Model, found: list[Sequence]) -> torch.Tensor:
    with torch.no_grad():
        scores_NC = forward(model, batch_of(model, found), ("scores",)).scores_NC
    assert scores_NC is not None
    return scores_NC


def as_the_ecosystem_reads(network: Any, folder: Path, rows: list[Labelled]) -> torch.Tensor:
    """The scores that a network gives to pictures prepared by the processor that lies beside it."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil")
    pictures = [decode(row.content[0]) for row in rows]  # type: ignore[arg-type]
    with torch.no_grad():
        return network.eval()(**processor(images=pictures, return_tensors="pt")).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("technique", ["full", "lora", "selective"])
def test_what_is_saved_opens_elsewhere_and_says_the_same(
    encoders: dict[str, Path], rows: list[Labelled], tmp_path: Path, kind: str, technique: str
) -> None:
    """One step of each technique on each shape; then the ecosystem's own loader, and our own restoring, bit for bit."""
    from transformers import AutoModelForImageClassification

    model = load(encoders[kind])
    options = {"head": True} | ({"last_layers": 1} if kind != "convnext" else {})
    adapt(model, TECHNIQUES[technique], options if technique == "selective" else {})
    found = sequences(model, rows)
    moving = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    torch.nn.functional.cross_entropy(
        forward(model, batch_of(model, found), ("scores",)).scores_NC, torch.tensor([0, 0, 0, 1, 1, 1])
    ).backward()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in moving:
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad.sign()
    before = scores_of(model, found)
    save_model(model, tmp_path / "model")
    if technique == "lora":
        from peft import PeftModel

        torch.manual_seed(5)
        base = AutoModelForImageClassification.from_pretrained(str(encoders[kind]), num_labels=2)
        opened = PeftModel.from_pretrained(base, str(tmp_path / "model"))
    else:
        opened = AutoModelForImageClassification.from_pretrained(str(tmp_path / "model"))
        assert opened.config.id2label == {0: "cross", 1: "disc"}
    torch.testing.assert_close(as_the_ecosystem_reads(opened, tmp_path / "model", rows), before, atol=1e-5, rtol=1e-4)
    again = load_model(str(tmp_path / "model"), cpu())
    torch.testing.assert_close(scores_of(again, found), before, atol=1e-6, rtol=1e-5)
    other = load(encoders[kind], seed=9)
    adapt(other, TECHNIQUES[technique], {"head": True} if technique == "selective" else {})
    restore_weights(other, tmp_path / "model")
    theirs, ours = snapshot(other), snapshot(model)
    moved = [name for name, parameter in model.network.named_parameters() if parameter.requires_grad]
    assert moved and all(torch.equal(theirs[name], ours[name]) for name in moved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_read_alike_alone_and_in_a_batch(encoders: dict[str, Path], rows: list[Labelled], kind: str) -> None:
    model = load(encoders[kind])
    found = sequences(model, rows)
    assert all(one.length == model.eye.positions for one in found)  # type: ignore[union-attr]
    together = scores_of(model, found)
    torch.testing.assert_close(together, torch.cat([scores_of(model, [one]) for one in found]), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(together[0], together[1]), "the picture matters"
    sizes = outline(model.plain().config, TECHNIQUES["full"], {}, head=SPEC)  # fmt: skip
    assert sizes.parameters == sum(parameter.numel() for parameter in model.network.parameters())


@pytest.mark.parametrize(("kind", "kept"), [("vit", True), ("siglip", True), ("dinov2", True), ("convnext", False)])
def test_a_frozen_encoder_is_run_once_for_each_picture(
    encoders: dict[str, Path], rows: list[Labelled], kind: str, kept: bool
) -> None:
    """What it says is kept, the same scores come of it, and no picture is opened again; a network of filters runs as it stands."""
    model = load(encoders[kind])
    adapt(model, TECHNIQUES["selective"], {"head": True})
    found = sequences(model, rows)
    units, told = keep(model, [[one] for one in found], limit=10**7, tokens=4096, needs=("scores",))
    assert all((one.kept is not None) == kept for unit in units for one in unit), told
    before = scores_of(model, found)
    if kept:
        model.eye.kept.clear()  # type: ignore[union-attr]
        gone = [one for unit in units for one in unit]
        for one in gone:
            assert one.images
        found_now = scores_of(model, gone)
        torch.testing.assert_close(found_now, before, atol=1e-5, rtol=1e-4)
        assert not model.eye.kept, "pictures whose states are known are not opened"  # type: ignore[union-attr]


def test_batch_normalisation_does_not_make_rows_change_each_other(tmp_path: Path, rows: list[Labelled]) -> None:
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(str(tmp_path / "resnet"))
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(str(tmp_path / "resnet"))
    model = load(tmp_path / "resnet")
    model.network.train()
    found = sequences(model, rows)
    torch.testing.assert_close(scores_of(model, found), torch.cat([scores_of(model, [one]) for one in found]), atol=1e-5, rtol=1e-4)
    assert any("Batch normalisation" in note for note in model.notes)


def test_a_folder_without_its_processor_or_with_a_changing_size_is_refused(encoders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(encoders["vit"], tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        load(tmp_path / "bare")
    settings = json.loads((encoders["vit"] / "preprocessor_config.json").read_text())
    shutil.copytree(encoders["vit"], tmp_path / "loose")
    (tmp_path / "loose" / "preprocessor_config.json").write_text(json.dumps({**settings, "do_resize": False}))
    with pytest.raises(ModelError, match="pictures of different shapes"):
        load(tmp_path / "loose")


# ------------------------------------------------------------------------------------------------------------------------ guards, tables


def task_of(row: Labelled, *choices: str) -> Task:
    return as_task(row, Frame(choices=choices or ("cross", "disc")))


def test_swapped_pictures_are_all_those_of_other_rows(rows: list[Labelled]) -> None:
    tasks = [task_of(row) for row in rows]
    others = swapped(tasks, seed=3)
    before, after = ([one.messages[-1].content[0].sha256 for one in found] for found in (tasks, others))  # type: ignore[union-attr]
    assert sorted(before) == sorted(after) and all(first != second for first, second in zip(before, after, strict=True))
    assert [one.expected for one in others] == [one.expected for one in tasks]
    assert decode(BLANK).getextrema() == ((128, 128),) * 3


def test_label_by_label_says_who_is_taken_for_whom() -> None:
    labels, said = "aaabbc", "aabbb?"
    expected = [Expected(texts=(one,), labels=(one,), choices=("a", "b", "c")) for one in labels]
    tasks = [Task(messages=(Message("user", content("x")),), expected=one, origin=Origin("r")) for one in expected]
    found = by_class({"tuned": [Answer(one) for one in said]}, tasks)["classes"]
    assert found["confusion"] == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]
    assert found["rows"][1] == {"label": "b", "rows": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8)}
    assert found["rows"][2]["precision"] is None and found["rows"][2]["recall"] == 0.0


def test_a_model_that_ignores_its_pictures_is_told_first(rows: list[Labelled]) -> None:
    """Pain 23: one that answers the same without pictures has learned how often each label comes, however good that looks."""
    tasks = [replace(task_of(row), group=f"{number}") for number, row in enumerate([*rows] * 4)]
    right = [Answer(task.expected.labels[0]) for task in tasks]  # type: ignore[index]
    same = [Answer("disc") for _ in tasks]
    scores = {"accuracy": SCORES["accuracy"]}
    blind = measured(tasks, {"base": same, "tuned": same, "blanked": same, "swapped": same}, scores)
    assert blind["verdict"].startswith("It may be ignoring the pictures: accuracy 0.500 with them and 0.500 with blanked ones")
    seeing = measured(tasks, {"base": same, "tuned": right, "blanked": same, "swapped": same}, scores)
    assert "ignoring" not in seeing["verdict"] and "blanked pictures is behind" in seeing["verdict"]


def test_what_is_lost_by_making_pictures_smaller_is_told(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 23: pictures that are made smaller without a word lose what they were taken for."""
    monkeypatch.chdir(tmp_path)
    for n in range(6):
        drawn("disc" if n % 2 else "cross", n, side=112).resize((224, 112)).save(tmp_path / f"{n}.png")
    (tmp_path / "rows.csv").write_text("image,label\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(6)))
    text = f'model = {json.dumps(str(encoders["vit"]))}\ndata = {{source = "rows.csv", dev_share = 0, test_share = 0}}\nobjective = "classification"\n'
    said = " ".join(cli("check", str(run_file(tmp_path, text))).out.split())
    assert "6 pictures, from 224 x 112 to 224 x 112 pixels" in said, said
    assert "The model sees 28 x 28, 12 % of the middle one's pixels along a side: finer details are gone" in said


def test_the_worst_rows_are_shown_first(rows: list[Labelled]) -> None:
    shown: list[str] = []

    def look(part: Any) -> PIL.Image.Image:
        shown.append(part.path)
        return decode(part)

    chances = [0.9, 0.3, 0.1, 0.8, 0.45, 0.7]
    answers = [Answer(row.labels[0], chances={row.labels[0]: chance}) for row, chance in zip(rows, chances, strict=True)]
    assert worst_rows(answers, [task_of(row) for row in rows], look) is not None
    assert shown == [rows[2].origin.file, rows[1].origin.file, rows[4].origin.file]
    assert worst_rows([Answer("x")] * 6, [task_of(row) for row in rows], look) is None


def test_the_scores_of_probabilities_and_grades_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score, roc_auc_score, roc_curve

    draw = np.random.default_rng(0)
    target, chance = draw.integers(0, 3, 200), draw.dirichlet([1, 1, 1], 200)
    chance[np.arange(200), target] += 0.3
    chance /= chance.sum(1, keepdims=True)
    expected = [Expected(texts=(f"{one}",), labels=(f"{one}",), choices=("0", "1", "2")) for one in target]
    tasks = [Task(messages=(Message("user", content("x")),), expected=one, origin=Origin("r")) for one in expected]
    answers = [Answer(f"{row.argmax()}", chances={f"{k}": float(row[k]) for k in range(3)}) for row in chance]

    def value(name: str, **options: Any) -> float:
        return float(SCORES[name].combine(SCORES[name].statistics(answers, tasks, **options).sum(0)))

    assert value("auroc") == pytest.approx(roc_auc_score(target, chance, multi_class="ovr"))
    assert value("auroc", positive="1") == pytest.approx(roc_auc_score(target == 1, chance[:, 1]))
    assert value("weighted_kappa") == pytest.approx(cohen_kappa_score(target, chance.argmax(1), weights="quadratic"))
    false, true, _ = roc_curve(target == 2, chance[:, 2], drop_intermediate=False)
    for specificity in (0.8, 0.95):
        assert value("sensitivity", positive="2", specificity=specificity) == pytest.approx(
            true[false <= 1 - specificity + 1e-9].max()
        )


# -------------------------------------------------------------------------------------------------------------- through the command line


def run_file(folder: Path, text: str) -> Path:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return folder / "run.toml"


def test_a_run_on_pictures_from_random_weights_to_its_guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pain 23: a classifier that looks at its pictures is better than without them, and the report says so with figures and sheets."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "shapes", 50)
    file = run_file(
        tmp_path,
        'output = "out"\ndata = {source = "shapes", dev_share = 0.1, test_share = 0.3}\nobjective = "classification"\n'
        'score = ["auroc", {name = "sensitivity", positive = "disc"}, "accuracy"]\n'
        '[model]\ninit = "vit"\nhidden = 64\nheads = 2\nlayers = 2\nfeed_forward = 128\nimage = 32\npatch = 4\n'
        "[train]\nepochs = 8\nbatch = 16\n",
    )
    checked = cli("check", str(file), "--json")
    report = json.loads(checked.out)
    assert report["pictures"]["median"] == [32, 32] and report["pictures"]["positions"] == 65, checked
    done = cli("pretrain", str(file))
    assert done.code == 0, done
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = found["scores"]["auroc"]
    assert {"base", "tuned", "blanked", "swapped", "baseline"} <= scores.keys()
    assert scores["blanked"]["mean"] == pytest.approx(0.5) and scores["tuned"]["mean"] > scores["swapped"]["mean"]
    assert found["baseline"]["name"].startswith("logistic regression on pixels")
    assert {row["label"] for row in found["classes"]["rows"]} == {"cross", "disc"}
    with PIL.Image.open(tmp_path / "out" / "contact-sheet.jpg") as page_of_pictures:
        assert page_of_pictures.size[0] == 8 * 112
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and "Label by label" in page and "img-src data:" in page
    again = cli("evaluate", "out", "--json")
    assert json.loads(again.out)["scores"]["auroc"]["tuned"] == scores["tuned"], again
    said = json.loads(cli("generate", "out", "--data", "shapes", "--limit", "3", "--json").out)["answers"]
    assert {one["text"] for one in said} <= {"cross", "disc"}


def test_a_head_on_a_frozen_encoder_reads_each_picture_once(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 23: the same seed gives the same verdict; and pictures beside texts would be ignored, so such rows are refused."""
    monkeypatch.chdir(tmp_path)
    file = write_table(tmp_path, 20)
    text = (
        f'output = "out"\nmodel = {json.dumps(str(encoders["dinov2"]))}\ndata = {{source = "rows.jsonl", dev_share = 0, test_share = 0.25}}\n'
        'objective = "classification"\ntechnique = {name = "selective", head = true}\ntrain = {epochs = 3, batch = 8}\n'
    )
    done = cli("tune", str(run_file(tmp_path, text)))
    assert done.code == 0 and "all 2 frozen layers say is kept of" in done.out + done.err, done
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"blanked", "swapped", "base", "tuned"} <= found["scores"]["accuracy"].keys()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, "text": "a photo"}) + "\n" for line in lines))
    beside = cli("check", str(run_file(tmp_path, text)), "--json")
    assert (
        beside.code == 2
        and "which this model would ignore" in beside.out + beside.err
        and "rows.jsonl:1" in beside.out + beside.err
    )


def test_a_model_and_rows_that_do_not_fit_are_told_before_weights_are_read(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 23: pictures that a model of texts would silently ignore, and the other way round."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, 6)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": f"row {n}", "label": "ab"[n % 2]}) + "\n" for n in range(12)))
    stub, vit = json.dumps(str(make_stub(tmp_path / "stub"))), json.dumps(str(encoders["vit"]))
    monkeypatch.setattr("burnish.prepare_model.load_model", lambda *given, **more: pytest.fail("weights were read"))
    head = 'objective = "classification"\n'
    cases = {
        f'model = {stub}\ndata = "rows.jsonl"\n{head}': "the model reads text alone",
        f'model = {stub}\ndata = "rows.jsonl"\n': "the model reads text alone",
        f'model = {vit}\ndata = "texts.jsonl"\n{head}': "holds 0 pictures, and the model reads one and nothing else",
        f'model = {vit}\ndata = "texts.jsonl"\n': "reads pictures and tells labels or a number",
        f'model = {vit}\ndata = {{source = "rows.jsonl", prompt = "Look: {{text}}"}}\n{head}': "reads no text around them",
        f'model = {vit}\ndata = "rows.jsonl"\nscore = "weighted_kappa"\n{head}': "whose order nobody knows",
        f'model = {stub}\ndata = "texts.jsonl"\nscore = "auroc"\n': "finds nothing to compare with",
        f'model = {{init = "vit", image = 30, patch = 7}}\ndata = "rows.jsonl"\n{head}': "30 pixels (model.image) are no multiple of 7; write 6",
        f'model = {{init = "vit", key_heads = 1}}\ndata = "rows.jsonl"\n{head}': "a fresh vit network has no such size",
        f'model = {vit}\ndata = {{source = "rows.jsonl", max_length = 8}}\n{head}': "as many positions as the model makes of one",
        f'model = {{name = {vit}, add_terms = ["x"]}}\ndata = "rows.jsonl"\n{head}': "reads pictures and no terms",
        f'model = {{init = "llama", patch = 2}}\ndata = "rows.jsonl"\n{head}': "a fresh llama network has no such size",
    }
    for text, words in cases.items():
        said = cli("tune", str(run_file(tmp_path, text + 'output = "out"\n')))
        assert said.code == 2 and words in " ".join((said.out + said.err).split()), (text, said)


def test_a_number_on_a_picture_and_several_labels(
    encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = []
    for n in range(24):
        drawn("disc" if n % 2 else "cross", n).save(tmp_path / f"{n}.png")
        rows.append({"image": f"{n}.png", "number": float(n % 5), "label": ["even"] * (n % 2 == 0) + ["low"] * (n < 12)})
    (tmp_path / "n.jsonl").write_text("".join(json.dumps({"image": row["image"], "number": row["number"]}) + "\n" for row in rows))
    (tmp_path / "l.jsonl").write_text("".join(json.dumps({"image": row["image"], "label": row["label"]}) + "\n" for row in rows))
    for name, objective, score in (("n", "regression", "absolute_error"), ("l", "classification", "auroc")):
        text = f'output = "out-{name}"\nmodel = {json.dumps(str(encoders["vit"]))}\n'
        text += f'data = {{source = "{name}.jsonl", format = "pictures", dev_share = 0, test_share = 0.3}}\n'
        text += f'objective = "{objective}"\ntechnique = "full"\ntrain = {{steps = 3, batch = 8}}\n'
        done = cli("tune", str(run_file(tmp_path, text)))
        assert done.code == 0, done
        found = json.loads((tmp_path / f"out-{name}" / "report.json").read_text())["scores"][score]
        assert {"tuned", "baseline", "blanked", "swapped"} <= found.keys()
