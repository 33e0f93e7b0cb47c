package engine

import "strconv"

// tags are the hash tags of the partitions: the number, and behind a dot what makes the tag's slot
// lie where it should. The slots of all 64 lie 256 apart, a few more or less, so each of up to 64
// primaries that own equal parts of the slots has some of them; and those of the first partitions
// lie as far apart as they can, since items are numbered in sequence and the first ones sell first.
// Numbers alone lie where chance puts them: 16 of them used 8 of 16 primaries. Never change one:
// keys would be looked for in another place.
var tags = [...]string{
	"0", "1.1858", "2.2606", "3.26719", "4.3615", "5.2132", "6.2400", "7.109",
	"8.5087", "9.3144", "10.5844", "11.1811", "12.2359", "13.5860", "14.532", "15.5532",
	"16.1876", "17.5823", "18.2069", "19.8351", "20.5973", "21.560", "22.6986", "23.3329",
	"24.798", "25.2087", "26.757", "27.2868", "28.194", "29.859", "30.1565", "31.876",
	"32.1747", "33.274", "34.445", "35.3528", "36.11491", "37.5514", "38.392", "39.5667",
	"40.27778", "41.5511", "42.8822", "43.726", "44.401", "45.2028", "46.5088", "47.6639",
	"48.98", "49.1650", "50.1522", "51.2393", "52.5553", "53.1506", "54.5801", "55.254",
	"56.7608", "57.8242", "58.1965", "59.8131", "60.8312", "61.7758", "62.9271", "63.3149",
}

// Tag returns the hash tag of a partition, which is in the braces of its keys. Beyond the table it
// is the number.
func Tag(p int) string {
	if p < len(tags) {
		return tags[p]
	}
	return strconv.Itoa(p)
}
