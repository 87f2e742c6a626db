# The Python of env/, which sh scripts/setup.sh makes, runs everything here.
PYTHON := env/bin/python
# Folders of tests that run programs from end to end, or train, run and export whole networks.
LONG := program utils study training execution deploy

.DEFAULT_GOAL := help
.PHONY: help setup quick test check format types cover figures

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name what; do printf '%-8s %s\n' "$$name" "$$what"; done

setup: ## make env/ with the tools of development
	sh scripts/setup.sh --dev

quick: ## run the tests of the rooms that take seconds, no program from end to end
	sh scripts/test.sh $(LONG:%=--ignore=tests/%_tests)

test: ## run the whole test suite
	sh scripts/test.sh

check: setup ## check style and run the whole test suite
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	sh scripts/test.sh

format: setup ## put every file into the common format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: setup ## check types
	$(PYTHON) -m mypy

cover: ## run the whole test suite and print the lines of spos that it does not run
	sh scripts/test.sh --cov=spos --cov-report=term-missing:skip-covered

figures: setup ## draw the images of the documentation again
	$(PYTHON) -m utils.plot supernet --use-se --last-conv-after-pooling --output images/supernet.png
	$(PYTHON) -m utils.plot blocks --use-se --output images/choice_blocks.png
	$(PYTHON) -m utils.plot warm-up --output images/warm_up.png
	$(PYTHON) -m utils.plot distribution --use-se --last-conv-after-pooling --output images/distribution.png
	$(PYTHON) -m utils.plot coverage --use-se --last-conv-after-pooling --output images/sampling_coverage.png
	$(PYTHON) -m utils.plot rooms --output images/rooms.png
	$(PYTHON) -m utils.plot latency logs/latency-float32 logs/latency-int8 --output images/latency.png
	$(PYTHON) -m utils.plot animation logs/study-cifar10/search-0/history.jsonl --output images/search_supernet.gif
	$(PYTHON) -m utils.study logs/study-cifar10
