package main

import (
	"fmt"
	"io"

	"flashsale/web"
)

type pagesCommand struct {
	Export pagesExportCommand `cmd:"" help:"Write every file to its address, and the page as index.html, which answers all other addresses but /v1 and /docs."`
}

type pagesExportCommand struct {
	Dir string `arg:"" help:"Folder; it is created when it is missing."`
}

// Run needs no store: the pages are in the program.
func (c *pagesExportCommand) Run(out io.Writer) error {
	site, err := web.Shop()
	if err != nil {
		return err
	}
	if err := site.Export(c.Dir); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "the shop's pages are in", c.Dir)
	return err
}
