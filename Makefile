.PHONY: setup check test format

setup:
	sh scripts/setup.sh --dev

check: setup
	env/bin/python -m ruff check .
	env/bin/python -m ruff format --check .
	sh scripts/test.sh

test:
	sh scripts/test.sh

format: setup
	env/bin/python -m ruff check --fix .
	env/bin/python -m ruff format .
