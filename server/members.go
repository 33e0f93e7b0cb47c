package server

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// memberWalk reads a valid JSON text beside the Go type that it is meant for. encoding/json takes a
// member in any case and the last of two; which of them a proxy, a log or a person has read is
// another question, so neither is taken.
type memberWalk struct {
	decoder *json.Decoder
	target  int64    // offset whose place is looked for; 0: none
	place   []string // where it is
	found   bool
}

// checkMembers refuses members that are unknown, named twice, or known in another case only.
func checkMembers(body []byte, of reflect.Type) *problem {
	w := memberWalk{decoder: json.NewDecoder(bytes.NewReader(body))}
	return w.value(of, nil)
}

// placeOf returns the path to the value that encoding/json had read up to an offset.
func placeOf(body []byte, offset int64) []string {
	w := memberWalk{decoder: json.NewDecoder(bytes.NewReader(body)), target: offset}
	_ = w.value(nil, nil)
	return w.place
}

func (w *memberWalk) value(of reflect.Type, path []string) *problem {
	token, err := w.decoder.Token()
	if err != nil {
		return problemMalformedJSON
	}
	w.look(path)
	for of != nil && of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	var p *problem
	switch token {
	case json.Delim('{'):
		p = w.object(of, path)
	case json.Delim('['):
		var elem reflect.Type
		if of != nil && of.Kind() == reflect.Slice {
			elem = of.Elem()
		}
		for n := 0; p == nil && w.decoder.More(); n++ {
			p = w.value(elem, append(path, strconv.Itoa(n)))
		}
	default:
		return nil
	}
	if p == nil {
		_, _ = w.decoder.Token() // its end
	}
	return p
}

func (w *memberWalk) object(of reflect.Type, path []string) *problem {
	seen := make(map[string]bool)
	for w.decoder.More() {
		token, err := w.decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return problemMalformedJSON
		}
		at := append(slices.Clip(path), name)
		if seen[name] {
			return problemFieldTwice.at(name, at, "")
		}
		seen[name] = true
		member, p := memberOf(of, name)
		if p != nil {
			return p.at(name, at, "")
		}
		if p := w.value(member, at); p != nil {
			return p
		}
	}
	return nil
}

// look notes the innermost value that reaches up to the target.
func (w *memberWalk) look(path []string) {
	if !w.found && w.target > 0 && w.decoder.InputOffset() >= w.target {
		w.place, w.found = append([]string(nil), path...), true
	}
}

// memberOf returns the type of a member; nil stands for anything.
func memberOf(of reflect.Type, name string) (reflect.Type, *problem) {
	switch {
	case of == nil:
		return nil, nil
	case of.Kind() == reflect.Map:
		return of.Elem(), nil
	case of.Kind() != reflect.Struct:
		return nil, nil // of another type than is wanted: decoding says so
	}
	p := problemUnknownField
	for n := range of.NumField() {
		field := of.Field(n)
		known, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if known == name {
			return field.Type, nil
		}
		if strings.EqualFold(known, name) {
			p = problemFieldCase
		}
	}
	return nil, p
}

// pointer writes a path as the fragment of an RFC 6901 pointer.
func pointer(path []string) string {
	var text strings.Builder
	text.WriteByte('#')
	for _, part := range path {
		text.WriteByte('/')
		text.WriteString(shorten(strings.NewReplacer("~", "~0", "/", "~1").Replace(part)))
	}
	return text.String()
}

// pathOf reads a field as validation names it, items[0].price_fen, as a path.
func pathOf(field string) []string {
	return strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}
