package wire

import (
	"errors"
	"fmt"
	"strings"
)

// FenMax is the largest amount that Alipay takes: 100,000,000.00 yuan.
const FenMax = 100_000_000_00

// ErrAmount is returned for text that is not an exact amount of yuan.
var ErrAmount = errors.New("amount must be yuan with at most two decimals, up to 100000000.00")

const wholeDigitsMax = 9

// ParseFen reads an amount of yuan, such as "12.30", as 1230 fen. Alipay may leave out zeros
// at the end ("12.3", "12"); everything else that is not plain digits, such as signs,
// exponents, spaces, leading zeros and a third decimal, is [ErrAmount]: an amount is never
// rounded.
func ParseFen(yuan string) (int64, error) {
	whole, decimals, dotted := strings.Cut(yuan, ".")
	switch {
	case len(whole) == 0 || len(whole) > wholeDigitsMax,
		len(whole) > 1 && whole[0] == '0',
		dotted && len(decimals) == 0, len(decimals) > 2:
		return 0, ErrAmount
	}
	var fen int64
	for _, c := range []byte((whole + decimals + "00")[:len(whole)+2]) {
		if c < '0' || c > '9' {
			return 0, ErrAmount
		}
		fen = fen*10 + int64(c-'0') // 11 digits stay far below 2^63
	}
	if fen > FenMax {
		return 0, ErrAmount
	}
	return fen, nil
}

// FormatFen is the inverse of ParseFen, always with two decimals. The amount must be from 0
// to [FenMax].
func FormatFen(fen int64) string {
	return fmt.Sprintf("%d.%02d", fen/100, fen%100)
}
