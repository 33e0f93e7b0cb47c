package alipay

import (
	"encoding/base64"
	"net/url"
)

// Sign signs the fields of a request as the client does, for the vectors of testdata.
func (c *Client) Sign(fields url.Values) (string, error) {
	signature, err := c.api.SignValues(fields)
	return base64.StdEncoding.EncodeToString(signature), err
}
