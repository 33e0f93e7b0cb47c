// Package e2e drives the shop's page in a real Chromium against a real demo, as a shopper does. It is a
// module of its own, so that the browser's driver stays out of the product's.
package e2e
