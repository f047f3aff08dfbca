# Run `make help` for what there is. Every target prepares what it needs.
.DEFAULT_GOAL := help
.PHONY: help up down test test-all lint unit molecule verify bench environment requirements

export PATH := $(CURDIR)/.venv/bin:$(PATH)
NAME ?=
ENVIRONMENT ?= staging

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

up: ## staging from nothing: tools, secrets, containers, the data tier
	@bin/up

down: ## remove staging's containers and network, nothing else
	@bin/setup hosts
	@ansible-playbook molecule/shared/destroy.yml -i staging

test: ## everything that proves it: lint, unit tests, molecule
	@bin/setup dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line lint unit
	@$(MAKE) --no-print-directory molecule

test-all: export CHAT_WHOLE = yes
test-all: test ## the same with every fault of a game day, the runbooks, a cluster's beginning, on both Debians (some five hours more)
	CHAT_RELEASE=bookworm molecule test --scenario-name cluster
	for release in trixie bookworm; do \
	  CHAT_RELEASE=$$release pytest --quiet --capture=no tests/cluster/test_adoption.py || exit 1; done

lint: ## ansible-lint, yamllint, ruff, mypy, shellcheck, squawk, sqlfluff
	@bin/setup dev
	ruff check .
	ruff format --check .
	mypy
	yamllint --strict .
	shellcheck bin/setup bin/up bin/environment bin/etcd bin/redis bin/secret molecule/shared/image.sh .ci/run \
	  roles/packages/files/await_redis_masters.sh
	squawk migrations/[0-9]*.sql
	sqlfluff lint --nocolor --disable-progress-bar migrations
	ansible-lint --offline

unit: ## what needs no host
	@bin/setup dev
	pytest --quiet --numprocesses=2 -m "not tier" tests/bin tests/chatdata tests/docs/test_runbooks.py tests/filter_plugins \
	  tests/module_utils tests/playbooks tests/roles tests/molecule/test_scenarios.py tests/test_arguments.py \
	  tests/test_connecting.py tests/test_sanity.py tests/library/test_etcd_auth.py tests/library/test_etcd_member.py \
	  tests/library/test_host_fits.py tests/library/test_kernel_live.py tests/library/test_patroni_cluster.py \
	  tests/library/test_redis_live.py tests/library/test_run_lock.py tests/library/test_sentinel_forget.py \
	  tests/library/test_sentinel_live.py tests/library/test_service_current.py

molecule: ## both Debians: bare, killed, converged, changed by hand, verified; a cluster; the migration module; the runbook
	@bin/setup dev
	@mkdir -p .cache && : > .cache/failed.txt
	molecule test --all || { tail -n 25 .cache/failed.txt; exit 1; }

verify: ## check ENVIRONMENT (staging) as its applications and operators see it; changes nothing
	@bin/setup
	@ansible-playbook playbooks/verify.yml -i $(ENVIRONMENT)

bench: ## figures of the play, PostgreSQL's settings, the migration module, Redis and chatdata, on a fresh Debian 13 host
	@bin/setup dev
	python benchmarks/bench.py

environment: ## write the inventory of a new environment: make environment NAME=production
	@bin/environment "$(NAME)"

requirements: ## compile requirements*.txt from requirements*.in, and the locks of the tests' packages of Node
	@bin/setup dev
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make requirements' requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make requirements' requirements-dev.in -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make requirements' tests/clients/requirements.in -o tests/clients/requirements.txt
	cd tests/clients && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	cd tests/typescript && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
