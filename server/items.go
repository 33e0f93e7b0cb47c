package server

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// getItem answers what a crowd polls while it waits for the opening.
func (s *Server) getItem(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	document, err := s.catalogue.itemDocument(s.base, id)
	s.answerShared(ctx, "get item", document, err, problemItemNotFound)
}

// getSale answers a sale with all its items.
func (s *Server) getSale(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	document, err := s.catalogue.saleDocument(s.base, id)
	s.answerShared(ctx, "get sale", document, err, problemSaleNotFound)
}

// getSales answers a page of sales, newest first: of all, or of those in one state.
func (s *Server) getSales(ctx *fasthttp.RequestCtx) {
	page := salesPage{}
	var ok bool
	if page.before, page.limit, ok = queryPage[flashsale.SaleID](ctx); !ok {
		return
	}
	if state, given := queryText(ctx, "state"); given {
		page.state = flashsale.SaleState(state)
		if !page.state.Valid() {
			refuse(ctx, problemSaleState)
			return
		}
	}
	document, err := s.catalogue.salesDocument(s.base, page)
	s.answerShared(ctx, "get sales", document, err, problemSaleNotFound)
}

func (s *Server) answerShared(ctx *fasthttp.RequestCtx, operation string, d *document, err error, unknown *problem) {
	switch {
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, unknown)
	case err != nil:
		s.fault(ctx, operation, err)
	default:
		answerDocument(ctx, d, s.catalogue.now(s.base))
	}
}

// getTime answers the clock that opens the sales: pages count down by it.
func (s *Server) getTime(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, append(strconv.AppendInt([]byte(`{"server_time_ms":`),
		s.catalogue.now(s.base).UnixMilli(), 10), '}'))
}

// getShop answers what a page must know of this installation.
func (s *Server) getShop(ctx *fasthttp.RequestCtx) {
	answerDocument(ctx, s.shop, s.catalogue.now(s.base))
}

// shopDocument is what [Server.getShop] answers: it never changes.
func shopDocument(config Config) *document {
	body := append([]byte(nil), `{"payment_methods":[`...)
	for n, method := range config.PaymentMethods {
		if n > 0 {
			body = append(body, ',')
		}
		body = appendString(body, string(method))
	}
	body = append(body, `],"currency":"CNY","languages":["en","zh"],"dev_login":`...)
	body = strconv.AppendBool(body, config.DevLogin)
	if config.LoginURL != "" {
		body = appendString(append(body, `,"login_url":`...), config.LoginURL)
	}
	return newDocument(body, nil)
}
