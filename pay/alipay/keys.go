package alipay

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	lib "github.com/smartwalle/alipay/v3"

	"flashsale/pay/alipay/internal/wire"
)

const (
	rsaBitsMin = 2048 // what RSA2 asks for
	pathLenMax = 1024

	// A DER key or certificate is a SEQUENCE, and never that short: what else decodes as
	// base64 may be the path of a file.
	derTag    = 0x30
	derLenMin = 64

	blockCertificate = "CERTIFICATE"
	blockPrivateKey  = "PRIVATE KEY"
	blockPublicKey   = "PUBLIC KEY"
)

// newAPI makes the library's client with all keys loaded, and returns the serial numbers of
// the certificates that Alipay may sign with: none in key mode.
//
// The library never runs in its production mode, in which it downloads certificates. Apart from
// that the mode only chooses a gateway, which is given.
func newAPI(config Config, options ...lib.OptionFunc) (api *lib.Client, serials []string, err error) {
	private, err := privateKey(string(config.PrivateKey))
	if err != nil {
		return nil, nil, fmt.Errorf("alipay: PrivateKey: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, errors.New("alipay: PrivateKey: cannot be encoded")
	}
	options = append(options, lib.WithSandboxGateway(config.GatewayURL), lib.WithTimeLocation(wire.Beijing))
	api, err = lib.New(config.AppID, encode(blockPrivateKey, der), false, options...)
	if err != nil {
		return nil, nil, errors.New("alipay: PrivateKey: not taken by the library")
	}
	if config.AlipayPublicKey != "" {
		return api, nil, loadPublicKey(api, config.AlipayPublicKey, private)
	}
	serials, err = loadCertificates(api, config, private)
	return api, serials, err
}

func loadPublicKey(api *lib.Client, text string, private *rsa.PrivateKey) error {
	blocks, err := material(text)
	if err != nil {
		return fmt.Errorf("alipay: AlipayPublicKey: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(blocks[0])
	if err != nil {
		return errors.New("alipay: AlipayPublicKey: not an RSA public key (PKIX)")
	}
	public, ok := parsed.(*rsa.PublicKey)
	switch {
	case !ok || public.N.BitLen() < rsaBitsMin:
		return fmt.Errorf("alipay: AlipayPublicKey: not an RSA public key of at least %d bits", rsaBitsMin)
	case public.Equal(&private.PublicKey):
		// The two lie side by side in the console, and with ours no message would ever verify.
		return errors.New("alipay: AlipayPublicKey: this is the application's own public key, " +
			"take the one called Alipay's (支付宝公钥)")
	}
	if err := api.LoadAliPayPublicKey(encode(blockPublicKey, blocks[0])); err != nil {
		return fmt.Errorf("alipay: AlipayPublicKey: %w", err)
	}
	return nil
}

func loadCertificates(api *lib.Client, config Config, private *rsa.PrivateKey) (serials []string, err error) {
	app, err := certificates(config.AppCertificate)
	if err != nil {
		return nil, fmt.Errorf("alipay: AppCertificate: %w", err)
	}
	if !private.PublicKey.Equal(app[0].PublicKey) {
		return nil, errors.New("alipay: AppCertificate: does not belong to PrivateKey")
	}
	if err := api.LoadAppCertPublicKey(encode(blockCertificate, app[0].Raw)); err != nil {
		return nil, fmt.Errorf("alipay: AppCertificate: %w", err)
	}

	roots, err := certificates(config.RootCertificates)
	if err != nil {
		return nil, fmt.Errorf("alipay: RootCertificates: %w", err)
	}
	var bundle strings.Builder
	for _, root := range roots {
		bundle.WriteString(encode(blockCertificate, root.Raw))
	}
	if err := api.LoadAliPayRootCert(bundle.String()); err != nil {
		return nil, fmt.Errorf("alipay: RootCertificates: %w", err)
	}

	signers, err := certificates(config.AlipayCertificates)
	if err != nil {
		return nil, fmt.Errorf("alipay: AlipayCertificates: %w", err)
	}
	for _, cert := range signers {
		if cert.IsCA {
			continue // Alipay's file also holds the authority that issued the certificate
		}
		if private.PublicKey.Equal(cert.PublicKey) {
			return nil, errors.New("alipay: AlipayCertificates: this is the application's own certificate")
		}
		if !config.AllowSandbox && isTestIssuer(cert) {
			return nil, errors.New("alipay: AlipayCertificates: issued for a sandbox, and AllowSandbox is not set")
		}
		if err := api.LoadAlipayCertPublicKey(encode(blockCertificate, cert.Raw)); err != nil {
			return nil, fmt.Errorf("alipay: AlipayCertificates: %w", err)
		}
		serials = append(serials, wire.CertSN(cert))
	}
	if len(serials) == 0 {
		return nil, errors.New("alipay: AlipayCertificates: only authorities, no certificate that signs")
	}
	return serials, nil
}

// isTestIssuer knows Alipay's test authorities ("Ant Financial … test") and our sandbox.
func isTestIssuer(cert *x509.Certificate) bool {
	issuer := strings.ToLower(cert.Issuer.String())
	return strings.Contains(issuer, "test") || strings.Contains(issuer, "sandbox")
}

func privateKey(text string) (*rsa.PrivateKey, error) {
	blocks, err := material(text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS1PrivateKey(blocks[0])
	if err != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(blocks[0])
		if err != nil {
			return nil, errors.New("not an RSA private key (PKCS#1 or PKCS#8)")
		}
		var ok bool
		if key, ok = parsed.(*rsa.PrivateKey); !ok {
			return nil, errors.New("not an RSA private key")
		}
	}
	if key.N.BitLen() < rsaBitsMin {
		return nil, fmt.Errorf("must have at least %d bits, not %d", rsaBitsMin, key.N.BitLen())
	}
	return key, nil
}

// certificates returns those with an RSA key. Alipay's file of roots also holds some of the
// Chinese SM2 kind, which neither Go nor Alipay's serial number of the roots counts.
func certificates(text string) ([]*x509.Certificate, error) {
	blocks, err := material(text)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, der := range blocks {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, ok := cert.PublicKey.(*rsa.PublicKey); ok {
			certs = append(certs, cert)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate with an RSA key")
	}
	return certs, nil
}

// material returns the DER blocks that a configured text stands for, at least one. Its errors
// never repeat the text: what was meant as a path may be a key with a typing mistake.
func material(text string) ([][]byte, error) {
	if blocks := decode([]byte(text)); blocks != nil {
		return blocks, nil
	}
	if len(text) > pathLenMax || strings.ContainsAny(text, "\r\n\x00") {
		return nil, errors.New("neither PEM nor base64 nor the path of a file")
	}
	content, err := os.ReadFile(text)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // without the path
		}
		return nil, fmt.Errorf("neither PEM nor base64, and as the path of a file: %w", err)
	}
	if blocks := decode(content); blocks != nil {
		return blocks, nil
	}
	return nil, errors.New("the file holds neither PEM nor base64")
}

func decode(text []byte) [][]byte {
	if bytes.Contains(text, []byte("-----BEGIN")) {
		var blocks [][]byte
		for {
			var block *pem.Block
			if block, text = pem.Decode(text); block == nil {
				return blocks
			}
			blocks = append(blocks, block.Bytes)
		}
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil || len(der) < derLenMin || der[0] != derTag {
		return nil
	}
	return [][]byte{der}
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
