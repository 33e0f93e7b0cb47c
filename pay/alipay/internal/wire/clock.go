package wire

import "time"

// timeLayout has no zone: Alipay's clocks all show Beijing time.
const timeLayout = time.DateTime

// Beijing is the zone of every time in the protocol. China has had no summer time since 1991,
// so a fixed zone is exact, and needs no time zone database on the host.
var Beijing = time.FixedZone("CST", 8*60*60)

// FormatTime writes a time as Alipay does, cut to the second.
func FormatTime(t time.Time) string { return t.In(Beijing).Format(timeLayout) }

// ParseTime reads a time of Alipay's, with or without a fraction of a second.
func ParseTime(text string) (time.Time, error) {
	return time.ParseInLocation(timeLayout, text, Beijing)
}
