package alipay

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	lib "github.com/smartwalle/alipay/v3"

	"flashsale"
)

const (
	answerBytesMax = 1 << 20
	idleTimeout    = 90 * time.Second
)

// Methods of Alipay's API.
const (
	methodQuery       = "alipay.trade.query"
	methodClose       = "alipay.trade.close"
	methodRefund      = "alipay.trade.refund"
	methodRefundQuery = "alipay.trade.fastpay.refund.query"
)

// Client is one application at Alipay. It is safe for concurrent use.
type Client struct {
	config  Config
	api     *lib.Client
	http    *http.Client
	serials []string // of the certificates that Alipay may sign with; none in key mode
	metrics *metrics
}

// New makes a client; it calls nobody. Mistakes of the configuration that would only show when
// money is on its way are refused here: keys that do not belong together, addresses that Alipay
// cannot reach, anything of a sandbox unless it is allowed.
func New(config Config) (*Client, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	client := newHTTPClient(config)
	api, serials, err := newAPI(config, lib.WithHTTPClient(client))
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("alipay: register metrics: %w", err)
	}
	config.PrivateKey = "" // the library has it; what is not here cannot leak from here
	if config.GatewayURL != ProductionGateway {
		config.Logger.Warn("payments go to a sandbox, not to Alipay", "gateway", config.GatewayURL)
	}
	return &Client{config: config, api: api, http: client, serials: serials, metrics: metrics}, nil
}

// CloseIdleConnections closes connections to the gateway that nobody uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// newHTTPClient bounds what the library does not: time, length of answers, connections. It
// follows no redirects, as no answer to a signed call is one.
func newHTTPClient(config Config) *http.Client {
	return &http.Client{
		Timeout: config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Transport: &boundedTransport{http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     idleTimeout,
			MaxConnsPerHost:     config.ConnsMax,
			MaxIdleConnsPerHost: config.ConnsMax,
			TLSHandshakeTimeout: config.Timeout,
		}},
	}
}

// boundedTransport cuts answers that are too long with an error.
type boundedTransport struct{ http.Transport }

func (t *boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = http.MaxBytesReader(nil, response.Body, answerBytesMax)
	return response, nil
}

// answer is the part that all answers share.
type answer struct {
	Code       string `json:"code"`
	SubCode    string `json:"sub_code"`
	SubMsg     string `json:"sub_msg"`
	OutTradeNo string `json:"out_trade_no"`
}

func (a *answer) head() *answer { return a }

// call asks Alipay about one order. A nil error means a signed answer with the code of success,
// about that very order.
func (c *Client) call(
	ctx context.Context, method string, no flashsale.OrderNo, fields map[string]string,
	reply interface{ head() *answer },
) error {
	started := time.Now()
	err := c.request(ctx, method, no, fields, reply)
	c.metrics.calls.WithLabelValues(method, callResult(err)).Observe(time.Since(started).Seconds())
	return err
}

func (c *Client) request(
	ctx context.Context, method string, no flashsale.OrderNo, fields map[string]string,
	reply interface{ head() *answer },
) error {
	payload := lib.NewPayload(method).AddBizField("out_trade_no", no.String())
	for name, value := range fields {
		payload.AddBizField(name, value)
	}
	if err := c.api.Request(ctx, payload, reply); err != nil {
		return libraryError(method, err)
	}
	switch head := reply.head(); {
	case head.Code != codeSuccess:
		return &APIError{Method: method, Code: head.Code, SubCode: head.SubCode, SubMsg: head.SubMsg, Signed: true}
	case head.OutTradeNo != "" && head.OutTradeNo != no.String():
		// A signed answer to another question, played again.
		return fmt.Errorf("%s answered about another order: %w: %w", method, ErrUnavailable, ErrForged)
	}
	return nil
}

// libraryError classifies what the library returns before it has verified an answer: nothing of
// it is proven.
func libraryError(method string, err error) error {
	var unsigned *lib.Error
	var notBase64 base64.CorruptInputError
	switch {
	case errors.As(err, &unsigned):
		if unsigned == nil { // it is, inside the interface, for the answer "null"
			unsigned = &lib.Error{}
		}
		return &APIError{
			Method: method, Code: string(unsigned.Code), SubCode: unsigned.SubCode, SubMsg: unsigned.SubMsg,
		}
	case errors.Is(err, rsa.ErrVerification), errors.Is(err, lib.ErrAliPublicKeyNotFound), errors.As(err, &notBase64):
		return fmt.Errorf("%s answered with a wrong signature: %w: %w", method, ErrUnavailable, ErrForged)
	default:
		return fmt.Errorf("%s: %w: %w", method, ErrUnavailable, err)
	}
}
