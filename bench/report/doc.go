// Package report holds what the suite found in one form, whatever was measured, and writes it
// for a terminal, as JSON, and as one HTML file that needs no network. It also compares two
// reports and says which differences are more than noise.
package report
