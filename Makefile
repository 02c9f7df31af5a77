PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out

.PHONY: setup demo test android-test lint docs wheel clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

demo: setup
	mkdir -p $(OUT)
	$(BIN)/effine-export --method spartan --out $(OUT)/spartan.effine --force
	$(BIN)/effine parity $(OUT)/spartan.effine
	$(BIN)/effine train $(OUT)/spartan.effine --force --plot $(OUT)/learning-curve.png \
		--data exporter/effine/export/samples/intents.train.jsonl \
		--eval exporter/effine/export/samples/intents.dev.jsonl
	$(BIN)/effine predict $(OUT)/spartan.effine "wake me when the pasta is done"

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup

android-test: setup
	$(BIN)/python -m pytest tests/android

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy exporter runtime_py
	$(BIN)/python -m effine.export.docs --check

docs: setup
	$(BIN)/python -m effine.export.docs

wheel: setup
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist $(OUT)
