package wire

import (
	"crypto/md5" //nolint:gosec // Alipay's choice, for a name and not for security.
	"crypto/x509"
	"encoding/hex"
)

// CertSN is the serial number by which Alipay names a certificate: the MD5 of the issuer's
// name (RFC 2253) followed by the decimal serial number.
func CertSN(cert *x509.Certificate) string {
	sum := md5.Sum([]byte(cert.Issuer.String() + cert.SerialNumber.String())) //nolint:gosec // See above.
	return hex.EncodeToString(sum[:])
}
