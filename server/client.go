package server

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"
)

// clientAddr is what counts as one address, see [origin], for the client that a request comes
// from: the peer of its connection, or, where that is a trusted proxy, the last one of
// X-Forwarded-For that is none. What a client writes there itself stands further to the left and
// is never looked at. Invalid for what has no address.
func clientAddr(ctx *fasthttp.RequestCtx) netip.Prefix {
	conn, ok := ctx.Conn().(*guest)
	if ok && conn.peer == nil && conn.from.IsValid() {
		return conn.from // found out when it came
	}
	addr := addrOf(ctx.RemoteAddr())
	if ok {
		addr = forwarded(addr, conn.gate.config.TrustedProxies, &ctx.Request.Header)
	}
	return prefixOf(addr)
}

// forwarded follows X-Forwarded-For from its end for as long as who has written an entry is trusted.
func forwarded(addr netip.Addr, trusted []netip.Prefix, header *fasthttp.RequestHeader) netip.Addr {
	if !contains(trusted, addr) {
		return addr
	}
	for _, line := range slices.Backward(header.PeekAll(fasthttp.HeaderXForwardedFor)) {
		for len(line) > 0 {
			comma := bytes.LastIndexByte(line, ',')
			entry := bytes.TrimSpace(line[comma+1:])
			line = line[:max(comma, 0)]
			next, ok := parseForwarded(string(entry))
			if !ok {
				return addr
			}
			addr = next
			if !contains(trusted, addr) {
				return addr
			}
		}
	}
	return addr
}

// parseForwarded reads an address, which some proxies write with its port.
func parseForwarded(entry string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		return addr.Unmap(), true
	}
	both, err := netip.ParseAddrPort(entry)
	return both.Addr().Unmap(), err == nil
}

// contains is false for an address that is none.
func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool { return network.Contains(addr) })
}

func addrOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// prefixOf is an IPv4 address, or the /64 that one IPv6 host has to itself.
func prefixOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.WithZone("").Prefix(bits) // none of an address that is none
	return prefix
}
