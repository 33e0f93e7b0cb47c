package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"flashsale/pay/alipay/internal/wire"
)

const (
	keyBits      = 2048
	serialBits   = 120
	certLifetime = 10 * 365 * 24 * time.Hour
)

// keys of both ends, since the application is ours too. The certificates are PEM, and empty in
// key mode.
type keys struct {
	app, own *rsa.PrivateKey

	root, appCert, ownCert       string
	rootSN, appCertSN, ownCertSN string
}

// storedKeys are keys in PEM, as the state file holds them.
type storedKeys struct {
	App     string `json:"app_private_key"`
	Own     string `json:"private_key"`
	Root    string `json:"root_certificate,omitempty"`
	AppCert string `json:"app_certificate,omitempty"`
	OwnCert string `json:"certificate,omitempty"`
}

// newKeys takes each key from the configuration, else from the state file, else makes one.
func newKeys(config Config, stored storedKeys) (keys, error) {
	var k keys
	var err error
	if k.app, err = chooseKey(config.AppKey, stored.App); err != nil {
		return keys{}, err
	}
	if k.own, err = chooseKey(config.Key, stored.Own); err != nil {
		return keys{}, err
	}
	if !config.Certificates {
		return k, nil
	}
	k.root, k.appCert, k.ownCert = stored.Root, stored.AppCert, stored.OwnCert
	if k.root == "" {
		if err := k.certify(config); err != nil {
			return keys{}, fmt.Errorf("sandbox: make certificates: %w", err)
		}
	}
	for sn, text := range map[*string]string{&k.rootSN: k.root, &k.appCertSN: k.appCert, &k.ownCertSN: k.ownCert} {
		if *sn, err = serialOf(text); err != nil {
			return keys{}, err
		}
	}
	return k, nil
}

func (k keys) stored() storedKeys {
	return storedKeys{
		App: encodePrivate(k.app), Own: encodePrivate(k.own),
		Root: k.root, AppCert: k.appCert, OwnCert: k.ownCert,
	}
}

func chooseKey(given *rsa.PrivateKey, stored string) (*rsa.PrivateKey, error) {
	if given != nil {
		return given, nil
	}
	if stored == "" {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return nil, fmt.Errorf("sandbox: make a key: %w", err)
		}
		return key, nil
	}
	block, _ := pem.Decode([]byte(stored))
	if block == nil {
		return nil, errors.New("sandbox: a key in the state file is not PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("sandbox: a key in the state file is not PKCS#1")
	}
	return key, nil
}

// certify makes an authority, whose key is then forgotten, and the certificates of both ends.
func (k *keys) certify(config Config) error {
	authority, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	root := newCertificate("Local Alipay sandbox authority")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	if k.root, err = issue(root, root, &authority.PublicKey, authority); err != nil {
		return err
	}
	app := newCertificate(config.SellerID + "-" + config.AppID)
	if k.appCert, err = issue(app, root, &k.app.PublicKey, authority); err != nil {
		return err
	}
	k.ownCert, err = issue(newCertificate("Local Alipay sandbox"), root, &k.own.PublicKey, authority)
	return err
}

func newCertificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)) // never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Country: []string{"CN"}, Organization: []string{"Local Alipay sandbox"}, CommonName: name,
		},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(certLifetime),
	}
}

func issue(cert, parent *x509.Certificate, public *rsa.PublicKey, authority *rsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, authority)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

func serialOf(text string) (string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return "", errors.New("sandbox: a certificate in the state file is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("sandbox: a certificate in the state file: %w", err)
	}
	return wire.CertSN(cert), nil
}

func encodePrivate(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key),
	}))
}

// AppID is the id of the application.
func (s *Sandbox) AppID() string { return s.config.AppID }

// SellerID is the account that is paid.
func (s *Sandbox) SellerID() string { return s.config.SellerID }

// AppPrivateKey is the application's key, in PEM: it is a sandbox's, and no secret.
func (s *Sandbox) AppPrivateKey() string { return encodePrivate(s.keys.app) }

// PublicKey is the key that answers and notices verify with, in PEM.
func (s *Sandbox) PublicKey() string {
	der, err := x509.MarshalPKIXPublicKey(&s.keys.own.PublicKey)
	if err != nil {
		return "" // not for an RSA key
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// AppCertificate is the application's, in PEM, as the following; empty in key mode.
func (s *Sandbox) AppCertificate() string { return s.keys.appCert }

// Certificate is the one that answers and notices verify with.
func (s *Sandbox) Certificate() string { return s.keys.ownCert }

// RootCertificate is the authority's.
func (s *Sandbox) RootCertificate() string { return s.keys.root }
