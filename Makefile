# make demo: train The Great Wave for ten minutes and paint photos.   make test: the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUDGET ?= 10m
DEMO := outputs/demo
PAINTINGS ?= outputs/paintings
PHOTOS ?= outputs/photos
PHOTO := src/allaprima/assets/photos/val

.PHONY: demo test check benchmark artefacts checkpoints gallery clean

demo: $(INSTALLED)
	$(BIN)/python scripts/train.py style=wave experiment=laptop budget=$(BUDGET) hydra.run.dir=$(DEMO) overwrite=true
	$(BIN)/python scripts/stylize.py $(PHOTO) -c $(DEMO)/wave.safetensors -o $(DEMO)/painted --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

benchmark: $(INSTALLED)
	$(BIN)/python scripts/benchmark.py --output outputs/benchmark/figures.json --page docs/performance.md

artefacts: $(INSTALLED)
	$(BIN)/python -m benchmarks.show_artefacts

checkpoints: $(INSTALLED)
	$(BIN)/python -m benchmarks.shipped --paintings $(PAINTINGS) --photos $(PHOTOS)
	$(BIN)/python -m benchmarks.beside_optimizer --paintings $(PAINTINGS)

gallery: $(INSTALLED)
	$(BIN)/python -m benchmarks.gallery

clean:
	rm -rf $(VENV) outputs

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
