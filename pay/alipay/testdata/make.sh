#!/bin/sh
# Makes the fixed vectors of this folder with the openssl command line (3.0), so that the tests
# compare our signatures with those of a third implementation. The keys are for tests only.
# A run makes new keys and with them new vectors: all files belong to one run.
set -eu
cd "$(dirname "$0")"

key() { # name
	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1_private.pem" 2>/dev/null
	openssl pkey -in "$1_private.pem" -pubout -out "$1_public.pem"
}
key app
key alipay
# The same keys in the other forms that a configuration may hold: PKCS#1, bare base64 bodies.
openssl pkey -in app_private.pem -traditional -out app_private_pkcs1.pem
openssl pkey -in app_private.pem -outform DER | openssl base64 -A >app_private.b64
openssl pkey -in alipay_public.pem -pubin -pubout -outform DER | openssl base64 -A >alipay_public.b64
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out short_private.pem 2>/dev/null

# RSA2 is PKCS#1 v1.5 over SHA-256, in base64, over the exact bytes of the content.
sign() { openssl dgst -sha256 -sign "$1_private.pem" "$2.txt" | openssl base64 -A >"$2.sig"; }
sign app request
sign alipay notify
sign alipay return

# Alipay's serial number: MD5 of the issuer's name and the decimal serial number.
serial() {
	issuer=$(openssl x509 -in "$1.crt" -noout -issuer -nameopt RFC2253,-esc_msb,utf8 | sed 's/^issuer=//')
	hex=$(openssl x509 -in "$1.crt" -noout -serial | sed 's/^serial=//')
	decimal=$(python3 -c "print(int('$hex', 16))")
	printf '%s' "$issuer$decimal" | openssl dgst -md5 -r | cut -d' ' -f1 >"$1.sn"
}
days=36500
openssl req -x509 -newkey rsa:2048 -nodes -keyout authority.key -out root.crt -days $days \
	-subj '/C=CN/O=Test Financial/OU=Certification Authority/CN=Test Certification Authority R1' 2>/dev/null
leaf() { # certificate, key, common name, serial
	openssl req -new -key "$2_private.pem" -subj "/C=CN/O=Test Shop/CN=$3" |
		openssl x509 -req -CA root.crt -CAkey authority.key -days $days -set_serial "$4" -out "$1.crt" 2>/dev/null
}
leaf app app 2088000000000001-9021000000000001 0x20260101AB0C5F77D1E4F0A1B2C3D4E5
leaf alipay alipay 'Test Alipay' 0x20260102FFEEDDCCBBAA998877665544
rm authority.key
for name in root app alipay; do serial "$name"; done
chmod 644 ./*
