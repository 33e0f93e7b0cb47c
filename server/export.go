package server

import (
	"bufio"
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

const (
	typeCSV    = "text/csv; charset=utf-8"
	typeNDJSON = "application/x-ndjson"

	// exportStall is how long one page of an export may take to read and to send.
	exportStall = 30 * time.Second
)

// exportOrders streams the orders of a sale. Only the first page can be refused: an answer that meets
// a fault later breaks off, so that nobody takes it for whole.
func (s *Server) exportOrders(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	if s.config.Export == nil {
		refuse(ctx, problemNotFound)
		return
	}
	format, media := flashsale.FormatNDJSON, typeNDJSON
	switch text := ctx.QueryArgs().Peek("format"); {
	case text == nil || string(text) == format:
	case string(text) == flashsale.FormatCSV:
		format, media = flashsale.FormatCSV, typeCSV
	default:
		refuse(ctx, problemFormat)
		return
	}
	// The first page is read before the answer begins.
	export, stop := context.WithCancel(s.base)
	pages, ended := make(chan []flashsale.Order), make(chan error, 1)
	go func() {
		defer close(pages)
		ended <- s.config.Export(export, id, func(orders []flashsale.Order) error {
			select {
			case pages <- orders:
				return nil
			case <-export.Done():
				return export.Err()
			}
		})
	}()
	first, open := <-pages
	if !open {
		stop()
		err := <-ended
		if errors.Is(err, flashsale.ErrNotFound) {
			refuse(ctx, problemSaleNotFound)
			return
		}
		s.fault(ctx, "export orders", err)
		return
	}
	ctx.Response.Header.SetContentType(media)
	conn := ctx.Conn()
	ctx.Response.SetBodyStreamWriter(func(w *bufio.Writer) {
		defer stop()
		err := func() error {
			writer, err := flashsale.NewOrderWriter(w, format)
			for orders, open := first, true; open && err == nil; orders, open = <-pages {
				// The server's own bound is for a whole answer.
				if err = conn.SetWriteDeadline(time.Now().Add(exportStall)); err == nil {
					err = writer.Write(orders)
				}
				if err == nil {
					err = w.Flush()
				}
			}
			if err == nil {
				err = <-ended
			}
			return err
		}()
		if err != nil {
			s.faults.log("export orders", "sale", id, "error", err)
			_ = conn.Close() // the end of the stream would say that it is whole
		}
	})
}
