package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"flashsale"
	"flashsale/engine"
)

// preheatTimeout bounds how long a sale with many items is loaded.
const preheatTimeout = time.Minute

// saleJSON is a sale as operators write and read it.
type saleJSON struct {
	ID         flashsale.SaleID  `json:"id,omitzero"`
	Name       string            `json:"name"`
	Names      map[string]string `json:"names,omitempty"` // by language
	OpensAtMS  int64             `json:"opens_at_ms"`
	ClosesAtMS int64             `json:"closes_at_ms"`
	HideLeft   bool              `json:"hide_left,omitempty"` // shoppers are not told left_percent
	Items      []itemJSON        `json:"items"`
}

// itemJSON is an item as operators write and read it; stock is all units offered.
type itemJSON struct {
	ID          flashsale.ItemID `json:"id,omitzero"`
	Product     string           `json:"product"`
	PriceFen    int64            `json:"price_fen"`
	PointsPrice int64            `json:"points_price"`
	Stock       int64            `json:"stock"`
	Limit       *int             `json:"limit"`         // default 1
	PayTimeoutS *int64           `json:"pay_timeout_s"` // default 900

	// How the item is shown; the maps are by language.
	ListPriceFen int64             `json:"list_price_fen,omitempty"`
	ImageURL     string            `json:"image_url,omitempty"`
	Description  string            `json:"description,omitempty"`
	Names        map[string]string `json:"names,omitempty"`
	Descriptions map[string]string `json:"descriptions,omitempty"`
}

// accountJSON is an item as both stores hold it.
type accountJSON struct {
	ID          flashsale.ItemID `json:"id"`
	SaleID      flashsale.SaleID `json:"sale_id"`
	Product     string           `json:"product"`
	PriceFen    int64            `json:"price_fen"`
	PointsPrice int64            `json:"points_price"`
	Total       int64            `json:"total"`
	Stock       int64            `json:"stock"`
	Limit       int              `json:"limit"`
	PayTimeoutS int64            `json:"pay_timeout_s"`
	OpensAtMS   int64            `json:"opens_at_ms"`
	ClosesAtMS  int64            `json:"closes_at_ms"`
	Paused      bool             `json:"paused"`
	Generation  int64            `json:"generation"`
	Redis       *redisJSON       `json:"redis"` // null: not loaded
}

type redisJSON struct {
	Stock      int64  `json:"stock"`
	Limit      int    `json:"limit"`
	OpensAtMS  int64  `json:"opens_at_ms"`
	ClosesAtMS int64  `json:"closes_at_ms"`
	State      string `json:"state"`
	Epoch      int64  `json:"epoch"`
	Generation int64  `json:"generation"`
	Sequence   int64  `json:"sequence"`
	Restock    int64  `json:"restock"`
}

func (s *Server) createSale(ctx *fasthttp.RequestCtx) {
	var request saleJSON
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	if request.named() {
		refuse(ctx, problemInvalidField.at("id", []string{"id"}, ""))
		return
	}
	sale := request.sale()
	if err := sale.ValidateNew(s.catalogue.now(s.base)); err != nil {
		refuseSale(ctx, err)
		return
	}
	if err := sale.CheckPayable(s.config.Ways); err != nil {
		refuseSale(ctx, err)
		return
	}
	call, cancel := s.changing(ctx, callTimeout)
	defer cancel()
	created, err := s.config.Ledger.CreateSale(call, sale)
	if err != nil {
		s.changeFault(ctx, "create sale", err)
		return
	}
	s.catalogueChanged()
	s.answerValue(ctx, fasthttp.StatusCreated, newSaleJSON(created))
}

// deleteSale removes what was created by mistake: a sale that nobody has bought from.
func (s *Server) deleteSale(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	call, cancel := s.changing(ctx, preheatTimeout)
	defer cancel()
	sale, err := s.config.Ledger.DeleteSale(call, id, s.config.Live.Remove)
	switch {
	case err == nil:
		s.catalogueChanged()
		s.answerValue(ctx, fasthttp.StatusOK, newSaleJSON(sale))
	case errors.Is(err, flashsale.ErrNotFound):
		refuse(ctx, problemSaleNotFound)
	case errors.Is(err, flashsale.ErrConflict):
		refuse(ctx, problemSaleSold)
	default:
		s.changeFault(ctx, "delete sale", err)
	}
}

// refuseSale names the field that is not acceptable, with which the error begins.
func refuseSale(ctx *fasthttp.RequestCtx, err error) {
	field, _, _ := strings.Cut(err.Error(), " ")
	refuse(ctx, problemInvalidField.at(field, pathOf(field), err.Error()))
}

func (s *Server) preheatSale(ctx *fasthttp.RequestCtx) {
	if s.config.Preheater == nil {
		refuse(ctx, problemNotFound)
		return
	}
	id, ok := pathID[flashsale.SaleID](ctx, "sale", problemSaleID, problemSaleNotFound)
	if !ok {
		return
	}
	call, cancel := s.changing(ctx, preheatTimeout)
	defer cancel()
	err := s.config.Preheater.PreheatSale(call, id)
	if err == nil {
		var sale flashsale.Sale
		if sale, err = s.config.Ledger.Sale(call, id); err == nil {
			s.catalogueChanged()
			s.answerValue(ctx, fasthttp.StatusOK, newSaleJSON(sale))
			return
		}
	}
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemSaleNotFound)
		return
	}
	s.faults.of(ctx, "preheat sale", "sale", id, "error", err)
	refuse(ctx, problemUnavailable.with("detail", err.Error())) // an operator may read why
}

func (s *Server) getAccount(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	call, cancel := context.WithTimeout(s.base, callTimeout)
	defer cancel()
	item, err := s.config.Ledger.Item(call, id)
	if err != nil {
		s.refuseItemFault(ctx, "get item", err, s.fault)
		return
	}
	s.answerAccount(call, ctx, fasthttp.StatusOK, item)
}

// setPaused changes the ledger, then Redis.
func (s *Server) setPaused(paused bool) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
		if !ok {
			return
		}
		call, cancel := s.changing(ctx, callTimeout)
		defer cancel()
		item, err := s.config.Ledger.SetPaused(call, id, paused)
		if errors.Is(err, flashsale.ErrConflict) {
			refuse(ctx, problemSaleCancelled)
			return
		}
		if err != nil {
			s.refuseItemFault(ctx, "pause or resume item", err, s.changeFault)
			return
		}
		s.catalogueChanged()
		s.answerAccount(call, ctx, s.settle(call, ctx, id), item)
	}
}

// restock changes the ledger, then Redis.
func (s *Server) restock(ctx *fasthttp.RequestCtx) {
	id, ok := pathID[flashsale.ItemID](ctx, "item", problemItemID, problemItemNotFound)
	if !ok {
		return
	}
	var request struct {
		Add int64 `json:"add"`
	}
	if p := decodeStrict(ctx, &request); p != nil {
		refuse(ctx, p)
		return
	}
	if request.Add < 1 || request.Add > flashsale.StockMax {
		refuse(ctx, problemInvalidField.at("add", []string{"add"}, ""))
		return
	}
	call, cancel := s.changing(ctx, callTimeout)
	defer cancel()
	item, err := s.config.Ledger.Restock(call, id, request.Add)
	if errors.Is(err, flashsale.ErrConflict) { // the total would be out of bounds
		refuse(ctx, problemInvalidField.at("add", []string{"add"}, ""))
		return
	}
	if err != nil {
		s.refuseItemFault(ctx, "restock item", err, s.changeFault)
		return
	}
	s.catalogueChanged()
	s.answerAccount(call, ctx, s.settle(call, ctx, id), item)
}

// settle carries a change out on Redis and returns the status of the answer: 202 where that fails. It
// is promised, and a worker will do it, but shoppers may still see the item as it was.
func (s *Server) settle(call context.Context, ctx *fasthttp.RequestCtx, id flashsale.ItemID) (status int) {
	err := s.config.Effects.Settle(call, id)
	if err == nil || errors.Is(err, engine.ErrNotReady) {
		return fasthttp.StatusOK
	}
	s.faults.of(ctx, "a change of an item is still owed to Redis", "item", id, "error", err)
	return fasthttp.StatusAccepted
}

// answerAccount sends the item as both stores hold it.
func (s *Server) answerAccount(call context.Context, ctx *fasthttp.RequestCtx, status int, item flashsale.Item) {
	answer := accountJSON{
		ID: item.ID, SaleID: item.SaleID, Product: item.Product,
		PriceFen: item.PriceFen, PointsPrice: item.PointsPrice,
		Total: item.Total, Stock: item.Stock, Limit: item.Limit,
		PayTimeoutS: int64(item.PayTimeout / time.Second),
		OpensAtMS:   item.OpensAt.UnixMilli(), ClosesAtMS: item.ClosesAt.UnixMilli(),
		Paused: item.Paused, Generation: item.Generation,
	}
	account, err := s.config.Live.Item(call, item.ID)
	if err != nil && !errors.Is(err, flashsale.ErrNotFound) && status == fasthttp.StatusOK {
		s.fault(ctx, "read account", err)
		return
	}
	if err == nil {
		answer.Redis = &redisJSON{
			Stock: account.Stock, Limit: account.Limit,
			OpensAtMS: account.OpensAt.UnixMilli(), ClosesAtMS: account.ClosesAt.UnixMilli(),
			State: account.State, Epoch: account.Epoch, Generation: account.Generation,
			Sequence: account.Sequence, Restock: account.Restock,
		}
	}
	s.answerValue(ctx, status, answer)
}

func (s *Server) refuseItemFault(ctx *fasthttp.RequestCtx, operation string, err error,
	fault func(*fasthttp.RequestCtx, string, error),
) {
	if errors.Is(err, flashsale.ErrNotFound) {
		refuse(ctx, problemItemNotFound)
		return
	}
	fault(ctx, operation, err)
}

// catalogueChanged shows shoppers of this node at once what an operator did here.
func (s *Server) catalogueChanged() {
	s.catalogue.changed()
}

// named reports whether the sale or an item brings an id: the ledger gives them.
func (j saleJSON) named() bool {
	return j.ID != 0 || slices.ContainsFunc(j.Items, func(item itemJSON) bool { return item.ID != 0 })
}

func (j saleJSON) sale() flashsale.Sale {
	sale := flashsale.Sale{
		Name: j.Name, Names: j.Names, HideLeft: j.HideLeft, OpensAt: time.UnixMilli(j.OpensAtMS), ClosesAt: time.UnixMilli(j.ClosesAtMS),
		Items: make([]flashsale.Item, 0, len(j.Items)),
	}
	for _, item := range j.Items {
		sale.Items = append(sale.Items, item.item(sale))
	}
	return sale
}

func (j itemJSON) item(sale flashsale.Sale) flashsale.Item {
	item := flashsale.Item{
		Product: j.Product, PriceFen: j.PriceFen, PointsPrice: j.PointsPrice,
		Total: j.Stock, Stock: j.Stock, Limit: 1,
		OpensAt: sale.OpensAt, ClosesAt: sale.ClosesAt, PayTimeout: flashsale.DefaultTimeout,
		Details: &flashsale.Details{
			ListPriceFen: j.ListPriceFen, ImageURL: j.ImageURL, Description: j.Description,
			Names: j.Names, Descriptions: j.Descriptions,
		},
	}
	if item.Details.Empty() {
		item.Details = nil
	}
	if j.Limit != nil {
		item.Limit = *j.Limit
	}
	if j.PayTimeoutS != nil {
		// One past the bound is refused like everything beyond it, and does not overflow.
		seconds := min(max(*j.PayTimeoutS, 0), int64(flashsale.PayTimeoutMax/time.Second)+1)
		item.PayTimeout = time.Duration(seconds) * time.Second
	}
	return item
}

func newSaleJSON(sale flashsale.Sale) saleJSON {
	j := saleJSON{
		ID: sale.ID, Name: sale.Name, Names: sale.Names, HideLeft: sale.HideLeft,
		OpensAtMS: sale.OpensAt.UnixMilli(), ClosesAtMS: sale.ClosesAt.UnixMilli(),
		Items: make([]itemJSON, 0, len(sale.Items)),
	}
	for _, item := range sale.Items {
		timeout := int64(item.PayTimeout / time.Second)
		shown := cmp.Or(item.Details, &flashsale.Details{})
		j.Items = append(j.Items, itemJSON{
			ID: item.ID, Product: item.Product, PriceFen: item.PriceFen, PointsPrice: item.PointsPrice,
			Stock: item.Total, Limit: &item.Limit, PayTimeoutS: &timeout,
			ListPriceFen: shown.ListPriceFen, ImageURL: shown.ImageURL, Description: shown.Description,
			Names: shown.Names, Descriptions: shown.Descriptions,
		})
	}
	return j
}
