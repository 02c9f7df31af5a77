PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out

ANDROID := mobile_demo/android
ASSETS := $(ANDROID)/app/src/main/assets

.PHONY: setup demo test test-more matrix lint docs benchmarks ort wheel clean app-assets apk pictures

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

# Parity of every method, task, backbone and target; goes on where it was interrupted and writes
# docs/matrix.md. FILTER="--methods far --targets onnx" takes a part of it.
matrix: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=tests $(BIN)/python -m matrix $(FILTER)

# Tests that make test leaves out.
test-more: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m matrix

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy exporter runtime_py
	$(BIN)/python -m effine.export.docs --check
	$(BIN)/effine bench report docs/results/*.jsonl --check
	PYTHONPATH=tests $(BIN)/python -m matrix --check

docs: setup
	$(BIN)/python -m effine.export.docs

benchmarks: setup
	$(BIN)/effine bench report docs/results/*.jsonl

# ONNX Runtime training ended at 1.19.2: wheels for Python 3.8 to 3.12, NumPy 1, and an ONNX of its time.
ort: .ort/.installed

.ort/.installed:
	$(PYTHON) -m venv .ort
	.ort/bin/pip install --quiet onnxruntime-training-cpu==1.19.2 onnx==1.16.2 'numpy<2'
	touch $@

# The demo app: its model, an APK without the runtime's native libraries, and pictures of it.
app-assets: $(ASSETS)/effine/bundle.json

$(ASSETS)/effine/bundle.json: | setup
	mkdir -p $(OUT) $(ASSETS)
	$(BIN)/effine-export --method spartan --spare-labels 5 \
		--out $(OUT)/intents.effine --force
	$(BIN)/effine parity $(OUT)/intents.effine
	$(BIN)/effine pack $(OUT)/intents.effine --android $(ASSETS)
	cp exporter/effine/export/samples/intents.train.jsonl $(ASSETS)/samples.jsonl

apk: app-assets
	$(BIN)/python $(ANDROID)/demo_app.py apk $(OUT)/effine-demo.apk

pictures: app-assets
	$(BIN)/python $(ANDROID)/demo_app.py pictures docs/android

wheel: setup
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist $(OUT)
