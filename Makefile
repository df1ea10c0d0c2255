# One word per job; `make help` lists them. Needs Python 3.11, or a network to get one from, and nothing else.
#   make demo USE_CASE=attrition DATA=path/to.csv APPROVE=yes KEEP=no    settings and their defaults: env.example

VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
RUN := $(BIN)/python
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins

# Which model the targets below are about; `make help` and docs/your-model.md say how to bring another.
USE_CASE ?= attrition
TARGET ?= production

# What `make test` leaves out: tests that take their time or need more than Python. Their own targets run them.
NEEDS_MORE := kubernetes or spark or azurite or docker or postgres or tools or network or fuzz or reasons or client or browser or bus or azure
REQUIREMENTS := requirements serving/requirements serving/requirements-entra serving/requirements-otlp training/requirements compose/requirements requirements-spark requirements-reasons requirements-client requirements-browser requirements-bus requirements-azure-check requirements-az requirements-lint delivery/requirements

# $(call apart,FOLDER,FILE): an environment of its own, with the packages of a locked file.
apart = { [ -x $(1)/bin/python ] || $(BIN)/uv venv --quiet --python $(RUN) $(1); } && { cmp -s $(2) $(1)/installed.txt || \
	{ $(BIN)/uv pip install --quiet --python $(1)/bin/python --require-hashes -r $(2) && cp $(2) $(1)/installed.txt; }; }
# $(call beside,FOLDER,FILE): the same, and what else is needed comes from $(VENV).
SITE := import site; print(site.getsitepackages()[0])
beside = $(call apart,$(1),$(2)) && $(RUN) -c '$(SITE)' >"$$($(1)/bin/python -c '$(SITE)')/beside.pth"

.DEFAULT_GOAL := help
.PHONY: help setup lock lint format docs pin-images namespaces monitoring golden test test-stack test-network test-tools test-kubernetes test-docker \
	test-azurite test-spark test-postgres test-image-env test-reasons test-client test-browser test-bus azure-check azure-schemas azure-smoke airflow-image pictures \
	use-case demo up down status logs api-key approval-key rotate-approval-key \
	signing-key rotate-signing-keys sign serve bench-serving bench-curation bench-training bench-batch bench-demand bench-large-table clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ \
	  count = split($$2, words, " "); width = 22; printf "  \033[1m%-20s\033[0m", $$1; \
	  for (i = 1; i <= count; i++) { \
	    if (width + 1 + length(words[i]) > 80) { printf "\n%22s", ""; width = 22 } \
	    printf " %s", words[i]; width += 1 + length(words[i]) } \
	  print "" }' $(MAKEFILE_LIST)

## ---- set-up ----

setup: ## Make the Python environment; does nothing when it is up to date
	@python=$$(sh embedded/python.sh "$(PYTHON)" "$(VENV)") && "$$python" -m embedded.setup "$(VENV)"

# The image's own lock has the versions that the tests have, but for gunicorn.
PINS = sed -n '/^gunicorn==/!s/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' requirements.txt
lock: setup ## Compile the requirements files, with hashes and for all systems, from their .in files
	@for name in $(REQUIREMENTS); do \
	  [ -f $$name.in ] || continue; echo "$$name.in -> $$name.txt"; \
	  $(PINS) | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" $$(case $$name in serving/*) echo "-c -" ;; esac) \
	    $$name.in -o $$name.txt || exit 1; done

## ---- habits ----

LINT := .venv-lint/bin
lint: setup ## ruff and mypy; workflows, pipelines and Dockerfiles by programs of their own (requirements-lint.txt)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	@$(call apart,.venv-lint,requirements-lint.txt)
	$(RUN) -m delivery.lint $(LINT)

format: setup ## Let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write the documentation pages that are made from the code
	@$(RUN) docs/generate.py

pin-images: setup ## Look the digests of other people's images up, where their registries can be reached (images.lock)
	@$(RUN) -m lifecycle.pin_images

namespaces: setup ## Print use case, target and namespace, as the settings file has them
	@$(RUN) -m lifecycle.settings

monitoring: setup ## Render the dashboards and alerts of Azure Monitor (USE_CASE=name; otherwise of all)
	@$(RUN) -m monitoring.render $(if $(filter file,$(origin USE_CASE)),,$(USE_CASE))

# Of all plugins that packages bring, those that these tests use: to load the others, and to rewrite the packages that
# bring them as pytest does, takes every worker two seconds.
OF_PYTEST := test test-stack test-network test-tools test-kubernetes test-docker test-azurite test-postgres test-image-env \
	test-reasons test-client test-browser test-bus azure-check
$(OF_PYTEST): export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1
$(OF_PYTEST): export PYTEST_PLUGINS := xdist.plugin,pytest_timeout,_hypothesis_pytestplugin

# $(call marked,NAME): the files with tests of a marker. To collect all of the others takes as long as many a suite.
marked = $$(grep -rl --include='test_*.py' 'mark\.$(1)' tests)
# $(call without,MARKERS): no file all of whose tests have one of these; every worker would import it and run nothing of it.
EMPTY :=
OR := |
without = $$(grep -rlE --include='test_*.py' '^pytestmark = .*mark\.($(subst $(EMPTY) or $(EMPTY),$(OR),$(1)))([^a-z]|$$)' tests | sed 's/^/--ignore=/')
# A file is one worker's, in the order of tests/support/collection.py.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: setup ## The tests that need nothing but Python, in a few minutes (ARGS="-k name" picks)
	$(RUN) -m pytest -m "not (stack or $(NEEDS_MORE))" -n 3 $(BY_FILE) $(call without,stack or $(NEEDS_MORE)) $(ARGS)

test-stack: setup ## Tests that start real servers and wait for them; they need nothing but Python either
	$(RUN) -m pytest -m "stack and not ($(NEEDS_MORE))" -n 2 $(BY_FILE) $(call marked,stack) $(ARGS)

test-network: setup ## Set-up where Python or uv is missing, and the lock for other systems; asks the package registry
	$(RUN) -m pytest -m network -n 2 $(call marked,network) $(ARGS)

KQL_MODULES := .venv-kql/node_modules
test-tools: setup ## Manifests by kubectl, rules by promtool, what `make lint` runs, queries by Microsoft's parser (npm, below .venv-kql)
	@$(call apart,.venv-lint,requirements-lint.txt)
	@[ -d $(KQL_MODULES)/@kusto/language-service-next ] || \
	  npm install --silent --no-save --no-audit --no-fund --prefix .venv-kql @kusto/language-service-next@12.4.1
	KQL_MODULES=$(CURDIR)/$(KQL_MODULES) LINT_TOOLS=$(CURDIR)/$(LINT) $(RUN) -m pytest -m "tools and not kubernetes" -n 2 $(call marked,tools) $(ARGS)

# Whole releases beside single steps, which have a namespace of their own.
test-kubernetes: setup ## The release on a real cluster (KUBECONFIG) with a Docker engine
	$(RUN) -m pytest -m kubernetes -n 2 $(BY_FILE) $(call marked,kubernetes) $(ARGS)

golden: setup ## Write the checked-in renders of pods and manifests again; look at the difference before you commit
	RENEW_GOLDEN=1 $(RUN) -m pytest tests/k8s tests/plugins/operators -k checked_in $(ARGS)

test-docker: setup ## Tests that build and run images
	$(RUN) -m pytest -m "docker and not kubernetes" $(call marked,docker) $(ARGS)

AZURITE := .venv-azurite/node_modules/.bin/azurite
test-azurite: setup ## Tests against Azurite, which npm installs below .venv-azurite
	@[ -x $(AZURITE) ] || npm install --silent --no-save --no-audit --no-fund --prefix .venv-azurite azurite@3.37.0
	AZURITE=$(AZURITE) $(RUN) -m pytest -m azurite $(call marked,azurite) $(ARGS)

SPARK := .venv-spark/bin/python
test-spark: setup ## Tests on local Spark, in an environment of its own (requirements-spark.txt; needs Java)
	@$(call apart,.venv-spark,requirements-spark.txt)
	$(RUN) -m tests.support.batch_example .venv-spark/batch
	BATCH_EXAMPLE=$(CURDIR)/.venv-spark/batch $(SPARK) -m pytest -m spark tests/training/inference_log/test_spark.py \
	  tests/training/search/test_spark_executor.py tests/training/batch/test_spark_batch.py \
	  tests/training/batch/test_spark_forecasts.py $(ARGS)

# The image's packages come first, and what else the tests need from the environment beside it.
IMAGE_ENV := .venv-image/bin/python
test-image-env: setup ## The server's tests, and the long fuzz of its HTTP, with the image's own requirements
	@$(call beside,.venv-image,serving/requirements.txt)
	$(IMAGE_ENV) -m pytest -m "not docker and not client" -n 2 $(BY_FILE) tests/serving $(ARGS)

# The package shap comes first, and what else the tests need from the environment beside it.
REASONS_ENV := .venv-reasons/bin/python
test-reasons: setup ## Reasons beside the package shap, on all rows, in an environment of its own (requirements-reasons.txt)
	@$(call beside,.venv-reasons,requirements-reasons.txt)
	$(REASONS_ENV) -m pytest -m reasons tests/training/export/test_reasons_oracle.py $(ARGS)

# The generator and its client's packages come first, and what else the tests need from the environment beside it.
CLIENT_ENV := .venv-client/bin/python
test-client: setup ## A typed Python client, made from the OpenAPI document in an environment of its own (requirements-client.txt)
	@$(call beside,.venv-client,requirements-client.txt)
	$(CLIENT_ENV) -m pytest -m client tests/serving/test_typed_client.py $(ARGS)

# What drives the browser comes first, and what else is needed from the environment beside it.
BROWSER_ENV := .venv-browser/bin/python
test-browser: setup ## The screens of the stack that is up (make demo APPROVE=yes), in Debian's Chromium
	@$(call beside,.venv-browser,requirements-browser.txt)
	BROWSER_HOME="$${LIFECYCLE_HOME:-.lifecycle}" $(BROWSER_ENV) -m pytest -m browser tests/browser $(ARGS)

pictures: setup ## Take the pictures of gate and page again, from the stack that is up (make demo APPROVE=yes)
	@$(call beside,.venv-browser,requirements-browser.txt)
	@$(BROWSER_ENV) docs/pictures.py

# The AMQP server's packages come first, and what else the tests need from the environment beside it.
BUS_ENV := .venv-bus/bin/python
test-bus: setup ## Events through Azure's own Service Bus client and a double of the bus, in an environment of its own (requirements-bus.txt; needs gcc)
	@$(call beside,.venv-bus,requirements-bus.txt)
	$(BUS_ENV) -m pytest -m bus $(call marked,bus) $(ARGS)

# Beside the policies, what is planted in copies: a misspelling, a public container, a right too many.
AZURE := .venv-azure/bin
AZ_PYTHON := .venv-az/bin/python
azure-check: setup ## infrastructure/ without a cloud: arguments, names, rights, policies of trivy and checkov; calls of az by az itself
	@$(call apart,.venv-azure,requirements-azure-check.txt)
	@$(call apart,.venv-az,requirements-az.txt)
	$(RUN) -m infrastructure.checks --tools $(AZURE)
	AZURE_TOOLS=$(CURDIR)/$(AZURE) AZ_PYTHON=$(CURDIR)/$(AZ_PYTHON) $(RUN) -m pytest -m azure tests/infrastructure $(ARGS)

TAG ?= local
airflow-image: setup ## Airflow's image of this commit, what is in it and what is known against it (TAG=; needs Docker and az)
	@$(call apart,.venv-azure,requirements-azure-check.txt)
	delivery/image.sh build "$(TAG)"
	TRIVY=$(AZURE)/trivy delivery/image.sh scan "$(TAG)" image-report

SMOKE = $(if $(VARS),--vars "$(VARS)") $(if $(BACKEND),--backend "$(BACKEND)") $(if $(APPROVAL_KEY),--key "$(APPROVAL_KEY)") \
	$(if $(REPOSITORY),--repository "$(REPOSITORY)") $(if $(DAGS_CONNECTION),--dags-connection "$(DAGS_CONNECTION)")
azure-smoke: setup ## The small environment on a subscription, once through, compared with this machine, and taken down (docs/azure.md; HOURS=, DRY=yes, DOWN=yes)
	@$(RUN) -m delivery.smoke --use-case "$(USE_CASE)" $(SMOKE) $(if $(DATA),--data "$(DATA)") $(if $(HOURS),--hours $(HOURS)) \
	  $(if $(filter yes,$(DRY)),--dry) $(if $(filter yes,$(DOWN)),--down)

SCHEMAS := .venv-azure/schemas
azure-schemas: setup ## Extract the providers' schemas again (infrastructure/schemas), from bindings that npm has
	@mkdir -p $(SCHEMAS)
	npm install --silent --no-save --no-audit --no-fund --legacy-peer-deps --prefix $(SCHEMAS) \
	  @cdktn/provider-azurerm@16.1.0 @cdktn/provider-databricks@18.7.0
	$(RUN) -m infrastructure.checks.extract $(SCHEMAS)/node_modules/@cdktn/provider-azurerm/.jsii \
	  $(SCHEMAS)/node_modules/@cdktn/provider-databricks/.jsii

test-postgres: setup ## Tests with Airflow on PostgreSQL
	$(RUN) -m pytest -m postgres $(call marked,postgres) $(ARGS)

bench-curation: setup ## Curation beside pandas at 0.1, 1 and 10 million log lines (LINES="100000 1000000" ARGS=--full)
	$(RUN) -m benchmarks.curation $(if $(LINES),--lines $(LINES)) $(ARGS)

## ---- your own table ----

use-case: setup ## A use case from a table (NAME=churn DATA=table.csv LABEL=churned, KEY=customer_id POSITIVE=yes INTO=folder)
	@[ -n "$(NAME)" ] && [ -n "$(DATA)" ] && [ -n "$(LABEL)" ] || { \
	  echo "name the use case, its table and its label: make use-case NAME=churn DATA=path/to.csv KEY=customer_id LABEL=churned" >&2; \
	  exit 2; }
	@$(RUN) -m training.scaffold --name "$(NAME)" --data "$(DATA)" --label "$(LABEL)" $(if $(KEY),--key "$(KEY)") \
	  $(if $(POSITIVE),--positive "$(POSITIVE)") $(if $(INTO),--into "$(INTO)")

## ---- the embedded stack ----

demo: setup ## From data to production, with your approval (USE_CASE=, DATA=, SYNTHETIC=yes, APPROVE=yes|no, DROP=yes, KEEP=no)
	@$(RUN) -m embedded demo --use-case "$(USE_CASE)" $(if $(DATA),--data "$(DATA)") $(if $(PLAN),--plan "$(PLAN)") \
	  $(if $(SYNTHETIC),--synthetic "$(SYNTHETIC)") $(if $(APPROVE),--approve "$(APPROVE)") \
	  $(if $(DROP),--drop "$(DROP)") $(if $(KEEP),--keep "$(KEEP)")

up: setup ## Start the stack and stay with it until Ctrl-C (DETACH=yes returns once it is up)
	@$(RUN) -m embedded up $(if $(filter yes,$(DETACH)),--detach)

down: ## Stop the stack and whatever a killed one has left behind
	@if [ -x $(RUN) ]; then $(RUN) -m embedded down; else echo "nothing to stop: there is no $(VENV)"; fi

status: ## What of the stack runs, and where
	@if [ -x $(RUN) ]; then $(RUN) -m embedded status; else echo "nothing runs: there is no $(VENV)"; fi

PART ?= supervisor
logs: setup ## The last lines of a part's log (PART=supervisor, or another one: make logs PART=? lists them)
	@$(RUN) -m embedded logs "$(PART)"

api-key: ## The API key of a target's scoring servers, whatever the use case (TARGET=production or staging)
	@$(RUN) -m embedded api-key "$(TARGET)"

approval-key: setup ## A new key pair that signs approvals, for a cloud (OUT=file for the private key)
	@[ -n "$(OUT)" ] || { echo "name a new file for the private key: make approval-key OUT=approval-key.json"; exit 2; }
	@$(RUN) -m lifecycle.approval_keys "$(OUT)"

signing-key: setup ## A new key that signs bundles or images, for a cloud (OUT=file for the private key, SIGNER="who holds it")
	@[ -n "$(OUT)" ] && [ -n "$(SIGNER)" ] || { echo 'name a new file and who holds the key: make signing-key OUT=key.pem SIGNER="image builds"'; exit 2; }
	@$(RUN) -m lifecycle.signing key "$(OUT)" --signer "$(SIGNER)"

sign: setup ## Sign the bundle and the image of a version that nobody has signed: you vouch for them (USE_CASE=, VERSION=)
	@[ -n "$(VERSION)" ] || { echo "name a version of the registry: make sign USE_CASE=$(USE_CASE) VERSION=3"; exit 2; }
	@$(RUN) -m embedded sign "$(USE_CASE)" "$(VERSION)"

rotate-signing-keys: setup ## Sign bundles and images of the local stack with new keys; restart the stack then (make down, make up)
	@$(RUN) -m embedded rotate-signing-keys

rotate-approval-key: setup ## Sign approvals of the local stack with a new key; restart the stack then (make down, make up)
	@$(RUN) -m embedded rotate-approval-key

serve: setup ## The scoring server alone, without keys, on loopback (USE_CASE=, TARGET=: what runs there; or BUNDLE=folder)
	@bundle="$(BUNDLE)"; [ -n "$$bundle" ] || bundle=$$($(RUN) -m embedded bundle "$(USE_CASE)" "$(TARGET)") || exit 1; \
	  exec $(RUN) -m serving --bundle "$$bundle"

bench-training: setup ## The training job beside the published recipe (DATA=, REPEATS=5 of the cross-validation)
	$(RUN) -m benchmarks.training $(if $(DATA),--data "$(DATA)") $(if $(REPEATS),--repeats $(REPEATS))

bench-large-table: setup ## Time and memory of the scaffold and the training job on 50 columns (ROWS=100000, TRIALS=)
	$(RUN) -m benchmarks.large_table $(if $(ROWS),--rows $(ROWS)) $(if $(TRIALS),--trials $(TRIALS))

bench-serving: setup ## The scoring server against an empty route and the naive way (benchmarks/serving.md)
	$(RUN) -m benchmarks.serving $(ARGS)

bench-batch: setup ## Batch scoring beside MLflow's pyfunc, Spark UDF and scikit-learn (ROWS="100000 1000000")
	$(RUN) -m benchmarks.batch $(if $(ROWS),--rows $(ROWS)) $(ARGS)

bench-demand: setup ## Weekly forecasts of real sales beside published figures (ARGS="--trials 20" tunes as well)
	$(RUN) -m benchmarks.demand $(ARGS)

clean: down ## Stop the stack and delete its data (.lifecycle)
	rm -rf "$${LIFECYCLE_HOME:-.lifecycle}"
