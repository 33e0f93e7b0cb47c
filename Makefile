# `make` alone lists the targets. Every target sets up what it needs and is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

LINT_VERSION := v2.5.0
LINT := bin/golangci-lint-$(LINT_VERSION)
TYPESCRIPT_VERSION := 5.9.2

# Where Go's own installer puts it, for a shell that was not told.
export PATH := $(PATH):/usr/local/go/bin

# Go keeps its caches below HOME. Where HOME is unset, or not ours to write to, as in some CI
# jobs and containers, take the account's own folder, or one in here that Git ignores.
export HOME := $(shell for h in "$${HOME:-}" "$$(getent passwd "$$(id -u)" | cut -d: -f6)"; do \
	if [[ -d "$$h" && -w "$$h" ]]; then echo "$$h"; exit; fi; done; echo "$(CURDIR)/.home")

# bench and web/e2e are modules of their own, so that k6, the browser's driver and their dependencies
# stay out of ours.
MODULES := . $(patsubst %/go.mod,%,$(wildcard bench/go.mod web/e2e/go.mod))
in_modules = for module in $(MODULES); do (set -x; cd "$$module"; $(1)); done

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: go ## Install what is missing of redis-server, postgresql and curl (no service is started)
	@.ci/install redis-server postgresql curl

.PHONY: run
run: setup ## Run the demo: a real sale on a private Redis and PostgreSQL (more: ARGS="--rush 5000")
	go run ./cmd/flashsale demo $(ARGS)

.PHONY: test
test: setup ## Run every test, on real servers; the engine's with the race detector
	@.ci/install gcc wrk haproxy pgbouncer prometheus chromium
	@# The command's tests are processes that talk to each other: the detector sees nothing there, and
	@# triples their time.
	CGO_ENABLED=1 go test -race -timeout 20m $(ARGS) $$(go list ./... | grep -Ev '/(cmd|deploy)')
	go test -timeout 30m $(ARGS) ./cmd/... ./deploy
	cd web/e2e && go test -timeout 10m $(ARGS) ./...
	@# k6 with the race detector would be ten minutes of compiling, and has no code of ours in it.
	cd bench && go test -timeout 20m $(ARGS) ./...
	cd bench && CGO_ENABLED=1 go test -race -timeout 20m $(ARGS) ./peak

.PHONY: test-faults
test-faults: setup ## Kill processes and servers at every point between two steps, 20 times each (ROUNDS=20)
	@.ci/install gcc
	FLASHSALE_FAULTS=$(or $(ROUNDS),20) FLASHSALE_PAGES=20000 FLASHSALE_PAID=10000 CGO_ENABLED=1 go test -race -timeout 60m -count=1 -v -run 'Faults|Killed|CloseDue_Many' ./cmd/flashsale $(ARGS)

.PHONY: test-cluster
test-cluster: setup ## Fail the nodes of a Redis Cluster in every way while a sale runs on it (ROUNDS=10)
	@.ci/install gcc
	FLASHSALE_CLUSTER_ROUNDS=$(or $(ROUNDS),10) CGO_ENABLED=1 go test -race -timeout 120m -count=1 -v -run TestCluster ./cmd/flashsale $(ARGS)

.PHONY: bench
bench: setup ## Measure everything and write bench-report/report.html (more: ARGS="--only ratios")
	@.ci/install wrk
	@echo "building bench: up to three minutes the first time"
	cd bench && go run . all $(ARGS)

.PHONY: scenarios
scenarios: setup ## Play the sale's scenes with the embedded k6 (more: ARGS="--rate 2000 spike")
	cd bench && go run . run $(ARGS)

.PHONY: lint
lint: go $(LINT) ## Check format, style, the arrows between the rooms and the types of the pages' scripts
	@unformatted=$$(gofmt -l .); if [[ -n "$$unformatted" ]]; then \
		echo "not formatted, run make fmt: $$unformatted" >&2; exit 1; fi
	@$(call in_modules,"$(CURDIR)/$(LINT)" run --config "$(CURDIR)/.golangci.yml" ./...)
	@.ci/install npm
	npx --yes -p typescript@$(TYPESCRIPT_VERSION) tsc -p web/jsconfig.json

.PHONY: fmt
fmt: go $(LINT) ## Format the code
	@$(call in_modules,"$(CURDIR)/$(LINT)" fmt --config "$(CURDIR)/.golangci.yml" ./...)

.PHONY: build
build: go ## Build bin/flashsale
	go build -trimpath -o bin/flashsale ./cmd/flashsale

.PHONY: package
package: build ## Make dist/flashsale_*.deb (VERSION=1.2.3)
	@mkdir -p dist
	@echo "building the packager: up to two minutes the first time"
	cd deploy/package && go build -o ../../bin/package .
	VERSION=$(or $(VERSION),0.0.0~$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)) ARCH=$(shell go env GOARCH) bin/package

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

.PHONY: go
go:
	@command -v go >/dev/null || { echo "Go 1.26 or newer is missing: install it from https://go.dev/dl/" >&2; exit 1; }

# The pinned version, from wherever it is installed already.
$(LINT): | go
	@mkdir -p bin; \
	for have in golangci-lint "$$(go env GOPATH)/bin/golangci-lint"; do \
		path=$$(command -v "$$have") || continue; \
		if "$$path" version 2>/dev/null | grep -qF "version $(LINT_VERSION:v%=%) "; then \
			ln -sf "$$path" "$@"; exit; fi; done; \
	GOBIN="$(CURDIR)/bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION); \
	mv bin/golangci-lint "$@"
