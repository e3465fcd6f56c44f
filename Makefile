# `make quickstart` and `make test` set everything up by themselves; Python 3.11 to 3.13 is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test unit lint docs slow benchmarks clean

quickstart: $(VENV)/installed
	$(BIN)/regraft train experiment=quickstart
	@echo
	@echo "Next, after 'source $(VENV)/bin/activate':"
	@echo "  regraft list models                                   what can be chosen"
	@echo "  regraft train data=folder data.root=YOUR_PHOTOS       your own photos: one subfolder a class"
	@echo "  regraft train data=digits freezing=lp_ft              thaw the backbone halfway"
	@echo "  regraft train -m optimizer.lr=1e-3,1e-2 freezing=linear_probe,lp_ft"
	@echo "  regraft eval ckpt_path=outputs/quickstart/RUN         the run's test metrics again"

# mypy uses one core, so the tests run beside it.
test: $(VENV)/installed-test
	$(MAKE) --no-print-directory --jobs 2 lint unit

unit: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-test
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto -m slow

# make benchmarks CIFAR=PATH_OF_CIFAR10 PHOTOS=PATH_OF_PHOTOS writes the tables of speed into benchmarks/RESULTS.md
benchmarks: $(VENV)/installed-test
	$(BIN)/python benchmarks/speed.py --cifar $(CIFAR) --photos $(PHOTOS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --editable '.[test]'
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) dist build docs/_build .mypy_cache .ruff_cache .pytest_cache
