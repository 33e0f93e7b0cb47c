// Package docs holds the pages that a server hands out itself: what its answers refer to.
package docs

import _ "embed"

// API is the page on the HTTP API, to which the type of every problem leads.
//
//go:embed api.md
var API []byte

// OpenAPI describes the HTTP API to programs. It is made from openapi.yaml.
//
//go:embed openapi.json
var OpenAPI []byte

// Operations is the runbook, to which the alarms of the board lead.
//
//go:embed operations.md
var Operations []byte
