package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// routes are Alipay's gateway, the buttons of its page, and the knobs.
func (s *Sandbox) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /gateway.do", s.gateway)
	mux.HandleFunc("POST /gateway.do", s.gateway)
	mux.HandleFunc("POST /cashier", s.cashier)
	mux.HandleFunc("GET /sandbox/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.reply(w, s.Faults())
	})
	mux.HandleFunc("PUT /sandbox/faults", s.putFaults)
	mux.HandleFunc("GET /sandbox/trades", func(w http.ResponseWriter, _ *http.Request) {
		s.reply(w, s.Trades())
	})
	mux.HandleFunc("GET /sandbox/notices", func(w http.ResponseWriter, _ *http.Request) {
		s.reply(w, s.History())
	})
	mux.HandleFunc("POST /sandbox/trades/{order_no}/pay", s.do(s.Pay))
	mux.HandleFunc("POST /sandbox/trades/{order_no}/decline", s.do(s.Decline))
	mux.HandleFunc("POST /sandbox/trades/{order_no}/pay_late", s.do(s.PayLate))
	mux.HandleFunc("POST /sandbox/trades/{order_no}/refund", s.refundByHand)
	return mux
}

func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, requestBytesMax))
	decoder.DisallowUnknownFields()
	var faults Faults
	err := decoder.Decode(&faults)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.reply(w, s.Faults())
}

// refundByHand takes number and amount_fen from the query.
func (s *Sandbox) refundByHand(w http.ResponseWriter, r *http.Request) {
	fen, _ := strconv.ParseInt(r.FormValue("amount_fen"), 10, 64) // 0, which is refused, when it is no number
	s.do(func(orderNo string) error { return s.RefundByHand(orderNo, r.FormValue("number"), fen) })(w, r)
}

func (s *Sandbox) do(change func(orderNo string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		orderNo := r.PathValue("order_no")
		err := change(orderNo)
		switch {
		case errors.Is(err, ErrNoTrade):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusConflict)
		default:
			trade, _ := s.Trade(orderNo) // a trade is never removed
			s.reply(w, trade)
		}
	}
}

func (s *Sandbox) reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.config.Logger.Debug("reply not sent", "error", err)
	}
}
