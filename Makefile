# `make help` lists everything. Works with GNU make 3.81 and newer.

# PYTHON=/path/to/python3.13 chooses the interpreter of .venv; without it local/setup.sh finds one.
PYTHON ?=
# Which environment of infra/environments `plan`, `apply` and `destroy` are about.
ENV ?= local
# Which zips `package` builds: local (this interpreter) or aws (the Lambda runtime, arm64).
TARGET ?= local

export PYTHON
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
RUN := $(BIN)/python -m
LOCAL := $(RUN) local
PYTEST := $(BIN)/pytest --quiet

# Terraform stops at a configuration file that is named but missing.
ifeq ($(wildcard $(TF_CLI_CONFIG_FILE)),)
unexport TF_CLI_CONFIG_FILE
endif

.DEFAULT_GOAL := help
.PHONY: help \
  up down status logs \
  key keys key-update rotate revoke usage circuits queues dead-letters redrive \
  setup format check test package bench bench-batch load schemas scorer lock clean \
  lint type imports security validate checkov workflows states drift \
  test-unit test-contract test-packaging test-infra test-integration \
  plan apply destroy \
  setup-local setup-checkov account

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

##@ The platform on this machine (no AWS account, no Docker)

up: setup-local ## Start or heal it: local cloud, local models, the whole of infra/ applied; then call it once in each mode
	@$(LOCAL) up

down: setup-local ## Stop what `up` started
	@$(LOCAL) down

status: setup-local ## Show what runs; fails unless all of it is healthy
	@$(LOCAL) status

logs: setup-local ## Show logs; FUNCTION=name for one function's, LINES=40, FOLLOW=1
	@$(LOCAL) logs $(if $(FUNCTION),--function $(FUNCTION)) $(if $(LINES),--lines $(LINES)) $(if $(FOLLOW),--follow)

##@ Keys and operation, of any platform: SLUICE_URL and your AWS credentials, or else the one on this machine

# A value as one word of the shell.
quoted = '$(subst ','\'',$(1))'
# --option 'value', if there is a value.
option = $(if $(2),$(1) $(call quoted,$(2)))
# The settings of a key, as `key` and `key-update` take them.
KEY_SETTINGS = $(call option,--scopes,$(SCOPES)) $(call option,--models,$(MODELS)) \
  $(call option,--rpm,$(RPM)) $(call option,--tpm,$(TPM)) $(call option,--expires-at,$(EXPIRES_AT)) \
  $(call option,--monthly-budget-usd,$(MONTHLY_BUDGET_USD)) $(call option,--total-budget-usd,$(TOTAL_BUDGET_USD))
NEED_KEY = $(if $(KEY),,$(error say which key: make $@ KEY=<id>, as `make keys` shows it))

key: setup-local ## Create an API key; NAME= and, if it is to be limited, SCOPES= MODELS= RPM= TPM= MONTHLY_BUDGET_USD= TOTAL_BUDGET_USD= EXPIRES_AT=
	@$(LOCAL) key $(call quoted,$(or $(NAME),made-by-make)) $(KEY_SETTINGS)

keys: setup-local ## List the API keys and their limits
	@$(LOCAL) keys

key-update: setup-local ## Change an API key; KEY=id, NAME=, and the settings of `key`, where `none` takes one away
	@$(NEED_KEY)$(LOCAL) key-update $(call quoted,$(KEY)) $(call option,--name,$(NAME)) $(KEY_SETTINGS)

rotate: setup-local ## Give an API key a new secret; KEY=id, OVERLAP_SECONDS=86400 for the old one
	@$(NEED_KEY)$(LOCAL) rotate $(call quoted,$(KEY)) $(call option,--overlap-seconds,$(OVERLAP_SECONDS))

revoke: setup-local ## Revoke an API key for good; KEY=id
	@$(NEED_KEY)$(LOCAL) revoke $(call quoted,$(KEY))

usage: setup-local ## Show who spent what; BY=key,model,day FROM=2026-11-01 TO=2026-11-30 KEY=id
	@$(LOCAL) usage $(call option,--by,$(BY)) $(call option,--from,$(FROM)) $(call option,--to,$(TO)) $(call option,--key,$(KEY))

circuits: setup-local ## Show how every target of the routes is doing
	@$(LOCAL) circuits

queues: setup-local ## Show how full the queues are, and how many dead letters they have
	@$(LOCAL) queues

dead-letters: setup-local ## Show why messages are dead; QUEUE=async, batches, chunks, assembly or webhooks
	@$(if $(QUEUE),,$(error say which queue: make $@ QUEUE=<name>, as `make queues` shows it))$(LOCAL) dead-letters $(call quoted,$(QUEUE))

redrive: setup-local ## Move dead letters back to their queue; QUEUE=name for one, else all
	@$(LOCAL) redrive $(if $(QUEUE),$(call quoted,$(QUEUE)))

##@ Development

setup: ## Bring .venv up to date with all development tools
	@sh local/setup.sh dev

format: setup ## Format and fix what can be fixed without a thought
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .
	@terraform fmt -recursive infra

check: setup setup-checkov ## Everything that can be said without running the code
	@$(RUN) tests.run check

test: setup setup-checkov ## `check`, then every test there is, on a platform of their own
	@$(RUN) tests.run test

package: setup-local ## Build the zips that Terraform deploys; TARGET=local or aws
	@$(RUN) infra.packaging.build --target $(TARGET)

bench: setup ## Measure the packaged zips beside a floor handler; ARGS="--vs litellm", --tls, --help
	@$(RUN) load_tests.bench $(ARGS)

bench-batch: setup ## Put a batch of 100,000 embeddings through the platform and check every line; ARGS="--lines 5000 --format parquet", --help
	@$(RUN) load_tests.bench_batch $(ARGS)

load: setup ## Load the platform and judge it; PROFILE=sync, batch, file, workflow, mix, step or soak, ARGS="--rate 3", --help
	@$(RUN) load_tests $(if $(PROFILE),--load-profile $(PROFILE)) $(ARGS)

schemas: setup-local ## Write the JSON Schemas of the API's models and of the events from the code
	@$(RUN) infra.packaging.schemas

scorer: setup-local ## Train the lead scorer anew and write its model where functions and the local models read it
	@$(RUN) local.models.lead_scorer

lock: setup ## Resolve requirements again; UPGRADE=1 takes the newest versions, UPGRADE=name one package's
	@BIN=$(BIN) sh requirements/lock.sh $(UPGRADE)

clean: ## Remove build outputs and caches; the platform's state and the virtual environments stay
	@rm -rf build .local/cache .local/check .local/reports infra/modules/*/.terraform.lock.hcl
	@find functions infra layers load_tests local tests -name __pycache__ -type d -prune -exec rm -rf {} +

##@ The parts of `make check`

lint: setup ## ruff: rules and formatting
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

type: setup ## mypy, strict
	@$(BIN)/mypy --no-error-summary

imports: setup ## import-linter: who may import whom
	@$(BIN)/lint-imports --cache-dir .local/cache/import-linter

security: setup ## bandit over all that is deployed or run
	@$(BIN)/bandit --configfile pyproject.toml --quiet --recursive functions layers/sluice infra/packaging load_tests local

validate: setup ## terraform fmt and validate
	@terraform fmt -check -recursive infra
	@$(RUN) tests.infra.terraform validate

checkov: setup-checkov ## checkov on infra/, offline
	@.local/venvs/checkov/bin/python .local/venvs/checkov/bin/checkov --directory infra --framework terraform \
	  --skip-path infra/packaging --skip-download --compact --quiet

workflows: setup ## GitHub workflows: schema, then zizmor
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/zizmor --offline --quiet --no-progress .github

states: setup ## statelint on the state machines
	@$(BIN)/statelint infra/state_machines/*.asl.json

drift: setup ## Generated schemas are the ones that are checked in
	@$(RUN) infra.packaging.schemas --check

##@ The parts of `make test` (besides `make check`)

test-unit: setup ## Without sockets; ARGS are pytest's
	@$(PYTEST) tests/unit $(ARGS)

test-contract: setup ## What two sides must agree on; ARGS are pytest's
	@$(PYTEST) tests/contract $(ARGS)

test-packaging: setup ## The zips; needs a package index the first time; ARGS are pytest's
	@$(PYTEST) tests/packaging $(ARGS)

test-infra: setup ## terraform test: every module, the root, the bootstrap; ARGS are pytest's
	@$(PYTEST) tests/infra $(ARGS)

test-integration: setup ## The whole platform, applied to a local cloud of its own; ARGS are pytest's
	@$(PYTEST) tests/integration $(ARGS)

##@ Environments; ENV=local (default), dev, staging or prod, and then STATE_BUCKET=the account's Terraform state

ifeq ($(ENV),local)

plan: setup-local ## Show what an apply would change
	@$(LOCAL) plan

apply: up ## Apply; asks first, except for ENV=local

destroy: setup-local ## Destroy everything; asks first, except for ENV=local
	@$(LOCAL) destroy

else

# Working data apart from every other environment's, so that none is ever applied with another's state.
TERRAFORM = TF_DATA_DIR='$(CURDIR)/.local/accounts/$(ENV)' terraform -chdir=infra

plan apply destroy: account
	@$(TERRAFORM) $@ -var-file=environments/$(ENV).tfvars

account: setup-local
	@test -f infra/environments/$(ENV).tfvars || { echo "error: there is no infra/environments/$(ENV).tfvars" >&2; exit 1; }
	@$(RUN) infra.packaging.build --target aws
	@$(TERRAFORM) init -input=false -reconfigure -lockfile=readonly $(if $(TF_PLUGIN_DIR),-plugin-dir=$(TF_PLUGIN_DIR)) \
	  -backend-config=environments/$(ENV).s3.tfbackend $(if $(STATE_BUCKET),-backend-config=bucket=$(STATE_BUCKET))

endif

setup-local:
	@sh local/setup.sh local

setup-checkov:
	@sh local/setup.sh checkov
