package server

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// changeTimeout bounds what is done to all items of a sale, each of which may be off sale for a moment.
const changeTimeout = 2 * time.Minute

// Changer changes and rebuilds items, which may be selling.
type Changer interface {
	// Change returns when the change stands in both stores; [flashsale.ErrConflict] and
	// [flashsale.ErrUnacceptable] say why the item stays as it is.
	Change(ctx context.Context, id flashsale.ItemID, change flashsale.ItemChange) error
	// Rebuild writes an item into Redis anew where it differs from the ledger, and says where it
	// does; a dry run only says so.
	Rebuild(ctx context.Context, id flashsale.ItemID, dryRun bool) (difference any, err error)
}

// windowJSON is a window to be changed; what is left out stays.
type windowJSON struct {
	OpensAtMS  *int64 `json:"opens_at_ms"`
	ClosesAtMS *int64 `json:"closes_at_ms"`
}

func (w windowJSON) change() flashsale.ItemChange {
	return flashsale.ItemChange{OpensAt: momentOf(w.OpensAtMS), ClosesAt: momentOf(w.ClosesAtMS)}
}

func momentOf(ms *int64) *time.Time {
	if ms == nil {
		return nil
	}
	at := time.UnixMilli(*ms)
	return &at
}

// changeSale moves the window of all items of a sale.
func (s *Server) changeSale(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	var request windowJSON
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	call, cancel := s.changing(ctx, changeTimeout)
	defer cancel()
	sale, err := s.config.Ledger.Sale(call, id)
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemSaleNotFound)
		return
	}
	if err != nil {
		s.fault(ctx, "read sale", err)
		return
	}
	for _, item := range sale.Items {
		if !s.change(call, ctx, item.ID, request.change()) {
			return
		}
	}
	if sale, err = s.config.Ledger.Sale(call, id); err != nil {
		s.changeFault(ctx, "read changed sale", err)
		return
	}
	s.answerValue(ctx, fasthttp.StatusOK, newSaleJSON(sale))
}

// changeItem changes an item; stock is all units offered, as when a sale is created.
func (s *Server) changeItem(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	var request struct {
		OpensAtMS   *int64 `json:"opens_at_ms"`
		ClosesAtMS  *int64 `json:"closes_at_ms"`
		PriceFen    *int64 `json:"price_fen"`
		PointsPrice *int64 `json:"points_price"`
		Limit       *int   `json:"limit"`
		Stock       *int64 `json:"stock"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	change := windowJSON{request.OpensAtMS, request.ClosesAtMS}.change()
	change.PriceFen, change.PointsPrice, change.Limit, change.Total = request.PriceFen, request.PointsPrice, request.Limit, request.Stock
	call, cancel := s.changing(ctx, changeTimeout)
	defer cancel()
	if !s.change(call, ctx, id, change) {
		return
	}
	item, err := s.config.Ledger.Item(call, id)
	if err != nil {
		s.changeFault(ctx, "read changed item", err)
		return
	}
	s.answerAccount(call, ctx, fasthttp.StatusOK, item)
}

// change changes one item, or answers why not.
func (s *Server) change(call context.Context, ctx *fasthttp.RequestCtx, id flashsale.ItemID, change flashsale.ItemChange) bool {
	if s.config.Changer == nil {
		refuse(ctx, problemNotFound)
		return false
	}
	if change.Empty() {
		refuse(ctx, problemInvalidField.with("detail", "name what is to be changed"))
		return false
	}
	err := s.config.Changer.Change(call, id, change)
	switch {
	case err == nil:
		s.catalogueChanged()
		return true
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemItemNotFound)
	case errors.Is(err, flashsale.ErrUnacceptable):
		refuse(ctx, problemInvalidField.with("detail", err.Error()))
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemNotChangeable.with("detail", err.Error()))
	default:
		s.changeFault(ctx, "change item", err)
	}
	return false
}

// rebuildItem writes an item into Redis anew, or only says where that differs from the ledger.
func (s *Server) rebuildItem(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	var request struct {
		DryRun bool `json:"dry_run"`
	}
	if len(ctx.Request.Body()) > 0 {
		if p := decodeStrict(ctx, &request); p != nil {
			refuse(ctx, p)
			return
		}
	}
	if s.config.Changer == nil {
		refuse(ctx, problemNotFound)
		return
	}
	call, cancel := s.changing(ctx, changeTimeout)
	defer cancel()
	difference, err := s.config.Changer.Rebuild(call, id, request.DryRun)
	switch {
	case err == nil:
		s.catalogueChanged()
		s.answerValue(ctx, fasthttp.StatusOK, difference)
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemItemNotFound)
	default:
		s.faults.of(ctx, "rebuild item", "item", id, "error", err)
		refuse(ctx, problemUnavailable.with("detail", err.Error())) // an operator may read why
	}
}
