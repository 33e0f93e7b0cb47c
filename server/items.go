package server

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// getItem answers what a crowd polls while it waits for the opening.
func (s *Server) getItem(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	item, err := s.catalogue.item(s.base, id)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemItemNotFound)
		return
	}
	if err != nil {
		s.fault(ctx, "get item", err)
		return
	}
	now := s.catalogue.now(s.base)
	body := appendItem(make([]byte, 0, 512), item, s.catalogue.state(s.base, item, now))
	answer(ctx, fasthttp.StatusOK, append(appendInt(body, "server_time_ms", now.UnixMilli()), '}'))
}

// getSales sends the list that [Server.loadSales] made within the last moment.
func (s *Server) getSales(ctx *fasthttp.RequestCtx) {
	list, err := s.salesList.get(s.base)
	if err != nil {
		s.fault(ctx, "get sales", err)
		return
	}
	body := append(make([]byte, 0, len(list)+64), `{"sales":`...)
	body = appendInt(append(body, list...), "server_time_ms", s.catalogue.now(s.base).UnixMilli())
	answer(ctx, fasthttp.StatusOK, append(body, '}'))
}

func (s *Server) loadSales(ctx context.Context) ([]byte, error) {
	l, err := s.catalogue.listing.get(ctx)
	if err != nil {
		return nil, err
	}
	now := s.catalogue.now(ctx)
	list := []byte{'['}
	for n, sale := range l.sales {
		if n > 0 {
			list = append(list, ',')
		}
		list = appendID(append(list, `{"id":`...), sale.ID)
		list = appendString(append(list, `,"name":`...), sale.Name)
		list = appendMillis(list, "opens_at_ms", sale.OpensAt)
		list = appendMillis(list, "closes_at_ms", sale.ClosesAt)
		list = append(list, `,"items":[`...)
		for n, item := range sale.Items {
			if n > 0 {
				list = append(list, ',')
			}
			list = append(appendItem(list, item, s.catalogue.state(ctx, item, now)), '}')
		}
		list = append(list, `]}`...)
	}
	return append(list, ']'), nil
}
