package alipay

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

	"flashsale"
)

// MessageBytesMax bounds a notice or return. Alipay's have about 1 to 4 KiB.
const MessageBytesMax = 16 << 10

const (
	fieldsMax   = 100
	fieldLenMax = 64
	signType    = "RSA2"

	signBytesMin = rsaBitsMin / 8 // of a signature
	signBytesMax = 1 << 10

	fieldCertSN = "alipay_cert_sn"
)

var errUTF8 = errors.New("not UTF-8")

// Admit says whether a message about an order may cost a check of its signature. It is asked once
// everything that costs less has been looked at; its error is what the message then ends with.
type Admit func(no flashsale.OrderNo) error

// verified returns the fields of a form that Alipay has signed for us, in UTF-8. The checks come
// in the order of their cost, and everything that decides what the library will do comes before
// it sees a field. A nil admit lets everything in.
func (c *Client) verified(raw []byte, admit Admit) (url.Values, error) {
	fields, err := parseFields(raw)
	if err != nil {
		return nil, err
	}
	if fields.Get("sign_type") != signType {
		return nil, &forgery{"sign_type", "must be " + signType}
	}
	read, err := decoderOf(fields.Get("charset"))
	if err != nil {
		return nil, err
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(fields.Get("sign"))
	if err != nil || len(signature) < signBytesMin || len(signature) > signBytesMax {
		return nil, &forgery{"signature", "missing, or not one in base64"}
	}
	switch {
	case fields.Get("app_id") != c.config.AppID:
		return nil, &forgery{"app_id", "of another application"}
	case fields.Get("seller_id") != c.config.SellerID:
		return nil, &forgery{"seller_id", "of another seller"}
	}
	no, err := parseOrderNo(fields)
	if err != nil {
		return nil, err
	}
	if admit != nil {
		if err := admit(no); err != nil {
			return nil, err
		}
	}
	if err := c.verifySignature(fields); err != nil {
		return nil, err
	}
	for name, values := range fields {
		if values[0], err = read(values[0]); err != nil {
			return nil, &forgery{"charset", name + " is not in the message's own"}
		}
	}
	return fields, nil
}

// decoderOf returns what reads the values of a message, which Alipay writes, and signs, in the
// charset of the request that the trade was made with: usually ours, but a trade that somebody has
// made by another road keeps that road's.
func decoderOf(charset string) (func(string) (string, error), error) {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8":
		return func(value string) (string, error) {
			if !utf8.ValidString(value) {
				return "", errUTF8
			}
			return value, nil
		}, nil
	case "gbk", "gb2312", "gb18030": // the last holds the others
		return simplifiedchinese.GB18030.NewDecoder().String, nil
	default:
		return nil, &forgery{"charset", "not one that Alipay writes"}
	}
}

// verifySignature tries the named certificate if it is one of ours, or each of ours when none is
// named. In key mode none may be named.
func (c *Client) verifySignature(fields url.Values) error {
	allowed := c.serials
	if _, named := fields[fieldCertSN]; named {
		serial := fields.Get(fieldCertSN)
		if !slices.Contains(c.serials, serial) {
			return &forgery{"certificate", "serial number is not on our list"}
		}
		allowed = []string{serial}
	}
	if len(c.serials) == 0 {
		allowed = []string{""} // key mode: the library's only key
	}
	for _, serial := range allowed {
		attempt := make(url.Values, len(fields)+1) // the caller's fields stay as they came
		for name, values := range fields {
			attempt[name] = values
		}
		if serial != "" {
			attempt[fieldCertSN] = []string{serial} // which no signature covers
		}
		if c.api.VerifySign(attempt) == nil {
			return nil
		}
	}
	return &forgery{"signature", "does not fit the fields"}
}

// parseFields reads a form as strictly as Alipay writes it. A signature covers the decoded
// fields joined as name=value&name=value, so every doubt about which text belongs to which field
// is a way to forge one: no field comes twice, none is empty of a name, and no value looks as
// if it held another field.
func parseFields(raw []byte) (url.Values, error) {
	if len(raw) == 0 || len(raw) > MessageBytesMax {
		return nil, &forgery{"size", "empty or too long"}
	}
	fields := make(url.Values)
	for pair := range strings.SplitSeq(string(raw), "&") {
		rawName, rawValue, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, &forgery{"form", "a field without a value"}
		}
		name, err := url.QueryUnescape(rawName)
		if err != nil || !isFieldName(name) {
			return nil, &forgery{"form", "a name that is not one of Alipay's"}
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || strings.IndexByte(value, 0) >= 0 || hidesField(value) {
			return nil, &forgery{"form", "a value that is not plain text"}
		}
		if _, twice := fields[name]; twice {
			return nil, &forgery{"form", "a field that comes twice"}
		}
		if len(fields) == fieldsMax {
			return nil, &forgery{"form", "too many fields"}
		}
		fields[name] = []string{value}
	}
	return fields, nil
}

// isFieldName accepts words of letters, digits and what joins words.
func isFieldName(name string) bool {
	if name == "" || len(name) > fieldLenMax {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("_-.", c) < 0 {
			return false
		}
	}
	return true
}

// hidesField reports whether a value contains "&name=": text that reads like the next field.
func hidesField(value string) bool {
	parts := strings.Split(value, "&")
	for _, part := range parts[1:] {
		if name, _, ok := strings.Cut(part, "="); ok && isFieldName(name) {
			return true
		}
	}
	return false
}
