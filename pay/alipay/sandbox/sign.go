package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
)

const (
	signType   = "RSA2"
	charset    = "utf-8"
	apiVersion = "1.0"
	fieldSign  = "sign"
)

// sign is RSA2: PKCS#1 v1.5 over SHA-256, in base64.
func sign(key *rsa.PrivateKey, content string) (string, error) {
	digest := sha256.Sum256([]byte(content))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}

func verify(key *rsa.PublicKey, content, signature string) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(raw) == 0 {
		return errors.New("sign is missing or not base64")
	}
	digest := sha256.Sum256([]byte(content))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw)
}

// content is the text that a signature covers: the fields in the order of their names, without
// those that are left out and those that are empty.
func content(fields map[string]string, without ...string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] == "" || slices.Contains(without, name) {
			continue
		}
		if text.Len() > 0 {
			text.WriteByte('&')
		}
		text.WriteString(name + "=" + fields[name])
	}
	return text.String()
}

// signMessage signs what is sent to the application, other than answers: sign_type and
// alipay_cert_sn are not covered. (In a request to us sign_type is.)
func (s *Sandbox) signMessage(key *rsa.PrivateKey, fields map[string]string) error {
	fields["sign_type"] = signType
	if s.keys.ownCertSN != "" {
		fields["alipay_cert_sn"] = s.keys.ownCertSN
	}
	signature, err := sign(key, content(fields, fieldSign, "sign_type", "alipay_cert_sn"))
	fields[fieldSign] = signature
	return err
}
