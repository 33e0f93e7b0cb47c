package sandbox

import (
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// pageData is what the page shows: a trade, or why there is none.
type pageData struct {
	Trade   Trade
	Amount  string
	Expires string
	LateBy  time.Duration
	Waiting bool
	State   string
	Problem string
}

// pagePay is alipay.trade.page.pay: opening the page makes the trade.
func (s *Sandbox) pagePay(w http.ResponseWriter, fields map[string]string, biz business, invalid string) {
	if invalid != "" {
		s.showProblem(w, http.StatusBadRequest, invalid)
		return
	}
	fen, err := wire.ParseFen(biz.TotalAmount)
	if err != nil || fen == 0 || biz.OutTradeNo == "" || biz.Subject == "" || biz.ProductCode != productCode {
		s.showProblem(w, http.StatusBadRequest, badParameter.subCode)
		return
	}
	request := Trade{
		OrderNo: biz.OutTradeNo, Subject: biz.Subject, AmountFen: fen,
		NotifyURL: fields["notify_url"], ReturnURL: fields["return_url"],
	}
	if biz.TimeExpire != "" {
		if request.ExpiresAt, err = wire.ParseTime(biz.TimeExpire); err != nil {
			s.showProblem(w, http.StatusBadRequest, badParameter.subCode)
			return
		}
	}
	s.mu.Lock()
	trade, refused := s.open(request)
	if refused != nil {
		s.mu.Unlock()
		s.showProblem(w, http.StatusConflict, refused.subCode)
		return
	}
	shown := trade.clone()
	s.mu.Unlock()
	s.showTrade(w, http.StatusOK, shown)
}

// cashier is what the buttons of the page do. The trade's number is known only to whoever saw
// the page.
func (s *Sandbox) cashier(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, requestBytesMax)
	orderNo := r.PostFormValue("order_no")
	trade, err := s.Trade(orderNo)
	if err != nil || trade.TradeNo != r.PostFormValue("trade_no") {
		s.showProblem(w, http.StatusNotFound, noSuchTrade.subCode)
		return
	}
	switch r.PostFormValue("action") {
	case "pay":
		err = s.Pay(orderNo)
	case "decline":
		err = s.Decline(orderNo)
	case "late":
		err = s.payLater(orderNo)
	default:
		s.showProblem(w, http.StatusBadRequest, badParameter.subCode)
		return
	}
	if trade, _ = s.Trade(orderNo); err != nil || trade.PaidAt.IsZero() || trade.ReturnURL == "" {
		s.showTrade(w, http.StatusOK, trade)
		return
	}
	to, err := s.returnURL(trade)
	if err != nil {
		s.showProblem(w, http.StatusInternalServerError, "ACQ.SYSTEM_ERROR")
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// payLater lets the money arrive when the trade has expired, whatever becomes of it until then.
func (s *Sandbox) payLater(orderNo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	trade, err := s.find(orderNo)
	if err != nil {
		return err
	}
	from := s.config.Now()
	if trade.ExpiresAt.After(from) {
		from = trade.ExpiresAt
	}
	trade.LateAt = from.Add(s.config.LateBy)
	s.changedLocked()
	return nil
}

// returnURL is where the browser goes with the signed proof of which order it comes from.
func (s *Sandbox) returnURL(trade Trade) (string, error) {
	fields := map[string]string{
		"app_id": s.config.AppID, "auth_app_id": s.config.AppID, "seller_id": s.config.SellerID,
		"charset": charset, "version": apiVersion, "method": methodPagePay + ".return",
		"out_trade_no": trade.OrderNo, "trade_no": trade.TradeNo,
		"total_amount": wire.FormatFen(trade.AmountFen), "timestamp": wire.FormatTime(s.config.Now()),
	}
	if err := s.signMessage(s.keys.own, fields); err != nil {
		return "", err
	}
	to, err := url.Parse(trade.ReturnURL)
	if err != nil {
		return "", err
	}
	to.RawQuery = encodeForm(fields)
	return to.String(), nil
}

func (s *Sandbox) showTrade(w http.ResponseWriter, status int, trade Trade) {
	data := pageData{
		Trade: trade, Amount: wire.FormatFen(trade.AmountFen), LateBy: s.config.LateBy,
		Waiting: trade.Status == WaitBuyerPay && trade.LateAt.IsZero(),
	}
	if !trade.ExpiresAt.IsZero() {
		data.Expires = wire.FormatTime(trade.ExpiresAt)
	}
	switch {
	case trade.Status == TradeSuccess:
		data.State = "Paid"
	case !trade.LateAt.IsZero():
		data.State = "The money arrives at " + wire.FormatTime(trade.LateAt)
	case trade.Status == TradeClosed && trade.RefundedFen() > 0:
		data.State = "Refunded"
	case trade.Status == TradeClosed:
		data.State = "Closed"
	}
	s.show(w, status, data)
}

func (s *Sandbox) showProblem(w http.ResponseWriter, status int, problem string) {
	s.show(w, status, pageData{Problem: problem})
}

func (s *Sandbox) show(w http.ResponseWriter, status int, data pageData) {
	w.Header().Set("Content-Type", "text/html; charset="+charset)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := page.Execute(w, data); err != nil {
		s.config.Logger.Debug("page not sent", "error", err)
	}
}
