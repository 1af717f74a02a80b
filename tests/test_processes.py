"""What only real processes show: two of them training together, and one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from test_train import SMALL, assert_equal, weights

SCRIPT = Path(__file__).parents[1] / "scripts/train.py"


def command(photos, *arguments):
    return [sys.executable, str(SCRIPT), *SMALL, f"data.root={photos}", *arguments]


def run(folder, photos, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command(photos, *arguments),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_two_processes_take_the_step_of_one_with_twice_the_batch(tmp_path, noise_photos):
    step = [
        "trainer.max_steps=1",
        "trainer.precision=32",  # bfloat16 rounds a batch of two otherwise than two of one
        "schedule=constant",
        "optimizer._target_=torch.optim.SGD",
        "optimizer.lr=1e-3",
        "run.module.jitter_px=0",  # drawn by each process for itself
    ]
    run(tmp_path, noise_photos, *step, "data.batch_size=4", "hydra.run.dir=one")
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    run(tmp_path, noise_photos, *step, *two, "data.batch_size=2", "hydra.run.dir=two")
    one, two = (weights(tmp_path / f"{n}/starry_night.safetensors") for n in ("one", "two"))
    for name in one:  # steps are up to 0.4
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-5)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, noise_photos):
    steps = [
        "trainer.max_steps=60",
        "callbacks.checkpoint.train_time_interval=null",
        "callbacks.checkpoint.every_n_train_steps=7",
    ]
    run(tmp_path, noise_photos, *steps, "hydra.run.dir=whole")
    process = subprocess.Popen(
        command(noise_photos, *steps, "hydra.run.dir=killed"),
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "killed/last.ckpt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/starry_night.safetensors").exists(), "it ended before the kill"
    run(tmp_path, noise_photos, *steps, "hydra.run.dir=rest", "resume=killed")
    whole, rest = (weights(tmp_path / f"{n}/starry_night.safetensors") for n in ("whole", "rest"))
    assert_equal(whole, rest)
