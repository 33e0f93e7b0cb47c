package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

const (
	requestBytesMax = 64 << 10
	methodPagePay   = "alipay.trade.page.pay"
	productCode     = "FAST_INSTANT_TRADE_PAY"

	codeSuccess        = "10000"
	codeInvalid        = "40002"
	codeBusinessFailed = "40004"
	codeTooMany        = "40005"

	tooManyCalls  = "isv.app-call-limited"
	unknownMethod = "isv.invalid-method"
)

// refusal is a business error of Alipay's.
type refusal struct{ subCode, subMsg string }

var (
	noSuchTrade  = &refusal{"ACQ.TRADE_NOT_EXIST", "交易不存在"}
	badParameter = &refusal{"ACQ.INVALID_PARAMETER", "参数无效"}
	wrongStatus  = &refusal{"ACQ.TRADE_STATUS_ERROR", "交易状态不合法"}
)

// business is the biz_content of all methods.
type business struct {
	OutTradeNo   string `json:"out_trade_no"`
	TradeNo      string `json:"trade_no"`
	OutRequestNo string `json:"out_request_no"`
	ProductCode  string `json:"product_code"`
	RefundAmount string `json:"refund_amount"`
	RefundReason string `json:"refund_reason"`
	Subject      string `json:"subject"`
	TimeExpire   string `json:"time_expire"`
	TotalAmount  string `json:"total_amount"`
}

// gateway is /gateway.do: the pay page for browsers, everything else for the application.
func (s *Sandbox) gateway(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, requestBytesMax)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "malformed form", http.StatusBadRequest)
		return
	}
	fields, invalid := s.checkRequest(r.Form)
	var biz business
	if invalid == "" && json.Unmarshal([]byte(fields["biz_content"]), &biz) != nil {
		invalid = "isv.invalid-parameter"
	}
	if fields["method"] == methodPagePay {
		s.pagePay(w, fields, biz, invalid)
		return
	}
	leave, taken := s.enter(r.Context())
	defer leave()
	if !taken {
		invalid = tooManyCalls
	}
	s.call(w, fields["method"], biz, invalid)
}

// enter counts a call until it leaves, after the time that Alipay takes, and reports whether it is
// within what Alipay takes at once.
func (s *Sandbox) enter(ctx context.Context) (leave func(), taken bool) {
	s.mu.Lock()
	s.calls++
	s.callsMost = max(s.callsMost, s.calls)
	faults, calls := s.faults, s.calls
	s.mu.Unlock()
	timer := time.NewTimer(time.Duration(faults.CallDelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls--
	}, faults.CallsMax == 0 || calls <= faults.CallsMax
}

// CallsMost is how many calls there ever were at the same time.
func (s *Sandbox) CallsMost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callsMost
}

// checkRequest returns the fields of a request, and what Alipay would say is wrong with them.
func (s *Sandbox) checkRequest(form url.Values) (fields map[string]string, invalid string) {
	fields = make(map[string]string, len(form))
	for name, values := range form {
		fields[name] = values[0]
		if len(values) > 1 {
			invalid = "isv.invalid-parameter"
		}
	}
	_, timeErr := wire.ParseTime(fields["timestamp"])
	switch {
	case invalid != "":
	case fields["app_id"] != s.config.AppID:
		invalid = "isv.invalid-app-id"
	case fields["sign_type"] != signType:
		invalid = "isv.invalid-signature-type"
	case !strings.EqualFold(fields["charset"], charset):
		invalid = "isv.invalid-charset"
	case fields["version"] != apiVersion:
		invalid = "isv.invalid-version"
	case timeErr != nil:
		invalid = "isv.invalid-timestamp"
	case fields["app_cert_sn"] != s.keys.appCertSN || fields["alipay_root_cert_sn"] != s.keys.rootSN:
		invalid = "isv.invalid-app-cert-sn"
	case verify(&s.keys.app.PublicKey, content(fields, fieldSign), fields[fieldSign]) != nil:
		invalid = "isv.invalid-signature"
	}
	return fields, invalid
}

func (s *Sandbox) call(w http.ResponseWriter, method string, biz business, invalid string) {
	s.mu.Lock()
	var reply map[string]any
	if invalid == "" {
		reply, invalid = s.carryOut(method, biz)
	}
	faults := s.faults
	if faults.FailCalls > 0 {
		s.faults.FailCalls--
	}
	s.mu.Unlock()
	if faults.FailCalls > 0 {
		http.Error(w, "Bad Gateway", http.StatusBadGateway)
		return
	}
	switch invalid {
	case "":
	case tooManyCalls:
		reply = map[string]any{"code": codeTooMany, "msg": "Call Limited", "sub_code": invalid, "sub_msg": invalid}
	default:
		reply = map[string]any{"code": codeInvalid, "msg": "Invalid Arguments", "sub_code": invalid, "sub_msg": invalid}
	}
	raw, err := json.Marshal(reply)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	key := s.keys.own
	if faults.ForgeAnswers {
		key = s.keys.app
	}
	signature, err := sign(key, string(raw))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// The signature covers the very bytes of the inner object, so nothing may encode it again.
	name := strings.ReplaceAll(method, ".", "_") + "_response"
	certificate := ""
	if s.keys.ownCertSN != "" {
		certificate = `,"alipay_cert_sn":"` + s.keys.ownCertSN + `"`
	}
	if invalid != "" {
		signature = "" // Alipay signs no answer to a request that it does not trust
	}
	w.Header().Set("Content-Type", "application/json;charset="+charset)
	fmt.Fprintf(w, `{%q:%s%s,"sign":%q}`, name, raw, certificate, signature)
}

// carryOut expects s.mu to be held.
func (s *Sandbox) carryOut(method string, biz business) (reply map[string]any, invalid string) {
	var refused *refusal
	trade, err := s.find(biz.OutTradeNo)
	switch method {
	case "alipay.trade.query", "alipay.trade.close", "alipay.trade.refund", "alipay.trade.fastpay.refund.query":
	default:
		return nil, unknownMethod
	}
	switch {
	case err != nil || biz.TradeNo != "" && biz.TradeNo != trade.TradeNo:
		refused = noSuchTrade
	case method == "alipay.trade.query":
		reply = s.answerQuery(trade)
	case method == "alipay.trade.close":
		reply, refused = s.answerClose(trade)
	case method == "alipay.trade.refund":
		reply, refused = s.answerRefund(trade, biz)
	default:
		reply = s.answerRefundQuery(trade, biz)
	}
	if refused != nil {
		return map[string]any{
			"code": codeBusinessFailed, "msg": "Business Failed",
			"sub_code": refused.subCode, "sub_msg": refused.subMsg,
		}, ""
	}
	reply["code"], reply["msg"] = codeSuccess, "Success"
	reply["out_trade_no"], reply["trade_no"] = trade.OrderNo, trade.TradeNo
	return reply, ""
}

func (s *Sandbox) answerQuery(trade *Trade) map[string]any {
	reply := map[string]any{"trade_status": trade.Status, "total_amount": wire.FormatFen(trade.AmountFen)}
	if !trade.PaidAt.IsZero() {
		reply["send_pay_date"] = wire.FormatTime(trade.PaidAt)
		reply["buyer_user_id"] = buyerID
	}
	return reply
}

func (s *Sandbox) answerClose(trade *Trade) (map[string]any, *refusal) {
	if trade.Status != WaitBuyerPay {
		return nil, wrongStatus
	}
	s.close(trade)
	return map[string]any{}, nil
}

func (s *Sandbox) answerRefund(trade *Trade, biz business) (map[string]any, *refusal) {
	fen, err := wire.ParseFen(biz.RefundAmount)
	if err != nil || fen == 0 || biz.OutRequestNo == "" {
		return nil, badParameter
	}
	changed, refused := s.refund(trade, biz.OutRequestNo, fen)
	if refused != nil {
		return nil, refused
	}
	fundChange := "N"
	if changed {
		fundChange = "Y"
	}
	return map[string]any{
		"fund_change": fundChange, "refund_fee": wire.FormatFen(trade.RefundedFen()), "buyer_user_id": buyerID,
	}, nil
}

func (s *Sandbox) answerRefundQuery(trade *Trade, biz business) map[string]any {
	reply := map[string]any{}
	for i := range trade.Refunds {
		refund := &trade.Refunds[i]
		if refund.RequestNo != biz.OutRequestNo {
			continue
		}
		s.settle(trade, refund)
		if refund.Done {
			reply["out_request_no"], reply["refund_status"] = refund.RequestNo, "REFUND_SUCCESS"
			reply["refund_amount"] = wire.FormatFen(refund.AmountFen)
			reply["total_amount"] = wire.FormatFen(trade.AmountFen)
			reply["gmt_refund_pay"] = wire.FormatTime(refund.At)
		}
	}
	return reply
}
